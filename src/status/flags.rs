//! The flags of each context, as received: the same number means three different things.

use core::fmt;

use super::Status;

/// The flags of `base:allocation`, as received.
///
/// Bits that the protocol does not define are kept and ignored.
///
/// NBD protocol, "`base:allocation` metadata context".
///
/// ```
/// use nbd_extents::Allocation;
///
/// let hole = Allocation::from_flags(1);
/// assert!(hole.is_hole());
/// assert!(
///     !hole.is_zero(),
///     "a hole alone promises nothing about its content: it must be read"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allocation(u64);

impl Allocation {
    const HOLE: u64 = 1;
    const ZERO: u64 = 1 << 1;

    /// The safe status: data that must be read.
    pub const DATA: Self = Self(0);

    /// Reads the flags of a descriptor.
    #[inline]
    #[must_use]
    pub const fn from_flags(flags: u64) -> Self {
        Self(flags)
    }

    /// The flags, including undefined bits.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u64 {
        self.0
    }

    /// True if every byte reads as zero (`NBD_STATE_ZERO`). Only this bit lets a copy skip reading.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 & Self::ZERO != 0
    }

    /// True if a later write may need new space (`NBD_STATE_HOLE`). It says nothing about the
    /// content.
    #[inline]
    #[must_use]
    pub const fn is_hole(self) -> bool {
        self.0 & Self::HOLE != 0
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Status::UNKNOWN.with_allocation(*self).fmt(f)
    }
}

/// The flags of one `qemu:dirty-bitmap:NAME`, as received. Only bit 0 is defined.
///
/// ```
/// use nbd_extents::Dirtiness;
///
/// assert!(Dirtiness::from_flags(1).is_dirty());
/// assert!(!Dirtiness::from_flags(2).is_dirty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dirtiness(u64);

impl Dirtiness {
    /// The safe status: changed since the checkpoint.
    pub const DIRTY: Self = Self(1);

    /// Reads the flags of a descriptor.
    #[inline]
    #[must_use]
    pub const fn from_flags(flags: u64) -> Self {
        Self(flags)
    }

    /// The flags, including undefined bits.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u64 {
        self.0
    }

    /// True if the bitmap marks these bytes as changed.
    #[inline]
    #[must_use]
    pub const fn is_dirty(self) -> bool {
        self.0 & 1 != 0
    }
}

impl fmt::Display for Dirtiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_dirty() { "dirty" } else { "clean" })
    }
}

/// The number from `qemu:allocation-depth`: the layer of the image that holds these bytes.
///
/// It is a number, not a set of bits.
///
/// 0 means "in no exported layer", 1 the top layer, 2 its backing file, and so on.
///
/// ```
/// use nbd_extents::Depth;
///
/// assert!(Depth::from_flags(0).is_absent());
/// assert_eq!(Depth::from_flags(2).layer(), Some(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Depth(u64);

impl Depth {
    /// Reads the flags of a descriptor.
    #[inline]
    #[must_use]
    pub const fn from_flags(flags: u64) -> Self {
        Self(flags)
    }

    /// The number as received.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u64 {
        self.0
    }

    /// True if no exported layer has these bytes.
    #[inline]
    #[must_use]
    pub const fn is_absent(self) -> bool {
        self.0 == 0
    }

    /// The layer, with 0 for none; `None` for a number beyond 32 bits, which has no defined
    /// meaning.
    #[inline]
    #[must_use]
    pub fn layer(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Status::UNKNOWN.with_depth(*self).fmt(f)
    }
}
