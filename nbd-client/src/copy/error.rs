//! Why a copy failed.

use core::fmt;
use std::io;

use nbd_extents::StreamError;
use nbd_extents::action::{DecideError, PolicyError};
use nbd_extents::map::CapError;
use nbd_extents::plan::PlanError;

use crate::error::Error;
use crate::survey::SurveyorError;

/// Why a copy failed, and on which side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source, or a request to it, failed.
    #[error("the source: {0}")]
    Source(Error),
    /// The survey of the source failed.
    #[error("the source: {0}")]
    Survey(#[from] SurveyorError),
    /// The target, or a request to it, failed.
    #[error("the target: {0}")]
    Target(Error),
    /// The target takes no writes.
    #[error("the target is read-only")]
    ReadOnly,
    /// The target is smaller than the source.
    #[error("the target has {target_size} bytes, and the source {source_size}: it does not fit")]
    TooSmall {
        /// The size of the source in bytes.
        source_size: u64,
        /// The size of the target in bytes.
        target_size: u64,
    },
    /// The end of the source cannot be read.
    #[error(
        "the last {} bytes of the source cannot be read: it has {size} bytes, and the server takes \
            whole blocks of {minimum}",
        size % minimum
    )]
    Tail {
        /// The size of the source in bytes.
        size: u64,
        /// Its minimum block in bytes.
        minimum: u64,
    },
    /// The bytes read back are not the bytes written.
    #[error("the target does not hold what was written to it: {length} bytes at {offset} differ")]
    Differs {
        /// The start of the range that differs, in bytes.
        offset: u64,
        /// Bytes of the range.
        length: u64,
    },
    /// The policy could not decide.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The plan cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A source that takes one connection has more extents than the map holds.
    #[error(transparent)]
    Map(CapError<fmt::Error>),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A thread that moved data panicked: a fault of this program, of neither server.
    #[error("a thread of the copy panicked, which is a fault of this program")]
    Panicked,
}

impl From<DecideError<SurveyorError>> for CopyError {
    fn from(error: DecideError<SurveyorError>) -> Self {
        match error {
            DecideError::Stream(error) => error.into(),
            DecideError::Policy(error) => error.into(),
            _ => {
                debug_assert!(false, "a kind of error that this client does not know");
                Self::Source(Error::GivenUp)
            }
        }
    }
}

impl From<StreamError> for CopyError {
    fn from(error: StreamError) -> Self {
        Self::Survey(error.into())
    }
}
