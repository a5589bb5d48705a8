//! The treatment of bytes that read as zero, and the only code that turns a status into copy or
//! zero.

use super::{Action, Cause, Content, Decision, Reason};
use crate::status::Status;

/// The treatment of bytes that a backup needs and that read as zero.
///
/// ```
/// use nbd_extents::action::{Full, Policy, Zeroes};
/// use nbd_extents::{Action, Allocation, Extent, Status};
///
/// // zero, and space is allocated for it
/// let extent =
///     Extent::new(0, 4096, Status::UNKNOWN.with_allocation(Allocation::from_flags(2)))?;
/// let action = |zeroes| Full::new().with_zeroes(zeroes).decide(&extent).unwrap().action;
/// assert_eq!(action(Zeroes::MayUnmap), Action::Zero { may_unmap: true });
/// assert_eq!(action(Zeroes::KeepHoles), Action::Zero { may_unmap: false });
/// assert_eq!(action(Zeroes::AsData), Action::Copy);
/// # Ok::<(), nbd_extents::ExtentError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Zeroes {
    /// The target need not allocate space for them: the smallest target.
    #[default]
    MayUnmap,
    /// The target may leave out space only where the source does.
    ///
    /// Holes stay holes, and a preallocated disk stays preallocated.
    KeepHoles,
    /// The target allocates space for all of them.
    Allocate,
    /// The zero status is ignored: everything is data. For a server with an unreliable zero status.
    AsData,
}

impl Zeroes {
    /// The decision for bytes that the backup needs, for any cause.
    pub(super) fn bring(self, status: &Status, cause: Cause) -> Decision {
        let content = self.content(status);
        let action = match content {
            Content::Zero => Action::Zero { may_unmap: self.may_unmap(status) },
            _ => Action::Copy,
        };
        Decision { action, reason: Reason::Needed { cause, content } }
    }

    /// Zero comes from the ZERO bit alone; the unknown is data.
    fn content(self, status: &Status) -> Content {
        match (status.zero(), status.hole()) {
            (Some(true), _) if self == Self::AsData => Content::IgnoredZero,
            (Some(true), _) => Content::Zero,
            (Some(false), Some(true)) => Content::UndefinedHole,
            (Some(false), _) => Content::Data,
            (None, _) => Content::Unknown,
        }
    }

    fn may_unmap(self, status: &Status) -> bool {
        match self {
            Self::MayUnmap => true,
            Self::KeepHoles => status.hole() == Some(true),
            Self::Allocate | Self::AsData => false,
        }
    }
}
