//! The part of a status that is shown, and the step from the library's [`Status`] to it. Mapping
//! comes before coalescing, so that a part of the status which is not shown makes no cut.

use nbd_extents::{Action, Status};

/// The part of a range's status that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// With a bitmap: is it dirty in any of them, does it read as zero?
    Change { dirty: bool, zero: bool },
    /// Without: does it read as zero, is it in no layer of the image?
    Content { zero: bool, hole: bool },
    /// The action of a backup.
    Action(Action),
}

/// Whether dirty bitmaps were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Change,
    Content,
    Actions,
}

impl View {
    /// The map's view: with bitmaps the changes, else the content.
    pub(super) const fn of_map(bitmaps: bool) -> Self {
        if bitmaps { Self::Change } else { Self::Content }
    }

    /// The part of a status that this view shows. Unknown is shown as the safe answer: dirty, not
    /// zero, not a hole.
    pub(super) fn show(self, status: Status) -> Shown {
        let zero = status.zero().unwrap_or(false);
        match self {
            Self::Change => Shown::Change { dirty: status.dirty().unwrap_or(true), zero },
            Self::Content | Self::Actions => Shown::Content { zero, hole: status.depth() == Some(0) },
        }
    }
}

/// The four kinds of range that the picture and the summary tell apart, the most important last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RangeKind {
    CleanZero,
    CleanData,
    DirtyZero,
    DirtyData,
}

impl Shown {
    /// Its kind; without a bitmap all content counts as changed.
    pub(super) const fn kind(self) -> RangeKind {
        match self {
            Self::Action(Action::Copy) => RangeKind::DirtyData,
            Self::Action(Action::Zero { .. }) => RangeKind::DirtyZero,
            Self::Action(Action::Skip | Action::Absent) => RangeKind::CleanZero,
            Self::Change { dirty: true, zero: false } | Self::Content { zero: false, .. } => {
                RangeKind::DirtyData
            }
            Self::Change { dirty: true, zero: true } | Self::Content { zero: true, hole: false } => {
                RangeKind::DirtyZero
            }
            Self::Change { dirty: false, zero: false } => RangeKind::CleanData,
            Self::Change { dirty: false, zero: true } | Self::Content { zero: true, hole: true } => {
                RangeKind::CleanZero
            }
        }
    }

    /// In words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Action(Action::Copy) => "copy",
            Self::Action(Action::Zero { .. }) => "zero",
            Self::Action(Action::Skip) => "skip",
            Self::Action(Action::Absent) => "absent",
            Self::Change { dirty: true, zero: false } => "dirty data",
            Self::Change { dirty: true, zero: true } => "dirty zeroes",
            Self::Change { dirty: false, zero: false } => "clean data",
            Self::Change { dirty: false, zero: true } => "clean zeroes",
            Self::Content { zero: false, hole: false } => "data",
            Self::Content { zero: false, hole: true } => "unallocated data",
            Self::Content { zero: true, hole: false } => "zeroes",
            Self::Content { zero: true, hole: true } => "unallocated zeroes",
        }
    }
}
