//! Runs what waits for a server on a thread of its own, while the calling thread lets other Python
//! threads run, looks for Ctrl-C, and reports progress.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use nbd_client::copy::CopyMonitor;
use nbd_client::transport::Canceller;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::Failure;

/// How often the calling thread looks for Ctrl-C and reports progress.
const TICK: Duration = Duration::from_millis(50);
/// How long an interrupted call waits for its thread. A look-up of a name cannot be ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much is done, shared by the thread that works and the one that reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Counts>);

/// Both in bytes.
#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
    /// The counts of a job that has its own.
    monitor: OnceLock<CopyMonitor>,
}

impl Progress {
    pub(crate) fn done(&self, bytes: u64) {
        self.0.done.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn total(&self, bytes: u64) {
        self.0.total.store(bytes, Ordering::Relaxed);
    }

    /// Takes the counts of a copy from now on.
    pub(crate) fn follow(&self, monitor: CopyMonitor) {
        // a call has one job
        self.0.monitor.set(monitor).ok();
    }

    fn get(&self) -> (u64, u64) {
        if let Some(monitor) = self.0.monitor.get() {
            let now = monitor.progress();
            return (now.copied, now.to_copy);
        }
        (self.0.done.load(Ordering::Relaxed), self.0.total.load(Ordering::Relaxed))
    }
}

/// A Python callable that is told `(done, total)`, both in bytes, when they have changed.
pub(crate) struct Report<'a, 'py> {
    callback: Option<&'a Bound<'py, PyAny>>,
    progress: &'a Progress,
    last: (u64, u64),
}

impl<'a, 'py> Report<'a, 'py> {
    pub(crate) fn new(callback: Option<&'a Bound<'py, PyAny>>, progress: &'a Progress) -> Self {
        Self { callback, progress, last: (0, 0) }
    }

    fn tell(&mut self) -> PyResult<()> {
        let now = self.progress.get();
        if let Some(callback) = self.callback
            && core::mem::replace(&mut self.last, now) != now
        {
            callback.call1(now)?;
        }
        Ok(())
    }
}

/// Runs `work` and returns its result. Ctrl-C and an exception of the callback cancel it, and go to
/// the caller at once.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    canceller: &Canceller,
    mut report: Report<'_, '_>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = channel();
    let spawned = thread::Builder::new().name("nbd-extents".into()).spawn(move || {
        // the receiver is gone where the call was interrupted
        sender.send(work()).ok();
    });
    spawned.map_err(|error| Failure::other(format!("no thread for the connection: {error}")))?;
    let (value, _) = wait(py, canceller, &mut report, receiver)?;
    report.tell()?;
    Ok(value)
}

/// Waits for a result that another thread sends; gives the receiver back with it.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    canceller: &Canceller,
    report: &mut Report<'_, '_>,
    mut receiver: Receiver<Result<T, Failure>>,
) -> PyResult<(T, Receiver<Result<T, Failure>>)> {
    loop {
        // a receiver cannot be shared with the detached closure, so it moves in and out
        let (back, received) = py.detach(move || {
            let received = receiver.recv_timeout(TICK);
            (receiver, received)
        });
        receiver = back;
        match received {
            Ok(result) => return Ok((result?, receiver)),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = py.check_signals().and_then(|()| report.tell()) {
                    canceller.cancel();
                    py.detach(move || receiver.recv_timeout(PATIENCE).ok());
                    return Err(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(
                    Failure::other("a fault of nbd_extents: its thread ended without an answer").into()
                );
            }
        }
    }
}

/// A limit of time in seconds, as Python programs give it.
pub(crate) fn duration(seconds: Option<f64>, what: &str) -> PyResult<Option<Duration>> {
    let Some(seconds) = seconds else { return Ok(None) };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(PyValueError::new_err(format!("{what} is a number of seconds above 0, not {seconds}"))),
    }
}

/// A number of connections, as Python programs give it.
pub(crate) fn connections(number: u8) -> PyResult<usize> {
    match number {
        0 => Err(PyValueError::new_err("connections is a number from 1 to 255, not 0")),
        number => Ok(number.into()),
    }
}

/// The end of a whole call.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    // a limit beyond what a clock can show is none
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
