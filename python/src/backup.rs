//! `backup`: a whole backup of an export into a file, as the program's `backup` makes it.
//!
//! ```text
//! survey -> actions -> plan -> reads, several in flight -> frames -> a file beside FILE -> FILE
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use nbd_client::survey::Order;
use nbd_client::transport::Canceller;
use nbd_client::{Export, Options, Pool, Surveyor, Uri};
use nbd_extents::action::Totals;
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
use nbd_extents::{Contexts, MAX_END};
use nbd_extents_backup::sparse_stream::{Meta, StreamEnds};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;
use crate::frames::{Frames, Target};
use crate::job::{self, Progress, Report};
use crate::live;
use crate::map::PyMap;
use crate::streams;
use crate::survey::strings;

/// Backs an export up into a file: all of it, or with `bitmaps` what has changed.
///
/// The file is a sparse stream, which `restore`, the program `nbd-extents restore` and
/// ovirt-imageio read. It is written beside `file` and gets its name when it is whole and on disk.
/// Returns the bytes that were copied, zeroed and skipped, and the size of the disk, as a dict. A
/// full backup copies all of a disk whose server has no block status.
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
), text_signature = "(uri, file, bitmaps=(), *, checkpoint=None, after=None, parent=None, \
    previous_size=None, grown=False, bitmap_first=False, allow_writable=False, timeout=None, \
    request_timeout=None, progress=None)")]
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
    let (timeout, request_timeout) =
        (job::duration(timeout, "timeout")?, job::duration(request_timeout, "request_timeout")?);
    let counts = Progress::default();
    let job = Job {
        uri: live::uri(uri)?,
        contexts: live::contexts(&bitmaps, false)?,
        file,
        checkpoint,
        after,
        parent,
        previous_size,
        grown,
        order: if bitmap_first { Order::BitmapFirst } else { Order::Together },
        allow_writable,
        // a full backup needs no block status: without it all of the export is data
        options: live::options(&canceller, timeout, request_timeout).assume_data(bitmaps.is_empty()),
        date: date(py)?,
        disk: py.import("uuid")?.call_method0("uuid4")?.str()?.to_cow()?.into_owned(),
        bitmaps,
        progress: counts.clone(),
    };
    let totals = job::run(py, &canceller, Report::new(progress, &counts), move || job.run())?;
    crate::plan::totals_dict(py, &totals)
}

/// The time as ovirt-imageio writes it: UTC, without a word for the zone.
fn date(py: Python<'_>) -> PyResult<String> {
    let datetime = py.import("datetime")?;
    let zone = datetime.getattr("timezone")?.getattr("utc")?;
    let now = datetime.getattr("datetime")?.call_method1("now", (zone,))?;
    now.call_method1("strftime", ("%Y-%m-%dT%H:%M:%S.%f",))?.extract()
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
    date: String,
    /// The identity that a full backup gives its disk.
    disk: String,
    progress: Progress,
}

impl Job {
    fn run(self) -> Result<Totals, Failure> {
        // both files are opened before the server is asked
        let previous = self.after.as_deref().map(ends).transpose()?;
        let parent = previous.as_ref().map_or(&self.parent, |ends| &ends.meta.checkpoint);
        self.check_names(parent.as_deref())?;
        let target = Target::create(&self.file).map_err(|error| Failure::file(&self.file, &error))?;
        let (map, mut client) = self.survey()?;
        let size = map.disk_size;
        let then = previous.as_ref().map(|ends| ends.meta.virtual_size).or(self.previous_size);
        let actions = map.decide(then, self.grown)?;
        let plan = Plan::new(actions.stream(), self.plan_options(client.export())?);
        let totals = plan.clone().measure()?.bytes;

        let meta = self.meta(size, totals.copy, previous.as_ref(), then);
        self.progress.total(totals.copy);
        let mut frames = Frames::new(target, &meta)?;
        frames.write(&mut client, plan, &self.progress)?;
        client.disconnect().ok(); // all that was asked has been answered
        let target = frames.finish()?;
        target.commit().map_err(|error| Failure::file(&self.file, &error))?;
        Ok(totals)
    }

    fn survey(&self) -> Result<(PyMap, Pool), Failure> {
        let mut surveyor = Surveyor::connect(&self.uri, &self.options, &self.contexts, self.order)?;
        live::check_writable(&surveyor, self.allow_writable)?;
        let size = surveyor.export().size();
        let options = surveyor.survey_options()?.allow_writable();
        let map = ExtentMap::covering(surveyor.survey(options)?, 0..size)?;
        Ok((PyMap::new(map, self.bitmaps.clone().into(), size), Pool::of(vec![surveyor.into_client()?])?))
    }

    /// Two backups of one name make a chain that no restore accepts, and one that replaces its
    /// parent makes none.
    fn check_names(&self, parent: Option<&str>) -> Result<(), Failure> {
        if let Some(name) = parent
            && self.checkpoint.as_deref() == Some(name)
        {
            let message = format!("the previous backup is of checkpoint {name:?} already");
            return Err(Failure::usage(message + ": this one needs another name"));
        }
        let file = |path: &PathBuf| fs::canonicalize(path).ok();
        if let Some(after) = self.after.as_ref().and_then(file)
            && file(&self.file) == Some(after)
        {
            return Err(Failure::usage("the backup would replace the one that it stands on"));
        }
        Ok(())
    }

    /// Reads of whole blocks. With the bitmap first, clean bytes may not even be readable.
    fn plan_options(&self, export: &Export) -> Result<PlanOptions, Failure> {
        let (size, minimum) = (export.size(), export.block_size.map_or(1, |sizes| sizes.minimum()));
        if !size.is_multiple_of(u64::from(minimum)) {
            return Err(Failure::rules(format!(
                "the end of the export cannot be read: it has {size} bytes, and the server takes \
                    whole blocks of {minimum}"
            )));
        }
        let access = if self.order == Order::BitmapFirst { Access::DirtyOnly } else { Access::All };
        let options = || {
            let block = BlockSize::new(u64::from(minimum))?;
            PlanOptions::new(size, block)?.min_block(block)?.max_copy(MAX_END)?.max_zero(MAX_END)
        };
        Ok(options().map_err(Failure::rules)?.access(access))
    }

    fn meta(&self, size: u64, data: u64, previous: Option<&StreamEnds>, then: Option<u64>) -> Meta {
        let mut meta = Meta::full(size, data, &self.date);
        meta.incremental = !self.bitmaps.is_empty();
        meta.parent.clone_from(&self.parent);
        meta.parent_size = then;
        if let Some(previous) = previous {
            meta.follow(previous);
        }
        if !meta.incremental {
            // its incrementals take this identity of the disk from it
            meta.disk = Some(self.disk.clone());
        }
        meta.checkpoint.clone_from(&self.checkpoint);
        meta
    }
}

/// What the previous backup says of itself.
fn ends(path: &Path) -> Result<StreamEnds, Failure> {
    let ends = streams::ends(path)?;
    if ends.meta.checkpoint.is_none() {
        let nameless = "it names no checkpoint, so nothing can be said to stand on it";
        return Err(Failure::not_there(nameless).about(path));
    }
    Ok(ends)
}
