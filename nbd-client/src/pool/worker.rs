//! The thread of one connection: transfers come through a channel, events go out through another.
//!
//! It receives whatever the server sends as soon as it is there, whether or not anyone takes the
//! events. Every byte of an answer has its place in memory before it is asked for, so this is
//! bounded by the transfers that the pool lets through.
//!
//! To wake the other thread costs more than the request itself, so both sides hand over several
//! transfers and several events at a time.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::client::{BlockingDriver, Client};
use crate::connection::Transfer;
use crate::error::Error;
use crate::frame::During;
use crate::session::{Cookie, Event, RequestError, RequestFault, take_all};
use crate::stats::SessionStats;
use crate::transport::{Transport, Waker};

/// Reports that are handed over at once, while more requests are in flight.
const BATCH: usize = 16;
/// How long a report may wait for others.
const HOLD: Duration = Duration::from_millis(1);
/// Transfers, or bytes of them, that are handed over at once.
const TRANSFERS: usize = 8;
const BYTES: u64 = 512 << 10;

/// The reports of all workers to their pool, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<ReportQueue>);

#[derive(Debug, Default)]
struct ReportQueue {
    reports: Mutex<VecDeque<WorkerReport>>,
    changed: Condvar,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, VecDeque<WorkerReport>> {
        self.0.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands reports over.
    fn send(&self, reports: &mut Vec<WorkerReport>) {
        if !reports.is_empty() {
            self.lock().extend(reports.drain(..));
            self.0.changed.notify_one();
        }
    }

    /// All reports that are there already.
    pub(super) fn take(&self) -> VecDeque<WorkerReport> {
        core::mem::take(&mut *self.lock())
    }

    /// All reports, at least one of which is waited for.
    pub(super) fn wait(&self) -> VecDeque<WorkerReport> {
        let reports = self.0.changed.wait_while(self.lock(), |reports| reports.is_empty());
        core::mem::take(&mut *reports.unwrap_or_else(PoisonError::into_inner))
    }
}

/// News of a connection's thread.
#[derive(Debug)]
pub(super) enum WorkerReport {
    /// An event of the transfer with this number of the pool.
    Event(Event),
    /// Memory of a payload that was sent.
    Spare(Vec<u8>),
    /// The connection cannot be used again.
    Lost(Error),
}

/// One connection, as the pool sees it.
#[derive(Debug)]
pub(super) struct Worker {
    /// The number of its transfers.
    pub(super) load: usize,
    /// Transfers queued since the thread was last woken.
    unannounced: usize,
    unannounced_bytes: u64,
    jobs: Sender<QueuedTransfer>,
    waker: Option<Waker>,
    thread: JoinHandle<Result<SessionStats, Error>>,
}

/// A transfer and its number in the pool.
type QueuedTransfer = (Cookie, Transfer);

impl Worker {
    pub(super) fn start<T>(client: Client<T>, reports: Reports) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        let failed = |source| Error::io(During::Connect, source);
        let (jobs, theirs) = channel();
        let mut driver = client.into_driver();
        let waker = driver.transport.waker().map_err(failed)?;
        let bell = waker.clone();
        let thread = std::thread::Builder::new()
            .name("nbd-pool".to_owned())
            .spawn(move || Work { driver, jobs: theirs, outbox: Vec::new(), reports }.run(bell.as_ref()))
            .map_err(failed)?;
        Ok(Self { load: 0, unannounced: 0, unannounced_bytes: 0, jobs, waker, thread })
    }

    /// Queues a transfer for the thread, which may begin it only when it is [woken](Self::wake) or
    /// has been given several.
    pub(super) fn begin(&mut self, number: Cookie, transfer: Transfer) {
        self.load += 1;
        self.unannounced += 1;
        self.unannounced_bytes += transfer.request.moves();
        // fails only after the thread has ended, which has reported why: the pool reads that next
        self.jobs.send((number, transfer)).ok();
        if self.unannounced >= TRANSFERS || self.unannounced_bytes >= BYTES {
            self.wake();
        }
    }

    /// Lets the thread answer its requests, close the connection and end.
    pub(super) fn end(self) -> JoinHandle<Result<SessionStats, Error>> {
        // without a sender the thread knows that no transfer follows, once it looks
        drop(self.jobs);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
        self.thread
    }

    /// Wakes the thread to begin its transfers, if it has not been woken for them.
    pub(super) fn wake(&mut self) {
        self.unannounced_bytes = 0;
        if core::mem::take(&mut self.unannounced) > 0
            && let Some(waker) = &self.waker
        {
            waker.wake();
        }
    }
}

/// The thread's side of a worker.
struct Work<T> {
    driver: BlockingDriver<T>,
    jobs: Receiver<QueuedTransfer>,
    /// Reports that wait for others.
    outbox: Vec<WorkerReport>,
    reports: Reports,
}

impl<T> Drop for Work<T> {
    /// A panic of a transport must not leave the pool waiting for answers.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.reports.send(&mut vec![WorkerReport::Lost(Error::Panicked)]);
        }
    }
}

impl<T: Transport> Work<T> {
    fn run(mut self, waker: Option<&Waker>) -> Result<SessionStats, Error> {
        match self.serve(waker) {
            Ok(()) => {
                let ended = self.driver.disconnect();
                let stats = self.driver.connection.session().map(|session| *session.stats());
                ended.map(|()| stats.unwrap_or_default())
            }
            Err(error) => {
                // why the server failed a part says more than that it went away then
                for (cookie, error) in self.driver.connection.transfers.failures() {
                    self.outbox.push(WorkerReport::Event(Event::Failed { cookie, error }));
                }
                self.outbox.push(WorkerReport::Lost(error));
                self.reports.send(&mut self.outbox);
                Err(Error::GivenUp)
            }
        }
    }

    /// Serves transfers until the pool has no more of them and all are answered.
    fn serve(&mut self, waker: Option<&Waker>) -> Result<(), Error> {
        let mut is_closed = false;
        loop {
            if let Some(waker) = waker {
                // before the last look for work: work that comes after that look ends the wait
                waker.will_wait();
            }
            loop {
                let is_idle = self.driver.connection.is_idle() && !is_closed;
                match if is_idle { self.wait_for_job()? } else { self.jobs.try_recv() } {
                    Ok(job) => self.begin(job)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        is_closed = true;
                        break;
                    }
                }
            }
            while let Some(event) = self.driver.connection.poll(&mut take_all, Instant::now())? {
                self.report(event);
            }
            if self.driver.connection.is_idle() || self.outbox.len() >= BATCH {
                self.reports.send(&mut self.outbox);
            }
            if !self.driver.connection.is_idle() {
                if waker.is_none() {
                    self.reports.send(&mut self.outbox);
                }
                let hold = (!self.outbox.is_empty()).then_some(HOLD);
                if !self.driver.exchange_or_wake(hold)? {
                    self.reports.send(&mut self.outbox);
                }
            } else if is_closed {
                return Ok(());
            }
        }
    }

    /// Begins a transfer. One that cannot be begun, since the server is going down, has failed.
    fn begin(&mut self, (number, transfer): QueuedTransfer) -> Result<(), Error> {
        let connection = &mut self.driver.connection;
        let info = connection.session().map(|session| transfer.terms(session.export().flags));
        match (connection.begin(Some(number), transfer, Instant::now()), info) {
            (Err(Error::Start(reason)), Some(request)) => {
                let error = RequestError { request, fault: RequestFault::NotStarted(Box::new(reason)) };
                self.outbox.push(WorkerReport::Event(Event::Failed { cookie: number, error }));
                Ok(())
            }
            (begun, _) => begun.map(drop),
        }
    }

    /// Waits for a transfer while nothing is in flight, no longer than the whole job may take.
    fn wait_for_job(&mut self) -> Result<Result<QueuedTransfer, TryRecvError>, Error> {
        self.reports.send(&mut self.outbox);
        loop {
            let Some(end) = self.driver.connection.poll_timeout() else {
                return Ok(self.jobs.recv().map_err(|_| TryRecvError::Disconnected));
            };
            match self.jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(job) => return Ok(Ok(job)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(TryRecvError::Disconnected)),
                Err(RecvTimeoutError::Timeout) => self.driver.connection.handle_timeout(Instant::now())?,
            }
        }
    }

    fn report(&mut self, event: Event) {
        if event.is_last() {
            let spare = self.driver.connection.spare_buffer();
            if spare.capacity() > 0 {
                self.outbox.push(WorkerReport::Spare(spare));
            }
        }
        self.outbox.push(WorkerReport::Event(event));
    }
}
