//! The backup before, as far as an incremental has to know it.

use core::fmt;

use super::BaselineError;
use crate::extent::Extent;
use crate::status::{MAX_BITMAPS, Status};

/// The backup that an incremental is taken against: how large the disk was then, and which bitmaps have tracked changes since.
///
/// Only the caller can know this. NBD cannot prove that a bitmap is the one that was started at that backup: one that was deleted and made
/// again under the same name reads as a clean disk, and after a disk has grown the new part reads as clean. So keep the size and the name of the checkpoint with each
/// backup, and bring them here.
///
/// ```
/// use nbd_extents::Status;
/// use nbd_extents::action::Baseline;
/// use nbd_extents::Dirtiness;
///
/// // two bitmaps were asked; bitmap 1 was started at the backup before, bitmap 0 long ago
/// let status = Status::UNKNOWN
///     .with_bitmap(0, Dirtiness::DIRTY)
///     .with_bitmap(1, Dirtiness::from_flags(0));
/// assert_eq!(Baseline::new(1 << 30).dirty(&status), Some(true), "any bitmap counts, unless some are named");
/// assert_eq!(Baseline::new(1 << 30).tracked_by(1)?.dirty(&status), Some(false));
/// # Ok::<(), nbd_extents::action::BaselineError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Baseline {
    size: u64,
    /// Bit `i`: bitmap `i` tracks the changes. 0: all bitmaps do.
    bitmaps: u32,
}

impl Baseline {
    /// The backup before, when the disk had `size` bytes. Changes since are what any of the bitmaps calls dirty.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size, bitmaps: 0 }
    }

    /// Names a bitmap that tracks the changes since this backup, by its index in [`Status`] (the order in which bitmaps were added to the
    /// survey's contexts). Call it again for each bitmap that counts; the others are then not looked at. This way one survey serves an
    /// incremental and a differential backup.
    ///
    /// # Errors
    ///
    /// [`BaselineError::BitmapIndex`] from [`MAX_BITMAPS`] on.
    pub const fn tracked_by(mut self, index: usize) -> Result<Self, BaselineError> {
        if index >= MAX_BITMAPS {
            return Err(BaselineError::BitmapIndex { index });
        }
        self.bitmaps |= 1 << index;
        Ok(self)
    }

    /// The size of the disk then, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The indices of the bitmaps that count, ascending; none when all do.
    ///
    /// ```
    /// # use nbd_extents::action::Baseline;
    /// assert!(Baseline::new(512).tracked_by(3)?.tracked_by(0)?.bitmaps().eq([0, 3]));
    /// # Ok::<(), nbd_extents::action::BaselineError>(())
    /// ```
    pub fn bitmaps(&self) -> impl Iterator<Item = usize> {
        let bitmaps = self.bitmaps;
        (0..MAX_BITMAPS).filter(move |index| bitmaps & (1 << index) != 0)
    }

    /// Whether bytes with this status have changed since, or `None` where that is not known: no bitmap has answered, or one that was named has not and no
    /// other calls them dirty.
    #[must_use]
    pub fn dirty(&self, status: &Status) -> Option<bool> {
        if self.bitmaps == 0 {
            return status.dirty();
        }
        let mut dirty = Some(false);
        for index in self.bitmaps() {
            match status.dirty_in(index) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => dirty = None,
            }
        }
        dirty
    }

    /// Whether the backup before is known to have these bytes as they are now.
    pub(super) fn is_clean(&self, extent: &Extent<Status>) -> bool {
        extent.end() <= self.size && self.dirty(extent.status()) == Some(false)
    }
}

impl fmt::Debug for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Baseline({self})")
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, changes in ", self.size)?;
        if self.bitmaps == 0 {
            return f.write_str("any bitmap");
        }
        f.write_str("bitmap ")?;
        for (nth, index) in self.bitmaps().enumerate() {
            write!(f, "{}{index}", if nth == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}
