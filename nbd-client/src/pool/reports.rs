//! The reports of a pool's connections: a queue that threads and tasks fill, and that the pool
//! awaits.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::connection::{Connection, Transfer};
use crate::error::Error;
use crate::session::{Cookie, Event, RequestError, RequestFault};
use crate::stats::SessionStats;

/// How long a report may wait for others. The timer that ends the wait is nearly always stopped
/// before; one of 1 ms, earlier than the system's own, has to be set in hardware each time, which
/// in a virtual machine cost 2 us for each extent of 16 KiB.
const HOLD: Duration = Duration::from_millis(5);

/// Reports that are handed over at once, while more requests are in flight.
const BATCH: usize = 16;
/// The bytes of reads in them. Fewer wake the reader more often; of more, it finds few in the
/// processor's cache, and the reads after them take new memory.
const BATCH_BYTES: usize = 1 << 20;

/// A message from a pool to the worker of a connection.
#[derive(Debug)]
pub enum Job {
    /// A transfer, and its number in the pool.
    Begin(Cookie, Transfer),
    /// Answer all that was begun, say goodbye and end.
    End,
    /// The pool is gone: say goodbye and end.
    GiveUp,
}

/// News of a connection. The last of each is that it has ended.
#[derive(Debug)]
pub(super) enum WorkerReport {
    /// An event of the transfer with this number of the pool.
    Event(Event),
    /// The connection was closed when the pool asked for it, or it is lost.
    Ended(Result<SessionStats, Error>),
}

/// The reports of all workers to their pool, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Mutex<ReportQueue>>);

#[derive(Debug, Default)]
struct ReportQueue {
    reports: VecDeque<WorkerReport>,
    /// The waker of the pool, if it waits for a report.
    waker: Option<Waker>,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, ReportQueue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The side of one worker.
    pub(super) fn outbox(&self) -> Outbox {
        Outbox { batch: Vec::new(), bytes: 0, due: None, reports: self.clone(), has_ended: false }
    }

    /// All reports, at least one of which is waited for. A call that is dropped loses none.
    pub(super) async fn wait(&self) -> VecDeque<WorkerReport> {
        poll_fn(|cx| {
            let mut queue = self.lock();
            if queue.reports.is_empty() {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(core::mem::take(&mut queue.reports))
        })
        .await
    }
}

/// The reports of one worker, which are handed over several at a time.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Those that are not handed over.
    batch: Vec<WorkerReport>,
    /// The bytes of reads in it.
    bytes: usize,
    /// When they have to be.
    pub(super) due: Option<Instant>,
    reports: Reports,
    has_ended: bool,
}

impl Drop for Outbox {
    /// A panic of a transport, or a runtime that ends, must not leave the pool waiting for answers.
    fn drop(&mut self) {
        if !self.has_ended {
            self.batch.push(WorkerReport::Ended(Err(Error::of_lost_worker())));
            self.send();
        }
    }
}

impl Outbox {
    /// Adds an event to the batch.
    pub(crate) fn event(&mut self, event: Event) {
        self.due.get_or_insert_with(|| Instant::now() + HOLD);
        if let Event::Read { data, .. } = &event {
            self.bytes += data.len();
        }
        self.batch.push(WorkerReport::Event(event));
    }

    /// True if the batch need not wait for more.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Hands the batch of reports to their reader, and wakes it.
    pub(crate) fn send(&mut self) {
        self.due = None;
        self.bytes = 0;
        if self.batch.is_empty() {
            return;
        }
        let mut queue = self.reports.lock();
        queue.reports.extend(self.batch.drain(..));
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Begins a transfer. One that cannot be begun, since the server is going down, has failed.
    pub(crate) fn begin(
        &mut self,
        connection: &mut Connection,
        number: Cookie,
        transfer: Transfer,
    ) -> Result<(), Error> {
        let request = transfer.request;
        match connection.begin(Some(number), transfer, Instant::now()) {
            Err(Error::Start(reason)) => {
                // after the events that wait for the goodbye, which say why
                let error = RequestError { request, fault: RequestFault::NotStarted(Box::new(reason)) };
                connection.queue_event(Event::Failed { cookie: number, error });
                Ok(())
            }
            // the requests in flight may still be answered; the end of the connection answers this
            Err(_) if connection.send_failed_before() && !connection.is_idle() => Ok(()),
            begun => begun.map(drop),
        }
    }

    /// The last report, of a connection that was closed or is lost.
    pub(crate) fn end(&mut self, connection: &Connection, ended: Result<(), Error>) {
        // the failure of a part says more than the loss that followed
        let failures = connection.transfers.failures();
        let failures = failures.map(|(cookie, error)| Event::Failed { cookie, error });
        self.batch.extend(failures.map(WorkerReport::Event));
        let stats = connection.session().map(|session| *session.stats()).unwrap_or_default();
        self.batch.push(WorkerReport::Ended(ended.map(|()| stats)));
        self.has_ended = true;
        self.send();
    }
}
