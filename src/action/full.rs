//! The first backup of a disk: all of it.

use super::{Action, Base, Cause, Decision, Policy, PolicyError, Reason, Zeroes};
use crate::extent::Extent;
use crate::status::Status;

/// A full backup of a whole disk: zeroes are zeroed, the rest is copied, whatever the bitmaps say.
///
/// The export must be the whole disk, with all its layers: a byte of depth 0 is then a byte that no
/// layer holds, and the zero status gives its content. For one layer of a chain there is
/// [`SingleLayer`](super::SingleLayer).
///
/// ```
/// use nbd_extents::action::{Full, StatusStream};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Allocation, Extent, Status};
///
/// let status = |flags| Status::UNKNOWN.with_allocation(Allocation::from_flags(flags));
/// let disk = [Extent::new(0, 512, status(0))?, Extent::new(512, 512, status(3))?];
/// let actions = from_iter(disk).decide(Full::new()).collect_vec()?;
/// assert_eq!(*actions[0].status(), Action::Copy);
/// assert_eq!(*actions[1].status(), Action::Zero { may_unmap: true });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Full {
    zeroes: Zeroes,
    onto_zeroes: bool,
}

impl Full {
    /// Creates a full backup onto a target of unknown content.
    #[must_use]
    pub const fn new() -> Self {
        Self { zeroes: Zeroes::MayUnmap, onto_zeroes: false }
    }

    /// Sets the treatment of zeroes.
    ///
    /// ```
    /// use nbd_extents::action::{Full, Zeroes};
    ///
    /// assert_eq!(Full::new().with_zeroes(Zeroes::KeepHoles).zeroes(), Zeroes::KeepHoles);
    /// ```
    #[must_use]
    pub const fn with_zeroes(mut self, zeroes: Zeroes) -> Self {
        self.zeroes = zeroes;
        self
    }

    /// States that the target already reads as zero (a new sparse file), so that zeroes are
    /// skipped.
    ///
    /// Only a full backup can state this. In an incremental a skipped zero would leave the bytes of
    /// the previous backup in place, so [`Incremental`](super::Incremental) has no such function.
    ///
    /// ```
    /// use nbd_extents::action::{Full, Policy};
    /// use nbd_extents::{Action, Allocation, Extent, Status};
    ///
    /// let zero =
    ///     Extent::new(0, 512, Status::UNKNOWN.with_allocation(Allocation::from_flags(2)))?;
    /// assert_eq!(Full::new().onto_zeroes().decide(&zero)?.action, Action::Skip);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn onto_zeroes(mut self) -> Self {
        self.onto_zeroes = true;
        self
    }

    /// The treatment of zeroes.
    #[must_use]
    pub const fn zeroes(&self) -> Zeroes {
        self.zeroes
    }

    /// True if the target already reads as zero.
    #[must_use]
    pub const fn is_onto_zeroes(&self) -> bool {
        self.onto_zeroes
    }
}

impl Policy for Full {
    fn base(&self) -> Base {
        if self.onto_zeroes { Base::Zeroes } else { Base::Nothing }
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        let decision = self.zeroes.bring(extent.status(), Cause::Full);
        Ok(match decision.action {
            Action::Zero { .. } if self.onto_zeroes => {
                Decision { action: Action::Skip, reason: Reason::ZeroOnTarget }
            }
            _ => decision,
        })
    }
}
