//! What a policy is. The trait is open: a caller's own policies work in every place where this crate's do.

use super::{Base, Decision, PolicyError};
use crate::extent::Extent;
use crate::status::Status;

/// Chooses what to do with each range of a disk.
///
/// A policy is a plain value. It says what its backup stands on, and decides one extent at a time. [`StatusStream::decide`](super::StatusStream::decide)
/// runs it over a disk and checks each action with [`Base::permits`]: a policy that would skip a dirty byte, zero one that may hold data, or
/// rely on a target that it does not have, fails with [`PolicyError::Unsafe`].
///
/// ```
/// use nbd_extents::action::{Base, Decision, Policy, PolicyError, Reason, StatusStream};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Extent, Status};
///
/// /// Copies everything, whatever the server says.
/// struct Everything;
///
/// impl Policy for Everything {
///     fn base(&self) -> Base {
///         Base::Nothing
///     }
///
///     fn decide(&self, _: &Extent<Status>) -> Result<Decision, PolicyError> {
///         Ok(Decision { action: Action::Copy, reason: Reason::Other("everything is copied") })
///     }
/// }
///
/// let disk = [Extent::new(0, 4096, Status::UNKNOWN)?];
/// assert_eq!(from_iter(disk).decide(Everything).collect_vec()?, [Extent::new(0, 4096, Action::Copy)?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// To leave out bytes on purpose although they have changed (a swap partition, say), change the actions after the policy has decided:
/// merge the stream of actions with the ranges to leave out. A policy cannot do it, so that no policy does it by mistake.
pub trait Policy {
    /// What the target holds before this backup is applied to it.
    fn base(&self) -> Base;

    /// What to do with the bytes of this extent, and why. The decision holds for all of them.
    ///
    /// It depends on nothing but the policy and the extent.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] where the status does not say what the policy must know.
    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError>;

    /// The first byte after `offset` where the decision may change although the status does not, or `None` when there is none. Extents are cut
    /// there. They are cut at the end of a [`Base::Backup`] in any case.
    fn next_cut(&self, offset: u64) -> Option<u64> {
        let _ = offset;
        None
    }
}

impl<P: Policy + ?Sized> Policy for &P {
    fn base(&self) -> Base {
        (**self).base()
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        (**self).decide(extent)
    }

    fn next_cut(&self, offset: u64) -> Option<u64> {
        (**self).next_cut(offset)
    }
}
