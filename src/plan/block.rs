//! The grid of blocks to which requests are aligned.

use super::PlanError;

/// A block size in bytes: a power of two.
///
/// It is the unit of the target (512 for a disk, 64 KiB for a qcow2 cluster, 4 MiB for an object
/// store).
///
/// ```
/// use nbd_extents::plan::BlockSize;
///
/// let block = BlockSize::new(4096)?;
/// assert_eq!(block.bytes(), 4096);
/// assert_eq!(
///     BlockSize::new(3000).unwrap_err().to_string(),
///     "a block size of 3000 bytes is not a power of two"
/// );
/// # Ok::<(), nbd_extents::plan::PlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u64);

impl BlockSize {
    /// Single bytes: no grid.
    pub const BYTE: Self = Self(1);

    /// Sectors of 512 bytes.
    pub const SECTOR: Self = Self(512);

    /// The largest block size: 2^62 bytes.
    pub const MAX: Self = Self(1 << 62);

    /// Creates a block size of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`PlanError::BlockSize`] unless it is a power of two up to [`BlockSize::MAX`].
    pub const fn new(bytes: u64) -> Result<Self, PlanError> {
        if !bytes.is_power_of_two() || bytes > Self::MAX.0 {
            return Err(PlanError::BlockSize { got: bytes });
        }
        Ok(Self(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The start of the block that holds the byte at `offset`.
    ///
    /// ```
    /// # use nbd_extents::plan::BlockSize;
    /// assert_eq!(BlockSize::SECTOR.floor(1023), 512);
    /// assert!(BlockSize::SECTOR.is_aligned(1024));
    /// ```
    #[must_use]
    pub const fn floor(self, offset: u64) -> u64 {
        offset & !(self.0 - 1)
    }

    /// True if a block starts at `offset`.
    #[must_use]
    pub const fn is_aligned(self, offset: u64) -> bool {
        self.floor(offset) == offset
    }

    /// The end of the block that holds the byte at `offset`; `u64::MAX` if it would lie above.
    pub(super) const fn end_of(self, offset: u64) -> u64 {
        self.floor(offset).saturating_add(self.0)
    }
}
