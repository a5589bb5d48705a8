//! The trait of policies. It is open: a caller's own policies work wherever this crate's do.

use core::ops::Range;

use super::{Base, Decision, Excluding, PolicyError};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;

/// Chooses the action for each range of a disk.
///
/// A policy is a plain value. It names its base, and decides about one extent at a time.
/// [`StatusStream::decide`](super::StatusStream::decide) applies it to a disk and checks each
/// action with [`Base::permits`]: a policy that would skip a dirty byte, zero one that may hold
/// data, or rely on a target that it does not have, fails with [`PolicyError::Unsafe`].
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
///         Ok(Decision {
///             action: Action::Copy,
///             reason: Reason::Other("everything is copied"),
///         })
///     }
/// }
///
/// let disk = [Extent::new(0, 4096, Status::UNKNOWN)?];
/// assert_eq!(
///     from_iter(disk).decide(Everything).collect_vec()?,
///     [Extent::new(0, 4096, Action::Copy)?]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Bytes that are left out, and other changes of mind
///
/// To leave out bytes although they have changed (a swap partition, say), use
/// [`Policy::excluding`]. Any other change is made to the actions after the policy has decided, by
/// a merge. `map_err` and [`err_into`](crate::stream::ExtentStream::err_into) bring both sides to
/// one type of error. Here a caller who trusts no zero in a range copies all of it:
///
/// ```
/// use nbd_extents::action::{DecideError, Full, StatusStream};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Action, Allocation, Extent};
///
/// let disk = [Extent::new(0, 12288, Allocation::from_flags(2).into())?];
/// let distrusted = [
///     Extent::new(0, 4096, false)?,
///     Extent::new(4096, 4096, true)?,
///     Extent::new(8192, 4096, false)?,
/// ];
///
/// let distrusted = from_iter(distrusted).map_err(DecideError::Stream);
/// let actions = from_iter(disk)
///     .decide(Full::new())
///     .merge(
///         distrusted,
///         |&action, &distrusted| if distrusted { Action::Copy } else { action },
///     )
///     .coalesce()
///     .collect_vec()?;
/// let rows: Vec<_> = actions.iter().map(|row| row.to_string()).collect();
/// assert_eq!(rows, ["0..4096 zero", "4096..8192 copy", "8192..12288 zero"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Policy {
    /// The content of the target before this backup is applied to it.
    fn base(&self) -> Base;

    /// Returns the action for the bytes of this extent, and its reason.
    ///
    /// The decision holds for all of them. Between two cuts ([`next_cut`](Self::next_cut)) it
    /// depends on the policy and the status alone. The policy may be asked about statuses that no
    /// byte of the disk has, and about ranges that are no extent of the disk.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if the status lacks information that the policy needs.
    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError>;

    /// The first byte after `offset` where the decision may change although the status does not.
    ///
    /// `None` if there is none. Extents are cut there. They are always cut at the end of a
    /// [`Base::Backup`].
    fn next_cut(&self, offset: u64) -> Option<u64> {
        let _ = offset;
        None
    }

    /// Returns `true` if the bytes of this extent are left out on purpose, as by
    /// [`excluding`](Self::excluding).
    ///
    /// It holds for all of them, like a decision, and may change only at
    /// [`next_cut`](Self::next_cut).
    ///
    /// If the policy decides to copy them, they become [`Action::Zero`](super::Action::Zero). Every
    /// other decision stands. No policy of this crate leaves anything out unless told to.
    fn leaves_out(&self, extent: &Extent<Status>) -> bool {
        let _ = extent;
        false
    }

    /// The same policy without these ranges of the disk. **Their content is lost.**
    ///
    /// `ranges` are byte ranges, ascending and disjoint. Bytes in them that the policy would copy
    /// are recorded as zeroes instead ([`Action::Zero`](super::Action::Zero), with the reason
    /// [`Reason::LeftOut`](super::Reason::LeftOut)). Every other decision of the policy stands,
    /// inside the ranges and outside.
    ///
    /// They are zeroed and not skipped, because a skip means "the previous backup holds these
    /// bytes". A restore would then present old content as new. With zeroes,
    /// [`Chain`](crate::chain::Chain) serves the range from this backup, and a restored disk reads
    /// as zero there, whatever the previous backups hold. So a disk with a range left out:
    ///
    /// - is restored with zeroes in the range, which is right for swap space, caches and free
    ///   blocks;
    /// - stays without the range in all later incrementals, even in those that leave out nothing:
    ///   they hold only the changes. The next backup that holds everything is a full one.
    ///
    /// # Errors
    ///
    /// [`StreamError::Extent`] for a range that is empty, inverted or too large, and
    /// [`StreamError::Overlap`] for one that starts before the end of the range before it.
    ///
    /// ```
    /// use nbd_extents::action::{Baseline, Incremental, Policy, StatusStream};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Allocation, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let data = |dirtiness| Status::from(Allocation::DATA).combine(Status::from(dirtiness));
    /// let disk = [
    ///     Extent::new(0, 4096, data(Dirtiness::DIRTY))?,
    ///     Extent::new(4096, 4096, data(Dirtiness::from_flags(0)))?,
    /// ];
    /// let swap = [1024..3072, 4096..8192];
    /// let policy =
    ///     Incremental::new(Baseline::new(8192, Bitmaps::FIRST), 8192)?.excluding(&swap)?;
    /// let actions = from_iter(disk).decide(&policy).collect_vec()?;
    /// let rows: Vec<_> = actions.iter().map(|row| row.to_string()).collect();
    /// assert_eq!(
    ///     rows,
    ///     ["0..1024 copy", "1024..3072 zero", "3072..4096 copy", "4096..8192 skip"]
    /// );
    ///
    /// let why = from_iter(disk).explain(&policy).collect_vec()?;
    /// assert_eq!(
    ///     why[1].to_string(),
    ///     "1024..3072 zero: left out on purpose, so that a restore reads zeroes (dirty,data)"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn excluding(self, ranges: &[Range<u64>]) -> Result<Excluding<'_, Self>, StreamError>
    where
        Self: Sized,
    {
        Excluding::new(self, ranges)
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

    fn leaves_out(&self, extent: &Extent<Status>) -> bool {
        (**self).leaves_out(extent)
    }
}
