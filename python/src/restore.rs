//! `restore`: a chain of backups onto an export, as the program's `restore` applies it.

use core::ops::Range;
use std::path::Path;

use nbd_client::pipeline::{JoinedWrites, PipelineOptions};
use nbd_client::transport::Canceller;
use nbd_client::{Export, Options, Pool, Uri};
use nbd_extents_backup::sparse_stream::{Contents, Event};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::live;
use crate::streams::{self, Described, Streams, paths};

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
    let (timeout, request_timeout) =
        (job::duration(timeout, "timeout")?, job::duration(request_timeout, "request_timeout")?);
    let counts = Progress::default();
    let job = Job {
        uri: live::uri(uri)?,
        base,
        target_is_zero,
        options: live::options(&canceller, timeout, request_timeout),
        canceller: canceller.clone(),
        progress: counts.clone(),
    };
    let described = job::run(py, &canceller, Report::new(progress, &counts), move || {
        let streams = Streams::read(files, &job.canceller)?;
        job.run(&streams)
    })?;
    described.iter().map(|stream| stream.dict(py)).collect()
}

struct Job {
    uri: Uri,
    base: Option<String>,
    target_is_zero: bool,
    options: Options,
    canceller: Canceller,
    progress: Progress,
}

/// Added to the message of a restore that fails after its first write.
const PARTIAL: &str =
    "; the target now holds neither its old state nor the backup's: restore it again from the full backup on";

const NEEDS_BASE: &str =
    " (base=CHECKPOINT restores incrementals onto a target that holds that checkpoint already)";

impl Job {
    fn run(self, streams: &Streams) -> Result<Vec<Described>, Failure> {
        let described = self.check(streams)?;
        let mut pool = Pool::connect(&self.uri, &self.options, 1)?;
        let disk = streams.contents.last().map_or(0, |last| last.meta().virtual_size);
        check_target(pool.export(), disk)?;
        self.progress.total(streams.contents.iter().map(|stream| stream.summary().data).sum());
        let (mut written, mut has_written) = (0, false);
        for (nth, (file, contents)) in streams.files.iter().zip(&streams.contents).enumerate() {
            let later = streams.contents.iter().skip(nth).map(|stream| stream.meta().virtual_size);
            let stream = Stream {
                contents,
                skip_zeroes: self.target_is_zero && nth == 0,
                // bytes that a later stream cuts off are not written: the target may have no room for them
                limit: later.min().unwrap_or(0),
                writes: JoinedWrites::new(&mut pool, PipelineOptions::default())?,
                has_written: &mut has_written,
                progress: &self.progress,
                written: &mut written,
            };
            stream.apply(file, &self.canceller)?;
        }
        pool.disconnect().ok(); // all of it is there
        Ok(described)
    }

    /// Checks all that can be checked before a server is asked.
    fn check(&self, streams: &Streams) -> Result<Vec<Described>, Failure> {
        let is_onto = streams.contents.first().is_some_and(|first| first.meta().incremental);
        if is_onto && self.target_is_zero {
            let message = "an incremental needs the previous backup on the target: not with target_is_zero";
            return Err(Failure::usage(message));
        }
        let base = self.base.as_deref();
        let chain = streams.chain(base).map_err(|failure| match base {
            None if is_onto => failure.hint(NEEDS_BASE),
            _ => failure,
        })?;
        Ok(streams.describe(Some(&chain)))
    }
}

fn check_target(export: &Export, disk: u64) -> Result<(), Failure> {
    if export.flags.is_read_only() {
        return Err(Failure::not_there("the export is read-only: nothing can be restored onto it"));
    }
    if export.size() < disk {
        return Err(Failure::not_there(format!(
            "the target has {} bytes, and the disk in the backup {disk}: it does not fit",
            export.size()
        )));
    }
    Ok(())
}

/// One stream on its way to the target.
struct Stream<'a> {
    contents: &'a Contents,
    skip_zeroes: bool,
    limit: u64,
    writes: JoinedWrites<'a>,
    /// The target is no longer as it was.
    has_written: &'a mut bool,
    progress: &'a Progress,
    /// Bytes of data, of all streams.
    written: &'a mut u64,
}

impl Stream<'_> {
    /// Applies the stream in `file`, and waits until it is durable.
    fn apply(mut self, file: &Path, canceller: &Canceller) -> Result<(), Failure> {
        let read = streams::read(file, canceller, |event| match event {
            Event::Meta(meta) if meta != *self.contents.meta() => Err(changed(file)),
            Event::Payload { offset, bytes } => self.data(offset, bytes),
            Event::Zero { range } => self.zero(range),
            _ => Ok(()),
        });
        let has_written = *self.has_written;
        let done = read.and_then(|summary| {
            if summary != self.contents.summary() {
                return Err(changed(file));
            }
            Ok(self.writes.finish()?)
        });
        done.map_err(|failure| if has_written { failure.hint(PARTIAL) } else { failure })
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        *self.written += bytes.len() as u64;
        self.progress.done(*self.written);
        let room = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        *self.has_written = true;
        Ok(self.writes.write(offset, bytes)?)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        let range = range.start..range.end.min(self.limit);
        if self.skip_zeroes || range.is_empty() {
            return Ok(());
        }
        *self.has_written = true;
        Ok(self.writes.zero(range)?)
    }
}

fn changed(file: &Path) -> Failure {
    Failure::rules("the stream has changed since it was checked").about(file)
}
