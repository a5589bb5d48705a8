//! A handle for many tasks: calls go to the [task](super::task) that owns the connection, and their
//! answers come back.

use alloc::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::connect::connect;
use super::driver::Driver;
use super::task::{Answer, Caller, Callers, Message};
use crate::client::Dial;
use crate::connection::Transfer;
use crate::error::Error;
use crate::export::{Export, ListedExport};
use crate::options::Options;
use crate::session::{
    Command, ReadRequest, RequestInfo, Session, SessionConfig, TrimRequest, WriteRequest, ZeroRequest,
};
use crate::uri::Uri;

/// The most calls under way, of all clones of a handle.
const IN_FLIGHT: usize = 64;
/// The unit in which the bytes of reads and writes are counted, so that any call fits a semaphore's
/// numbers.
const UNIT: u64 = 4096;
/// The most units of all calls under way, but for a single long one.
const UNITS_IN_FLIGHT: u32 = (64 << 20) / 4096;

/// A connection to one export, for any number of tasks at once: clone it, it is a handle.
///
/// Its calls may be answered in any order; a task that needs an order awaits one before it starts
/// the next. At most 64 calls and 64 MiB are under way, or one longer call alone; further calls
/// wait. See the [module](super) for what a dropped call means. When all clones are gone, the
/// requests in flight are given up, and the connection is closed with a goodbye.
///
/// A task of its own receives whatever the server sends, whether or not anyone awaits the answers.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::Client;
///
/// # let _ = async {
/// let client = Client::connect(&"nbd://localhost/disk".parse().unwrap(), &Options::new()).await?;
/// let (first, second) = tokio::try_join!(client.read(0, 4096), client.read(1 << 20, 4096))?;
/// assert_eq!(first.len(), second.len());
/// client.disconnect().await
/// # };
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    /// Never connected: it knows what can be asked.
    checks: Arc<Session>,
    calls: mpsc::Sender<Message>,
    dropped: Arc<Notify>,
    requests: Arc<Semaphore>,
    units: Arc<Semaphore>,
    most_units: u32,
}

impl Client {
    /// Connects to the server of a URI and asks for its export. The connection's task is spawned on
    /// the current runtime.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        Ok(Self::of(Driver::connect(uri, options).await?))
    }

    /// Asks the server of a URI for its exports, see
    /// [`Client::list_exports`](crate::Client::list_exports).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect). A server may refuse to tell.
    pub async fn list_exports(uri: &Uri, options: &Options) -> Result<Vec<ListedExport>, Error> {
        connect(Dial::listing(uri, options)).await?.list_exports().await
    }

    /// Asks the server of a URI for the names of the meta contexts that its export has, see
    /// [`Client::list_contexts`](crate::Client::list_contexts).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn list_contexts(uri: &Uri, options: &Options) -> Result<Vec<String>, Error> {
        let driver = Driver::connect(uri, &options.clone().without_contexts().list_contexts(true)).await?;
        Ok(driver.into_offered().await)
    }

    /// Makes a handle of a driver, which must have no request in flight. Its task is spawned on the
    /// current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(driver: Driver<S>) -> Self {
        let (calls, inbox) = mpsc::channel(IN_FLIGHT);
        let limits = driver.io.connection.limits();
        let config = SessionConfig { limits, ..SessionConfig::of_export(driver.export().clone()) };
        // no more than the session takes; the rest of a unit is left out
        let units = u32::try_from(limits.max_bytes_in_flight / UNIT).unwrap_or(u32::MAX);
        let units = units.clamp(1, UNITS_IN_FLIGHT);
        let client = Self {
            checks: Arc::new(Session::new(config)),
            calls,
            dropped: Arc::default(),
            requests: Arc::new(Semaphore::new(limits.max_in_flight.clamp(1, IN_FLIGHT))),
            units: Arc::new(Semaphore::new(units as usize)),
            most_units: units,
        };
        tokio::spawn(Callers::new(inbox).drive(driver, Arc::clone(&client.dropped)));
        client
    }

    /// The export, as the server described it in the handshake.
    #[must_use]
    pub fn export(&self) -> &Export {
        self.checks.export()
    }

    /// Reads `length` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, [`Error::Request`] if the server fails it (the
    /// connection is usable), and the errors of a connection.
    pub async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let read = Transfer::new(ReadRequest::new(offset).of(length as u64));
        if !read.is_nothing(self.export()) {
            // before memory is taken for it
            read.check(&self.checks)?;
        }
        self.call(read.with(vec![0; length])).await
    }

    /// Writes `data` to `offset`. It is durable only after a [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`StartError::ReadOnly`](crate::session::StartError::ReadOnly)
    /// before anything is sent.
    pub async fn write(&self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset), data).await
    }

    /// Writes `data` to `offset`, durable when this returns (FUA).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and
    /// [`StartError::NotOffered`](crate::session::StartError::NotOffered) where the server does not
    /// offer FUA.
    pub async fn write_fua(&self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset).fua(), data).await
    }

    async fn write_as(&self, request: WriteRequest, data: Vec<u8>) -> Result<(), Error> {
        let write = Transfer::new(request.of(data.len() as u64)).with(data);
        self.call(write).await.map(drop)
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has:
    /// quickly (FAST_ZERO), else slowly, else by writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.call(Transfer::zero(offset, length)).await.map(drop)
    }

    /// Makes a range read as zeroes (WRITE_ZEROES), in exactly this way. [`zero`](Self::zero) looks
    /// for the best way.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and
    /// [`StartError::NotOffered`](crate::session::StartError::NotOffered) where the server does not
    /// offer what the request asks for.
    pub async fn write_zeroes(&self, request: &ZeroRequest) -> Result<(), Error> {
        self.call(Transfer::new(request.0)).await.map(drop)
    }

    /// Gives a range up (TRIM): it may read as anything afterwards, and the server may have done
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and
    /// [`StartError::NotOffered`](crate::session::StartError::NotOffered) where the server does not
    /// offer it.
    pub async fn trim(&self, request: &TrimRequest) -> Result<(), Error> {
        self.call(Transfer::new(request.0)).await.map(drop)
    }

    /// Asks the server to prepare `length` bytes from `offset` for fast reads (CACHE).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and
    /// [`StartError::NotOffered`](crate::session::StartError::NotOffered) where the server does not
    /// offer it.
    pub async fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.call(Transfer::new(RequestInfo::new(Command::Cache, offset, length))).await.map(drop)
    }

    /// Makes the writes durable that were answered before: those that this or another task has
    /// awaited. A server that does not offer it has nothing to flush.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if it failed: earlier writes may be lost. The errors of a connection.
    pub async fn flush(&self) -> Result<(), Error> {
        self.call(Transfer::new(RequestInfo::FLUSH)).await.map(drop)
    }

    /// Finishes the calls under way, says goodbye (DISC) and closes the connection. Calls on other
    /// clones of the handle wait meanwhile, and then fail with [`Error::GivenUp`].
    ///
    /// If this is dropped while calls are under way, the connection stays open for the other
    /// clones.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub async fn disconnect(self) -> Result<(), Error> {
        self.ask(Message::Goodbye).await.map(drop)
    }

    /// Waits for a place among the calls under way, and asks for the transfer.
    async fn call(&self, transfer: Transfer) -> Result<Vec<u8>, Error> {
        if transfer.is_nothing(self.export()) {
            return if self.calls.is_closed() { Err(Error::GivenUp) } else { Ok(Vec::new()) };
        }
        transfer.check(&self.checks)?;
        let closed = |_| Error::GivenUp;
        let request = Arc::clone(&self.requests).acquire_owned().await.map_err(closed)?;
        let units = transfer.request.moves().div_ceil(UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.most_units);
        let units = Arc::clone(&self.units).acquire_many_owned(units).await.map_err(closed)?;
        let caller = |answer| Caller { answer, data: Vec::new(), _permits: (request, units) };
        self.ask(|answer| Message::Call(transfer, caller(answer))).await
    }

    /// Gives the task a message, and waits for the answer.
    async fn ask(&self, message: impl FnOnce(Answer) -> Message) -> Result<Vec<u8>, Error> {
        // declared first and so dropped last: the task can see then that nobody waits
        let dropped = NotifyOnDrop(&self.dropped);
        let (answer, answered) = oneshot::channel();
        self.calls.send(message(answer)).await.map_err(|_| Error::GivenUp)?;
        let answer = answered.await;
        core::mem::forget(dropped);
        answer.unwrap_or(Err(Error::GivenUp))
    }
}

/// Tells the task of a call that is dropped.
struct NotifyOnDrop<'a>(&'a Notify);

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
