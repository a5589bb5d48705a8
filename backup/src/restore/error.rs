//! Why a restore failed.

use std::path::PathBuf;

use nbd_client::Error;

use crate::files::FilesError;
use crate::sparse_stream::{ContentsError, StreamChainError};

/// Why a restore failed.
///
/// Unless it is [`Partial`](Self::Partial), the target is as it was.
///
/// ```
/// use nbd_extents_backup::{BackupFiles, Restore, RestoreError};
///
/// let error = Restore::new().check(&BackupFiles::read(Vec::new())?).unwrap_err();
/// assert!(matches!(error, RestoreError::Files(_)), "no files are no chain");
/// # Ok::<(), nbd_extents_backup::FilesError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The files cannot be restored: they are damaged, or not a chain.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The stream is not sound, not whole, or cannot be read.
    #[error(transparent)]
    Stream(#[from] ContentsError),
    /// The stream cannot be the first of a chain, or not on this base.
    #[error(transparent)]
    Chain(#[from] StreamChainError),
    /// An incremental cannot be restored onto a target that reads as zero all over.
    #[error("an incremental needs the previous backup on the target")]
    NeedsPrevious,
    /// No connection to the target came about.
    #[error(transparent)]
    Connect(Error),
    /// The target takes no writes.
    #[error("the export is read-only: nothing can be restored onto it")]
    ReadOnly,
    /// The disk does not fit the target.
    #[error("the target has {target} bytes, and the disk in the stream {disk}: it does not fit")]
    TooSmall {
        /// The size of the target in bytes.
        target: u64,
        /// The size of the disk in bytes.
        disk: u64,
    },
    /// A request to the target failed.
    #[error("{}{error}", prefix(file.as_ref()))]
    Target {
        /// The file that was being restored, where it was one.
        file: Option<PathBuf>,
        /// The failure.
        error: Box<Error>,
    },
    /// The restore failed after its first write.
    #[error("{0}{end}", end = Self::PARTIAL)]
    Partial(Box<Self>),
}

impl RestoreError {
    /// The end of the message of [`Partial`](Self::Partial).
    pub const PARTIAL: &str = "; the target now holds neither its old state nor the backup's: \
        restore it again from the full backup on";

    /// Adds the name of the file that was being restored.
    pub(super) fn about(self, file: &std::path::Path) -> Self {
        let file = file.to_owned();
        match self {
            Self::Stream(error) => FilesError::Stream { file, error }.into(),
            Self::Target { error, .. } => Self::Target { file: Some(file), error },
            other => other,
        }
    }
}

impl From<Error> for RestoreError {
    fn from(error: Error) -> Self {
        Self::Target { file: None, error: Box::new(error) }
    }
}

fn prefix(file: Option<&PathBuf>) -> String {
    file.map_or_else(String::new, |file| format!("{}: ", file.display()))
}
