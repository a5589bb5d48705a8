//! The receiving half of a session: from headers to events.

use std::io::Read;

use super::body::{Body, InputStep, Role};
use super::pending::{ExpectedAnswer, Pending, is_status};
use super::{
    Admit, ChunkOffer, Cookie, Errno, Event, ProtocolError, RequestError, RequestFault, RequestInfo, Session,
};
use crate::frame::{
    ChunkHeader, EXTENDED_REPLY_MAGIC, ErrorChunk, ErrorChunkFault, Fields, Headers, ReplyHeader,
    SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, UnknownMagic, chunk_type, reply_flag,
};
use crate::stats::Tolerated;
use crate::text::ServerText;
use nbd_extents::Admission;

/// The payload of a data chunk before its data: an offset.
pub(super) const OFFSET: u64 = 8;
/// The payload of a hole chunk: an offset and a size of 32 bits.
const HOLE: u64 = 12;
/// The part of a status chunk's payload that is read before the rest is admitted: a context's
/// number.
const CONTEXT: u64 = 4;

impl Session {
    /// Takes bytes of the server and says how many it took. It stops early when there is an event
    /// to [`poll`](Self::poll).
    ///
    /// `admit` is asked about each status chunk before anything is allocated for it.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`], and the same one at every later call. Events from before it can still be
    /// polled.
    pub fn feed(&mut self, input: &[u8], admit: &mut Admit<'_>) -> Result<usize, ProtocolError> {
        let mut rest = input;
        while self.events.is_empty() && !rest.is_empty() {
            let count = rest.read(self.space()).unwrap_or_default();
            self.advance(count, admit)?;
        }
        Ok(input.len() - rest.len())
    }

    /// The buffer for the next bytes of the server, for callers that read straight into it. Never
    /// empty, and never more than belongs to one header or one payload. [`Self::advance`] comes
    /// next.
    pub fn space(&mut self) -> &mut [u8] {
        self.space_in(&mut [])
    }

    /// Like [`space`](Self::space); the data of a read into a lent buffer goes to `lent`.
    pub(crate) fn space_in<'a>(&'a mut self, lent: &'a mut [u8]) -> &'a mut [u8] {
        if let Some((cookie, start, end)) = self.input.data()
            && let Some(pending) = self.requests.in_flight.get_mut(&cookie)
            && let Some(room) = pending.room(lent, start, end)
        {
            return room;
        }
        self.input.space()
    }

    /// `count` bytes were put at the start of [`Self::space`].
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn advance(&mut self, count: usize, admit: &mut Admit<'_>) -> Result<(), ProtocolError> {
        self.advance_in(count, admit, &mut [])
    }

    /// Like [`advance`](Self::advance), after [`space_in`](Self::space_in) with the same `lent`.
    pub(crate) fn advance_in(
        &mut self,
        count: usize,
        admit: &mut Admit<'_>,
        lent: &mut [u8],
    ) -> Result<(), ProtocolError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.stats.bytes_received += count as u64;
        self.payload_received += if self.input.body.is_some() { count as u64 } else { 0 };
        let result = match self.input.advance(count) {
            Ok(InputStep::More) => Ok(()),
            Ok(InputStep::Header(ReplyHeader::Simple { error, cookie })) => self.simple_reply(error, cookie),
            Ok(InputStep::Header(ReplyHeader::Chunk(chunk))) => self.chunk(chunk),
            Ok(InputStep::Peeked(chunk)) => {
                let is_data = chunk.kind == chunk_type::OFFSET_DATA;
                let role = if is_data { self.data_chunk(&chunk) } else { self.context(&chunk, admit) };
                self.input.decide(role);
                Ok(())
            }
            Ok(InputStep::Body(body)) => self.complete(&body, lent),
            Err(UnknownMagic(magic)) => Err(ProtocolError::BadMagic(magic)),
        };
        self.broken = result.err();
        result
    }

    /// Where replies are structured, a simple one may report an error or the success of a command
    /// without an answer; it can never carry status (rows 43 and 44) or data. Where replies are
    /// simple, the data of a read follow it.
    fn simple_reply(&mut self, error: u32, cookie: u64) -> Result<(), ProtocolError> {
        self.stats.chunks += 1;
        let headers = self.config.export.headers;
        if headers == Headers::Extended {
            return Err(ProtocolError::WrongHeaders(SIMPLE_REPLY_MAGIC));
        }
        let pending = self.requests.in_flight.get_mut(&cookie).ok_or(ProtocolError::UnknownCookie(cookie))?;
        match (&pending.answer, error) {
            (ExpectedAnswer::Plain, 0) => {}
            (ExpectedAnswer::Read { .. }, 0) if headers == Headers::Simple => {
                // As if it were one chunk: the data begin at the read's own offset.
                let RequestInfo { offset, length, .. } = pending.info;
                let covered = pending.cover(offset, length, false);
                let start = covered.map_err(|_| ProtocolError::SimpleRead(cookie))?;
                let (flags, kind) = (reply_flag::DONE, chunk_type::OFFSET_DATA);
                let chunk = ChunkHeader { flags, kind, cookie, offset: None, length };
                return self.begin(chunk, Role::Data { start, skip: 0 }, 0);
            }
            (ExpectedAnswer::Read { .. }, 0) => return Err(ProtocolError::SimpleRead(cookie)),
            (ExpectedAnswer::Status { .. }, 0) => self.fail(cookie, RequestFault::SimpleSuccess),
            (_, errno) => {
                let (errno, text) = (Errno(errno), ServerText::default());
                self.fail(cookie, RequestFault::Server { errno, text, offset: None });
            }
        }
        self.finish(cookie)
    }

    /// The header of a chunk: everything that can be judged before its payload.
    fn chunk(&mut self, chunk: ChunkHeader) -> Result<(), ProtocolError> {
        self.stats.chunks += 1;
        let ChunkHeader { cookie, kind, length, .. } = chunk;
        self.check_form(&chunk)?;
        let (limits, headers) = (self.config.limits, self.config.export.headers);
        if length > limits.max_payload {
            return Err(ProtocolError::PayloadTooLong { cookie, length, limit: limits.max_payload });
        }
        let Some(pending) = self.requests.in_flight.get_mut(&cookie) else { return self.late_chunk(chunk) };
        let expected = pending.info.offset;
        if let Some(got) = chunk.offset.filter(|&got| got != expected) {
            return Err(ProtocolError::WrongOffset { cookie, got, expected });
        }
        pending.chunks += 1;
        pending.bytes = pending.bytes.saturating_add(length);
        let (chunks, bytes) = (pending.chunks, pending.bytes);
        let most = pending.due.saturating_add(u64::from(limits.max_extra_chunks));
        if u64::from(chunks) > most || bytes > limits.max_reply {
            return Err(ProtocolError::EndlessReply { cookie, chunks, bytes });
        }
        let failed = pending.error.is_some();
        let fits = pending.takes(kind, headers);
        let (role, keep) = match kind {
            chunk_type::NONE if length == 0 && chunk.is_done() => return self.finish(cookie),
            chunk_type::NONE => return Err(ProtocolError::BadNone { cookie, flags: chunk.flags, length }),
            _ if kind & chunk_type::ERROR_BIT != 0 => (Role::Error, ErrorChunk::MAX_USED),
            _ if !fits => return Err(ProtocolError::UnexpectedChunk { cookie, kind }),
            _ if failed => (Role::Drop, 0),
            chunk_type::OFFSET_DATA if length > OFFSET => (Role::Peek, OFFSET),
            chunk_type::OFFSET_HOLE if length == HOLE => (Role::Hole, HOLE),
            chunk_type::OFFSET_DATA | chunk_type::OFFSET_HOLE => {
                (self.reject(cookie, RequestFault::BadContent { kind, length }), 0)
            }
            chunk_type::BLOCK_STATUS if headers == Headers::Extended => {
                (self.reject(cookie, RequestFault::CompactStatus), 0)
            }
            _ if holds_descriptors(kind, length) => (Role::Peek, CONTEXT),
            _ => (self.reject(cookie, RequestFault::BadStatusLength(length)), 0),
        };
        self.begin(chunk, role, keep)
    }

    /// Checks that the magic is that of the headers agreed on.
    const fn check_form(&self, chunk: &ChunkHeader) -> Result<(), ProtocolError> {
        match (self.config.export.headers, chunk.offset) {
            (Headers::Structured, None) | (Headers::Extended, Some(_)) => Ok(()),
            (_, None) => Err(ProtocolError::WrongHeaders(STRUCTURED_REPLY_MAGIC)),
            (_, Some(_)) => Err(ProtocolError::WrongHeaders(EXTENDED_REPLY_MAGIC)),
        }
    }

    /// A chunk of no request in flight. After the error that ended a status reply there may be the
    /// other contexts' chunks (row 68).
    fn late_chunk(&mut self, chunk: ChunkHeader) -> Result<(), ProtocolError> {
        let ChunkHeader { cookie, kind, .. } = chunk;
        if !self.requests.was_used(cookie) {
            return Err(ProtocolError::UnknownCookie(cookie));
        }
        if self.config.strictness.is_strict() || !self.requests.take_late(cookie) {
            return Err(ProtocolError::ChunkAfterDone(cookie));
        }
        let known = kind == chunk_type::NONE || kind & chunk_type::ERROR_BIT != 0;
        if !known && !is_status(kind, self.config.export.headers) {
            return Err(ProtocolError::UnexpectedChunk { cookie, kind });
        }
        self.stats.forgiven.add(Tolerated::LateChunk);
        self.begin(chunk, Role::Drop, 0)
    }

    fn begin(&mut self, chunk: ChunkHeader, role: Role, keep: u64) -> Result<(), ProtocolError> {
        self.input.begin(chunk, role, keep);
        // Without payload the chunk is whole already. It is no hole, so the lent buffer does not
        // matter.
        match self.input.advance(0) {
            Ok(InputStep::Body(body)) => self.complete(&body, &mut []),
            _ => Ok(()),
        }
    }

    /// Decides about a data chunk whose offset has been read.
    fn data_chunk(&mut self, chunk: &ChunkHeader) -> Role {
        let offset = Fields(&self.input.payload).u64();
        debug_assert!(offset.is_some(), "a data chunk without its offset");
        let offset = offset.unwrap_or_default();
        let start = self.cover(chunk.cookie, offset, chunk.length - OFFSET);
        start.map_or(Role::Drop, |start| Role::Data { start, skip: OFFSET })
    }

    /// Records content of a read and returns where in the read it starts. Fails the read and
    /// returns `None` if the content does not belong there.
    fn cover(&mut self, cookie: u64, offset: u64, length: u64) -> Option<u64> {
        let is_strict = self.config.strictness.is_strict();
        let covered = self.requests.in_flight.get_mut(&cookie)?.cover(offset, length, is_strict);
        covered.map_err(|fault| self.fail(cookie, fault)).ok()
    }

    /// Decides about a status chunk whose context id has been read.
    fn context(&mut self, chunk: &ChunkHeader, admit: &mut Admit<'_>) -> Role {
        let &ChunkHeader { cookie, length, .. } = chunk;
        let context = Fields(&self.input.payload).u32();
        let pending = self.requests.in_flight.get_mut(&cookie).map(|pending| &mut pending.answer);
        let (Some(context), Some(ExpectedAnswer::Status { contexts, seen })) = (context, pending) else {
            debug_assert!(false, "a status chunk without its context id, or whose request is gone");
            return Role::Drop;
        };
        if !contexts.contains(&context) {
            if self.config.strictness.is_strict() {
                return self.reject(cookie, RequestFault::UnknownContext(context));
            }
            self.stats.forgiven.add(Tolerated::UnknownContextChunk);
            return Role::Drop;
        }
        if seen.contains(&context) {
            return self.reject(cookie, RequestFault::DuplicateContext(context));
        }
        seen.push(context);
        match admit(&ChunkOffer { cookie: Cookie(cookie), context, length }) {
            Admission::Take => Role::Take { context },
            Admission::Drain => Role::Drain { context },
        }
    }

    /// A payload is complete.
    fn complete(&mut self, body: &Body, lent: &mut [u8]) -> Result<(), ProtocolError> {
        let ChunkHeader { cookie, length, .. } = body.chunk;
        match body.role {
            Role::Take { context } => {
                let payload = core::mem::take(&mut self.input.payload);
                self.event(Event::Status { cookie: Cookie(cookie), context, payload });
            }
            Role::Drain { context } => {
                self.stats.bytes_drained += length;
                self.event(Event::Drained { cookie: Cookie(cookie), context, length });
            }
            Role::Error => self.error_chunk(&body.chunk)?,
            Role::Hole => self.hole(&body.chunk, lent),
            Role::Data { .. } => {}
            Role::Drop | Role::Peek => self.stats.bytes_drained += length,
        }
        if body.chunk.is_done() { self.finish(cookie) } else { Ok(()) }
    }

    /// A hole of a read: its bytes are zeroes.
    fn hole(&mut self, chunk: &ChunkHeader, lent: &mut [u8]) {
        let &ChunkHeader { cookie, kind, length, .. } = chunk;
        let mut fields = Fields(&self.input.payload);
        let Some((offset, size)) = fields.u64().zip(fields.u32()).filter(|&(_, size)| size > 0) else {
            return self.fail(cookie, RequestFault::BadContent { kind, length });
        };
        let size = u64::from(size);
        let Some(start) = self.cover(cookie, offset, size) else { return };
        let pending = self.requests.in_flight.get_mut(&cookie);
        if let Some(room) = pending.and_then(|pending| pending.room(lent, start, start + size)) {
            room.fill(0);
        }
    }

    fn error_chunk(&mut self, chunk: &ChunkHeader) -> Result<(), ProtocolError> {
        let &ChunkHeader { cookie, length, kind, .. } = chunk;
        let fault = match ErrorChunk::decode(kind, &self.input.payload, length) {
            Ok(ErrorChunk { errno, text, offset, slop }) => {
                if slop > 0 {
                    self.stats.forgiven.add(Tolerated::ErrorSlop);
                }
                match errno {
                    0 => RequestFault::ZeroErrno(text),
                    _ => RequestFault::Server { errno: Errno(errno), text, offset },
                }
            }
            Err(ErrorChunkFault::TooShort) => RequestFault::ErrorTooShort(length),
            Err(ErrorChunkFault::MessageTooLong { claimed, room }) => {
                return Err(ProtocolError::MessageTooLong { cookie, claimed, room });
            }
        };
        self.fail(cookie, fault);
        Ok(())
    }

    fn fail(&mut self, cookie: u64, fault: RequestFault) {
        self.shutting_down |= matches!(fault, RequestFault::Server { errno: Errno::ESHUTDOWN, .. });
        if let Some(pending) = self.requests.in_flight.get_mut(&cookie) {
            pending.error.get_or_insert(fault);
        }
    }

    /// Fails a request for the content of a chunk, which is dropped.
    fn reject(&mut self, cookie: u64, fault: RequestFault) -> Role {
        self.fail(cookie, fault);
        Role::Drop
    }

    /// The last chunk of a request is complete.
    ///
    /// A server may refuse a write after its header. It cannot have carried out a request of which
    /// bytes are still to be sent.
    fn finish(&mut self, cookie: u64) -> Result<(), ProtocolError> {
        // A late chunk has no request any more.
        let Some(finished) = self.requests.finish(cookie) else { return Ok(()) };
        let Pending { info: request, owner, header_end, end, error, answer, .. } = finished;
        let needed = if error.is_none() { end } else { header_end };
        if self.output.position < needed {
            return Err(ProtocolError::AnsweredEarly(cookie));
        }
        let (cookie, length) = (Cookie(cookie), request.length);
        let buffer = if let ExpectedAnswer::Read { buffer, .. } = answer { buffer } else { None };
        let last = match error {
            None => {
                self.stats.done += 1;
                crate::trace::event!(debug, "reply done", cookie = cookie);
                self.events.extend(buffer.map(|data| (Event::Read { cookie, data }, owner, length)));
                Event::Done { cookie }
            }
            Some(fault) => {
                let error = RequestError { request, fault };
                self.stats.failed += 1;
                crate::trace::event!(debug, "request failed", cookie = cookie, error = error);
                self.buffers.keep(buffer.unwrap_or_default());
                Event::Failed { cookie, error }
            }
        };
        self.events.push_back((last, owner, length));
        Ok(())
    }

    /// An event that is the caller's: of block status, which no transfer asks for, or the last one
    /// of a transfer.
    pub(crate) fn event(&mut self, event: Event) {
        self.unowned += usize::from(event.is_last());
        self.events.push_back((event, 0, 0));
    }
}

/// True if a status payload of this length holds whole descriptors, and at least one.
fn holds_descriptors(kind: u16, length: u64) -> bool {
    let (before, descriptor) = if kind == chunk_type::BLOCK_STATUS { (4, 8) } else { (8, 16) };
    length > before && length % descriptor == before
}
