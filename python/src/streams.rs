//! Backups as files: read to their ends, checked as a chain, described to Python.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use nbd_client::transport::Canceller;
use nbd_extents_backup::sparse_stream::{Contents, ContentsError};
use nbd_extents_backup::{BackupFiles, FilesError, UncheckedFact};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::errors::Failure;
use crate::job::{self, Progress, Report};

/// Checks that backups are whole, and that several follow each other.
///
/// `files` is a list of names, oldest first: a full backup and the incrementals that stand on it.
/// One incremental alone is checked by itself. Each file is read to its end, and its checksum is
/// compared.
///
/// Returns a dict for each: `incremental`, `checkpoint` and `parent` (names, or None), `size` (of
/// the disk), `data` and `zero` (bytes in the backup), and `unchecked`, a list of what could not be
/// checked because the file does not say it.
///
/// Raises BrokenRulesError for a file that is damaged or cut off, NotThereError for files that do
/// not follow each other and for one that is missing.
///
/// >>> import os, tempfile
/// >>> with tempfile.TemporaryDirectory() as folder:
/// ...     file = os.path.join(folder, "full")
/// ...     totals = backup(uri, file, checkpoint="sunday")
/// ...     [full] = verify([file])
/// >>> full["checkpoint"], full["size"], full["data"], full["unchecked"]
/// ('sunday', 67108864, 1048576, [])
#[pyfunction]
pub(crate) fn verify<'py>(py: Python<'py>, files: &Bound<'_, PyAny>) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let files = paths(files)?;
    let canceller = Canceller::new();
    let reader = canceller.clone();
    let progress = Progress::default();
    let described = job::run(py, &canceller, Report::new(None, &progress), move || {
        let files = read(files, &reader)?;
        let unchecked = files.verify()?;
        Ok(describe(&files, &unchecked))
    })?;
    described.iter().map(|stream| stream.dict(py)).collect()
}

/// File names of any iterable but a single name, which would be read letter by letter.
pub(crate) fn paths(files: &Bound<'_, PyAny>) -> PyResult<Vec<PathBuf>> {
    let is_name = files.is_instance_of::<PyString>() || files.is_instance_of::<PyBytes>();
    if is_name || files.hasattr("__fspath__")? {
        return Err(PyTypeError::new_err("files is a list of names, not one name"));
    }
    files.try_iter()?.map(|file| path(file?.extract()?)).collect()
}

/// The name of a file. With a zero byte it is none, as `open` of Python says too; the system would
/// say so when a backup is renamed, after all of it was read.
pub(crate) fn path(name: PathBuf) -> PyResult<PathBuf> {
    if name.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(PyValueError::new_err("a zero byte in the name of a file"));
    }
    Ok(name)
}

/// Reads backups to their ends, unless the call is interrupted.
pub(crate) fn read(files: Vec<PathBuf>, canceller: &Canceller) -> Result<BackupFiles, Failure> {
    Ok(BackupFiles::read_with(files, |file| Ok(Cancellable { file: File::open(file)?, canceller }))?)
}

/// Each stream, with the facts that could not be checked.
pub(crate) fn describe(files: &BackupFiles, unchecked: &[Vec<UncheckedFact>]) -> Vec<Described> {
    let describe = |(contents, facts): (&Contents, &Vec<UncheckedFact>)| Described {
        contents: contents.clone(),
        unchecked: facts.iter().map(UncheckedFact::to_string).collect(),
    };
    files.contents().iter().zip(unchecked).map(describe).collect()
}

/// The description of a stream.
pub(crate) struct Described {
    contents: Contents,
    unchecked: Vec<String>,
}

impl Described {
    pub(crate) fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (meta, summary) = (self.contents.meta(), self.contents.summary());
        let dict = PyDict::new(py);
        dict.set_item("incremental", meta.incremental)?;
        dict.set_item("checkpoint", meta.checkpoint.as_deref())?;
        dict.set_item("parent", meta.parent.as_deref())?;
        dict.set_item("size", meta.virtual_size)?;
        dict.set_item("data", summary.data)?;
        dict.set_item("zero", summary.zero)?;
        dict.set_item("unchecked", &self.unchecked)?;
        Ok(dict)
    }
}

/// A file whose reads fail once the call has been interrupted.
struct Cancellable<'a> {
    file: File,
    canceller: &'a Canceller,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.canceller.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        self.file.read(buffer)
    }
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Open { file, error } => Self::input(&file, &error),
            FilesError::Stream { file, error } => Self::from(error).about(&file),
            FilesError::Changed { .. } => Self::rules(error),
            _ => Self::not_there(error),
        }
    }
}

impl From<ContentsError> for Failure {
    fn from(error: ContentsError) -> Self {
        match error {
            ContentsError::Input(error) => Self::other(format!("cannot be read: {error}")),
            // a cause of a frame's fault, such as one of JSON, is not part of its own text
            ContentsError::Frame(error) => match core::error::Error::source(&error) {
                Some(source) => Self::rules(format!("{error}: {source}")),
                None => Self::rules(error),
            },
            other => Self::rules(other),
        }
    }
}
