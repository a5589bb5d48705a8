//! The backup before, as far as an incremental has to know it.

use core::fmt;

use crate::extent::Extent;
use crate::status::{Bitmaps, Status};

/// The backup that an incremental is taken against: how large the disk was then, and which bitmaps have tracked changes since.
///
/// Only the caller can know this. NBD cannot prove that a bitmap is the one that was started at that backup: one that was deleted and made
/// again under the same name reads as a clean disk, and after a disk has grown the new part reads as clean. So keep the size and the name of
/// the checkpoint with each backup, and bring them here.
///
/// ```
/// use nbd_extents::action::Baseline;
/// use nbd_extents::{Bitmaps, Dirtiness, Status};
///
/// // two bitmaps were asked; bitmap 1 was started at the backup before, bitmap 0 long ago
/// let clean = Dirtiness::from_flags(0);
/// let status = Status::UNKNOWN.with_bitmap(0, Dirtiness::DIRTY).with_bitmap(1, clean);
/// let baseline = Baseline::new(1 << 30);
/// assert_eq!(baseline.dirty(&status), Some(true), "any bitmap counts, unless some are named");
/// assert_eq!(baseline.tracked_by(Bitmaps::only(1)).dirty(&status), Some(false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Baseline {
    size: u64,
    /// The bitmaps that track the changes; `None` when all do.
    bitmaps: Option<Bitmaps>,
}

impl Baseline {
    /// The backup before, when the disk had `size` bytes. Changes since are what any of the bitmaps that answered calls dirty: right where each
    /// bitmap is required of the server. With an optional one that may be missing, or whenever it matters which bitmaps tracked this backup, name
    /// them with [`tracked_by`](Self::tracked_by): an incremental is then refused where one of them has no answer.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size, bitmaps: None }
    }

    /// Names the bitmaps that together track the changes since this backup; the others are then not looked at. This way one survey serves an
    /// incremental and a differential backup. Of an empty set no byte is known to be clean, so the incremental is refused.
    #[must_use]
    pub const fn tracked_by(mut self, bitmaps: Bitmaps) -> Self {
        self.bitmaps = Some(bitmaps);
        self
    }

    /// The size of the disk then, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bitmaps that count, or `None` when all do.
    #[must_use]
    pub const fn bitmaps(&self) -> Option<Bitmaps> {
        self.bitmaps
    }

    /// Whether bytes with this status have changed since, or `None` where that is not known: no bitmap has answered, or one that was named has
    /// not and no other calls them dirty.
    #[must_use]
    pub const fn dirty(&self, status: &Status) -> Option<bool> {
        match self.bitmaps {
            Some(bitmaps) => status.dirty_in_any(bitmaps),
            None => status.dirty(),
        }
    }

    /// Whether the backup before is known to have these bytes as they are now.
    pub(super) fn is_clean(&self, extent: &Extent<Status>) -> bool {
        extent.end() <= self.size && self.dirty(extent.status()) == Some(false)
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a backup of {} bytes", self.size)
    }
}
