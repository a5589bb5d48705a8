//! `restore`: a chain of backups onto an export, by the engine of the program's `restore`.

use nbd_client::transport::Canceller;
use nbd_extents_backup::{Restore, RestoreError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::live;
use crate::streams::{self, paths};

/// Restores a chain of backups onto an export: a full one, then its incrementals.
///
/// All files are checked before the first byte is written, as `verify` does, and all is durable at
/// the end. `uri` is a writable export at least as large as the disk; of a larger one, the rest
/// stays as it is. Returns what `verify` does.
///
/// base
///     The name of the checkpoint that the target holds already; the first file is then an
///     incremental that stands on it.
/// target_is_zero
///     The target reads as zero all over: the zeroes of a full backup are not written.
/// connections
///     How many connections to write over, where the server allows several.
///
/// The other arguments are those of `survey`; `progress` is told of the bytes written.
///
/// Raises NotThereError for files that do not follow each other and for a target that is too small
/// or read-only, BrokenRulesError for a damaged file, LostConnectionError. After an error of the
/// server the target may hold a part of the backup: restore it again.
///
/// >>> import os, tempfile
/// >>> with tempfile.TemporaryDirectory() as folder:
/// ...     file = os.path.join(folder, "full")
/// ...     totals = backup(uri, file)
/// ...     restore(uri, [file])
/// Traceback (most recent call last):
///     ...
/// nbd_extents.NotThereError: the export is read-only: nothing can be restored onto it
#[pyfunction]
#[pyo3(signature = (
    uri,
    files,
    *,
    base=None,
    target_is_zero=false,
    connections=1,
    timeout=None,
    request_timeout=None,
    progress=None
))]
#[expect(clippy::too_many_arguments, reason = "Python programs name them")]
pub(crate) fn restore<'py>(
    py: Python<'py>,
    uri: &str,
    files: &Bound<'_, PyAny>,
    base: Option<String>,
    target_is_zero: bool,
    connections: u8,
    timeout: Option<f64>,
    request_timeout: Option<f64>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let files = paths(files)?;
    if base.is_some() && target_is_zero {
        return Err(
            Failure::usage("a target that holds a checkpoint is not zero: base or target_is_zero").into()
        );
    }
    let canceller = Canceller::new();
    let options = live::options(&canceller, timeout, request_timeout)?;
    let uri = live::uri(uri)?;
    let restore = Restore::new()
        .base(base.clone())
        .target_is_zero(target_is_zero)
        .connections(job::connections(connections)?);
    let counts = Progress::default();
    let (watched, reader) = (counts.clone(), canceller.clone());
    let described = job::run(py, &canceller, Report::new(progress, &counts), move || {
        let files = streams::read(files, &reader)?;
        let is_onto = files.contents().first().is_some_and(|first| first.meta().incremental);
        let checked = restore.check(&files).map_err(|error| match error {
            RestoreError::Files(_) if is_onto && base.is_none() => Failure::from(error).hint(NEEDS_BASE),
            error => error.into(),
        })?;
        let described = streams::describe(&files, checked.unchecked());
        let target = restore.connect(&uri, &options)?;
        watched.follow(target.monitor());
        checked.write_to(target)?;
        Ok(described)
    })?;
    described.iter().map(|stream| stream.dict(py)).collect()
}

const NEEDS_BASE: &str =
    " (base=CHECKPOINT restores incrementals onto a target that holds that checkpoint already)";

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Files(error) => error.into(),
            RestoreError::NeedsPrevious => Self::usage(format!("{error}: not with target_is_zero")),
            RestoreError::Connect(error) => error.into(),
            RestoreError::ReadOnly | RestoreError::TooSmall { .. } => Self::not_there(error),
            RestoreError::Target { file: Some(file), error } => Self::from(*error).about(&file),
            RestoreError::Target { file: None, error } => (*error).into(),
            RestoreError::Partial(error) => Self::from(*error).hint(RestoreError::PARTIAL),
            _ => Self::other(error),
        }
    }
}
