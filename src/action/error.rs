//! The errors of building a policy, and of its decisions.

use core::ops::Range;

use thiserror::Error;

use super::{Action, Base};
use crate::error::StreamError;
use crate::status::{Bitmaps, Status};

/// Why an incremental cannot be taken against this previous backup.
///
/// ```
/// use nbd_extents::Bitmaps;
/// use nbd_extents::action::{Baseline, Incremental};
///
/// let error = Incremental::new(Baseline::new(1024, Bitmaps::FIRST), 4096).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the export has 4096 bytes and had 1024 at the previous backup"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// No bitmap tracks the changes since the previous backup.
    #[error(
        "no dirty bitmap tracks the changes since the previous backup, which only a full backup can follow"
    )]
    NoBitmap,
    /// The size of the export differs from that at the previous backup.
    #[error("the export has {export} bytes and had {baseline} at the previous backup")]
    SizeChanged {
        /// The size at the previous backup, in bytes.
        baseline: u64,
        /// The size now, in bytes.
        export: u64,
    },
    /// The export is smaller than at the previous backup.
    #[error(
        "the export has shrunk from {baseline} to {export} bytes since the previous backup, which \
            only a full backup can follow"
    )]
    Shrunk {
        /// The size at the previous backup, in bytes.
        baseline: u64,
        /// The size now, in bytes.
        export: u64,
    },
}

/// Why a policy cannot decide about a range.
///
/// ```
/// use nbd_extents::action::{Baseline, Incremental, Policy};
/// use nbd_extents::{BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
///
/// let policy = Incremental::new(
///     Baseline::new(512, Bitmaps::FIRST.with(BitmapIndex::of::<1>())),
///     512,
/// )?;
/// let status = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
/// let error = policy.decide(&Extent::new(0, 512, status)?).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "whether bytes 0..512 have changed is not known: no answer from bitmap 1"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No bitmap of an incremental reports the bytes as dirty, and at least one has no answer.
    #[error(
        "whether bytes {}..{} have changed is not known: no answer from {missing}",
        range.start, range.end
    )]
    NoBitmap {
        /// The bytes.
        range: Range<u64>,
        /// The bitmaps of the baseline that have no answer.
        missing: Bitmaps,
    },
    /// The depth context does not say whether a single layer holds the bytes.
    #[error("a single layer needs qemu:allocation-depth, and it does not say whether the layer \
        holds bytes {}..{}", range.start, range.end)]
    NoDepth {
        /// The bytes.
        range: Range<u64>,
    },
    /// A policy chose an action that would lose bytes: see [`Base::permits`].
    #[error(
        "the policy would lose bytes {}..{}: {action} is wrong for {status} on {base}",
        range.start, range.end
    )]
    Unsafe {
        /// The bytes.
        range: Range<u64>,
        /// Their status.
        status: Status,
        /// The action chosen.
        action: Action,
        /// The base named by the policy.
        base: Base,
    },
    /// A policy of the caller refuses to decide.
    #[error("no action for bytes {}..{}: {reason}", range.start, range.end)]
    Refused {
        /// The bytes.
        range: Range<u64>,
        /// The reason.
        reason: &'static str,
    },
}

/// The errors of a stream of decisions: those of its source, of type `E`, or of the policy.
///
/// ```
/// use nbd_extents::action::{DecideError, PolicyError, SingleLayer, StatusStream};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Extent, Status};
///
/// let mut actions =
///     from_iter([Extent::new(0, 512, Status::UNKNOWN)?]).decide(SingleLayer::new());
/// assert_eq!(
///     actions.next_extent(),
///     Err(DecideError::Policy(PolicyError::NoDepth { range: 0..512 }))
/// );
/// # Ok::<(), nbd_extents::ExtentError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecideError<E = StreamError> {
    /// The stream of statuses failed.
    #[error(transparent)]
    Stream(E),
    /// The policy cannot decide.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl<E: From<StreamError>> From<StreamError> for DecideError<E> {
    fn from(error: StreamError) -> Self {
        Self::Stream(error.into())
    }
}
