//! The steps of a script after the handshake: it reads requests, and sends replies or bytes that look
//! like them.

use std::io::Result;

use super::conn::nonsense;
use super::{Conn, SeenRequest, bytes};
use nbd_client::frame::{Headers, chunk_type, command};

/// The longest payload of a request that is read: far more than any client has reason to send.
const LONGEST_PAYLOAD: u64 = 64 << 20;

impl Conn {
    /// Reads one request.
    ///
    /// # Errors
    ///
    /// The client is gone, or does not speak NBD.
    pub fn request(&mut self) -> Result<SeenRequest> {
        let extended = self.headers() == Headers::Extended;
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
        let extended = self.headers() == Headers::Extended;
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

    /// Sends the header of a chunk of the reply to `request`, in the headers agreed on; its payload
    /// claims `length` bytes.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn chunk_header(&mut self, request: &SeenRequest, flags: u16, kind: u16, length: u64) -> Result<()> {
        self.send(&match self.headers() {
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

    /// Sends a status chunk of the form agreed on: a context's id, and (length, flags) for each
    /// descriptor.
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
        let payload = bytes::status(self.headers(), context, descriptors);
        self.chunk(request, flags, bytes::status_kind(self.headers()), &payload)
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

    /// Says that a request without an answer of its own was done: by a NONE chunk, or by a simple
    /// reply.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn done(&mut self, request: &SeenRequest) -> Result<()> {
        match self.headers() {
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

    /// Answers a status request as a good server would of a disk full of data: each context that it
    /// asks for has one descriptor over all of it, with these flags.
    ///
    /// # Errors
    ///
    /// As [`Conn::send`].
    pub fn honest(&mut self, request: &SeenRequest, flags: u64) -> Result<()> {
        let contexts = request.contexts.clone().unwrap_or_else(|| self.contexts().to_vec());
        let last = contexts.len().saturating_sub(1);
        contexts.iter().enumerate().try_for_each(|(nth, &context)| {
            let done = if nth == last { super::DONE } else { 0 };
            self.status(request, context, &[(request.length, flags)], done)
        })
    }
}
