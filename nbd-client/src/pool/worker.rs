//! The thread of one connection: transfers come through a channel, events go out through another.
//!
//! It receives whatever the server sends as soon as it is there, whether or not anyone takes the
//! events. Every byte of an answer has its place in memory before it is asked for, so this is
//! bounded by the transfers that the pool lets through.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::client::{BlockingDriver, Client};
use crate::connection::Transfer;
use crate::error::Error;
use crate::frame::During;
use crate::session::{Cookie, Event, RequestError, TakeAll};
use crate::stats::SessionStats;
use crate::transport::{Transport, Waker};

/// News of a connection's thread.
#[derive(Debug)]
pub(super) enum WorkerReport {
    /// An event of the transfer with this number of the pool.
    Event(Event),
    /// Memory of a payload that was sent.
    Spare(Vec<u8>),
    /// The connection is of no more use.
    Lost(Error),
}

/// One connection, as the pool sees it.
#[derive(Debug)]
pub(super) struct Worker {
    /// How many transfers it has.
    pub(super) load: usize,
    jobs: Sender<QueuedTransfer>,
    waker: Option<Waker>,
    thread: JoinHandle<Result<SessionStats, Error>>,
}

#[derive(Debug)]
struct QueuedTransfer {
    number: Cookie,
    transfer: Transfer,
}

impl Worker {
    pub(super) fn start<T>(client: Client<T>, reports: Sender<WorkerReport>) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        let failed = |source| Error::Io { during: During::Connect, source };
        let (jobs, theirs) = channel();
        let mut driver = client.into_driver();
        let waker = driver.transport.waker().map_err(failed)?;
        let bell = waker.clone();
        let thread = std::thread::Builder::new()
            .name("nbd-pool".to_owned())
            .spawn(move || work(driver, &theirs, bell.as_ref(), &reports))
            .map_err(failed)?;
        Ok(Self { load: 0, jobs, waker, thread })
    }

    /// Hands a transfer on. A thread that has ended has said why: the next event is its error.
    pub(super) fn begin(&mut self, number: Cookie, transfer: Transfer) {
        self.load += 1;
        self.jobs.send(QueuedTransfer { number, transfer }).ok();
        self.wake();
    }

    /// Has the connection closed when its requests are answered.
    pub(super) fn end(self) -> JoinHandle<Result<SessionStats, Error>> {
        drop(self.jobs);
        if let Some(waker) = &self.waker {
            waker.wake();
        }
        self.thread
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

fn work<T: Transport>(
    mut driver: BlockingDriver<T>,
    jobs: &Receiver<QueuedTransfer>,
    waker: Option<&Waker>,
    reports: &Sender<WorkerReport>,
) -> Result<SessionStats, Error> {
    let _obituary = Obituary(reports);
    match serve(&mut driver, jobs, waker, reports) {
        Ok(()) => {
            let ended = driver.disconnect();
            let stats = driver.connection.session().map(|session| *session.stats());
            ended.map(|()| stats.unwrap_or_default())
        }
        Err(error) => {
            // why the server failed a part says more than that it went away then
            for (cookie, error) in driver.connection.failures() {
                reports.send(WorkerReport::Event(Event::Failed { cookie, error })).ok();
            }
            // Nobody listens where the pool is gone.
            reports.send(WorkerReport::Lost(error)).ok();
            Err(Error::GivenUp)
        }
    }
}

/// A panic of a transport must not leave the pool waiting for answers.
struct Obituary<'a>(&'a Sender<WorkerReport>);

impl Drop for Obituary<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send(WorkerReport::Lost(Error::GivenUp)).ok();
        }
    }
}

/// Until the pool has no more transfers, and all are answered.
fn serve<T: Transport>(
    driver: &mut BlockingDriver<T>,
    jobs: &Receiver<QueuedTransfer>,
    waker: Option<&Waker>,
    reports: &Sender<WorkerReport>,
) -> Result<(), Error> {
    let mut is_closed = false;
    loop {
        if let Some(waker) = waker {
            // before the last look for work: work that comes after that look ends the wait
            waker.will_wait();
        }
        loop {
            let waits = driver.connection.is_idle() && !is_closed;
            let next = if waits { wait_for_job(driver, jobs)? } else { jobs.try_recv() };
            match next {
                Ok(job) => begin(driver, job, reports)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    is_closed = true;
                    break;
                }
            }
        }
        while let Some(event) = driver.connection.poll(&mut TakeAll, Instant::now())? {
            report(driver, event, reports);
        }
        if !driver.connection.is_idle() {
            driver.exchange_or_wake()?;
        } else if is_closed {
            return Ok(());
        }
    }
}

/// Begins a transfer. One that cannot be begun, since the server is going down, has failed.
fn begin<T: Transport>(
    driver: &mut BlockingDriver<T>,
    job: QueuedTransfer,
    reports: &Sender<WorkerReport>,
) -> Result<(), Error> {
    let QueuedTransfer { number, transfer } = job;
    let info = driver.connection.session().map(|session| transfer.terms(session.flags()).info(number));
    match (driver.connection.begin_as(number, transfer, Instant::now()), info) {
        (Err(Error::Start(reason)), Some(request)) => {
            let error = RequestError::NotStarted { request, reason: Box::new(reason) };
            reports.send(WorkerReport::Event(Event::Failed { cookie: number, error })).ok();
            Ok(())
        }
        (begun, _) => begun,
    }
}

/// Waits for a transfer while nothing is in flight, no longer than the whole job may take.
fn wait_for_job<T: Transport>(
    driver: &mut BlockingDriver<T>,
    jobs: &Receiver<QueuedTransfer>,
) -> Result<Result<QueuedTransfer, TryRecvError>, Error> {
    loop {
        let Some(end) = driver.connection.poll_timeout() else {
            return Ok(jobs.recv().map_err(|_| TryRecvError::Disconnected));
        };
        match jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(job) => return Ok(Ok(job)),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(TryRecvError::Disconnected)),
            Err(RecvTimeoutError::Timeout) => driver.connection.handle_timeout(Instant::now())?,
        }
    }
}

fn report<T: Transport>(driver: &mut BlockingDriver<T>, event: Event, reports: &Sender<WorkerReport>) {
    if event.is_last() {
        let spare = driver.connection.spare_buffer();
        if spare.capacity() > 0 {
            reports.send(WorkerReport::Spare(spare)).ok();
        }
    }
    reports.send(WorkerReport::Event(event)).ok();
}
