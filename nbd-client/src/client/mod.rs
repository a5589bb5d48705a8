//! The blocking client: a transport, a handshake, a session, and the clock.
//!
//! It never connects again by itself: what a lost connection means is the caller's to know.

mod options;
mod stream;

pub use options::Options;

use alloc::collections::BTreeMap;
use core::time::Duration;
use nbd_extents::Admission;
use std::time::Instant;

use stream::{Stream, failure};

use crate::error::{During, Error};
use crate::export::Export;
use crate::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
use crate::session::{Admit, ChunkOffer, Cookie, Event, Session, SessionConfig, StartError, StatusRequest};
use crate::stats::{ForgivenCounts, SessionStats};
use crate::transport::{Canceller, SLACK, Socket, Transport};
use crate::uri::Uri;

/// The most time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Takes the chunks of one block status request, see [`Client::block_status`].
///
/// If the request fails in the end, what was delivered is not to be used.
pub trait StatusSink {
    /// Whether to take a chunk, before anything is allocated for it. Takes all unless told otherwise.
    fn admit(&mut self, offer: &ChunkOffer) -> Admission {
        let _ = offer;
        Admission::Take
    }

    /// A chunk of `context`, whose number is also at the start of `payload`.
    fn status(&mut self, context: u32, payload: &[u8]);

    /// A chunk that [`Self::admit`] chose to drain, of `length` bytes.
    fn drained(&mut self, context: u32, length: u64) {
        let _ = (context, length);
    }
}

/// A closure over context and payload takes all chunks.
impl<F: FnMut(u32, &[u8])> StatusSink for F {
    fn status(&mut self, context: u32, payload: &[u8]) {
        self(context, payload);
    }
}

/// A connection to one export.
///
/// ```no_run
/// use nbd_client::{Client, Options, StatusRequest};
///
/// let options = Options::new().require_context("base:allocation");
/// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &options)?;
/// let request = StatusRequest::new(0, client.export().size.min(1 << 30));
/// client.block_status(&request, &mut |context: u32, payload: &[u8]| {
///     println!("context {context}: {} bytes of descriptors", payload.len() - 4);
/// })?;
/// client.disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without [`Client::disconnect`] the connection just closes, which a server may log as a fault.
#[derive(Debug)]
pub struct Client<T = Socket> {
    stream: Stream<T>,
    export: Export,
    session: Session,
    request_timeout: Duration,
    deadline: Option<Instant>,
    /// Requests in flight and when they were started, the oldest first: its time runs out first.
    started: BTreeMap<Cookie, Instant>,
    given_up: bool,
}

impl Client<Socket> {
    /// Connects to the server of a URI and asks for its export.
    ///
    /// # Errors
    ///
    /// [`Error::TlsNotSupported`] for `nbds`; [`Error::Connect`], [`Error::Timeout`], [`Error::Handshake`] and the
    /// other errors of a connection.
    pub fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        if uri.is_tls() {
            return Err(Error::TlsNotSupported);
        }
        let started = Instant::now();
        let deadline = earlier(started.checked_add(options.connect_timeout), options.deadline);
        let connected = connect_socket(uri, options, started, deadline);
        connected
            .and_then(|socket| Self::begin(socket, uri.export(), options, started))
            .map_err(|error| out_of_time(error, options.deadline))
    }

    /// A handle that ends this connection from any thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.stream.get_ref().canceller()
    }
}

fn connect_socket(
    uri: &Uri,
    options: &Options,
    started: Instant,
    deadline: Option<Instant>,
) -> Result<Socket, Error> {
    // A timeout beyond the clock's range is as good as this.
    let deadline = deadline.unwrap_or_else(|| started + Duration::from_secs(1 << 30));
    let socket =
        Socket::connect(uri.address(), deadline, &options.canceller).map_err(|error| {
            match failure(error, During::Connect, started) {
                Error::Io { source, .. } => Error::Connect { address: uri.address().to_string(), source },
                other => other,
            }
        })?;
    crate::trace::connected(uri.address());
    Ok(socket)
}

impl<T: Transport> Client<T> {
    /// Asks for an export over a stream that is already connected to a server. [`Foreign`](crate::Foreign) makes a transport of any
    /// stream.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], except those of connecting.
    pub fn over(transport: T, export: &str, options: &Options) -> Result<Self, Error> {
        Self::begin(transport, export, options, Instant::now())
            .map_err(|error| out_of_time(error, options.deadline))
    }

    fn begin(transport: T, export: &str, options: &Options, started: Instant) -> Result<Self, Error> {
        let deadline = earlier(started.checked_add(options.connect_timeout), options.deadline);
        options.canceller.check().map_err(|error| failure(error, During::Connect, started))?;
        let mut stream = Stream::new(transport, started);
        stream.set_deadline(started, deadline)?;
        let (export, forgiven) = negotiate(&mut stream, options.handshake(export))?;
        crate::trace::negotiated(&export);
        let mut config = SessionConfig::of_export(&export);
        config.strictness = options.strictness;
        config.limits = options.session_limits;
        let mut session = Session::new(config);
        session.count_forgiven(forgiven);
        Ok(Self {
            stream,
            export,
            session,
            request_timeout: options.request_timeout,
            deadline: options.deadline,
            started: BTreeMap::new(),
            given_up: false,
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

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.session.in_flight()
    }

    /// True if the server said that it is going down: [`Self::disconnect`] is due.
    #[must_use]
    pub const fn must_disconnect(&self) -> bool {
        self.session.must_disconnect()
    }

    /// Asks for the block status of a range and hands every chunk of the answer to `sink`.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if the request failed (the connection is usable, and what `sink` got is void; only after ESHUTDOWN it is ended,
    /// as it has to be); [`Error::Start`] if it cannot
    /// be asked, also while others are in flight; the errors of a connection otherwise.
    pub fn block_status<S: StatusSink + ?Sized>(
        &mut self,
        request: &StatusRequest<'_>,
        sink: &mut S,
    ) -> Result<(), Error> {
        let in_flight = self.in_flight();
        if in_flight > 0 {
            return Err(StartError::Busy { in_flight }.into());
        }
        let cookie = self.start_block_status(request)?;
        loop {
            match self.next_event(&mut |offer: &ChunkOffer| sink.admit(offer))? {
                // Left over from a request whose events were not all fetched.
                Some(event) if event.cookie() != cookie => {}
                Some(Event::Status { context, payload, .. }) => {
                    sink.status(context, &payload);
                    self.session.recycle(payload);
                }
                Some(Event::Drained { context, length, .. }) => sink.drained(context, length),
                Some(Event::Done { .. }) => return Ok(()),
                Some(Event::Failed { error, .. }) => return Err(error.into()),
                None => return Err(Error::GivenUp),
            }
        }
    }

    /// Sends a block status request and returns at once; its answer comes through [`Self::next_event`].
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, and the errors of a connection.
    pub fn start_block_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, Error> {
        self.check_alive()?;
        let (offset, length, size) = (request.offset(), request.length(), self.export.size);
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(StartError::PastEnd { offset, length, size }.into());
        }
        let cookie = self.session.start_block_status(request)?;
        let now = Instant::now();
        self.started.insert(cookie, now);
        self.send_output(now, self.request_timeout)?;
        Ok(cookie)
    }

    /// Waits for the next event of any request; `None` if none is in flight.
    ///
    /// `admit` decides on chunks before anything is allocated for them.
    ///
    /// # Errors
    ///
    /// The errors of a connection. A request that failed is an event.
    pub fn next_event<A: Admit + ?Sized>(&mut self, admit: &mut A) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.session.poll() {
                if matches!(event, Event::Done { .. } | Event::Failed { .. }) {
                    self.started.remove(&event.cookie());
                    self.obey_shutdown();
                }
                return Ok(Some(event));
            }
            self.check_alive()?;
            let Some((_, &oldest)) = self.started.first_key_value() else { return Ok(None) };
            let received = self.receive(oldest, admit);
            self.note(received)?;
        }
    }

    /// Gives back the memory of an event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.session.recycle(payload);
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub fn disconnect(mut self) -> Result<(), Error> {
        self.check_alive()?;
        self.say_goodbye()
    }

    fn say_goodbye(&mut self) -> Result<(), Error> {
        self.session.disconnect();
        self.send_output(Instant::now(), self.request_timeout.min(GOODBYE))
    }

    /// After ESHUTDOWN a client MUST disconnect (NBD protocol, "Error values").
    fn obey_shutdown(&mut self) {
        if self.must_disconnect() && self.in_flight() == 0 {
            // The request's own error is what counts.
            self.say_goodbye().ok();
        }
    }

    /// One read, straight to where the session wants it.
    fn receive<A: Admit + ?Sized>(&mut self, oldest: Instant, admit: &mut A) -> Result<(), Error> {
        let deadline = earlier(oldest.checked_add(self.request_timeout), self.deadline);
        self.stream.set_deadline(oldest, deadline)?;
        let during = self.session.eof().map_or(During::ReplyHeader, |eof| eof.during);
        let count = self.stream.read(self.session.space(), during)?;
        if count == 0 {
            return match self.session.eof() {
                Some(eof) => Err(eof.into()),
                None => Err(Error::GivenUp),
            };
        }
        self.session.advance(count, admit).map_err(Error::from)
    }

    fn send_output(&mut self, started: Instant, timeout: Duration) -> Result<(), Error> {
        let deadline = earlier(started.checked_add(timeout), self.deadline);
        let output = self.session.take_output();
        let sent = self.stream.set_deadline(started, deadline).and_then(|()| self.stream.send(&output));
        self.note(sent)
    }

    const fn check_alive(&self) -> Result<(), Error> {
        if self.given_up { Err(Error::GivenUp) } else { Ok(()) }
    }

    /// No error of a stream is forgotten: what comes after it would not be in step.
    fn note<V>(&mut self, result: Result<V, Error>) -> Result<V, Error> {
        self.given_up |= result.is_err();
        result.map_err(|error| out_of_time(error, self.deadline))
    }
}

/// Drives a handshake to its end.
fn negotiate<T: Transport>(
    stream: &mut Stream<T>,
    config: HandshakeConfig,
) -> Result<(Export, ForgivenCounts), Error> {
    let mut handshake = Handshake::new(config)?;
    while handshake.status() == HandshakeStatus::NeedsInput {
        let input = stream.buffered(handshake.eof().during)?;
        if input.is_empty() {
            return Err(handshake.eof().into());
        }
        let fed = handshake.feed(input);
        let output = handshake.take_output();
        match fed {
            Ok(count) => stream.consume(count),
            Err(error) => {
                // A last word, if there is one; the error is what counts.
                let _ = stream.send(&output);
                return Err(error.into());
            }
        }
        if !output.is_empty() {
            stream.send(&output)?;
        }
    }
    // It ends otherwise only where TLS was asked for.
    handshake.into_export().ok_or(Error::TlsNotSupported)
}

/// Whose deadline it was: a request's, or the whole job's.
fn out_of_time(error: Error, job: Option<Instant>) -> Error {
    match error {
        // the kernel's clock may be a little early
        Error::Timeout { during, .. } if job.is_some_and(|end| end <= Instant::now() + SLACK) => {
            Error::OutOfTime { during }
        }
        other => other,
    }
}

/// The earlier of two deadlines, where `None` is never.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
