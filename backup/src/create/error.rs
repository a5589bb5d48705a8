//! Why a backup was not made.

use std::io;

use nbd_client::Error;
use nbd_client::survey::SurveyorError;
use nbd_extents::action::{BaselineError, DecideError, PolicyError};
use nbd_extents::map::CapError;
use nbd_extents::plan::PlanError;
use nbd_extents::{ContextError, StreamError};

use crate::output::OutputError;
use crate::sparse_stream::FrameFault;

/// Why a backup was not made. Its file is as it was.
///
/// ```
/// use nbd_extents_backup::{Backup, BackupError, Parent};
///
/// let monday = Parent::by_hand(Some("monday".into()), None);
/// let again = Backup::incremental(["b0"], monday).checkpoint(Some("monday".into()));
/// let error = again.check().unwrap_err();
/// assert!(matches!(error, BackupError::SameCheckpoint { .. }), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The previous backup has the same name, and no restore would accept both.
    #[error("the previous backup is of checkpoint {name:?} already: this one needs another name")]
    SameCheckpoint {
        /// The name.
        name: String,
    },
    /// The disk may have grown, from a size that is not stated.
    #[error(
        "whether the disk has grown shows only from its size at the previous backup, which is not stated"
    )]
    UnknownSize,
    /// A bitmap cannot be asked for by this name.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// No connection came about, or the server lacks a context that is needed.
    #[error(transparent)]
    Connect(SurveyorError),
    /// The survey of the export failed.
    #[error(transparent)]
    Survey(#[from] SurveyorError),
    /// The export is writable, which was not allowed.
    #[error("the export is writable, and may change while it is read")]
    Writable,
    /// The end of the export cannot be read.
    #[error(
        "the last {} bytes of the export cannot be read: it has {size} bytes, and the server takes \
            whole blocks of {minimum}",
        size % minimum
    )]
    Tail {
        /// The size of the export in bytes.
        size: u64,
        /// Its minimum block in bytes.
        minimum: u64,
    },
    /// The previous backup is of another size than the disk.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The policy could not decide.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The disk has more extents than its map may hold.
    #[error(transparent)]
    Map(Box<CapError<DecideError<SurveyorError>>>),
    /// The plan cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The export cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
    /// The stream would not be sound.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// The stream cannot be written.
    #[error("the backup cannot be written: {0}")]
    Write(io::Error),
    /// The file of the backup cannot be made, or cannot get its name.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<CapError<DecideError<SurveyorError>>> for BackupError {
    fn from(error: CapError<DecideError<SurveyorError>>) -> Self {
        match error {
            CapError::Stream(DecideError::Stream(error)) => Self::Survey(error),
            CapError::Stream(DecideError::Policy(error)) => Self::Policy(error),
            error => Self::Map(Box::new(error)),
        }
    }
}

impl From<StreamError> for BackupError {
    fn from(error: StreamError) -> Self {
        Self::Survey(error.into())
    }
}
