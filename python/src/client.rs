//! `Client`: a connection that reads and writes what a map or a plan names.

use core::ops::Range;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nbd_client::pipeline::PipelineOptions;
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Pool, ReadAhead};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::errors::Failure;
use crate::job::{self, Progress, Report};
use crate::live;
use crate::plan::PyStep;

/// How long a call waits for a connection that `blocks` has not given back yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// `blocks` has no more bytes than these in flight, and as many waiting.
const BATCH: u64 = 8 << 20;

/// A connection to an export: reads and writes ranges of any length.
///
/// `uri` is one of those of `survey`; `connect_timeout` and `request_timeout` are in seconds.
///
/// Use it in a `with` statement, or call `close`. One call at a time may use it; other threads run
/// while a call waits. Ctrl-C ends a call at once, and the connection with it.
///
/// >>> with Client(uri) as client:
/// ...     client.size, len(client.read(0, 512))
/// (67108864, 512)
#[pyclass(name = "Client", module = "nbd_extents", frozen)]
#[derive(Debug)]
pub(crate) struct PyClient {
    connection: Arc<Connection>,
    canceller: Canceller,
    /// The size of the export in bytes.
    #[pyo3(get)]
    size: u64,
    /// Whether the server refuses writes.
    #[pyo3(get)]
    read_only: bool,
    /// Requests must be whole blocks of this size in bytes.
    #[pyo3(get)]
    minimum_block: u32,
}

/// The client, and who has it.
#[derive(Debug)]
struct Connection {
    state: Mutex<State>,
    /// Told when the client comes back.
    idle: Condvar,
}

#[derive(Debug)]
enum State {
    Idle(Box<Pool>),
    /// Another thread has the client.
    Busy,
    Closed,
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        // no code that can panic runs under the lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the client, and waits a little for one that is on its way back.
    fn take(&self) -> PyResult<Box<Pool>> {
        let waited = self.idle.wait_timeout_while(self.state(), PATIENCE, |s| matches!(s, State::Busy));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match core::mem::replace(&mut *state, State::Busy) {
            State::Idle(client) => Ok(client),
            State::Busy => Err(PyRuntimeError::new_err("another call uses the connection")),
            State::Closed => {
                *state = State::Closed;
                Err(PyRuntimeError::new_err("the connection is closed"))
            }
        }
    }

    /// Gives the client back, unless the connection was closed meanwhile.
    fn put(&self, client: Box<Pool>) {
        let mut state = self.state();
        if matches!(*state, State::Busy) {
            *state = State::Idle(client);
        }
        self.idle.notify_one();
    }
}

#[pymethods]
impl PyClient {
    #[new]
    #[pyo3(signature = (uri, *, connect_timeout=None, request_timeout=None))]
    fn new(
        py: Python<'_>,
        uri: &str,
        connect_timeout: Option<f64>,
        request_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let canceller = Canceller::new();
        let mut options = live::options(&canceller, None, request_timeout)?;
        if let Some(limit) = job::duration(connect_timeout, "connect_timeout")? {
            options = options.connect_timeout(limit);
        }
        let uri = live::uri(uri)?;
        let progress = Progress::default();
        let client = job::run(py, &canceller, Report::new(None, &progress), move || {
            Ok(Box::new(Pool::of(Client::connect(&uri, &options)?, Vec::new())?))
        })?;
        let export = client.export();
        Ok(Self {
            size: export.size(),
            read_only: export.flags.is_read_only(),
            minimum_block: export.block_size.map_or(1, |sizes| sizes.minimum()),
            connection: Arc::new(Connection { state: Mutex::new(State::Idle(client)), idle: Condvar::new() }),
            canceller,
        })
    }

    /// The bytes from `offset` on, `length` of them.
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: u64) -> PyResult<Bound<'py, PyBytes>> {
        self.check(offset, length)?;
        let length = usize::try_from(length).map_err(Failure::usage)?;
        let bytes = self.call(py, move |client| {
            let mut buffer = vec![0; length];
            client.read(offset, &mut buffer)?;
            Ok(buffer)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes `data`, which is bytes or anything with a buffer of bytes. It is durable after
    /// `flush`.
    fn write(&self, py: Python<'_>, offset: u64, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = PyMemoryView::from(data)?.call_method0("tobytes")?.extract::<Vec<u8>>()?;
        self.check(offset, bytes.len() as u64)?;
        self.call(py, move |client| Ok(client.write(offset, &bytes)?))
    }

    /// Makes a range read as zeroes, the fastest way that the server has.
    fn zero(&self, py: Python<'_>, offset: u64, length: u64) -> PyResult<()> {
        self.check(offset, length)?;
        self.call(py, move |client| Ok(client.zero(offset, length)?))
    }

    /// Waits until all that was written is on stable storage.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |client| Ok(client.flush()?))
    }

    /// Reads many ranges in order, several requests in flight: an iterator of (offset, bytes).
    ///
    /// `ranges` are steps of `Map.plan`, of which the copies are read, or (start, length) tuples. A
    /// block is at most 256 KiB. The connection is the iterator's until it ends or is dropped.
    /// Nothing is in flight while the caller does not ask for blocks, so a slow caller cannot hold
    /// up the server.
    ///
    /// >>> with Client(uri) as client:
    /// ...     sum(len(data) for offset, data in client.blocks(survey(uri, ["b0"]).plan()))
    /// 1048576
    fn blocks(&self, ranges: &Bound<'_, PyAny>) -> PyResult<PyBlocks> {
        let mut wanted = Vec::new();
        for item in ranges.try_iter()? {
            if let Some(range) = range(&item?)? {
                self.check(range.start, range.end - range.start)?;
                wanted.push(range);
            }
        }
        let client = ranges.py().detach(|| self.connection.take())?;
        let connection = Arc::clone(&self.connection);
        let (sender, receiver) = sync_channel(0);
        let spawned = thread::Builder::new().name("nbd-extents".into()).spawn(move || {
            let mut client = client;
            read_batches(&mut client, wanted, &sender);
            connection.put(client);
        });
        spawned.map_err(|error| Failure::other(format!("no thread for the connection: {error}")))?;
        Ok(PyBlocks {
            receiver: Mutex::new(Some(receiver)),
            canceller: self.canceller.clone(),
            batch: VecDeque::new(),
        })
    }

    /// Says goodbye to the server. A call that another thread waits for is ended.
    fn close(&self, py: Python<'_>) {
        match core::mem::replace(&mut *self.connection.state(), State::Closed) {
            State::Idle(client) => {
                // nothing is in flight, so a goodbye that fails loses nothing
                py.detach(|| client.disconnect()).ok();
            }
            State::Busy => self.canceller.cancel(),
            State::Closed => {}
        }
    }

    fn __enter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<Client of an export of {} bytes>", self.size)
    }
}

impl PyClient {
    /// Refuses what lies beyond the export, before any memory is taken for it.
    fn check(&self, offset: u64, length: u64) -> Result<(), Failure> {
        if offset.checked_add(length).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{length} bytes at byte {offset} do not lie within the export of {} bytes",
            self.size
        )))
    }

    fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Pool) -> Result<T, Failure> + Send + 'static,
    ) -> PyResult<T> {
        let mut client = py.detach(|| self.connection.take())?;
        let connection = Arc::clone(&self.connection);
        let progress = Progress::default();
        job::run(py, &self.canceller, Report::new(None, &progress), move || {
            let result = work(&mut client);
            connection.put(client);
            result
        })
    }
}

/// The range that an item of `blocks` asks to read.
fn range(item: &Bound<'_, PyAny>) -> PyResult<Option<Range<u64>>> {
    if let Ok(step) = item.cast::<PyStep>() {
        return Ok(step.get().copied_range());
    }
    let (start, length): (u64, u64) = item.extract().map_err(|error: PyErr| {
        let py = item.py();
        if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err("a range is a step of a plan, or a (start, length) tuple")
        } else {
            error
        }
    })?;
    let end = start.checked_add(length).ok_or_else(|| Failure::usage("a range ends above 2^64"))?;
    Ok(Some(start..end))
}

type Batch = VecDeque<(u64, Vec<u8>)>;
/// Batches, then `None`; or the failure that ended them.
type Batches = Receiver<Result<Option<Batch>, Failure>>;

/// Reads ranges a batch at a time. Between two batches nothing is in flight, however long the
/// caller takes for the first.
fn read_batches(
    client: &mut Pool,
    ranges: Vec<Range<u64>>,
    sender: &SyncSender<Result<Option<Batch>, Failure>>,
) {
    let mut ranges = VecDeque::from(ranges);
    while !ranges.is_empty() {
        let batch = read_batch(client, next_batch(&mut ranges));
        let failed = batch.is_err();
        let sent = sender.send(batch.map(Some).map_err(Failure::from));
        if failed || sent.is_err() {
            return;
        }
    }
    sender.send(Ok(None)).ok();
}

/// Takes ranges of up to `BATCH` bytes off the front.
fn next_batch(ranges: &mut VecDeque<Range<u64>>) -> Vec<Range<u64>> {
    let (mut batch, mut room) = (Vec::new(), BATCH);
    while room > 0 {
        let Some(mut range) = ranges.pop_front() else { break };
        let end = range.end.min(range.start.saturating_add(room));
        room -= end - range.start;
        batch.push(range.start..end);
        range.start = end;
        if range.start < range.end {
            ranges.push_front(range);
        }
    }
    batch
}

fn read_batch(client: &mut Pool, ranges: Vec<Range<u64>>) -> Result<Batch, Error> {
    let mut blocks = ReadAhead::new(client, ranges, PipelineOptions::default())?;
    let mut batch = Batch::new();
    while let Some(block) = blocks.next_block()? {
        batch.push_back((block.offset, block.data.to_vec()));
    }
    Ok(batch)
}

/// The blocks of `Client.blocks`.
#[pyclass(name = "Blocks", module = "nbd_extents")]
#[derive(Debug)]
pub(crate) struct PyBlocks {
    /// `None` at the end.
    receiver: Mutex<Option<Batches>>,
    canceller: Canceller,
    batch: Batch,
}

#[pymethods]
impl PyBlocks {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<(u64, Bound<'py, PyBytes>)>> {
        while self.batch.is_empty() {
            let receiver = self.receiver.get_mut().unwrap_or_else(PoisonError::into_inner);
            let Some(taken) = receiver.take() else { return Ok(None) };
            let progress = Progress::default();
            let (received, taken) = job::wait(py, &self.canceller, &mut Report::new(None, &progress), taken)?;
            let Some(batch) = received else { return Ok(None) };
            self.batch = batch;
            *receiver = Some(taken);
        }
        Ok(self.batch.pop_front().map(|(offset, bytes)| (offset, PyBytes::new(py, &bytes))))
    }
}
