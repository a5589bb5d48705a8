//! The tokio driver of a connection: requests out, events in, moved by whoever awaits them. What a
//! dropped call leaves undone, the next one does.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::ErrorKind;
use std::time::Instant;

use nbd_extents::Admission;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::connect::{BoxedStream, before, connect};
use crate::client::{ClientOver, Dial, Drive, Driven};
use crate::connection::Connection;
use crate::error::Error;
use crate::options::Options;
use crate::session::{ChunkOffer, Cookie, Event, Session, StartError, take_all};
use crate::uri::Uri;

/// A connection to one export without a task of its own: whoever awaits
/// [`next_event`](Self::next_event) moves the bytes, both ways.
///
/// Between two calls nothing is received. A program that keeps requests in flight and stops calling
/// leaves the server waiting; [`Client`](super::Client) has a task that always receives.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::Driver;
/// use nbd_client::session::{Event, ReadRequest, take_all};
///
/// # let _ = async {
/// let uri = "nbd://localhost/disk".parse().unwrap();
/// let mut driver = Driver::connect(&uri, &Options::new()).await?;
/// for block in 0..16 {
///     let buffer = driver.buffer(1 << 20);
///     driver.start(|session| session.start_read(&ReadRequest::new(block << 20), buffer))?;
/// }
/// while let Some(event) = driver.next_event(&mut take_all).await? {
///     match event {
///         Event::Read { cookie, data } => println!("request {cookie}: {} bytes", data.len()),
///         Event::Failed { error, .. } => return Err(error.into()),
///         _ => {}
///     }
/// }
/// driver.disconnect().await
/// # };
/// ```
pub type Driver<S = BoxedStream> = ClientOver<Awaited<S>>;

impl Driver<BoxedStream> {
    /// Connects to the server of a URI and asks for its export.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        Dial::new(uri, options).connect_by(connect).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Asks for an export over a stream that is already connected to a server: over TLS, in a test,
    /// through a tunnel.
    ///
    /// # Errors
    ///
    /// As [`connect`](Driver::connect), except those of connecting.
    pub async fn over(stream: S, export: &str, options: &Options) -> Result<Self, Error> {
        let connection = Connection::new(export, options, Instant::now())?;
        Driven { mover: Awaited(stream), connection }.into_client().await
    }

    /// Starts a request by one of the session's `start_` functions. It is sent, and its answer
    /// comes, during [`next_event`](Self::next_event).
    ///
    /// # Errors
    ///
    /// As [`Connection::start`].
    pub fn start(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        self.queue(request)
    }

    /// Waits for the next event of any request; `None` if none is in flight. A call that is dropped
    /// loses nothing.
    ///
    /// `admit` decides on chunks of block status before anything is allocated for them. The time
    /// between two calls is the caller's own, and does not count against the limit of the requests
    /// in flight.
    ///
    /// # Errors
    ///
    /// The errors of a connection. A request that failed is an event.
    pub async fn next_event(
        &mut self,
        admit: &mut impl FnMut(&ChunkOffer) -> Admission,
    ) -> Result<Option<Event>, Error> {
        self.io.event(admit).await
    }

    /// One step of a task that also waits for calls: returns an event that is there, or moves bytes
    /// once and returns `None`. While nothing is in flight it sends the rest of a write that was
    /// refused early, and stays pending.
    pub(super) async fn step(&mut self) -> Result<Option<Event>, Error> {
        let io = &mut self.io;
        io.connection.clock.exclude_idle_time(Instant::now());
        let event = io.connection.poll(&mut take_all, Instant::now())?;
        if event.is_some() || !io.connection.is_idle() {
            if event.is_none() {
                io.exchange().await?;
            }
            return Ok(event);
        }
        let rest = poll_fn(|cx| {
            let sent = if io.connection.has_output() { io.poll_send(cx) } else { Ok(()) };
            sent.map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending)
        });
        rest.await
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most. Requests still in
    /// flight are given up.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub async fn disconnect(mut self) -> Result<(), Error> {
        self.io.say_goodbye().await
    }
}

/// A stream that moves bytes while it is awaited.
#[derive(Debug)]
pub struct Awaited<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Drive for Driven<Awaited<S>> {
    async fn send(&mut self) -> Result<(), Error> {
        poll_fn(|cx| Poll::Ready(self.poll_send(cx))).await
    }

    async fn exchange(&mut self) -> Result<(), Error> {
        // before the wait: a signal may end it before the runtime has looked at the sockets
        let now = Instant::now();
        // a stream that always has bytes, or a caller that always drops the call, is late as well
        self.connection.check_late(now)?;
        let end = self.connection.poll_timeout();
        let moved = before(end, poll_fn(|cx| self.poll_exchange(cx))).await;
        moved.unwrap_or_else(|| self.connection.handle_timeout(now))
    }

    async fn close(&mut self) {
        let end = self.connection.clock.goodbye_end();
        // The server may have closed first, or a stream with a buffer of its own may wait for it.
        before(end, self.mover.0.shutdown()).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driven<Awaited<S>> {
    /// Sends as much as goes without waiting, and reads once. Ready when something was read, or
    /// when all was sent.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let had_output = self.connection.has_output();
        self.poll_send(cx)?;
        if self.connection.has_said_goodbye() {
            // that the server closes then is no error
            return Poll::Ready(Ok(()));
        }
        match self.poll_receive(cx) {
            Poll::Pending if had_output && !self.connection.has_output() => Poll::Ready(Ok(())),
            received => received,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Self { mover: Awaited(stream), connection } = self;
        connection.send_by(&[], |slices, _| {
            let (stream, is_flush) = (Pin::new(&mut *stream), slices.is_empty());
            let moved = if is_flush {
                stream.poll_flush(cx).map_ok(|()| 0)
            } else {
                stream.poll_write_vectored(cx, slices)
            };
            match moved {
                Poll::Ready(moved) => moved,
                Poll::Pending if is_flush => Ok(0),
                Poll::Pending => Err(ErrorKind::WouldBlock.into()),
            }
        })
    }

    /// One read, straight to where the connection wants it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut space = ReadBuf::new(self.connection.space());
        let read = ready!(Pin::new(&mut self.mover.0).poll_read(cx, &mut space));
        let count = space.filled().len();
        Poll::Ready(match read {
            Ok(()) => self.connection.received(count, Instant::now()),
            Err(source) => self.connection.receive_failed(source, Instant::now()),
        })
    }
}
