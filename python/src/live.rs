//! `survey`: the merged map of a live export.

use core::ops::Range;
use std::sync::Arc;

use nbd_client::survey::{Order, SurveyStream, Surveyor};
use nbd_client::transport::Canceller;
use nbd_client::{Options, Uri};
use nbd_extents::map::{ExtentMap, MapBuilder};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts, Status};
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::map::PyMap;
use crate::survey::strings;

/// Asks an NBD server for the map of an export: which bytes are dirty, zero, or data.
///
/// `uri` is an NBD URI: `nbd://host:port/export`, `nbd+unix:///export?socket=/path`, or `nbds` in
/// place of `nbd` for TLS, with `?tls-certificates=FOLDER` for authorities of your own. `bitmaps`
/// are the names of dirty bitmaps, without `qemu:dirty-bitmap:`; the server must have all of them.
///
/// bitmap_first
///     Asks the bitmaps over the whole range and the rest only inside dirty ranges. Elsewhere
///     `zero` and `hole` are None. Some exports of live backups answer in this order alone.
/// depth
///     Asks for `qemu:allocation-depth` as well, which cuts extents where the layer changes.
/// offset, length
///     The part of the disk, in bytes; all of it unless set.
/// timeout
///     The seconds that the whole call may take.
/// request_timeout
///     The seconds that the server may take for one answer.
/// allow_writable
///     Accepts an export that is not read-only, which is OtherError otherwise. It may change while
///     it is asked; of two answers about one byte the safer one holds.
/// strict
///     Refuses a server that breaks the protocol in ways that do no harm.
/// progress
///     A function that is called with (bytes done, bytes in all) some twenty times a second.
///
/// Other threads run while it waits, Ctrl-C ends it at once, and an exception of `progress` ends it
/// as well. With asyncio, call `await asyncio.to_thread(nbd_extents.survey, uri)`.
///
/// >>> [(extent.length >> 20, extent.dirty, extent.zero) for extent in survey(uri, ["b0"])]
/// [(1, True, False), (7, False, True), (1, True, True), (55, False, True)]
/// >>> survey(uri, offset=8 << 20, length=4096).size
/// 4096
///
/// Raises NotThereError for an export or a bitmap that is missing, LostConnectionError (also where
/// TLS is not agreed on), BrokenRulesError or OtherError; ValueError for text that is no URI, and
/// for a range that leaves the disk.
#[pyfunction]
#[pyo3(signature = (
    uri,
    bitmaps=None,
    *,
    bitmap_first=false,
    depth=false,
    offset=0,
    length=None,
    timeout=None,
    request_timeout=None,
    allow_writable=false,
    strict=false,
    progress=None
), text_signature = "(uri, bitmaps=(), *, bitmap_first=False, depth=False, offset=0, length=None, \
    timeout=None, request_timeout=None, allow_writable=False, strict=False, progress=None)")]
#[expect(clippy::too_many_arguments, reason = "Python programs name them")]
pub(crate) fn survey(
    py: Python<'_>,
    uri: &str,
    bitmaps: Option<&Bound<'_, PyAny>>,
    bitmap_first: bool,
    depth: bool,
    offset: u64,
    length: Option<u64>,
    timeout: Option<f64>,
    request_timeout: Option<f64>,
    allow_writable: bool,
    strict: bool,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyMap> {
    let bitmaps = bitmaps.map_or_else(|| Ok(Vec::new()), |names| strings(names, "bitmaps"))?;
    if bitmap_first && bitmaps.is_empty() {
        return Err(Failure::usage("bitmap_first needs the name of a bitmap").into());
    }
    let canceller = Canceller::new();
    let counts = Progress::default();
    let job = Job {
        uri: self::uri(uri)?,
        contexts: contexts(&bitmaps, depth)?,
        order: if bitmap_first { Order::BitmapFirst } else { Order::Together },
        offset,
        length,
        options: options(&canceller, timeout, request_timeout)?.strict(strict),
        allow_writable,
        progress: counts.clone(),
    };
    let report = Report::new(progress, &counts);
    let (map, size) = job::run(py, &canceller, report, move || job.run())?;
    Ok(PyMap::new(map, Arc::from(bitmaps), size))
}

/// An NBD URI that a Python program gave.
pub(crate) fn uri(text: &str) -> Result<Uri, Failure> {
    text.parse().map_err(Failure::usage)
}

/// The options of a connection, with the limits of time that the caller has set, in seconds.
pub(crate) fn options(
    canceller: &Canceller,
    timeout: Option<f64>,
    request_timeout: Option<f64>,
) -> PyResult<Options> {
    let deadline = job::deadline(job::duration(timeout, "timeout")?);
    let options = Options::new().canceller(canceller.clone()).deadline(deadline);
    Ok(match job::duration(request_timeout, "request_timeout")? {
        Some(limit) => options.request_timeout(limit),
        None => options,
    })
}

/// The contexts of a survey, all of them required.
pub(crate) fn contexts(bitmaps: &[String], depth: bool) -> Result<Contexts, Failure> {
    let depth = depth.then_some(Context::Depth);
    let bitmaps = bitmaps.iter().map(Context::bitmap);
    Contexts::new().require_all(bitmaps.chain([Context::Allocation]).chain(depth)).map_err(Failure::usage)
}

/// Refuses an export that can change while it is asked, unless the caller has named it so.
pub(crate) fn check_writable(surveyor: &Surveyor, allowed: bool) -> Result<(), Failure> {
    if surveyor.is_read_only() || allowed {
        return Ok(());
    }
    Err(writable())
}

/// The failure of an export that is not read-only.
pub(crate) fn writable() -> Failure {
    Failure::other(
        "the export is writable, and may change while it is read (allow_writable=True accepts it \
            all the same)",
    )
}

/// Reads a survey into a map, extent by extent, so that progress is told as the answers come.
pub(crate) fn read(
    mut extents: SurveyStream<'_>,
    range: Range<u64>,
    progress: &Progress,
) -> Result<ExtentMap<Status>, Failure> {
    let start = range.start;
    let mut map = MapBuilder::covering(range);
    while let Some(extent) = extents.next_extent()? {
        progress.done(extent.end() - start);
        map.push(extent)?;
    }
    Ok(map.finish()?)
}

/// A survey of an export, ready to run on a thread of its own.
struct Job {
    uri: Uri,
    contexts: Contexts,
    order: Order,
    offset: u64,
    length: Option<u64>,
    options: Options,
    allow_writable: bool,
    progress: Progress,
}

impl Job {
    fn run(self) -> Result<(ExtentMap<Status>, u64), Failure> {
        let mut surveyor = Surveyor::connect(&self.uri, &self.options, &self.contexts, self.order)?;
        check_writable(&surveyor, self.allow_writable)?;
        let size = surveyor.export().size();
        let range = self.range(size)?;
        self.progress.total(range.end - range.start);
        let options = surveyor.survey_options()?.range(range.clone())?.allow_writable();
        let map = read(surveyor.survey(options)?.ask_ahead(), range, &self.progress)?;
        // all that was asked has been answered
        surveyor.disconnect().ok();
        Ok((map, size))
    }

    fn range(&self, size: u64) -> Result<Range<u64>, Failure> {
        let end = self.length.map_or(Some(size), |length| self.offset.checked_add(length));
        match end {
            Some(end) if self.offset <= end && end <= size => Ok(self.offset..end),
            _ => Err(Failure::usage(format!("the range does not lie within the export of {size} bytes"))),
        }
    }
}
