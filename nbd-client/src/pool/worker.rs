//! A connection of a pool with a thread of its own: transfers come through a channel, and reports go
//! out.
//!
//! It receives whatever the server sends as soon as it is there, whether or not anyone takes the
//! events. Every byte of an answer has its place in memory before it is asked for, so this is
//! bounded by the transfers that the pool lets through.
//!
//! To wake the other thread costs more than the request itself, so both sides hand over several
//! transfers and several events at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Instant;

use super::{Job, Outbox};
use crate::client::{BlockingDriver, Client};
use crate::connection::Transfer;
use crate::error::Error;
use crate::frame::During;
use crate::session::{Cookie, take_all};
use crate::transport::{Transport, Waker};

/// Reports that are handed over at once, while more requests are in flight.
const BATCH: usize = 16;
/// Transfers, or bytes of them, that are handed over at once.
const TRANSFERS: usize = 8;
const BYTES: u64 = 512 << 10;

/// Moves the bytes of one connection, whether or not anyone takes the events.
pub trait Worker {
    /// Queues a transfer, which may begin only when the worker is [woken](Self::wake).
    fn begin(&mut self, number: Cookie, transfer: Transfer);

    /// Lets it begin all transfers.
    fn wake(&mut self);

    /// Lets it answer its requests, say goodbye and end. One that is dropped only says goodbye.
    fn end(&mut self);
}

/// A connection with a thread of its own, as its pool sees it.
#[derive(Debug)]
pub struct ThreadWorker {
    /// Transfers queued since the thread was last woken.
    unannounced: usize,
    unannounced_bytes: u64,
    jobs: Sender<Job>,
    waker: Option<Waker>,
}

impl ThreadWorker {
    pub(super) fn start<T>(client: Client<T>, outbox: Outbox) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        let failed = |source| Error::io(During::Connect, source);
        let (jobs, theirs) = channel();
        let mut driver = client.into_driver();
        let waker = driver.transport.waker().map_err(failed)?;
        let bell = waker.clone();
        std::thread::Builder::new()
            .name("nbd-pool".to_owned())
            .spawn(move || Work { driver, jobs: theirs, outbox, is_ending: false }.run(bell.as_ref()))
            .map_err(failed)?;
        Ok(Self { unannounced: 0, unannounced_bytes: 0, jobs, waker })
    }
}

impl Worker for ThreadWorker {
    fn begin(&mut self, number: Cookie, transfer: Transfer) {
        self.unannounced += 1;
        self.unannounced_bytes += transfer.request.moves();
        // fails only after the thread has ended, which has reported why: the pool reads that next
        self.jobs.send(Job::Begin(number, transfer)).ok();
        if self.unannounced >= TRANSFERS || self.unannounced_bytes >= BYTES {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.unannounced_bytes = 0;
        if core::mem::take(&mut self.unannounced) > 0
            && let Some(waker) = &self.waker
        {
            waker.wake();
        }
    }

    fn end(&mut self) {
        self.tell(Job::End);
    }
}

impl ThreadWorker {
    fn tell(&mut self, job: Job) {
        // fails only after the thread has ended
        self.jobs.send(job).ok();
        self.unannounced += 1;
        self.wake();
    }
}

impl Drop for ThreadWorker {
    fn drop(&mut self) {
        self.tell(Job::GiveUp);
    }
}

/// The thread's side of a worker.
struct Work<T> {
    driver: BlockingDriver<T>,
    jobs: Receiver<Job>,
    outbox: Outbox,
    /// It ends when all that was begun is answered.
    is_ending: bool,
}

impl<T: Transport> Work<T> {
    fn run(mut self, waker: Option<&Waker>) {
        match self.serve(waker) {
            Ok(()) => {
                let ended = self.driver.disconnect();
                let stats = self.driver.connection.session().map(|session| *session.stats());
                self.outbox.end(ended.map(|()| stats.unwrap_or_default()));
            }
            Err(error) => self.outbox.lost(&self.driver.connection, error),
        }
    }

    /// Serves transfers until the pool has no more of them and all are answered, or it is gone.
    fn serve(&mut self, waker: Option<&Waker>) -> Result<(), Error> {
        loop {
            if let Some(waker) = waker {
                // before the last look for work: work that comes after that look ends the wait
                waker.will_wait();
            }
            if !self.begin_all()? {
                return Ok(());
            }
            self.report_events()?;
            if !self.driver.connection.is_idle() {
                self.exchange(waker.is_some())?;
            } else if self.is_ending {
                return Ok(());
            }
        }
    }

    /// Begins the transfers that have come. Waits for one while nothing is in flight. `false` when the
    /// pool is gone.
    fn begin_all(&mut self) -> Result<bool, Error> {
        loop {
            let waits = self.driver.connection.is_idle() && !self.is_ending;
            match if waits { self.wait_for_job()? } else { self.jobs.try_recv() } {
                Ok(Job::Begin(number, transfer)) => {
                    self.outbox.begin(&mut self.driver.connection, number, transfer)?;
                }
                Ok(Job::End) => self.is_ending = true,
                Ok(Job::GiveUp) | Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    /// Takes the events that are there, and hands them over when it is time.
    fn report_events(&mut self) -> Result<(), Error> {
        while let Some(event) = self.driver.connection.poll(&mut take_all, Instant::now())? {
            self.outbox.event(&mut self.driver.connection, event);
        }
        let is_late = self.outbox.due().is_some_and(|due| due <= Instant::now());
        if self.driver.connection.is_idle() || self.outbox.len() >= BATCH || is_late {
            self.outbox.send();
        }
        Ok(())
    }

    /// Moves bytes, and waits no longer than reports may. Without a waker it cannot tell how long that
    /// will be.
    fn exchange(&mut self, can_be_woken: bool) -> Result<(), Error> {
        if !can_be_woken {
            self.outbox.send();
        }
        if !self.driver.exchange_or_wake(self.outbox.due())? {
            self.outbox.send();
        }
        Ok(())
    }

    /// Waits for a transfer while nothing is in flight, no longer than the whole job may take.
    fn wait_for_job(&mut self) -> Result<Result<Job, TryRecvError>, Error> {
        self.outbox.send();
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
}
