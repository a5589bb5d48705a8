//! The server's end of one connection, in the hands of a script.

use alloc::sync::Arc;
use core::time::Duration;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;

use super::server::Shared;
use super::{Good, SeenOption, SeenRequest, bytes};
use crate::frame::{
    Headers, IHAVEOPT, chunk_type, command, handshake_flag, option_reply_type, take_u32, take_u64,
};

/// The longest data of an option that is read, and the longest payload of a request: far more than any client has reason to send.
const LONGEST: u32 = 1 << 20;
const LONGEST_PAYLOAD: u64 = 64 << 20;

/// What a script did about an option, see [`Conn::handshake_with`].
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
#[derive(Debug)]
pub struct Conn {
    stream: UnixStream,
    shared: Arc<Shared>,
    number: usize,
    headers: Headers,
    contexts: Vec<u32>,
    no_zeroes: bool,
    /// Bytes that may still be sent.
    left: Option<usize>,
}

impl Conn {
    pub(super) const fn new(stream: UnixStream, shared: Arc<Shared>, number: usize) -> Self {
        Self {
            stream,
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
        let Some(left) = &mut self.left else { return self.stream.write_all(bytes) };
        let now = bytes.get(..*left).unwrap_or(bytes);
        *left -= now.len();
        self.stream.write_all(now)?;
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

    /// Reads exactly so many bytes of the client.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub fn read(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// True if the client has sent something that was not read yet, or has gone.
    ///
    /// # Errors
    ///
    /// The connection's own.
    pub fn has_input(&self) -> Result<bool> {
        let socket = socket2::SockRef::from(&self.stream);
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
        while self.stream.read(&mut waste)? > 0 {}
        Ok(())
    }

    /// Hangs up both ways, as the system does for a server that was killed.
    ///
    /// # Errors
    ///
    /// The client is gone already.
    pub fn hang_up(&mut self) -> Result<()> {
        self.stream.shutdown(std::net::Shutdown::Both)
    }

    // ---- handshake

    /// Says hello as a fixed newstyle server, and reads the client's flags.
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
        Ok(())
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

    /// The same, but each option is shown to `special` first, which may answer in its own way.
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

    // ---- transmission

    /// Reads one request.
    ///
    /// # Errors
    ///
    /// The client is gone, or does not speak NBD.
    pub fn request(&mut self) -> Result<SeenRequest> {
        let extended = self.headers == Headers::Extended;
        let mut request = self.request_header()?;
        if request.has_payload(extended) {
            let length = usize::try_from(request.length.min(LONGEST_PAYLOAD)).unwrap_or(0);
            let payload = self.read(length)?;
            request.absorb(payload).ok_or_else(|| nonsense("a request's payload"))?;
        }
        Ok(request)
    }

    /// Reads the header of a request, and leaves its payload where it is.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub fn request_header(&mut self) -> Result<SeenRequest> {
        let extended = self.headers == Headers::Extended;
        let header = self.read(if extended { 32 } else { 28 })?;
        SeenRequest::decode(&header, extended).ok_or_else(|| nonsense("a request"))
    }

    /// Reads requests, each answered by `answer`, until the client says goodbye.
    ///
    /// # Errors
    ///
    /// As [`Conn::request`], and those of `answer`.
    pub fn serve(&mut self, mut answer: impl FnMut(&mut Self, &SeenRequest) -> Result<()>) -> Result<()> {
        loop {
            let request = self.request()?;
            if request.command == command::DISC {
                return Ok(());
            }
            answer(self, &request)?;
        }
    }

    /// Sends the header of a chunk of the reply to `request`, in the headers agreed on; its payload claims `length` bytes.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn chunk_header(&mut self, request: &SeenRequest, flags: u16, kind: u16, length: u64) -> Result<()> {
        self.send(&match self.headers {
            Headers::Extended => bytes::extended_header(flags, kind, request.cookie, request.offset, length),
            Headers::Simple | Headers::Structured => {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                bytes::structured_header(flags, kind, request.cookie, length)
            }
        })
    }

    /// Sends a chunk of the reply to `request`.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn chunk(&mut self, request: &SeenRequest, flags: u16, kind: u16, payload: &[u8]) -> Result<()> {
        self.chunk_header(request, flags, kind, payload.len() as u64)?;
        self.send(payload)
    }

    /// Sends a status chunk of the form agreed on: a context's id, and (length, flags) for each descriptor.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn status(
        &mut self,
        request: &SeenRequest,
        context: u32,
        descriptors: &[(u64, u64)],
        flags: u16,
    ) -> Result<()> {
        let payload = bytes::status(self.headers, context, descriptors);
        self.chunk(request, flags, bytes::status_kind(self.headers), &payload)
    }

    /// Sends a chunk of a read's data, which are at `offset` of the export.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn data(&mut self, request: &SeenRequest, offset: u64, data: &[u8], flags: u16) -> Result<()> {
        self.chunk_header(request, flags, chunk_type::OFFSET_DATA, 8 + data.len() as u64)?;
        self.send(&offset.to_be_bytes())?;
        self.send(data)
    }

    /// Sends a chunk that calls a part of a read a hole.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn hole(&mut self, request: &SeenRequest, offset: u64, length: u32, flags: u16) -> Result<()> {
        let payload = [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat();
        self.chunk(request, flags, chunk_type::OFFSET_HOLE, &payload)
    }

    /// Says that a request without an answer of its own was done: by a NONE chunk, or by a simple reply.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn done(&mut self, request: &SeenRequest) -> Result<()> {
        match self.headers {
            Headers::Simple => self.simple(request, 0),
            Headers::Structured | Headers::Extended => {
                self.chunk(request, super::DONE, chunk_type::NONE, &[])
            }
        }
    }

    /// Sends an error chunk.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn error(&mut self, request: &SeenRequest, errno: u32, text: &str, flags: u16) -> Result<()> {
        self.chunk(request, flags, chunk_type::ERROR, &bytes::error(errno, text.as_bytes()))
    }

    /// Sends a simple reply.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn simple(&mut self, request: &SeenRequest, errno: u32) -> Result<()> {
        self.send(&bytes::simple_reply(errno, request.cookie))
    }

    /// Answers a status request as a good server would of a disk full of data: each context that it asks for has one descriptor over
    /// all of it, with these flags.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn honest(&mut self, request: &SeenRequest, flags: u64) -> Result<()> {
        let contexts = request.contexts.clone().unwrap_or_else(|| self.contexts.clone());
        let last = contexts.len().saturating_sub(1);
        contexts.iter().enumerate().try_for_each(|(nth, &context)| {
            let done = if nth == last { super::DONE } else { 0 };
            self.status(request, context, &[(request.length, flags)], done)
        })
    }

    /// Closes what is left of the connection as a server that ends well: all that was sent arrives, then comes the end of the stream.
    pub(super) fn close(mut self) {
        if self.stream.shutdown(std::net::Shutdown::Write).is_ok() {
            // Unread bytes would turn the end of the stream into a reset.
            self.stall().ok();
        }
    }
}

fn nonsense(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the client sent something else than {what}"))
}
