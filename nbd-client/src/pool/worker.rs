//! A connection of a pool with a thread of its own: transfers come through a channel, and reports
//! go out.
//!
//! It receives whatever the server sends as soon as it is there, whether or not anyone takes the
//! events. Every byte of an answer has its place in memory before it is asked for, so this is
//! bounded by the transfers that the pool lets through.
//!
//! To wake the other thread costs more than the request itself, so both sides hand over several
//! transfers and several events at a time.

use core::time::Duration;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Instant;

use super::{Job, Outbox};
use crate::client::{BlockingDriver, Client};
use crate::error::Error;
use crate::frame::During;
use crate::session::take_all;
use crate::transport::{Transport, Waker};

/// Bytes of transfers that are handed over at once, and those that a short transfer counts for.
const BYTES: u64 = 512 << 10;
const SHORT: u64 = BYTES / 8;

/// Moves the bytes of one connection, whether or not anyone takes the events. One that is dropped
/// says goodbye.
pub trait Worker {
    /// Queues a job, which may begin only when the worker is [woken](Self::wake).
    fn queue(&mut self, job: Job);

    /// Lets it begin all jobs.
    fn wake(&mut self);
}

/// A connection with a thread of its own, as its pool sees it.
#[derive(Debug)]
pub struct ThreadWorker {
    /// Bytes of the transfers queued since the thread was last woken.
    unannounced: u64,
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
        let mut driver = client.io;
        let waker = driver.mover.0.waker().map_err(failed)?;
        let bell = waker.clone();
        std::thread::Builder::new()
            .name("nbd-pool".to_owned())
            .spawn(move || Work { driver, jobs: theirs, outbox, is_ending: false }.run(bell.as_ref()))
            .map_err(failed)?;
        Ok(Self { unannounced: 0, jobs, waker })
    }
}

impl Worker for ThreadWorker {
    fn queue(&mut self, job: Job) {
        let moved = if let Job::Begin(_, transfer) = &job { transfer.request.moves() } else { 0 };
        self.unannounced += moved.max(SHORT);
        // fails only after the thread has ended, which has reported why: the pool reads that next
        self.jobs.send(job).ok();
        if self.unannounced >= BYTES {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if core::mem::take(&mut self.unannounced) > 0
            && let Some(waker) = &self.waker
        {
            waker.wake();
        }
    }
}

impl Drop for ThreadWorker {
    fn drop(&mut self) {
        self.queue(Job::GiveUp);
        self.wake();
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
        let ended = self.serve(waker).and_then(|()| self.driver.disconnect());
        self.outbox.end(&self.driver.connection, ended);
    }

    /// Serves transfers until the pool has no more of them and all are answered, or it is gone.
    fn serve(&mut self, waker: Option<&Waker>) -> Result<(), Error> {
        loop {
            if let Some(waker) = waker {
                // before the last look for work: work that comes after that look ends the wait
                waker.will_wait();
            }
            if !self.begin_all(waker)? {
                return Ok(());
            }
            self.report_events()?;
            let is_idle = self.driver.connection.is_idle();
            if is_idle && self.is_ending {
                return Ok(());
            }
            if !is_idle || self.has_rest(waker) {
                // without a waker it cannot tell how long it will wait
                if waker.is_none() {
                    self.outbox.send();
                }
                if !self.driver.exchange_or_wake(self.outbox.due)? {
                    self.outbox.send();
                }
            }
        }
    }

    /// True if the rest of a write is to be sent that the server refused before it had read all of
    /// it. Without a waker nothing could end the wait, so it is left to the next call.
    fn has_rest(&self, waker: Option<&Waker>) -> bool {
        waker.is_some() && self.driver.connection.has_output()
    }

    /// Begins the transfers that have come. Waits for one while there is nothing to move. `false`
    /// when the pool is gone.
    fn begin_all(&mut self, waker: Option<&Waker>) -> Result<bool, Error> {
        loop {
            let waits = self.driver.connection.is_idle() && !self.has_rest(waker) && !self.is_ending;
            match if waits { Ok(self.wait_for_job()?) } else { self.jobs.try_recv() } {
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
            self.outbox.event(event);
        }
        let is_late = self.outbox.due.is_some_and(|due| due <= Instant::now());
        if self.driver.connection.is_idle() || self.outbox.is_full() || is_late {
            self.outbox.send();
        }
        Ok(())
    }

    /// Waits for a job while nothing is in flight, no longer than the whole job may take.
    fn wait_for_job(&mut self) -> Result<Job, Error> {
        self.outbox.send();
        loop {
            let end = self.driver.connection.poll_timeout();
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            match self.jobs.recv_timeout(left) {
                Ok(job) => return Ok(job),
                Err(RecvTimeoutError::Disconnected) => return Ok(Job::GiveUp),
                Err(RecvTimeoutError::Timeout) => self.driver.connection.handle_timeout(Instant::now())?,
            }
        }
    }
}
