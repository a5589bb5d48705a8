//! The previous backup, as far as an incremental has to know it.

use core::fmt;

use crate::extent::Extent;
use crate::status::{Bitmaps, Status};

/// The backup that an incremental is taken against: how large the disk was then, and which bitmaps have tracked changes since.
///
/// Only the caller can know this. NBD cannot prove that a bitmap is the one that was started at that backup: one that was deleted and made
/// again under the same name reads as a clean disk, and after a disk has grown the new part reads as clean. So keep the size and the name of
/// the checkpoint with each backup, and bring them here. A disk that has shrunk and grown back *between* two backups has the old size again, and its bitmaps call
/// what was cut off and added again clean: nothing here can show that. After a shrink, take a full backup.
///
/// ```
/// use nbd_extents::action::Baseline;
/// use nbd_extents::{BitmapIndex, Context, Contexts, Dirtiness, Status};
///
/// // the daily bitmap was started at the previous backup; the weekly one serves another chain
/// let contexts = Contexts::new().require(Context::bitmap("daily"))?.optional(Context::bitmap("weekly"))?;
/// let daily = Baseline::new(1 << 30, contexts.bitmap_set(["daily"])?);
/// let either = Baseline::new(1 << 30, contexts.all_bitmaps());
///
/// let clean = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
/// assert_eq!(daily.dirty(&clean), Some(false));
/// assert_eq!(either.dirty(&clean), None, "the server has no weekly bitmap: what it would say is not known");
/// assert_eq!(either.dirty(&clean.with_bitmap(BitmapIndex::of::<1>(), Dirtiness::DIRTY)), Some(true));
/// # Ok::<(), nbd_extents::ContextError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Baseline {
    size: u64,
    bitmaps: Bitmaps,
}

impl Baseline {
    /// The previous backup, when the disk had `size` bytes, and *all* bitmaps that together track the changes since.
    ///
    /// A byte counts as changed where any of them says so, and as unchanged only where every one of them says so. One that has no answer, because
    /// it was optional and the server does not have it, is therefore never taken for clean: the incremental is refused. Bitmaps that are
    /// not in the set are not looked at, so that one survey serves an incremental and a differential backup.
    ///
    /// [`Contexts::all_bitmaps`](crate::Contexts::all_bitmaps) is the set of all that a survey asks for, and
    /// [`Contexts::bitmap_set`](crate::Contexts::bitmap_set) of some by their names.
    #[must_use]
    pub const fn new(size: u64, bitmaps: Bitmaps) -> Self {
        Self { size, bitmaps }
    }

    /// The size of the disk then, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bitmaps that track the changes since.
    #[must_use]
    pub const fn bitmaps(&self) -> Bitmaps {
        self.bitmaps
    }

    /// Whether bytes with this status have changed since, or `None` where that is not known: none of the bitmaps calls them dirty, and one of
    /// them has no answer.
    #[must_use]
    pub const fn dirty(&self, status: &Status) -> Option<bool> {
        status.dirty_in_any(self.bitmaps)
    }

    /// Returns `true` if the previous backup is known to have these bytes as they are now.
    pub(super) fn is_clean(&self, extent: &Extent<Status>) -> bool {
        extent.end() <= self.size && self.dirty(extent.status()) == Some(false)
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a backup of {} bytes", self.size)
    }
}
