//! `backup`: a whole backup of an export into a file, as the program's `backup` makes it.
//!
//! ```text
//! survey -> actions -> plan -> reads, several in flight -> frames -> a file beside FILE -> FILE
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nbd_client::pipeline::PipelineOptions;
use nbd_client::survey::Order;
use nbd_client::transport::Canceller;
use nbd_client::{Error, Options, Pool, ReadAhead, Surveyor, Uri};
use nbd_extents::action::Totals;
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions, PlanStep};
use nbd_extents::{Contexts, MAX_END, StreamError};
use nbd_extents_formats::sparse_stream::{Frame, Meta, StreamEnds, Writer};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tempfile::NamedTempFile;

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::live;
use crate::map::PyMap;
use crate::survey::strings;

/// Frames wait for each other in a buffer of this size. A payload is larger, and goes straight out.
const BUFFER: usize = 64 << 10;

/// Backs an export up into a file: all of it, or with `bitmaps` what has changed.
///
/// The file is a sparse stream, which the program `nbd-extents restore` and ovirt-imageio read. It is
/// written beside `file` and gets its name when it is whole and on disk. Returns the bytes that were
/// copied, zeroed and skipped, and the size of the disk, as a dict.
///
/// checkpoint
///     The name of the checkpoint that this backup is of.
/// after
///     The file of the previous backup, which an incremental stands on: its checkpoint, size and
///     checksum go into the new one.
/// parent, previous_size
///     The same by name and size, where there is no such file.
/// grown
///     Accepts a disk that has grown, and copies all beyond its old end.
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
    bitmap_first=false,
    allow_writable=false,
    timeout=None,
    request_timeout=None,
    progress=None
), text_signature = "(uri, file, bitmaps=(), *, checkpoint=None, after=None, parent=None, previous_size=None, grown=False, bitmap_first=False, allow_writable=False, timeout=None, request_timeout=None, progress=None)")]
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
    bitmap_first: bool,
    allow_writable: bool,
    timeout: Option<f64>,
    request_timeout: Option<f64>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let bitmaps = bitmaps.map_or_else(|| Ok(Vec::new()), |names| strings(names, "bitmaps"))?;
    let is_incremental =
        after.is_some() || parent.is_some() || previous_size.is_some() || grown || bitmap_first;
    if bitmaps.is_empty() && is_incremental {
        return Err(Failure::usage("only an incremental, with bitmaps, stands on another backup").into());
    }
    if after.is_some() && (parent.is_some() || previous_size.is_some()) {
        return Err(Failure::usage("after says what parent and previous_size would say again").into());
    }
    let canceller = Canceller::new();
    let (timeout, request_timeout) =
        (job::duration(timeout, "timeout")?, job::duration(request_timeout, "request_timeout")?);
    let counts = Progress::default();
    let job = Job {
        uri: live::uri(uri)?,
        contexts: live::contexts(&bitmaps, false)?,
        bitmaps,
        file,
        checkpoint,
        after,
        parent,
        previous_size,
        grown,
        order: if bitmap_first { Order::BitmapFirst } else { Order::Together },
        allow_writable,
        options: live::options(&canceller, timeout, request_timeout),
        progress: counts.clone(),
    };
    let totals = job::run(py, &canceller, Report::new(progress, &counts), move || job.run())?;
    crate::plan::totals_dict(py, &totals)
}

struct Job {
    uri: Uri,
    contexts: Contexts,
    bitmaps: Vec<String>,
    file: PathBuf,
    checkpoint: Option<String>,
    after: Option<PathBuf>,
    parent: Option<String>,
    previous_size: Option<u64>,
    grown: bool,
    order: Order,
    allow_writable: bool,
    options: Options,
    progress: Progress,
}

impl Job {
    fn run(self) -> Result<Totals, Failure> {
        // both files are opened before the server is asked
        let previous = self.after.as_deref().map(ends).transpose()?;
        let target = beside(&self.file).map_err(|error| failed(&self.file, &error))?;
        let (map, mut client) = self.survey()?;
        let size = map.disk_size;
        let then = previous.as_ref().map(|ends| ends.meta.virtual_size).or(self.previous_size);
        let actions = map.decide(then, self.grown)?;
        let plan = Plan::new(actions.stream(), self.plan_options(&client, size)?);
        let totals = plan.clone().measure()?.bytes;

        let meta = self.meta(size, totals.copy, previous.as_ref(), then);
        self.progress.total(totals.copy);
        let mut frames = Frames::new(target, &meta)?;
        frames.write(&mut client, plan, &self.progress)?;
        client.disconnect().ok(); // all that was asked has been answered
        commit(frames.finish()?, &self.file).map_err(|error| failed(&self.file, &error))?;
        Ok(totals)
    }

    fn survey(&self) -> Result<(PyMap, Pool), Failure> {
        let mut surveyor = Surveyor::connect(&self.uri, &self.options, &self.contexts, self.order)?;
        if !surveyor.is_read_only() && !self.allow_writable {
            return Err(Failure::other(
                "the export is writable, and may change while it is read (allow_writable=True backs it up all the same)",
            ));
        }
        let size = surveyor.export().size();
        let options = surveyor.survey_options()?.allow_writable();
        let map = ExtentMap::covering(surveyor.survey(options)?, 0..size)?;
        Ok((PyMap::new(map, self.bitmaps.clone().into(), size), Pool::of(vec![surveyor.into_client()?])?))
    }

    /// Reads of whole blocks. With the bitmap first, clean bytes may not even be readable.
    fn plan_options(&self, client: &Pool, size: u64) -> Result<PlanOptions, Failure> {
        let minimum = u64::from(client.export().block_size.map_or(1, |sizes| sizes.minimum()));
        let access = if self.order == Order::BitmapFirst { Access::DirtyOnly } else { Access::All };
        let options =
            || PlanOptions::new(size, BlockSize::new(minimum)?)?.max_copy(MAX_END)?.max_zero(MAX_END);
        Ok(options().map_err(Failure::rules)?.access(access))
    }

    fn meta(&self, size: u64, data: u64, previous: Option<&StreamEnds>, then: Option<u64>) -> Meta {
        let date = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let mut meta = Meta::full(size, data, date.trim_end_matches('Z'));
        meta.incremental = !self.bitmaps.is_empty();
        meta.parent.clone_from(&self.parent);
        meta.parent_size = then;
        if let Some(previous) = previous {
            meta.follow(previous);
        }
        meta.checkpoint.clone_from(&self.checkpoint);
        meta
    }
}

/// What the previous backup says of itself.
fn ends(path: &Path) -> Result<StreamEnds, Failure> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let ends =
        StreamEnds::read(file).map_err(|error| Failure::rules(format!("{}: {error}", path.display())))?;
    if ends.meta.checkpoint.is_none() {
        return Err(Failure::not_there(format!(
            "{}: it names no checkpoint, so nothing can be said to stand on it",
            path.display()
        )));
    }
    Ok(ends)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    if error.kind() == io::ErrorKind::NotFound {
        Failure::not_there(message)
    } else {
        Failure::other(message)
    }
}

/// A new file in the folder of another, which is removed again unless it gets that one's name.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::other("the backup can replace a regular file only"));
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
    builder.suffix(".partial").tempfile_in(folder(path))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn commit(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    // the name is on disk only with its folder
    File::open(folder(path))?.sync_all()
}

/// A stream being written. Without its last frame it is not whole.
struct Frames {
    out: BufWriter<NamedTempFile>,
    writer: Writer,
}

impl Frames {
    fn new(target: NamedTempFile, meta: &Meta) -> Result<Self, Failure> {
        let (writer, first) = Writer::new(meta).map_err(Failure::other)?;
        let mut out = BufWriter::with_capacity(BUFFER, target);
        out.write_all(&first).map_err(unwritten)?;
        Ok(Self { out, writer })
    }

    /// Carries out a plan, whose copies are read ahead.
    fn write(
        &mut self,
        client: &mut Pool,
        plan: impl Iterator<Item = Result<PlanStep, StreamError>> + Clone,
        progress: &Progress,
    ) -> Result<(), Failure> {
        // a fault of the plan ends the reads here, and is reported by the walk below
        let copies = plan.clone().map_while(Result::ok).filter_map(|step| match step {
            PlanStep::Copy { range } => Some(range),
            PlanStep::Zero { .. } => None,
        });
        let mut blocks = ReadAhead::new(client, copies, PipelineOptions::default())?;
        let mut done = 0;
        for step in plan {
            match step? {
                PlanStep::Zero { range, .. } => {
                    let frame = self.writer.zero(range).map_err(Failure::other)?;
                    put(&mut self.out, &frame)?;
                }
                PlanStep::Copy { range } => {
                    let mut at = range.start;
                    while at < range.end {
                        // no block where one is due would be a fault of the reader
                        let block = blocks.next_block()?.ok_or(Error::GivenUp)?;
                        let frame = self.writer.data(block.offset, block.data).map_err(Failure::other)?;
                        put(&mut self.out, &frame)?;
                        at = block.offset + block.data.len() as u64;
                        done += block.data.len() as u64;
                        progress.done(done);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<NamedTempFile, Failure> {
        let stop = self.writer.stop().map_err(Failure::other)?;
        put(&mut self.out, &stop)?;
        self.out.into_inner().map_err(|error| unwritten(error.into_error()))
    }
}

fn put(out: &mut impl Write, frame: &Frame<'_>) -> Result<(), Failure> {
    frame.parts().iter().try_for_each(|part| out.write_all(part)).map_err(unwritten)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: io::Error) -> Failure {
    Failure::other(format!("the backup cannot be written: {error}"))
}
