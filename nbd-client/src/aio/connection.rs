//! One connection, driven by whoever calls it: requests out, events in. What a dropped call leaves behind is taken up by the next.

use alloc::collections::BTreeMap;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSlice};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};

use super::connect::{BoxedStream, handshake, stream};
use crate::client::{Options, earlier, out_of_time};
use crate::error::{During, Error};
use crate::export::Export;
use crate::session::{Admit, Cookie, Event, Session, SessionConfig, StartError};
use crate::stats::SessionStats;
use crate::uri::Uri;

/// Small replies come in one read; a large payload goes past the buffer, straight to its place.
const BUFFER: usize = 64 << 10;
/// The most pieces that are given to the system in one call.
const PIECES: usize = 16;
/// The most time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection to one export without a task of its own: whoever awaits [`next_event`](Self::next_event) moves the bytes, both ways.
///
/// ```no_run
/// use nbd_client::aio::Connection;
/// use nbd_client::{Event, Options, ReadRequest, TakeAll};
///
/// # let _ = async {
/// let mut connection = Connection::connect(&"nbd://localhost/disk".parse().unwrap(), &Options::new()).await?;
/// for block in 0..16 {
///     connection.start(|session| session.start_read(&ReadRequest::new(block << 20), vec![0; 1 << 20]))?;
/// }
/// while let Some(event) = connection.next_event(&mut TakeAll).await? {
///     match event {
///         Event::Read { cookie, data } => println!("request {cookie}: {} bytes", data.len()),
///         Event::Failed { error, .. } => return Err(error.into()),
///         _ => {}
///     }
/// }
/// connection.disconnect().await
/// # };
/// ```
#[derive(Debug)]
pub struct Connection<S = BoxedStream> {
    stream: BufReader<S>,
    /// Bytes that came behind the handshake and have not been fed yet.
    rest: Vec<u8>,
    export: Export,
    session: Session,
    request_timeout: Duration,
    deadline: Option<Instant>,
    /// Requests in flight and when they were started, the oldest first: its time runs out first.
    started: BTreeMap<Cookie, Instant>,
    /// When a call about requests in flight returned or was dropped the last time.
    left: Option<Instant>,
    given_up: bool,
    /// The error of a server that takes no more bytes, as long as it may still have said something.
    deaf: Option<Error>,
}

/// A call of [`Connection::next_event`]: however it ends, the time after it is the caller's own.
struct Visit<'a, S>(&'a mut Connection<S>);

impl<S> Drop for Visit<'_, S> {
    fn drop(&mut self) {
        self.0.left = Some(Instant::now());
    }
}

impl Connection<BoxedStream> {
    /// Connects to the server of a URI and asks for its export.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        let started = Instant::now();
        let stream = stream(uri, options, started).await?;
        Self::begin(stream, uri.export(), options, started).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Asks for an export over a stream that is already connected to a server: over TLS, in a test, through a tunnel.
    ///
    /// # Errors
    ///
    /// As [`connect`](Connection::connect), except those of connecting.
    pub async fn over(stream: S, export: &str, options: &Options) -> Result<Self, Error> {
        Self::begin(stream, export, options, Instant::now()).await
    }

    async fn begin(mut stream: S, export: &str, options: &Options, started: Instant) -> Result<Self, Error> {
        let begun = handshake(&mut stream, export, options, started).await?;
        let mut config = SessionConfig::of_export(&begun.export);
        config.strictness = options.strictness;
        config.limits = options.session_limits;
        let mut session = Session::new(config);
        session.count_forgiven(begun.forgiven);
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            rest: begun.rest,
            export: begun.export,
            session,
            request_timeout: options.request_timeout,
            deadline: options.deadline,
            started: BTreeMap::new(),
            left: None,
            given_up: false,
            deaf: None,
        })
    }

    /// What the handshake found out.
    #[must_use]
    pub const fn export(&self) -> &Export {
        &self.export
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &SessionStats {
        self.session.stats()
    }

    /// The session, to ask it what it knows.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// How many requests have been started and their last event not been fetched.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.started.len()
    }

    /// True if another request has to wait for one of those in flight.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight() > 0 && !self.session.has_room(0)
    }

    /// Starts a request by one of the session's `start_` functions. It is sent, and its answer comes, during [`next_event`](Self::next_event).
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, [`Error::GivenUp`] after an error of the connection.
    pub fn start(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        self.check_alive()?;
        let cookie = request(&mut self.session)?;
        let now = Instant::now();
        self.started.insert(cookie, now);
        self.left.get_or_insert(now);
        Ok(cookie)
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.session.recycle(payload);
    }

    /// Waits for the next event of any request; `None` if none is in flight. A call that is dropped loses nothing.
    ///
    /// `admit` decides on chunks of block status before anything is allocated for them. The time between two calls is the caller's own, and does
    /// not count against the requests' deadlines.
    ///
    /// # Errors
    ///
    /// The errors of a connection. A request that failed is an event.
    pub async fn next_event<A: Admit + ?Sized>(&mut self, admit: &mut A) -> Result<Option<Event>, Error> {
        self.come_back();
        Visit(self).0.wait_for_event(admit).await
    }

    /// Moves the start of each request by the time in which the caller was busy elsewhere, and nothing was sent or read.
    fn come_back(&mut self) {
        let now = Instant::now();
        let Some(left) = self.left.replace(now) else { return };
        for started in self.started.values_mut() {
            *started += now.saturating_duration_since(left.max(*started));
        }
    }

    async fn wait_for_event<A: Admit + ?Sized>(&mut self, admit: &mut A) -> Result<Option<Event>, Error> {
        loop {
            // before the last event, which a call that is dropped must not lose
            if self.session.in_flight() == 0 {
                self.obey_shutdown().await;
            }
            if let Some(event) = self.session.poll() {
                if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
                    self.started.remove(&event.cookie());
                }
                return Ok(Some(event));
            }
            self.check_alive()?;
            let Some((_, &oldest)) = self.started.first_key_value() else { return Ok(None) };
            let step = |connection: &mut Self, cx: &mut Context<'_>| connection.poll_exchange(cx, admit);
            self.in_time(oldest, self.request_timeout, step).await?;
        }
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most. Requests still in flight are given up.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub async fn disconnect(mut self) -> Result<(), Error> {
        self.check_alive()?;
        self.say_goodbye().await?;
        // the server may have closed first
        self.stream.shutdown().await.ok();
        Ok(())
    }

    async fn say_goodbye(&mut self) -> Result<(), Error> {
        self.session.disconnect();
        let timeout = self.request_timeout.min(GOODBYE);
        // what the server says, or that it closes first, is of no interest any more
        self.in_time(Instant::now(), timeout, |connection, cx| match connection.poll_send(cx) {
            Ok(()) if connection.session.has_output() => Poll::Pending,
            sent => Poll::Ready(sent),
        })
        .await
    }

    /// After ESHUTDOWN a client MUST disconnect (NBD protocol, "Error values").
    async fn obey_shutdown(&mut self) {
        if self.session.must_disconnect() {
            // the request's own error is what counts
            self.say_goodbye().await.ok();
        }
    }

    const fn check_alive(&self) -> Result<(), Error> {
        if self.given_up { Err(Error::GivenUp) } else { Ok(()) }
    }

    /// Moves bytes in the time that is left since `started`. No error of a stream is forgotten: what comes after it would not be in step.
    async fn in_time(
        &mut self,
        started: Instant,
        timeout: Duration,
        mut step: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Result<(), Error> {
        let job = self.deadline;
        let moving = poll_fn(|cx| step(self, cx));
        let moved = match earlier(started.checked_add(timeout), job) {
            None => moving.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), moving).await {
                Ok(moved) => moved,
                Err(_) => Err(Error::Timeout { during: self.during(), after: started.elapsed() }),
            },
        };
        self.given_up |= moved.is_err();
        moved.map_err(|error| out_of_time(error, job))
    }

    /// Sends as much as goes without waiting, and reads once. Ready when something was read, or when all was sent.
    fn poll_exchange<A: Admit + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        admit: &mut A,
    ) -> Poll<Result<(), Error>> {
        if !self.rest.is_empty() {
            let fed = self.session.feed(&self.rest, admit)?;
            self.rest.drain(..fed);
            return Poll::Ready(Ok(()));
        }
        let had_output = self.session.has_output();
        if self.deaf.is_none() {
            match self.poll_send(cx) {
                // the server may have said why before it hung up: its last words are read, and the error waits
                Err(error) if error.is_hung_up() => self.deaf = Some(error),
                sent => sent?,
            }
        }
        match self.poll_receive(cx, admit) {
            Poll::Pending if had_output && !self.session.has_output() => Poll::Ready(Ok(())),
            Poll::Ready(Err(error @ (Error::Io { .. } | Error::ConnectionLost(_) | Error::GivenUp))) => {
                Poll::Ready(Err(self.deaf.take().unwrap_or(error)))
            }
            received => received,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let failed = |source| Error::Io { during: During::Send, source };
        while self.session.has_output() {
            let pieces: Vec<IoSlice<'_>> = self.session.output().take(PIECES).map(IoSlice::new).collect();
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces) {
                Poll::Ready(Ok(0)) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.session.sent(count),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(failed(error)),
                Poll::Pending => break,
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(failed(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// One read, straight to where the session wants it.
    fn poll_receive<A: Admit + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        admit: &mut A,
    ) -> Poll<Result<(), Error>> {
        let during = self.during();
        let mut space = ReadBuf::new(self.session.space());
        let count = match Pin::new(&mut self.stream).poll_read(cx, &mut space) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(source)) => return Poll::Ready(Err(Error::Io { during, source })),
            Poll::Ready(Ok(())) => space.filled().len(),
        };
        if count == 0 {
            return Poll::Ready(Err(self.session.eof().map_or(Error::GivenUp, Error::from)));
        }
        Poll::Ready(self.session.advance(count, admit).map_err(Error::from))
    }

    fn during(&self) -> During {
        self.session.eof().map_or(During::ReplyHeader, |eof| eof.during)
    }
}
