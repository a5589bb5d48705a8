//! One layer of a chain by itself: an overlay exported without its backing file.

use super::{Action, Base, Cause, Decision, Policy, PolicyError, Reason, Zeroes};
use crate::extent::Extent;
use crate::status::Status;

/// A full backup of one layer of a chain.
///
/// Bytes that the layer holds are copied or zeroed, all others are [`Action::Absent`].
///
/// An overlay exported alone reads as zero wherever it holds nothing, although the file below it
/// has data there. To restore these bytes as zeroes would hide valid data, so the depth decides
/// first: 0 is absent, never zero. Bytes of any other depth are held by the layer (a zero cluster
/// of the layer has depth 1: it hides the layers below and must be zeroed). If the depth is
/// unknown, the policy fails with [`PolicyError::NoDepth`].
///
/// ```
/// use nbd_extents::action::{Policy, PolicyError, SingleLayer};
/// use nbd_extents::{Action, Allocation, Depth, Extent, Status};
///
/// let zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(3));
/// let action = |status| {
///     SingleLayer::new()
///         .decide(&Extent::new(0, 512, status).unwrap())
///         .map(|decision| decision.action)
/// };
/// assert_eq!(action(zero.with_depth(Depth::from_flags(0))), Ok(Action::Absent));
/// assert_eq!(
///     action(zero.with_depth(Depth::from_flags(1))),
///     Ok(Action::Zero { may_unmap: true })
/// );
/// assert_eq!(action(zero), Err(PolicyError::NoDepth { range: 0..512 }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SingleLayer {
    zeroes: Zeroes,
}

impl SingleLayer {
    /// Creates a backup of all bytes that one layer holds.
    #[must_use]
    pub const fn new() -> Self {
        Self { zeroes: Zeroes::MayUnmap }
    }

    /// Sets the treatment of the layer's zeroes.
    ///
    /// ```
    /// use nbd_extents::action::{SingleLayer, Zeroes};
    ///
    /// assert_eq!(SingleLayer::new().with_zeroes(Zeroes::Allocate).zeroes(), Zeroes::Allocate);
    /// ```
    #[must_use]
    pub const fn with_zeroes(mut self, zeroes: Zeroes) -> Self {
        self.zeroes = zeroes;
        self
    }

    /// The treatment of the layer's zeroes.
    #[must_use]
    pub const fn zeroes(&self) -> Zeroes {
        self.zeroes
    }
}

impl Policy for SingleLayer {
    fn base(&self) -> Base {
        Base::LowerLayers
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        match extent.status().depth() {
            Some(0) => Ok(Decision { action: Action::Absent, reason: Reason::NotInLayer }),
            Some(_) => Ok(self.zeroes.bring(extent.status(), Cause::InLayer)),
            None => Err(PolicyError::NoDepth { range: extent.range() }),
        }
    }
}
