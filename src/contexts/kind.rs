//! The meaning of a context's flags. Raw flags of two contexts never meet: HOLE, DIRTY and depth 1
//! are the same number.

use crate::status::{Allocation, BitmapIndex, Depth, Dirtiness, Status};

/// The meaning of a context's flags; a bitmap has its place among the bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContextKind {
    Allocation,
    Depth,
    Bitmap(BitmapIndex),
}

impl ContextKind {
    /// The typed meaning of a descriptor's flags. Flags that are invalid for an allocation mean
    /// doubt.
    #[inline]
    pub(crate) fn status(self, flags: u64) -> Status {
        match self {
            Self::Allocation if is_wide(flags) => self.safe_status(),
            Self::Allocation => Status::UNKNOWN.with_allocation(Allocation::from_flags(flags)),
            Self::Depth => Status::UNKNOWN.with_depth(Depth::from_flags(flags)),
            Self::Bitmap(index) => Status::UNKNOWN.with_bitmap(index, Dirtiness::from_flags(flags)),
        }
    }

    /// The status where the server's answer is in doubt: data, dirty, depth unknown.
    pub(crate) fn safe_status(self) -> Status {
        self.status(self.safe_flags())
    }

    /// The place of a bitmap among the bitmaps.
    pub(crate) const fn bitmap(self) -> Option<BitmapIndex> {
        match self {
            Self::Bitmap(index) => Some(index),
            Self::Allocation | Self::Depth => None,
        }
    }

    /// The flags that mean the safe status. A depth beyond 32 bits stands for doubt.
    pub(crate) fn safe_flags(self) -> u64 {
        match self {
            Self::Allocation => Allocation::DATA.flags(),
            Self::Depth => 1 << 32,
            Self::Bitmap(_) => Dirtiness::DIRTY.flags(),
        }
    }

    /// The flags without meaningless bits: below 2^33, so that there is room for a mark.
    pub(crate) fn known_flags(self, flags: u64) -> u64 {
        match self {
            Self::Allocation if is_wide(flags) => self.safe_flags(),
            Self::Allocation => flags & 3,
            Self::Depth => flags.min(self.safe_flags()),
            Self::Bitmap(_) => flags & 1,
        }
    }

    /// The flags of the safer of two answers about the same bytes. Both are
    /// [`known_flags`](Self::known_flags).
    pub(crate) fn safer(self, a: u64, b: u64) -> u64 {
        match self {
            Self::Allocation => a & b,
            Self::Depth if a == b => a,
            Self::Depth => self.safe_flags(),
            Self::Bitmap(_) => a | b,
        }
    }
}

/// True if flags use bits that the 32-bit contexts do not have.
pub(crate) fn is_wide(flags: u64) -> bool {
    flags >> 32 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mark of a dispute lies above them: no flags from a server may set it.
    #[test]
    fn known_flags_leave_room_for_a_mark_and_change_no_meaning() {
        let kinds = [ContextKind::Allocation, ContextKind::Depth, ContextKind::Bitmap(BitmapIndex::FIRST)];
        for kind in kinds {
            for bit in 0..64 {
                for flags in [1 << bit, (1 << bit) | 1, u64::MAX >> bit] {
                    let known = kind.known_flags(flags);
                    assert!(known < 1 << 33, "{kind:?} {flags:#x} became {known:#x}");
                    assert_eq!(kind.status(known), kind.status(flags), "{kind:?} {flags:#x}");
                }
            }
        }
    }
}
