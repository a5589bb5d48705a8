//! What a backup stands on, and with it which actions can be right. One rule for every policy, also those that this crate has never seen.

use core::fmt;

use super::{Action, Baseline};
use crate::extent::Extent;
use crate::status::Status;

/// What the target holds before the backup is applied to it. A policy names its base, and every action is checked against it.
///
/// The three exclude each other, which is the point: on a target that holds the backup before, "it already reads as zero" cannot be said,
/// because skipping a zero there would bring old bytes back.
///
/// ```
/// use nbd_extents::action::{Base, Baseline};
/// use nbd_extents::{Action, Allocation, Dirtiness, Extent, Status};
///
/// let dirty_zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(3)).with_bitmap(0, Dirtiness::DIRTY);
/// let extent = Extent::new(0, 4096, dirty_zero)?;
/// assert!(Base::Zeroes.permits(&extent, Action::Skip));
/// assert!(!Base::Nothing.permits(&extent, Action::Skip));
/// assert!(!Base::Backup(Baseline::new(4096)).permits(&extent, Action::Skip));
/// # Ok::<(), nbd_extents::ExtentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Nothing that can be relied on: a first, full backup.
    Nothing,
    /// A target that reads as zero all over: a first, full backup onto a new file or disk.
    Zeroes,
    /// The backup before: an incremental.
    Backup(Baseline),
}

impl Base {
    /// Whether this action keeps every byte of the extent right on this base.
    ///
    /// - [`Action::Copy`] always does.
    /// - [`Action::Zero`] does where the bytes are known to read as zero.
    /// - [`Action::Skip`] does where the base has the bytes: never on [`Nothing`](Self::Nothing), zeroes on [`Zeroes`](Self::Zeroes), and on a
    ///   [`Backup`](Self::Backup) the bytes within its size that its bitmaps call clean.
    /// - [`Action::Absent`] does where the depth is known to be 0, and on a [`Backup`](Self::Backup) only if the bytes are clean besides.
    #[must_use]
    pub fn permits(&self, extent: &Extent<Status>, action: Action) -> bool {
        let status = extent.status();
        match (action, self) {
            (Action::Copy, _) => true,
            (Action::Zero { .. }, _) => status.zero() == Some(true),
            (Action::Skip, Self::Nothing) => false,
            (Action::Skip, Self::Zeroes) => status.zero() == Some(true),
            (Action::Skip, Self::Backup(baseline)) => baseline.is_clean(extent),
            (Action::Absent, Self::Backup(baseline)) => {
                status.depth() == Some(0) && baseline.is_clean(extent)
            }
            (Action::Absent, _) => status.depth() == Some(0),
        }
    }

    /// The byte where the answer changes though the status does not: the end of the backup before.
    pub(super) fn end(&self) -> Option<u64> {
        match self {
            Self::Backup(baseline) => Some(baseline.size()),
            Self::Nothing | Self::Zeroes => None,
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("a target of which nothing is known"),
            Self::Zeroes => f.write_str("a target that reads as zero"),
            Self::Backup(baseline) => baseline.fmt(f),
        }
    }
}
