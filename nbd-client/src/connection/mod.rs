//! A connection to a server without I/O: from the first byte of the handshake to the last of the
//! goodbye.
//!
//! It holds every rule that does not depend on how a program waits: the handshake, requests and
//! replies, transfers of any length, limits of time, shutdown, and the goodbye. A driver owns the
//! socket and the clock. It sends the [output](Connection::output), reads into the
//! [space](Connection::space), and waits no longer than [`poll_timeout`](Connection::poll_timeout)
//! says; what the socket holds by then it reads before it says what the time is. The blocking and
//! the tokio client are two such drivers.
//!
//! ```text
//! output -> socket -> sent          bytes to the server
//! space  <- socket <- received      bytes of the server; payloads go straight to their buffer
//! poll                              the events that they bring
//! poll_timeout, handle_timeout      the clock
//! ```
//!
//! With [TLS](crate::tls) the output is records made of the session's output, and the space is a
//! buffer for records, which are decrypted and copied once, to the place that waits for them.
//! Without it nothing is copied.

mod clock;
mod events;
mod input;
mod output;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use transfer::{Transfer, in_memory};

use core::fmt;
use core::ops::Range;
use std::io;
use std::time::Instant;

use clock::Clock;
use transfer::Transfers;

use crate::error::Error;
use crate::export::{Export, ListedExport};
use crate::frame::During;
use crate::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
use crate::options::Options;
use crate::session::{Admit, BufferPool, Cookie, Session, SessionLimits, StartError};
use crate::tls::{TlsSession, TlsSetup};
use crate::transport::Cancelled;
use crate::uri::Address;

/// Small replies come in one read, and so does a large payload with the header after it: only bytes
/// in this buffer are copied.
const BUFFER: usize = 4 << 10;
/// The buffer while reads are no longer than this: to copy a short payload costs less than to
/// receive each by a call of its own.
const GATHER: usize = 64 << 10;

/// Loans of a caller to a connection for as long as a call lasts: its judgement of status, and the
/// buffers of a blocking call.
#[derive(Default)]
pub(crate) struct Lent<'a> {
    /// Judges chunks of status; without it all are taken.
    pub(crate) admit: Option<&'a mut Admit<'a>>,
    /// The buffer for its reads.
    pub(crate) read: &'a mut [u8],
    /// The data of its writes.
    pub(crate) write: &'a [u8],
}

/// A connection to one export, without I/O.
///
/// Its driver goes on sending while [`has_output`](Self::has_output), also when
/// [`is_idle`](Self::is_idle): of a write that was refused early the rest of the data is still to
/// be sent. No limit of requests holds then.
///
/// ```
/// use nbd_client::Options;
/// use nbd_client::connection::Connection;
/// use nbd_client::session::take_all;
/// use std::time::Instant;
///
/// let now = Instant::now();
/// let mut connection = Connection::new("disk", &Options::new(), now)?;
/// // The driver reads from its socket: the server speaks first.
/// let hello = b"NBDMAGICIHAVEOPT\0\x03";
/// connection.space()[..18].copy_from_slice(hello);
/// connection.received(18, now)?;
/// assert_eq!(connection.poll(&mut take_all, now)?, None);
/// // Client flags, then EXTENDED_HEADERS.
/// let output = connection.output().collect::<Vec<_>>().concat();
/// assert_eq!(output, b"\0\0\0\x03IHAVEOPT\0\0\0\x0b\0\0\0\0");
/// connection.sent(output.len(), now);
/// assert!(!connection.is_open());
///
/// // The time for the handshake runs out.
/// let end = connection.poll_timeout().expect("60 s unless told otherwise");
/// let error = connection.handle_timeout(end).unwrap_err();
/// assert!(error.to_string().starts_with("timed out during the handshake, at EXTENDED_HEADERS"));
/// # Ok::<(), nbd_client::Error>(())
/// ```
pub struct Connection {
    stage: Stage,
    options: Options,
    pub(crate) clock: Clock,
    pub(crate) transfers: Transfers,
    buffer: Vec<u8>,
    /// The part of the buffer that is filled and not yet processed.
    filled: Range<usize>,
    /// The part of the buffer that may be filled, if nothing in it is left to be processed.
    most: usize,
    /// Bytes of the space that were not the buffer's.
    direct: usize,
    /// TLS that is to be started, and then the session of it.
    setup: Option<TlsSetup>,
    tls: Option<Box<TlsSession>>,
    /// The error of sending to a server that has hung up. Its last replies may still come.
    send_error: Option<Error>,
    /// A new request was refused with `send_error`.
    has_refused: bool,
    /// An error has ended it.
    is_given_up: bool,
    says_goodbye: bool,
    /// The goodbye is due to ESHUTDOWN, and the events before it are what counts.
    obeys_shutdown: bool,
}

impl fmt::Debug for Connection {
    /// Without the bytes, of which there are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connection");
        shown.field("during", &self.during()).field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

enum Stage {
    /// If it is finished, only a list of exports was wanted, and the goodbye is to be sent.
    Handshake(Box<Handshake>),
    Open(Box<Session>),
}

impl Connection {
    /// Begins the handshake for an export. With [TLS](Options::tls) it reads the files of
    /// certificates.
    ///
    /// # Errors
    ///
    /// [`Error::Handshake`] for names that cannot be sent, [`Error::Tls`] for certificates that
    /// cannot be used, [`Error::Cancelled`] if the options' canceller has fired.
    pub fn new(export: &str, options: &Options, now: Instant) -> Result<Self, Error> {
        options.canceller.check().map_err(|_| Error::Cancelled(During::Connect))?;
        let rustls = options.tls_config.as_ref();
        let setup = options.tls.as_ref().map(|tls| TlsSetup::new(tls, rustls)).transpose()?;
        let (export, start_tls) = (export.to_owned(), setup.is_some());
        let config = HandshakeConfig { export, start_tls, ..options.handshake.clone() };
        Ok(Self {
            stage: Stage::Handshake(Box::new(Handshake::new(config)?)),
            options: options.clone(),
            clock: Clock::new(now, options.time),
            transfers: Transfers::default(),
            buffer: vec![0; GATHER],
            filled: 0..0,
            most: BUFFER,
            direct: 0,
            setup,
            tls: None,
            send_error: None,
            has_refused: false,
            is_given_up: false,
            says_goodbye: false,
            obeys_shutdown: false,
        })
    }

    // ---- what it knows

    /// True once the handshake is over and requests can be started.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match &self.stage {
            Stage::Handshake(handshake) => matches!(handshake.status(), HandshakeStatus::Finished),
            Stage::Open(..) => true,
        }
    }

    /// The export, once the handshake is over.
    #[must_use]
    pub fn export(&self) -> Option<&Export> {
        self.session().map(Session::export)
    }

    /// The session, once the handshake is over: the requests that it takes, and its statistics.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        if let Stage::Open(session) = &self.stage { Some(session) } else { None }
    }

    /// The limits on requests in flight.
    pub(crate) fn limits(&self) -> SessionLimits {
        self.session().map(|session| session.config.limits).unwrap_or_default()
    }

    pub(crate) fn into_exports(self) -> Option<Vec<ListedExport>> {
        if let Stage::Handshake(handshake) = self.stage { handshake.into_exports() } else { None }
    }

    /// True if no request is in flight, and no event is left to [`poll`](Self::poll).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0
    }

    /// How many requests and transfers have a last event that was not polled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let Stage::Open(session) = &self.stage else { return 0 };
        self.transfers.len() + session.unowned
    }

    /// True if bytes are to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let plaintext = match &self.stage {
            Stage::Handshake(handshake) => !handshake.output().is_empty(),
            Stage::Open(session) => session.has_output(),
        };
        let has_output = self.tls.as_ref().map_or(plaintext, |tls| tls.has_output(plaintext, self.is_over()));
        self.send_error.is_none() && has_output
    }

    /// True if nothing will follow the output that there is.
    const fn is_over(&self) -> bool {
        let is_listed = self.is_open() && self.session().is_none();
        self.says_goodbye || self.is_given_up || is_listed
    }

    /// True while the goodbye is being sent. [`poll`](Self::poll) has no event meanwhile: after
    /// ESHUTDOWN the last ones wait for it.
    #[must_use]
    pub fn says_goodbye(&self) -> bool {
        self.says_goodbye && self.has_output()
    }

    /// True if the goodbye is sent, or cannot be: nothing else is waited for. The events that
    /// waited for it can be polled.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        self.says_goodbye && !self.has_output()
    }

    /// The part of the conversation that is under way, for errors.
    #[must_use]
    pub fn during(&self) -> During {
        if self.says_goodbye {
            return During::Send;
        }
        self.stage.eof().during
    }

    // ---- requests

    /// Starts a request by one of the session's `start_` functions.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if it cannot be asked, [`Error::OutOfTime`] after the end of the whole job,
    /// [`Error::GivenUp`] after an error of the connection or before it is open; where the server
    /// has hung up, the error of [`send_failed`](Self::send_failed); that of [`poll`](Self::poll)
    /// for bytes which came while nothing was in flight.
    pub fn start(
        &mut self,
        now: Instant,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        let (session, _) = self.open_session(now)?;
        Ok(request(session)?)
    }

    /// Starts a transfer, under a new number or the caller's, who then starts nothing else on this
    /// connection. Its last event is that of one request.
    pub(crate) fn begin(
        &mut self,
        number: Option<Cookie>,
        transfer: Transfer,
        now: Instant,
    ) -> Result<Cookie, Error> {
        let (session, transfers) = self.open_session(now)?;
        transfer.check(session)?;
        Ok(transfers.begin(number, transfer, session))
    }

    fn open_session(&mut self, now: Instant) -> Result<(&mut Session, &mut Transfers), Error> {
        self.check_alive()?;
        self.check_deadline(now)?;
        self.check_sending()?;
        if self.stage.awaits_nothing() {
            self.process_unasked()?;
            let moved = self.session().map_or(0, Session::payload_moved);
            self.clock.begin(now, moved);
        }
        let Stage::Open(session) = &mut self.stage else { return Err(Error::GivenUp) };
        Ok((session, &mut self.transfers))
    }

    /// A buffer of `length` bytes in memory of a payload that was sent, or of a read that failed, if
    /// there is some.
    pub(crate) fn buffer(&mut self, length: usize) -> Vec<u8> {
        if let Stage::Open(session) = &mut self.stage { session.buffer(length) } else { vec![0; length] }
    }

    /// Takes memory for payloads from these buffers, and gives it back to them.
    pub(crate) fn use_buffers(&mut self, buffers: &BufferPool) {
        if let Stage::Open(session) = &mut self.stage {
            session.buffers = buffers.clone();
        }
    }

    /// Gives memory back, to be had again from [`Self::buffer`].
    pub(crate) fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        if let Stage::Open(session) = &mut self.stage {
            session.recycle_buffer(buffer);
        }
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        if let Stage::Open(session) = &mut self.stage {
            session.recycle(payload);
        }
    }

    /// Ends the caller's loan: bytes of it that are still to be sent are copied.
    pub(crate) fn release(&mut self, cookie: Cookie, lent: &[u8]) {
        if let Stage::Open(session) = &mut self.stage {
            session.release(cookie.get(), lent);
        }
    }

    // ---- the end

    /// Ends the connection: the goodbye (DISC) is in the output afterwards, nothing can be started
    /// any more, and no more answers are heard.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfTime`] after the end of the whole job, to which the goodbye belongs, and
    /// [`Error::GivenUp`] after an error of the connection.
    pub fn disconnect(&mut self, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        self.obeys_shutdown = false;
        self.begin_goodbye(now);
        self.check_deadline(now)
    }

    fn begin_goodbye(&mut self, now: Instant) {
        if let Stage::Open(session) = &mut self.stage {
            session.disconnect();
            self.says_goodbye = true;
            self.clock.restart(now);
        }
    }

    /// After ESHUTDOWN a client MUST disconnect (NBD protocol, "Error values"), once every answer
    /// is there.
    fn obey_shutdown(&mut self, now: Instant) {
        if self.session().is_some_and(|session| session.must_disconnect() && session.in_flight() == 0) {
            self.begin_goodbye(now);
            self.obeys_shutdown = true;
        }
    }

    /// An error if the connection can be used no more.
    pub(crate) const fn check_alive(&self) -> Result<(), Error> {
        if self.is_given_up { Err(Error::GivenUp) } else { Ok(()) }
    }

    /// An error if the whole job is to be over by now: nothing begins after that, and the goodbye
    /// neither.
    fn check_deadline(&mut self, now: Instant) -> Result<(), Error> {
        if self.clock.is_out_of_time(now) {
            return Err(self.give_up(Error::OutOfTime(self.during())));
        }
        Ok(())
    }

    /// No error of a connection is forgotten: later bytes would not be in step.
    pub(crate) fn give_up(&mut self, error: Error) -> Error {
        self.is_given_up = true;
        error
    }

    /// As [`Self::give_up`], where bytes could not be moved. A goodbye that only ESHUTDOWN asked
    /// for is left out then, and all goes on as if it had been sent: the server is going anyway.
    pub(crate) fn fail(&mut self, error: Error) -> Result<(), Error> {
        if self.obeys_shutdown && !self.is_idle() {
            self.send_error = Some(error);
            return Ok(());
        }
        Err(self.give_up(error))
    }

    /// The error of a connection that did not come about.
    pub(crate) fn connect_error(&self, address: &Address, source: io::Error, now: Instant) -> Error {
        if Cancelled::is(&source) {
            Error::Cancelled(During::Connect)
        } else if source.kind() == io::ErrorKind::TimedOut {
            self.clock.timeout(During::Connect, now)
        } else {
            Error::Connect { address: address.to_string(), source: source.into() }
        }
    }

    // ---- the clock

    /// When [`Self::handle_timeout`] is due; `None` is never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Handshake(..) if self.is_open() => self.clock.end(None),
            Stage::Handshake(..) => self.clock.end(Some(self.options.time.connect)),
            Stage::Open(..) if self.says_goodbye() => self.clock.goodbye_end(),
            Stage::Open(session) => self.clock.end(self.clock.limit(session, self.send_failed_before())),
        }
    }

    /// Says what the time is. The time that is left restarts with the server's progress.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] and [`Error::OutOfTime`] end the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.poll_timeout().is_none_or(|end| now < end) {
            return Ok(());
        }
        let mut error = self.clock.timeout(self.during(), now);
        if matches!(error, Error::Timeout { .. }) {
            error = self.lost(error);
        }
        self.fail(error)
    }

    /// Bytes have moved, or were looked for, perhaps after the end. Those that a socket held by then
    /// may be progress, and no more than these.
    pub(crate) fn check_late(&mut self, now: Instant) -> Result<(), Error> {
        let is_late = self.poll_timeout().is_some_and(|end| end <= now);
        if is_late && (!self.can_restart() || self.clock.is_too_late(now)) {
            return self.handle_timeout(now);
        }
        Ok(())
    }

    /// True if progress gives more time. The handshake and the goodbye have their time, whatever is
    /// sent meanwhile, and so have the answers of a server that has hung up.
    const fn can_restart(&self) -> bool {
        matches!(self.stage, Stage::Open(..)) && !self.says_goodbye && self.send_error.is_none()
    }

    /// Restarts the limit if there was progress.
    fn note(&mut self, now: Instant) {
        if self.can_restart()
            && let Stage::Open(session) = &self.stage
        {
            let stats = session.stats();
            self.clock.note(now, stats.done + stats.failed, session.payload_moved());
        }
    }
}
