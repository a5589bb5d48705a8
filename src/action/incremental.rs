//! The changes since the previous backup. Mistakes here lose data, so there are few options.

use super::{Action, Base, Baseline, BaselineError, Cause, Decision, Policy, PolicyError, Reason, Zeroes};
use crate::extent::Extent;
use crate::status::Status;

/// An incremental backup against a [`Baseline`].
///
/// Dirty bytes are copied, or zeroed if they read as zero; clean bytes are skipped.
///
/// - Dirty and zero is [`Action::Zero`], never skipped: the target still has the old bytes.
/// - If a bitmap of the baseline has no answer and no other reports the bytes as dirty, it fails
///   with [`PolicyError::NoBitmap`]. Treating such bytes as dirty would be safe too, but a bitmap
///   missing by mistake would then turn each incremental into a full backup, and nobody would
///   notice.
/// - Beyond the end of the previous backup, every byte counts as changed, whatever the bitmaps say:
///   qemu reports bytes added by a resize as clean.
/// - It covers a whole disk and ignores the depth.
///
/// ```
/// use nbd_extents::action::{Baseline, BaselineError, Incremental, StatusStream};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
///
/// // the disk had 1024 bytes and has grown to 4096; the bitmap calls all of it clean
/// let baseline = Baseline::new(1024, Bitmaps::FIRST);
/// assert!(matches!(
///     Incremental::new(baseline, 4096),
///     Err(BaselineError::SizeChanged { .. })
/// ));
///
/// let policy = Incremental::new_or_grown(baseline, 4096)?;
/// let clean = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
/// let mut actions = from_iter([Extent::new(0, 4096, clean)?]).decide(policy);
/// assert_eq!(actions.next_extent()?.unwrap().to_string(), "0..1024 skip");
/// assert_eq!(actions.next_extent()?.unwrap().to_string(), "1024..4096 copy");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incremental {
    baseline: Baseline,
    zeroes: Zeroes,
}

impl Incremental {
    /// Creates an incremental of an export whose size is unchanged since the previous backup.
    ///
    /// # Errors
    ///
    /// [`BaselineError::NoBitmap`] when the baseline names no bitmap,
    /// [`BaselineError::SizeChanged`] when the sizes differ.
    pub const fn new(baseline: Baseline, export_size: u64) -> Result<Self, BaselineError> {
        if baseline.bitmaps().is_empty() {
            return Err(BaselineError::NoBitmap);
        }
        if baseline.size() != export_size {
            return Err(BaselineError::SizeChanged { baseline: baseline.size(), export: export_size });
        }
        Ok(Self { baseline, zeroes: Zeroes::MayUnmap })
    }

    /// Creates an incremental of an export that may have grown since the previous backup.
    ///
    /// All bytes beyond the old end count as changed.
    ///
    /// # Errors
    ///
    /// [`BaselineError::NoBitmap`] when the baseline names no bitmap, and [`BaselineError::Shrunk`]
    /// when the export is smaller than it was. Bitmaps do not survive that reliably; take a full
    /// backup.
    pub const fn new_or_grown(baseline: Baseline, export_size: u64) -> Result<Self, BaselineError> {
        if baseline.bitmaps().is_empty() {
            return Err(BaselineError::NoBitmap);
        }
        if export_size < baseline.size() {
            return Err(BaselineError::Shrunk { baseline: baseline.size(), export: export_size });
        }
        Ok(Self { baseline, zeroes: Zeroes::MayUnmap })
    }

    /// Sets the treatment of dirty zeroes.
    ///
    /// ```
    /// use nbd_extents::Bitmaps;
    /// use nbd_extents::action::{Baseline, Incremental, Zeroes};
    ///
    /// let policy = Incremental::new(Baseline::new(512, Bitmaps::FIRST), 512)?
    ///     .with_zeroes(Zeroes::KeepHoles);
    /// assert_eq!(policy.zeroes(), Zeroes::KeepHoles);
    /// # Ok::<(), nbd_extents::action::BaselineError>(())
    /// ```
    #[must_use]
    pub const fn with_zeroes(mut self, zeroes: Zeroes) -> Self {
        self.zeroes = zeroes;
        self
    }

    /// The previous backup.
    #[must_use]
    pub const fn baseline(&self) -> Baseline {
        self.baseline
    }

    /// The treatment of dirty zeroes.
    #[must_use]
    pub const fn zeroes(&self) -> Zeroes {
        self.zeroes
    }
}

impl Policy for Incremental {
    fn base(&self) -> Base {
        Base::Backup(self.baseline)
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        let status = extent.status();
        // none crosses the old size: the stream cuts extents at the end of the base
        if extent.end() > self.baseline.size() {
            return Ok(self.zeroes.bring(status, Cause::Grown));
        }
        match self.baseline.dirty(status) {
            Some(true) => Ok(self.zeroes.bring(status, Cause::Dirty)),
            Some(false) => Ok(Decision { action: Action::Skip, reason: Reason::Clean }),
            None => {
                let missing = status.unanswered(self.baseline.bitmaps());
                Err(PolicyError::NoBitmap { range: extent.range(), missing })
            }
        }
    }
}
