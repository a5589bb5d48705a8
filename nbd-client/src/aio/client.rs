//! A handle for many tasks: calls go to the [task](super::task) that owns the connection, and their answers come back.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::connection::Connection;
use super::task::{Call, Message, drive};
use crate::client::Options;
use crate::error::Error;
use crate::export::Export;
use crate::session::{
    Command, Cookie, Errno, ReadRequest, Session, SessionConfig, StartError, TrimRequest, WriteRequest,
    ZeroRequest,
};
use crate::uri::Uri;

/// The longest request of a long read or write, in bytes.
const PIECE: u64 = 1 << 20;
/// The longest request that moves no data, in bytes, so that each ends within its time.
const EFFECT: u64 = 64 << 20;
/// So many requests are on the wire at the most, of all clones of a handle.
const IN_FLIGHT: usize = 64;
/// And so many bytes of reads and writes, counted in units, so that any piece fits a semaphore's numbers.
const UNIT: u64 = 4096;
const UNITS_IN_FLIGHT: u32 = (64 << 20) / 4096;

/// A connection to one export, for any number of tasks at once: clone it, it is a handle.
///
/// Its calls may be answered in any order; a task that needs an order awaits one before it starts the next. At most 64 requests and 64 MiB are in
/// flight, further calls wait. See the [module](super) for what a dropped call means. When all clones are gone, what is in flight is
/// finished and the connection closed.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::AsyncClient;
///
/// # let _ = async {
/// let client = AsyncClient::connect(&"nbd://localhost/disk".parse().unwrap(), &Options::new()).await?;
/// let (first, second) = tokio::try_join!(client.read(0, 4096), client.read(1 << 20, 4096))?;
/// assert_eq!(first.len(), second.len());
/// client.disconnect().await
/// # };
/// ```
#[derive(Clone, Debug)]
pub struct AsyncClient {
    export: Arc<Export>,
    /// Never connected: it knows what can be asked.
    checks: Arc<Session>,
    calls: mpsc::Sender<Message>,
    requests: Arc<Semaphore>,
    units: Arc<Semaphore>,
    most_units: u32,
}

/// An answer to come.
type Answer = oneshot::Receiver<Result<Vec<u8>, Error>>;

impl AsyncClient {
    /// Connects to the server of a URI and asks for its export. The connection's task is spawned on the current runtime.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        Ok(Self::of(Connection::connect(uri, options).await?))
    }

    /// Makes a handle of a connection, which must have no request in flight. Its task is spawned on the current runtime.
    pub fn of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(connection: Connection<S>) -> Self {
        let (calls, inbox) = mpsc::channel(IN_FLIGHT);
        let limits = connection.session().limits();
        let mut config = SessionConfig::of_export(connection.export());
        config.limits = limits;
        // no more than the session takes; what is not a whole unit is left out
        let units = u32::try_from(limits.max_bytes_in_flight / UNIT).unwrap_or(u32::MAX);
        let units = units.clamp(1, UNITS_IN_FLIGHT);
        let client = Self {
            export: Arc::new(connection.export().clone()),
            checks: Arc::new(Session::new(config)),
            calls,
            requests: Arc::new(Semaphore::new(limits.max_in_flight.clamp(1, IN_FLIGHT))),
            units: Arc::new(Semaphore::new(units as usize)),
            most_units: units,
        };
        tokio::spawn(drive(connection, inbox));
        client
    }

    /// What the handshake found out.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Reads `length` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, [`Error::Request`] if the server fails it (the connection is usable), and the errors of a connection.
    pub async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let pieces = self.pieces(Command::Read, offset, length as u64, self.longest())?;
        let mut answers = VecDeque::new();
        for (offset, length) in pieces {
            let start = move |session: &mut Session| {
                session.start_read(&ReadRequest::new(offset), vec![0; usize::try_from(length).unwrap_or(0)])
            };
            answers.push_back(self.send(length, start).await?);
        }
        let mut data = match answers.pop_front() {
            Some(first) => wait(first).await?,
            None => Vec::new(),
        };
        data.reserve_exact(length.saturating_sub(data.len()));
        for answer in answers {
            data.extend(wait(answer).await?);
        }
        Ok(data)
    }

    /// Writes `data` to `offset`. It is durable only after a [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`StartError::ReadOnly`] before anything is sent.
    pub async fn write(&self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset), data).await
    }

    /// Writes `data` to `offset`, durable when this returns (FUA).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`StartError::NotOffered`] where the server does not offer FUA.
    pub async fn write_fua(&self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        self.write_as(WriteRequest::new(offset).fua(), data).await
    }

    async fn write_as(&self, request: WriteRequest, data: Vec<u8>) -> Result<(), Error> {
        let length = data.len() as u64;
        let pieces = self.pieces(Command::Write, request.offset, length, self.longest())?;
        let mut answers = Vec::new();
        let mut whole = Some(data);
        for (offset, length) in pieces {
            let at = usize::try_from(offset - request.offset).unwrap_or(usize::MAX);
            let piece = match &whole {
                Some(data) if data.len() as u64 > length => data
                    .iter()
                    .skip(at)
                    .take(usize::try_from(length).unwrap_or(usize::MAX))
                    .copied()
                    .collect(),
                _ => whole.take().unwrap_or_default(),
            };
            let request = WriteRequest { offset, ..request };
            answers.push(self.send(length, move |session| session.start_write(&request, piece)).await?);
        }
        self.all(answers).await
    }

    /// Makes `length` bytes from `offset` read as zeroes, in the best way that the server has: quickly (FAST_ZERO), else slowly, else by
    /// writing zeroes. The range may become a hole.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Error> {
        let (flags, request) = (self.export.flags, ZeroRequest::new(offset, length));
        let quick = (flags.send_write_zeroes() && flags.send_fast_zero()).then(|| request.fast());
        let slow = flags.send_write_zeroes().then_some(request);
        for way in [quick, slow].into_iter().flatten() {
            match self.write_zeroes(&way).await {
                Err(Error::Request(error)) if error.errno() == Some(Errno::ENOTSUP) => {}
                other => return other,
            }
        }
        for (offset, length) in self.pieces(Command::Write, offset, length, self.longest())? {
            self.write(offset, vec![0; usize::try_from(length).unwrap_or(0)]).await?;
        }
        Ok(())
    }

    /// Makes a range read as zeroes (WRITE_ZEROES), in exactly this way. [`zero`](Self::zero) looks for the best way.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`StartError::NotOffered`] where the server does not offer what the request asks for.
    pub async fn write_zeroes(&self, request: &ZeroRequest) -> Result<(), Error> {
        let request = *request;
        self.effect(Command::WriteZeroes, request.offset, request.length, move |session, offset, length| {
            session.start_write_zeroes(&ZeroRequest { offset, length, ..request })
        })
        .await
    }

    /// Gives a range up (TRIM): it may read as anything afterwards, and the server may have done nothing.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`StartError::NotOffered`] where the server does not offer it.
    pub async fn trim(&self, request: &TrimRequest) -> Result<(), Error> {
        let request = *request;
        self.effect(Command::Trim, request.offset, request.length, move |session, offset, length| {
            session.start_trim(&TrimRequest { offset, length, ..request })
        })
        .await
    }

    /// Makes durable what was answered before: writes that this or another task has awaited. A server that does not offer it has nothing to flush.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if it failed: what was written may be lost. The errors of a connection.
    pub async fn flush(&self) -> Result<(), Error> {
        if !self.export.flags.send_flush() {
            return Ok(());
        }
        wait(self.send(0, Session::start_flush).await?).await.map(drop)
    }

    /// Finishes what is in flight, says goodbye (DISC) and closes the connection. Other clones of the handle are of no more use.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub async fn disconnect(self) -> Result<(), Error> {
        let (answer, closed) = oneshot::channel();
        self.calls.send(Message::Goodbye(answer)).await.map_err(|_| Error::GivenUp)?;
        closed.await.map_err(|_| Error::GivenUp)?
    }

    async fn effect(
        &self,
        command: Command,
        offset: u64,
        length: u64,
        start: impl Fn(&mut Session, u64, u64) -> Result<Cookie, StartError> + Copy + Send + 'static,
    ) -> Result<(), Error> {
        let mut answers = Vec::new();
        for (offset, length) in self.pieces(command, offset, length, EFFECT)? {
            answers.push(self.send(0, move |session| start(session, offset, length)).await?);
        }
        self.all(answers).await
    }

    /// The whole range checked against the export, and cut to pieces.
    fn pieces(
        &self,
        command: Command,
        offset: u64,
        length: u64,
        longest: u64,
    ) -> Result<impl Iterator<Item = (u64, u64)> + use<>, Error> {
        if length > 0 {
            self.checks.check_whole(command, offset, length)?;
        }
        let end = offset.saturating_add(length);
        let longest = usize::try_from(longest.max(1)).unwrap_or(usize::MAX);
        Ok((offset..end).step_by(longest).map(move |at| (at, (end - at).min(longest as u64))))
    }

    /// The longest request of a long read or write, in bytes.
    fn longest(&self) -> u64 {
        PIECE.min(u64::from(self.checks.longest_payload()))
    }

    /// Waits for a place among the requests in flight and gives the request to the task.
    async fn send(
        &self,
        bytes: u64,
        start: impl FnOnce(&mut Session) -> Result<Cookie, StartError> + Send + 'static,
    ) -> Result<Answer, Error> {
        let closed = |_| Error::GivenUp;
        let request = Arc::clone(&self.requests).acquire_owned().await.map_err(closed)?;
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.most_units);
        let units = Arc::clone(&self.units).acquire_many_owned(units).await.map_err(closed)?;
        let (answer, waits) = oneshot::channel();
        let call = Call { start: Box::new(start), answer, _permits: (request, units) };
        self.calls.send(Message::Call(call)).await.map_err(|_| Error::GivenUp)?;
        Ok(waits)
    }

    /// Waits for all answers; the first error is the answer.
    async fn all(&self, answers: Vec<Answer>) -> Result<(), Error> {
        let mut result = Ok(());
        for answer in answers {
            result = result.and(wait(answer).await.map(drop));
        }
        result
    }
}

async fn wait(answer: Answer) -> Result<Vec<u8>, Error> {
    answer.await.unwrap_or(Err(Error::GivenUp))
}
