//! The receiving half of a session: from headers to events.

use super::body::{Body, Role, Step};
use super::pending::Seen;
use super::{Admit, ChunkOffer, Cookie, Errno, Event, ProtocolError, RequestError, Session};
use crate::frame::{
    ChunkHeader, EXTENDED_REPLY_MAGIC, ErrorChunk, ErrorChunkFault, Headers, ReplyHeader, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, UnknownMagic, chunk_type,
};
use crate::stats::Forgiven;
use crate::text::ServerText;
use nbd_extents::Admission;

impl Session {
    /// Takes bytes of the server and says how many it took. It stops early when there is an event to [`poll`](Self::poll).
    ///
    /// `admit` is asked about each status chunk before anything is allocated for it.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`], and the same one at every later call. Events from before it can still be polled.
    pub fn feed<A: Admit + ?Sized>(&mut self, input: &[u8], admit: &mut A) -> Result<usize, ProtocolError> {
        let mut rest = input;
        while self.events.is_empty() && !rest.is_empty() {
            let space = self.space();
            let (now, later) = rest.split_at_checked(space.len()).unwrap_or((rest, &[]));
            if let Some(space) = space.get_mut(..now.len()) {
                space.copy_from_slice(now);
            }
            self.advance(now.len(), admit)?;
            rest = later;
        }
        Ok(input.len() - rest.len())
    }

    /// Where the next bytes of the server go, for callers that read straight into it. Never empty, and never more than belongs to one
    /// header or one payload. [`Self::advance`] comes next.
    pub fn space(&mut self) -> &mut [u8] {
        self.input.space()
    }

    /// `count` bytes were put at the start of [`Self::space`].
    ///
    /// # Errors
    ///
    /// As [`Self::feed`].
    pub fn advance<A: Admit + ?Sized>(&mut self, count: usize, admit: &mut A) -> Result<(), ProtocolError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.stats.bytes_received += count as u64;
        let result = match self.input.advance(count) {
            Ok(Step::More) => Ok(()),
            Ok(Step::Header(header)) => self.header(&header),
            Ok(Step::Peeked(chunk, context)) => {
                self.peeked(&chunk, context, admit);
                Ok(())
            }
            Ok(Step::Body(body)) => self.complete(&body),
            Err(UnknownMagic(magic)) => Err(ProtocolError::BadMagic { magic }),
        };
        self.broken = result.err();
        result
    }

    fn header(&mut self, header: &ReplyHeader) -> Result<(), ProtocolError> {
        self.stats.chunks += 1;
        match *header {
            ReplyHeader::Simple { error, cookie } => self.simple_reply(error, cookie),
            ReplyHeader::Chunk(chunk) => self.chunk(chunk),
        }
    }

    /// A simple reply may report an error where replies are structured; it can never report success (rows 43 and 44).
    fn simple_reply(&mut self, error: u32, cookie: u64) -> Result<(), ProtocolError> {
        if self.config.headers == Headers::Extended {
            return Err(ProtocolError::WrongHeaders { magic: SIMPLE_REPLY_MAGIC });
        }
        if self.requests.get_mut(cookie).is_none() {
            return Err(ProtocolError::UnknownCookie { cookie });
        }
        let number = Cookie(cookie);
        self.fail(
            cookie,
            match error {
                0 => RequestError::SimpleSuccess { cookie: number },
                _ => RequestError::Server {
                    cookie: number,
                    errno: Errno(error),
                    text: ServerText::default(),
                    offset: None,
                },
            },
        );
        self.finish(cookie);
        Ok(())
    }

    /// The header of a chunk: everything that can be judged before its payload.
    fn chunk(&mut self, chunk: ChunkHeader) -> Result<(), ProtocolError> {
        let ChunkHeader { cookie, kind, length, .. } = chunk;
        self.check_form(&chunk)?;
        let limits = self.config.limits;
        let Some(pending) = self.requests.get_mut(cookie) else { return self.late_chunk(chunk) };
        if let Some(got) = chunk.offset
            && got != pending.offset
        {
            return Err(ProtocolError::WrongOffset { cookie, got, expected: pending.offset });
        }
        pending.chunks += 1;
        pending.bytes = pending.bytes.saturating_add(length);
        let (chunks, bytes) = (pending.chunks, pending.bytes);
        let most = (pending.contexts.len() as u64).saturating_add(u64::from(limits.max_extra_chunks));
        if u64::from(chunks) > most || bytes > limits.max_reply {
            return Err(ProtocolError::EndlessReply { cookie, chunks, bytes });
        }
        let failed = pending.error.is_some();
        match kind {
            chunk_type::NONE if length == 0 && chunk.is_done() => {
                self.finish(cookie);
                Ok(())
            }
            chunk_type::NONE => Err(ProtocolError::BadNone { cookie, flags: chunk.flags, length }),
            _ if kind & chunk_type::ERROR_BIT != 0 => self.begin(chunk, Role::Error, ErrorChunk::MAX_USED),
            _ if !self.is_status(kind) => Err(ProtocolError::UnexpectedChunk { cookie, kind }),
            _ if failed => self.begin(chunk, Role::Drop, 0),
            _ => self.status_chunk(chunk),
        }
    }

    /// Magic and length, which do not depend on the request.
    fn check_form(&self, chunk: &ChunkHeader) -> Result<(), ProtocolError> {
        match (self.config.headers, chunk.offset) {
            (Headers::Structured, None) | (Headers::Extended, Some(_)) => {}
            (_, None) => return Err(ProtocolError::WrongHeaders { magic: STRUCTURED_REPLY_MAGIC }),
            (_, Some(_)) => return Err(ProtocolError::WrongHeaders { magic: EXTENDED_REPLY_MAGIC }),
        }
        let limit = self.config.limits.max_payload;
        if chunk.length > limit {
            let &ChunkHeader { cookie, length, .. } = chunk;
            return Err(ProtocolError::PayloadTooLong { cookie, length, limit });
        }
        Ok(())
    }

    /// The two types that may carry block status. The 32-bit one is wrong where headers are extended, but its end is known.
    fn is_status(&self, kind: u16) -> bool {
        kind == chunk_type::BLOCK_STATUS
            || kind == chunk_type::BLOCK_STATUS_EXT && self.config.headers == Headers::Extended
    }

    fn status_chunk(&mut self, chunk: ChunkHeader) -> Result<(), ProtocolError> {
        let cookie = Cookie(chunk.cookie);
        let length = chunk.length;
        let compact = chunk.kind == chunk_type::BLOCK_STATUS;
        let error = if compact && self.config.headers == Headers::Extended {
            RequestError::CompactStatus { cookie }
        } else if !holds_descriptors(compact, length) {
            RequestError::BadStatusLength { cookie, length }
        } else {
            return self.begin(chunk, Role::Peek, 4);
        };
        self.fail(chunk.cookie, error);
        self.begin(chunk, Role::Drop, 0)
    }

    /// A chunk of no request in flight. Behind the error that ended a reply there may be the other contexts' chunks (row 68).
    fn late_chunk(&mut self, chunk: ChunkHeader) -> Result<(), ProtocolError> {
        let ChunkHeader { cookie, kind, .. } = chunk;
        if !self.requests.was_used(cookie) {
            return Err(ProtocolError::UnknownCookie { cookie });
        }
        if self.config.strictness.is_strict() {
            return Err(ProtocolError::ChunkAfterDone { cookie });
        }
        if kind != chunk_type::NONE && kind & chunk_type::ERROR_BIT == 0 && !self.is_status(kind) {
            return Err(ProtocolError::UnexpectedChunk { cookie, kind });
        }
        if !self.requests.take_late(cookie) {
            return Err(ProtocolError::ChunkAfterDone { cookie });
        }
        self.stats.forgiven.add(Forgiven::LateChunk);
        self.begin(chunk, Role::Drop, 0)
    }

    fn begin(&mut self, chunk: ChunkHeader, role: Role, keep: u64) -> Result<(), ProtocolError> {
        self.input.begin(chunk, role, keep);
        if chunk.length == 0 {
            return match self.input.advance(0) {
                Ok(Step::Body(body)) => self.complete(&body),
                _ => Ok(()),
            };
        }
        Ok(())
    }

    /// The context of a status chunk is known: take it, drain it, or drop it.
    fn peeked<A: Admit + ?Sized>(&mut self, chunk: &ChunkHeader, context: u32, admit: &mut A) {
        let cookie = Cookie(chunk.cookie);
        let seen = self.requests.get_mut(chunk.cookie).map_or(Seen::Unknown, |pending| pending.see(context));
        let role = match seen {
            Seen::First => match admit.admit(&ChunkOffer { cookie, context, length: chunk.length }) {
                Admission::Take => Role::Take { context },
                Admission::Drain => Role::Drain { context },
            },
            Seen::Again => {
                self.fail(chunk.cookie, RequestError::DuplicateContext { cookie, context });
                Role::Drop
            }
            Seen::Unknown if self.config.strictness.is_strict() => {
                self.fail(chunk.cookie, RequestError::UnknownContext { cookie, context });
                Role::Drop
            }
            Seen::Unknown => {
                self.stats.forgiven.add(Forgiven::UnknownContextChunk);
                Role::Drop
            }
        };
        self.input.decide(role);
    }

    /// A payload is complete.
    fn complete(&mut self, body: &Body) -> Result<(), ProtocolError> {
        let ChunkHeader { cookie, length, .. } = body.chunk;
        match body.role {
            Role::Take { context } => {
                let payload = self.input.take_payload();
                self.events.push_back(Event::Status { cookie: Cookie(cookie), context, payload });
            }
            Role::Drain { context } => {
                self.stats.bytes_drained += length;
                self.events.push_back(Event::Drained { cookie: Cookie(cookie), context, length });
            }
            Role::Error => self.error_chunk(&body.chunk)?,
            Role::Drop | Role::Peek => self.stats.bytes_drained += length,
        }
        if body.chunk.is_done() {
            self.finish(cookie);
        }
        Ok(())
    }

    fn error_chunk(&mut self, chunk: &ChunkHeader) -> Result<(), ProtocolError> {
        let &ChunkHeader { cookie, length, kind, .. } = chunk;
        let number = Cookie(cookie);
        let payload = self.input.take_payload();
        let error = match ErrorChunk::decode(kind, &payload, length) {
            Ok(ErrorChunk { errno, text, offset, slop }) => {
                if slop > 0 {
                    self.stats.forgiven.add(Forgiven::ErrorSlop);
                }
                match errno {
                    0 => RequestError::ZeroErrno { cookie: number, text },
                    _ => RequestError::Server { cookie: number, errno: Errno(errno), text, offset },
                }
            }
            Err(ErrorChunkFault::TooShort) => RequestError::ErrorTooShort { cookie: number, length },
            Err(ErrorChunkFault::MessageTooLong { claimed, room }) => {
                return Err(ProtocolError::MessageTooLong { cookie, claimed, room });
            }
        };
        self.input.recycle(payload);
        self.fail(cookie, error);
        Ok(())
    }

    fn fail(&mut self, cookie: u64, error: RequestError) {
        self.shutting_down |= error.is_shutdown();
        if let Some(pending) = self.requests.get_mut(cookie) {
            pending.fail(error);
        }
    }

    /// The last chunk of a request is complete.
    fn finish(&mut self, cookie: u64) {
        let number = Cookie(cookie);
        match self.requests.finish(cookie) {
            // A late chunk: its request ended before.
            None => {}
            Some(Ok(())) => {
                self.stats.done += 1;
                crate::trace::done(cookie);
                self.events.push_back(Event::Done { cookie: number });
            }
            Some(Err(error)) => {
                self.stats.failed += 1;
                crate::trace::failed(cookie, &error);
                self.events.push_back(Event::Failed { cookie: number, error });
            }
        }
    }
}

/// True if a status payload of this length holds whole descriptors, and at least one.
const fn holds_descriptors(compact: bool, length: u64) -> bool {
    if compact { length >= 12 && length % 8 == 4 } else { length >= 24 && length % 16 == 8 }
}
