//! The parameters of the previous backup that an incremental needs.

use core::fmt;

use crate::extent::Extent;
use crate::status::{Bitmaps, Status};

/// The backup that an incremental is taken against: its disk size, and the bitmaps started then.
///
/// Only the caller can know these. NBD cannot prove that a bitmap was started at that backup: one
/// that was deleted and made again under the same name reads as a clean disk, and after a disk has
/// grown the new part reads as clean. So store the size and the name of the checkpoint with each
/// backup, and pass them here. A disk that has shrunk and grown back *between* two backups has the
/// old size again, and its bitmaps report the bytes that were cut off and added again as clean:
/// nothing here can detect that. After a shrink, take a full backup.
///
/// ```
/// use nbd_extents::action::Baseline;
/// use nbd_extents::{BitmapIndex, Context, Contexts, Dirtiness, Status};
///
/// // the daily bitmap was started at the previous backup; the weekly one serves another chain
/// let contexts = Contexts::new()
///     .require(Context::bitmap("daily"))?
///     .optional(Context::bitmap("weekly"))?;
/// let daily = Baseline::new(1 << 30, contexts.bitmap_set(["daily"])?);
/// let either = Baseline::new(1 << 30, contexts.all_bitmaps());
///
/// let clean = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
/// assert_eq!(daily.dirty(&clean), Some(false));
/// assert_eq!(
///     either.dirty(&clean),
///     None,
///     "the server has no weekly bitmap: what it would say is not known"
/// );
/// assert_eq!(
///     either.dirty(&clean.with_bitmap(BitmapIndex::of::<1>(), Dirtiness::DIRTY)),
///     Some(true)
/// );
/// # Ok::<(), nbd_extents::ContextError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Baseline {
    size: u64,
    bitmaps: Bitmaps,
}

impl Baseline {
    /// Creates a baseline from the disk size then and *all* bitmaps that together track the
    /// changes.
    ///
    /// A byte counts as changed if any of them says so, and as unchanged only if every one of them
    /// says so. A bitmap without an answer, because it was optional and the server does not have
    /// it, is therefore never taken for clean: the incremental is refused. Bitmaps outside the set
    /// are ignored, so that one survey serves an incremental and a differential backup.
    ///
    /// [`Contexts::all_bitmaps`](crate::Contexts::all_bitmaps) is the set of all bitmaps of a
    /// survey, and [`Contexts::bitmap_set`](crate::Contexts::bitmap_set) selects some by their
    /// names.
    #[must_use]
    pub const fn new(size: u64, bitmaps: Bitmaps) -> Self {
        Self { size, bitmaps }
    }

    /// The size of the disk at the previous backup, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The bitmaps that track the changes since.
    #[must_use]
    pub const fn bitmaps(&self) -> Bitmaps {
        self.bitmaps
    }

    /// Returns whether bytes with this status have changed since the previous backup.
    ///
    /// `None` if that is unknown: no bitmap reports them as dirty, and at least one has no answer.
    #[must_use]
    pub const fn dirty(&self, status: &Status) -> Option<bool> {
        status.dirty_in_any(self.bitmaps)
    }

    /// True if the previous backup is known to hold these bytes unchanged.
    pub(super) fn is_clean(&self, extent: &Extent<Status>) -> bool {
        extent.end() <= self.size && self.dirty(extent.status()) == Some(false)
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a backup of {} bytes", self.size)
    }
}
