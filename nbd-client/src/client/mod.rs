//! The blocking client: a transport, a handshake, a session, and the clock.
//!
//! It never connects again by itself: what a lost connection means is the caller's to know.

mod blocking;
mod drive;
mod options;
mod status;
mod stream;

pub(crate) use blocking::{QUICK_EFFECT, SLOW_EFFECT};
pub use options::Options;
pub use status::StatusSink;

use alloc::collections::BTreeMap;
use core::time::Duration;
use std::time::Instant;

use stream::{Stream, failure};

use crate::error::{During, Error};
use crate::export::{Export, ListedExport};
use crate::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
use crate::session::{Cookie, Session, SessionConfig, SessionLimits};
use crate::stats::SessionStats;
use crate::transport::{Canceller, SLACK, Socket, Transport};
use crate::uri::Uri;

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
    /// When the last request was started.
    latest: Instant,
    /// When a call about requests in flight returned the last time.
    left: Option<Instant>,
    given_up: bool,
    /// The error of a server that takes no more bytes, as long as it may still have said something.
    deaf: Option<Error>,
    /// A FAST_ZERO request was refused: there is no sense in trying again.
    zeroes_slowly: bool,
}

impl Client<Socket> {
    /// Connects to the server of a URI and asks for its export.
    ///
    /// # Errors
    ///
    /// [`Error::TlsNotSupported`] for `nbds`; [`Error::Connect`], [`Error::Timeout`], [`Error::Handshake`] and the
    /// other errors of a connection.
    pub fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        let started = Instant::now();
        connect_socket(uri, options, started)
            .and_then(|socket| Self::begin(socket, uri.export(), options, started))
            .map_err(|error| out_of_time(error, options.deadline))
    }

    /// Asks the server of a URI for its exports (LIST). The export that the URI names does not matter.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]. A server may refuse to tell.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    ///
    /// for export in Client::list_exports(&"nbd://localhost".parse()?, &Options::new())? {
    ///     println!("{:?} {:?}", export.name, export.description);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_exports(uri: &Uri, options: &Options) -> Result<Vec<ListedExport>, Error> {
        let started = Instant::now();
        let mut config = options.handshake("");
        config.list_exports = true;
        connect_socket(uri, options, started)
            .and_then(|socket| shake_hands(socket, config, options, started))
            .and_then(|(_, handshake)| handshake.into_exports().ok_or(Error::TlsNotSupported))
            .map_err(|error| out_of_time(error, options.deadline))
    }

    /// Asks the server of a URI for the names of the meta contexts that its export has, whatever `options` ask for. Empty also where the server
    /// has no structured replies, or would not say.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn list_contexts(uri: &Uri, options: &Options) -> Result<Vec<String>, Error> {
        let client = Self::connect(uri, &options.clone().without_contexts().list_contexts(true))?;
        let offered = client.export.offered.clone();
        client.disconnect()?;
        Ok(offered.unwrap_or_default())
    }

    /// A handle that ends this connection from any thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.stream.get_ref().canceller()
    }
}

fn connect_socket(uri: &Uri, options: &Options, started: Instant) -> Result<Socket, Error> {
    if uri.is_tls() {
        return Err(Error::TlsNotSupported);
    }
    let deadline = earlier(started.checked_add(options.connect_timeout), options.deadline);
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
        let (stream, handshake) = shake_hands(transport, options.handshake(export), options, started)?;
        // It ends without an export only where TLS was asked for.
        let (export, forgiven) = handshake.into_export().ok_or(Error::TlsNotSupported)?;
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
            latest: started,
            left: None,
            given_up: false,
            deaf: None,
            zeroes_slowly: false,
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

    /// True if no other request can be started before one of those in flight is over.
    pub(crate) fn is_full(&self) -> bool {
        !self.session.has_room(0)
    }

    pub(crate) const fn limits(&self) -> SessionLimits {
        self.session.limits()
    }

    /// True if the server said that it is going down: [`Self::disconnect`] is due.
    #[must_use]
    pub const fn must_disconnect(&self) -> bool {
        self.session.must_disconnect()
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most. Requests still in flight are given up.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub fn disconnect(mut self) -> Result<(), Error> {
        self.check_alive()?;
        self.say_goodbye()
    }
}

/// The whole handshake over a transport, within the time for it.
fn shake_hands<T: Transport>(
    transport: T,
    config: HandshakeConfig,
    options: &Options,
    started: Instant,
) -> Result<(Stream<T>, Handshake), Error> {
    let deadline = earlier(started.checked_add(options.connect_timeout), options.deadline);
    options.canceller.check().map_err(|error| failure(error, During::Connect, started))?;
    let mut stream = Stream::new(transport, started);
    stream.set_deadline(started, deadline)?;
    let handshake = negotiate(&mut stream, config)?;
    Ok((stream, handshake))
}

/// Drives a handshake to its end.
fn negotiate<T: Transport>(stream: &mut Stream<T>, config: HandshakeConfig) -> Result<Handshake, Error> {
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
    Ok(handshake)
}

/// Whose deadline it was: a request's, or the whole job's.
pub(crate) fn out_of_time(error: Error, job: Option<Instant>) -> Error {
    match error {
        // the kernel's clock may be a little early
        Error::Timeout { during, .. } if job.is_some_and(|end| end <= Instant::now() + SLACK) => {
            Error::OutOfTime { during }
        }
        other => other,
    }
}

/// The earlier of two deadlines, where `None` is never.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
