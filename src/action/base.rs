//! The base of a backup, which decides the actions that are valid. One rule serves every policy,
//! including those of other programs.

use core::fmt;

use super::{Action, Baseline};
use crate::extent::Extent;
use crate::status::Status;

/// The content of the target before the backup is applied to it.
///
/// A policy names its base, and every action is checked against it.
///
/// The bases exclude each other, which is their purpose: on a target that holds the previous
/// backup, a policy cannot claim "it already reads as zero", because a zero skipped there would
/// bring old bytes back.
///
/// ```
/// use nbd_extents::action::{Base, Baseline};
/// use nbd_extents::{
///     Action, Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, Extent, Status,
/// };
///
/// let dirty_zero = Status::UNKNOWN
///     .with_allocation(Allocation::from_flags(3))
///     .with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY);
/// let extent = Extent::new(0, 4096, dirty_zero)?;
/// assert!(Base::Zeroes.permits(&extent, Action::Skip));
/// assert!(!Base::Nothing.permits(&extent, Action::Skip));
/// assert!(
///     !Base::Backup(Baseline::new(4096, Bitmaps::FIRST)).permits(&extent, Action::Skip)
/// );
///
/// // an overlay that does not hold the bytes reads as zero; recording that as zero would
/// // hide the layers below it
/// let absent = extent.map(|status| status.with_depth(Depth::from_flags(0)));
/// assert!(!Base::LowerLayers.permits(&absent, Action::Zero { may_unmap: true }));
/// assert!(Base::LowerLayers.permits(&absent, Action::Absent));
/// # Ok::<(), nbd_extents::ExtentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// No reliable content: a first, full backup.
    Nothing,
    /// Zeroes everywhere: a first, full backup onto a new file or disk.
    Zeroes,
    /// The previous backup: an incremental.
    Backup(Baseline),
    /// The layers below the one being backed up: a single layer of a chain, exported without its
    /// backing file.
    LowerLayers,
}

impl Base {
    /// True if this action keeps every byte of the extent correct on this base.
    ///
    /// | | [`Nothing`](Self::Nothing) | [`Zeroes`](Self::Zeroes) | [`Backup`](Self::Backup) | [`LowerLayers`](Self::LowerLayers) |
    /// |---|---|---|---|---|
    /// | [`Copy`](Action::Copy) | always | always | always | where the layer holds the bytes |
    /// | [`Zero`](Action::Zero) | zeroes | zeroes | zeroes | zeroes that the layer holds |
    /// | [`Skip`](Action::Skip) | never | zeroes | clean bytes within its size | never |
    /// | [`Absent`](Action::Absent) | never | never | never | where the layer does not hold the bytes |
    ///
    /// Unknown facts count for nothing: bytes read as zero if the ZERO bit says so, they are clean
    /// if every bitmap of the baseline says so, and a layer holds them or not if the depth says so.
    #[must_use]
    pub fn permits(&self, extent: &Extent<Status>, action: Action) -> bool {
        let status = extent.status();
        let zero = status.zero() == Some(true);
        let whole_disk = *self != Self::LowerLayers;
        let held = status.depth().is_some_and(|depth| depth > 0);
        match action {
            Action::Copy => whole_disk || held,
            Action::Zero { .. } => zero && (whole_disk || held),
            Action::Skip => match self {
                Self::Zeroes => zero,
                Self::Backup(baseline) => baseline.is_clean(extent),
                Self::Nothing | Self::LowerLayers => false,
            },
            Action::Absent => !whole_disk && status.depth() == Some(0),
        }
    }

    /// The offset at which the answer changes although the status does not: the end of the previous
    /// backup.
    pub(super) fn end(&self) -> Option<u64> {
        match self {
            Self::Backup(baseline) => Some(baseline.size()),
            Self::Nothing | Self::Zeroes | Self::LowerLayers => None,
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("a target of which nothing is known"),
            Self::Zeroes => f.write_str("a target that reads as zero"),
            Self::Backup(baseline) => baseline.fmt(f),
            Self::LowerLayers => f.write_str("the layers under a single layer"),
        }
    }
}
