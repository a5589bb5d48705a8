//! Pools and pipelines for asynchronous programs, by the same code as the blocking
//! [`Pool`](crate::Pool).

use core::fmt::Debug;
use core::ops::Range;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::connect::before;
use super::driver::Driver;
use crate::error::Error;
use crate::export::Export;
use crate::options::Options;
use crate::pipeline::{self, Block, WriteCall};
use crate::pool::{Job, Outbox, PoolOver, Worker, connect_more};
use crate::session::take_all;
use crate::stats::SessionStats;
use crate::uri::Uri;

/// Several connections to one export, each with a task of its own, used as one: requests go to the
/// connection that has the fewest. See the blocking [`Pool`](crate::Pool).
///
/// A call that is dropped leaves its requests in flight, and whether they were carried out is not
/// known: [`abandon`](Self::abandon) waits for them, and until then other calls fail with
/// [`StartError::Busy`](crate::session::StartError::Busy). A pool that is dropped, or whose
/// `disconnect` is, gives up its requests in flight, and says goodbye in the background.
///
/// Calls that do not wait are those of [`PoolOver`].
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::{Pool, ReadAhead};
/// use nbd_client::pipeline::PipelineOptions;
///
/// # let _ = async {
/// let mut pool = Pool::connect(&"nbd://localhost/disk".parse().unwrap(), &Options::new(), 4).await?;
/// let size = pool.export().size();
/// let mut blocks = ReadAhead::new(&mut pool, Some(0..size), PipelineOptions::default().requests(64))?;
/// while let Some(block) = blocks.next_block().await? {
///     println!("{}: {} bytes", block.offset, block.data.len());
/// }
/// pool.disconnect().await?;
/// # Ok::<(), nbd_client::Error>(())
/// # };
/// ```
pub type Pool = PoolOver<TaskWorker>;

/// Reads a sequence of ranges in order, see the blocking [`ReadAhead`](crate::ReadAhead).
pub type ReadAhead<'a, I> = pipeline::ReadAhead<'a, I, TaskWorker>;

/// Writes that are not waited for one by one, see the blocking [`WriteBehind`](crate::WriteBehind).
pub type WriteBehind<'a> = pipeline::WriteBehind<'a, TaskWorker>;

/// A connection with a task of its own, as its pool sees it.
#[derive(Debug)]
pub struct TaskWorker {
    jobs: UnboundedSender<Job>,
}

impl TaskWorker {
    fn start<S>(driver: Driver<S>, outbox: Outbox) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (jobs, theirs) = unbounded_channel();
        tokio::spawn(run(driver, theirs, outbox));
        Ok(Self { jobs })
    }
}

impl Worker for TaskWorker {
    fn queue(&mut self, job: Job) {
        // fails only after the task has ended, which has reported why: the pool reads that next
        self.jobs.send(job).ok();
    }

    /// The channel has woken the task already.
    fn wake(&mut self) {}
}

/// The task of a connection.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    mut driver: Driver<S>,
    jobs: UnboundedReceiver<Job>,
    mut outbox: Outbox,
) {
    let mut ended = serve(&mut driver, jobs, &mut outbox).await;
    if ended.is_ok() {
        ended = driver.io.say_goodbye().await;
    }
    outbox.end(&driver.io.connection, ended);
}

/// Serves transfers until the pool has no more of them and all are answered, or it is gone.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    driver: &mut Driver<S>,
    mut jobs: UnboundedReceiver<Job>,
    outbox: &mut Outbox,
) -> Result<(), Error> {
    let mut is_ending = false;
    loop {
        let is_idle = driver.io.connection.is_idle();
        if is_ending && is_idle {
            return Ok(());
        }
        // while nothing is in flight, no longer than the whole job may take
        let end = driver.io.connection.poll_timeout().filter(|_| is_idle);
        tokio::select! {
            // it looks at the server once for all jobs that have come
            biased;
            job = before(end, jobs.recv()) => match job {
                Some(Some(Job::Begin(number, transfer))) => {
                    outbox.begin(&mut driver.io.connection, number, transfer)?;
                }
                Some(Some(Job::End)) => is_ending = true,
                Some(Some(Job::GiveUp) | None) => return Ok(()),
                None => driver.io.connection.handle_timeout(Instant::now())?,
            },
            event = driver.step() => {
                let connection = &mut driver.io.connection;
                let mut next = event?;
                // all that is there, since the data of a read come with its last event
                while let Some(event) = next {
                    outbox.event(event);
                    next = connection.poll(&mut take_all, Instant::now())?;
                }
            }
        }
        outbox.send();
    }
}

impl Pool {
    /// Connects to the server of a URI up to `connections` times, see
    /// [`Pool::connect`](crate::Pool::connect). The tasks of the connections are spawned on the
    /// current runtime.
    ///
    /// # Errors
    ///
    /// As of the blocking call, here and in the other calls.
    pub async fn connect(uri: &Uri, options: &Options, connections: usize) -> Result<Self, Error> {
        let options = options.clone().without_contexts();
        let first = Driver::connect(uri, &options).await?;
        let more = connections.saturating_sub(1);
        let others = more_connections(first.export(), more, uri, &options).await?;
        Self::of(first, others)
    }

    /// A pool of connections to the same export: at least the first. Their tasks are spawned on the
    /// current runtime.
    ///
    /// # Errors
    ///
    /// As [`Pool::of`](crate::Pool::of).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn of<S>(first: Driver<S>, others: Vec<Driver<S>>) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Debug + Unpin + Send + 'static,
    {
        Self::of_connections(first, others, TaskWorker::start)
    }

    /// Reads from `offset` until `buffer` is full.
    ///
    /// # Errors
    ///
    /// As [`Pool::read`](crate::Pool::read).
    pub async fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.read_call(offset, buffer).await
    }

    /// Writes `data` to `offset`, in whole blocks or not. It is durable only after a
    /// [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`Pool::write`](crate::Pool::write).
    pub async fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_call(WriteCall::Joined(offset, data)).await
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has.
    ///
    /// # Errors
    ///
    /// As [`Pool::zero`](crate::Pool::zero).
    pub async fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        self.write_call(WriteCall::Zero(offset, length)).await
    }

    /// Makes durable whatever was written before, through any of the connections.
    ///
    /// # Errors
    ///
    /// As [`Pool::flush`](crate::Pool::flush).
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.write_call(WriteCall::Finish).await
    }

    /// Waits until no request is in flight, and forgets their results: after a call that was
    /// dropped, or a [`ReadAhead`] that was not read to its end.
    ///
    /// # Errors
    ///
    /// The errors of a connection. Requests that failed are forgotten as well.
    pub async fn abandon(&mut self) -> Result<(), Error> {
        self.abandon_all().await
    }

    /// Says goodbye on all connections, and returns what each counted.
    ///
    /// # Errors
    ///
    /// The first error of a connection; all are closed all the same.
    pub async fn disconnect(self) -> Result<Vec<SessionStats>, Error> {
        self.end_all().await
    }
}

/// Up to `most` further connections to an export that one connection has found, see
/// [`pool::more_connections`](crate::pool::more_connections).
///
/// # Errors
///
/// As [`Driver::connect`].
pub async fn more_connections(
    export: &Export,
    most: usize,
    uri: &Uri,
    options: &Options,
) -> Result<Vec<Driver>, Error> {
    let hurried = options.hurried();
    connect_more(export, most, || Driver::connect(uri, &hurried)).await
}

impl<I: Iterator<Item = Range<u64>>> ReadAhead<'_, I> {
    /// The next block; `None` at the end of all ranges. A call that is dropped loses nothing.
    ///
    /// # Errors
    ///
    /// As of the blocking [`ReadAhead`](crate::ReadAhead).
    pub async fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        self.next_call().await
    }
}

impl WriteBehind<'_> {
    /// Waits for room, and starts to write `data` to `offset`.
    ///
    /// # Errors
    ///
    /// As of the blocking [`WriteBehind`](crate::WriteBehind), here and in the other calls.
    pub fn write(&mut self, offset: u64, data: Vec<u8>) -> impl Future<Output = Result<(), Error>> {
        self.call(WriteCall::Data(offset, data))
    }

    /// Adds bytes to those that they follow, and writes them up to each multiple of 256 KiB.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_joined(&mut self, offset: u64, bytes: &[u8]) -> impl Future<Output = Result<(), Error>> {
        self.call(WriteCall::Joined(offset, bytes))
    }

    /// Starts to make `length` bytes from `offset` read as zeroes, in the best way that the server
    /// has.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> impl Future<Output = Result<(), Error>> {
        self.call(WriteCall::Zero(offset, length))
    }

    /// Waits for all that was started, and then makes it durable (FLUSH, where the server has it).
    ///
    /// # Errors
    ///
    /// As [`Self::write`]. Only without an error is everything written.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.call(WriteCall::Finish).await
    }
}
