//! The server's end of one connection, in the hands of a script: bytes, and the handshake.

use core::time::Duration;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::bytes::{take_u32, take_u64};
use super::server::ServerShared;
use super::wire::ScriptedWire;
use super::{Good, SeenOption, bytes};
use nbd_client::frame::{Headers, IHAVEOPT, handshake_flag, option_reply_type, option_type};
use rustls::ServerConfig;

/// The longest data of an option that is read: far more than any client has reason to send.
const LONGEST: u32 = 1 << 20;

/// The reaction of a script to an option, see [`Conn::handshake_with`].
///
/// ```
/// use nbd_client::frame::option_type;
/// use testkit::scripted::{Good, Reaction, ScriptedServer};
/// use nbd_client::{Client, Error, Options};
/// use nbd_client::handshake::HandshakeError;
///
/// // A server that wants TLS before it says anything about an export.
/// let server = ScriptedServer::start(|conn| {
///     conn.handshake_with(&Good::compact(), |conn, option| {
///         if option.number != option_type::GO {
///             return Ok(Reaction::Honest);
///         }
///         conn.refuse(option.number, 0x8000_0005, "only encrypted")?;
///         Ok(Reaction::Answered)
///     })
/// })?;
/// let error = Client::connect(&server.uri().parse()?, &Options::new()).unwrap_err();
/// assert!(matches!(error, Error::Handshake(HandshakeError::Refused { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing: the good server is to answer it.
    Honest,
    /// It was answered; the next option is read.
    Answered,
    /// It was answered, and the transmission phase begins.
    Begin,
}

/// One connection. Every call fails when the client is gone, and when the server is dropped.
///
/// ```
/// use testkit::scripted::{Good, ScriptedServer};
/// use nbd_client::{Client, Error, Options};
///
/// // Dies in the middle of its first reply, after 10 bytes of a header.
/// let server = ScriptedServer::start(|conn| {
///     conn.handshake(&Good::compact())?;
///     conn.cut_after(10);
///     conn.serve(|conn, request| conn.data(request, request.offset, &[0xa5; 512], 1))
/// })?;
/// let mut client = Client::connect(&server.uri().parse()?, &Options::new())?;
/// let Err(Error::ConnectionLost(eof)) = client.read(0, &mut [0; 512]) else { panic!("it is lost") };
/// assert_eq!(eof.got, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Conn {
    wire: ScriptedWire,
    shared: Arc<ServerShared>,
    number: usize,
    headers: Headers,
    contexts: Vec<u32>,
    no_zeroes: bool,
    /// Bytes that may still be sent.
    left: Option<usize>,
}

impl Conn {
    pub(super) const fn new(stream: UnixStream, shared: Arc<ServerShared>, number: usize) -> Self {
        Self {
            wire: ScriptedWire::Plain(stream),
            shared,
            number,
            headers: Headers::Simple,
            contexts: Vec::new(),
            no_zeroes: false,
            left: None,
        }
    }

    /// Which connection of the server this is, from 0.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// The headers agreed on.
    #[must_use]
    pub const fn headers(&self) -> Headers {
        self.headers
    }

    /// The ids of the contexts granted by [`Good`].
    #[must_use]
    pub fn contexts(&self) -> &[u32] {
        &self.contexts
    }

    /// From now on these are the headers of requests and chunks.
    pub const fn agree(&mut self, headers: Headers) {
        self.headers = headers;
    }

    /// From now on these are the contexts that [`Conn::honest`] answers for.
    pub fn agree_on_contexts(&mut self, contexts: Vec<u32>) {
        self.contexts = contexts;
    }

    pub(super) const fn no_zeroes(&self) -> bool {
        self.no_zeroes
    }

    // ---- bytes

    /// Sends these bytes.
    ///
    /// # Errors
    ///
    /// The client is gone, or [`Conn::cut_after`] has come true.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(left) = &mut self.left else { return self.wire.write_all(bytes) };
        let now = bytes.get(..*left).unwrap_or(bytes);
        *left -= now.len();
        self.wire.write_all(now)?;
        if now.len() < bytes.len() {
            return Err(Error::new(ErrorKind::ConnectionAborted, "cut here by the script"));
        }
        Ok(())
    }

    /// Sends byte after byte, with a pause before each.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) -> Result<()> {
        bytes.iter().try_for_each(|&byte| {
            self.pause(pause)?;
            self.send(&[byte])
        })
    }

    /// Sends these bytes again and again until the client goes away, and fails then.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`]; there is no other end.
    pub fn send_for_ever(&mut self, bytes: &[u8]) -> Result<()> {
        loop {
            self.send(bytes)?;
        }
    }

    /// After `count` more bytes the sending side closes, wherever that is.
    pub const fn cut_after(&mut self, count: usize) {
        self.left = Some(count);
    }

    /// Reads exactly `count` bytes of the client.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.wire.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// True if the client has sent something that was not read yet, or has gone.
    ///
    /// # Errors
    ///
    /// The connection's own.
    pub fn has_input(&mut self) -> Result<bool> {
        if self.wire.has_plaintext() {
            return Ok(true);
        }
        let socket = socket2::SockRef::from(self.wire.socket());
        socket.set_nonblocking(true)?;
        let peeked = socket.peek(&mut [core::mem::MaybeUninit::uninit()]);
        socket.set_nonblocking(false)?;
        match peeked {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Does nothing for a while.
    ///
    /// # Errors
    ///
    /// The server is being dropped.
    pub fn pause(&self, time: Duration) -> Result<()> {
        self.shared.pause(time)
    }

    /// Says nothing more, and waits until the client goes away.
    ///
    /// # Errors
    ///
    /// The connection's own.
    pub fn stall(&mut self) -> Result<()> {
        let mut waste = [0; 4096];
        while self.wire.read(&mut waste)? > 0 {}
        Ok(())
    }

    /// Hangs up both ways, as the system does for a server that was killed.
    ///
    /// # Errors
    ///
    /// The client is gone already.
    pub fn hang_up(&mut self) -> Result<()> {
        self.wire.socket().shutdown(std::net::Shutdown::Both)
    }

    // ---- handshake

    /// Says hello as a fixed newstyle server, and reads the client's flags. A server over TLS starts
    /// it then.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn hello(&mut self) -> Result<()> {
        let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
        self.send(&bytes::hello(flags))?;
        let answer = self.read(4)?;
        let answer = take_u32(&answer).map_or(0, |(flags, _)| flags);
        self.no_zeroes = answer & u32::from(handshake_flag::NO_ZEROES) != 0;
        match self.shared.tls() {
            None => Ok(()),
            Some(config) if self.option()?.number == option_type::STARTTLS => {
                self.ack(option_type::STARTTLS)?;
                self.start_tls(config)
            }
            Some(_) => Err(nonsense("STARTTLS")),
        }
    }

    /// Goes through the handshake of TLS; all that follows is encrypted.
    ///
    /// # Errors
    ///
    /// The client is gone, or they do not agree.
    pub fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<()> {
        self.wire.start_tls(config)
    }

    /// Says over TLS that no more will be sent (close_notify).
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn close_notify(&mut self) -> Result<()> {
        self.wire.close_notify()
    }

    /// Reads one option request.
    ///
    /// # Errors
    ///
    /// The client is gone, or does not speak NBD.
    pub fn option(&mut self) -> Result<SeenOption> {
        let header = self.read(16)?;
        let parsed = take_u64(&header).and_then(|(magic, rest)| {
            let (number, rest) = take_u32(rest)?;
            let (length, _) = take_u32(rest)?;
            (magic == IHAVEOPT && length <= LONGEST).then_some((number, length))
        });
        let Some((number, length)) = parsed else { return Err(nonsense("an option request")) };
        let data = self.read(usize::try_from(length).unwrap_or(0))?;
        Ok(SeenOption::new(number, data))
    }

    /// The whole handshake of a server that behaves.
    ///
    /// # Errors
    ///
    /// The client is gone, or left with ABORT.
    pub fn handshake(&mut self, good: &Good) -> Result<()> {
        self.handshake_with(good, |_, _| Ok(Reaction::Honest))
    }

    /// As [`Self::handshake`], but each option is shown to `special` first, which may answer in its
    /// own way.
    ///
    /// # Errors
    ///
    /// As [`Conn::handshake`], and those of `special`.
    pub fn handshake_with(
        &mut self,
        good: &Good,
        mut special: impl FnMut(&mut Self, &SeenOption) -> Result<Reaction>,
    ) -> Result<()> {
        self.hello()?;
        loop {
            let option = self.option()?;
            let begin = match special(self, &option)? {
                Reaction::Honest => good.answer(self, &option)?,
                Reaction::Answered => false,
                Reaction::Begin => true,
            };
            if begin {
                return Ok(());
            }
        }
    }

    /// Acknowledges an option.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn ack(&mut self, option: u32) -> Result<()> {
        self.send(&bytes::option_reply(option, option_reply_type::ACK, &[]))
    }

    /// Refuses an option, with an error type (the error bit included) and a text.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn refuse(&mut self, option: u32, kind: u32, text: &str) -> Result<()> {
        self.send(&bytes::option_reply(option, kind, text.as_bytes()))
    }

    /// Names a context in the answer to LIST or SET.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn grant(&mut self, option: u32, id: u32, name: &[u8]) -> Result<()> {
        self.send(&bytes::option_reply(option, option_reply_type::META_CONTEXT, &bytes::context(id, name)))
    }

    /// Closes the rest of the connection as a server that ends well: all that was sent arrives,
    /// then comes the end of the stream.
    pub(super) fn close(mut self) {
        if self.wire.socket().shutdown(std::net::Shutdown::Write).is_ok() {
            // Unread bytes would turn the end of the stream into a reset.
            self.stall().ok();
        }
    }
}

pub(super) fn nonsense(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the client sent something else than {what}"))
}
