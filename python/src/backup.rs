//! `backup`: a whole backup of an export into a file, by the engine of the program's `backup`.

use std::path::{Path, PathBuf};

use nbd_client::transport::Canceller;
use nbd_extents_backup::{Backup, BackupError, OutputError, Parent, Replace};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::live;
use crate::streams;
use crate::survey::strings;

/// Backs an export up into a file: all of it, or with `bitmaps` the changes.
///
/// The file is a sparse stream, which `restore`, the program `nbd-extents restore` and
/// ovirt-imageio read. It is written beside `file` and gets its name when it is whole and on disk. It
/// replaces a file that is a backup or empty, and any other only with `force`; a pipe or a device is
/// written as it is. Returns the bytes that were copied, zeroed and skipped, and
/// the size of the disk, as a dict. A full backup copies all of a disk whose server has no block
/// status.
///
/// checkpoint
///     The name of the state that is backed up, to which the next incremental refers.
/// after
///     The file of the previous backup, which an incremental stands on: its checkpoint, size and
///     checksum go into the new one.
/// parent, previous_size
///     The checkpoint of the previous backup, and the size that the disk had, where there is no
///     such file.
/// grown
///     Accepts a disk that has grown, and takes all bytes beyond its old end for dirty.
/// force
///     Replaces a file that is not a backup, such as a disk image.
/// detect_zeroes
///     Looks for zeroes in the data read: for servers that never report zeroes.
/// connections
///     How many connections to read over, where the server allows several.
/// allow_writable
///     Accepts an export that is not read-only, though it may change meanwhile.
///
/// The other arguments are those of `survey`; `progress` is told of the bytes copied.
///
/// >>> import os, tempfile
/// >>> with tempfile.TemporaryDirectory() as folder:
/// ...     full, changed = os.path.join(folder, "full"), os.path.join(folder, "changed")
/// ...     whole = backup(uri, full, checkpoint="sunday")
/// ...     part = backup(uri, changed, ["b0"], checkpoint="monday", after=full)
/// >>> whole["copy"], part["copy"], part["zero"]
/// (1048576, 1048576, 1048576)
#[pyfunction]
#[pyo3(signature = (
    uri,
    file,
    bitmaps=None,
    *,
    checkpoint=None,
    after=None,
    parent=None,
    previous_size=None,
    grown=false,
    force=false,
    bitmap_first=false,
    detect_zeroes=false,
    connections=1,
    allow_writable=false,
    timeout=None,
    request_timeout=None,
    progress=None
), text_signature = "(uri, file, bitmaps=(), *, checkpoint=None, after=None, parent=None, \
    previous_size=None, grown=False, force=False, bitmap_first=False, detect_zeroes=False, \
    connections=1, allow_writable=False, timeout=None, request_timeout=None, progress=None)")]
#[expect(clippy::too_many_arguments, reason = "Python programs name them")]
pub(crate) fn backup<'py>(
    py: Python<'py>,
    uri: &str,
    file: PathBuf,
    bitmaps: Option<&Bound<'_, PyAny>>,
    checkpoint: Option<String>,
    after: Option<PathBuf>,
    parent: Option<String>,
    previous_size: Option<u64>,
    grown: bool,
    force: bool,
    bitmap_first: bool,
    detect_zeroes: bool,
    connections: u8,
    allow_writable: bool,
    timeout: Option<f64>,
    request_timeout: Option<f64>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (file, after) = (streams::path(file)?, after.map(streams::path).transpose()?);
    let bitmaps = bitmaps.map_or_else(|| Ok(Vec::new()), |names| strings(names, "bitmaps"))?;
    let is_incremental =
        after.is_some() || parent.is_some() || previous_size.is_some() || grown || bitmap_first;
    if bitmaps.is_empty() && is_incremental {
        return Err(Failure::usage("only an incremental, with bitmaps, stands on another backup").into());
    }
    if after.is_some() && (parent.is_some() || previous_size.is_some()) {
        return Err(Failure::usage("after says what parent and previous_size would say again").into());
    }
    if grown && after.is_none() && previous_size.is_none() {
        return Err(Failure::usage("grown needs the old size: after or previous_size").into());
    }
    let canceller = Canceller::new();
    let options = live::options(&canceller, timeout, request_timeout)?;
    let uri = live::uri(uri)?;
    let connections = job::connections(connections)?;
    let counts = Progress::default();
    let watched = counts.clone();
    let work = move || {
        // the files are opened before the server is asked
        let backup = if bitmaps.is_empty() {
            Backup::full()
        } else {
            let parent = match &after {
                Some(file) => previous(file)?,
                None => Parent::by_hand(parent, previous_size),
            };
            Backup::incremental(bitmaps, if grown { parent.may_have_grown() } else { parent })
        };
        let backup = backup
            .checkpoint(checkpoint)
            .replace(if force { Replace::Any } else { Replace::Backup })
            .bitmap_first(bitmap_first)
            .detect_zeroes(detect_zeroes)
            .connections(connections)
            .allow_writable(allow_writable);
        backup.check()?;
        if file.is_dir() {
            return Err(Failure::other("the backup can replace a regular file only").about(&file));
        }
        let output = backup.create_output(&file)?;
        let disk = backup.survey(&uri, &options)?;
        watched.follow(disk.monitor());
        let (output, report) = disk.write(output)?;
        output.commit()?;
        Ok(report.totals)
    };
    let totals = job::run(py, &canceller, Report::new(progress, &counts), work)?;
    crate::plan::totals_dict(py, &totals)
}

/// The previous backup, in this file.
fn previous(file: &Path) -> Result<Parent, Failure> {
    let parent = Parent::read(file)?;
    if parent.checkpoint().is_none() {
        let nameless = "it names no checkpoint, so nothing can be said to stand on it";
        return Err(Failure::not_there(nameless).about(file));
    }
    Ok(parent)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::SameCheckpoint { .. } | BackupError::UnknownSize | BackupError::Context(_) => {
                Self::usage(error)
            }
            BackupError::Connect(error) | BackupError::Survey(error) => error.into(),
            BackupError::Read(error) => error.into(),
            BackupError::Output(error) => error.into(),
            BackupError::Writable => live::writable(),
            BackupError::Tail { .. } => Self::rules(error),
            BackupError::Baseline(error) => Self::not_there(error),
            _ => Self::other(error),
        }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::File { path, error } => Self::file(&path, &error),
            OutputError::NotABackup { .. } | OutputError::ReplacesParent | OutputError::Terminal => {
                Self::usage(error)
            }
            _ => Self::other(error),
        }
    }
}
