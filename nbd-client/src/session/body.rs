//! Where the server's bytes go: into a header of known length, then into a payload or past it.
//!
//! The session reads exactly what belongs to one piece, so it never holds bytes of the next. Memory
//! for a payload grows as the payload arrives, in steps that double: a server that claims much and
//! sends little costs little.

use crate::frame::{ChunkHeader, During, ReplyHeader, UnexpectedEof, UnknownMagic};

/// The first step of a payload's memory, in bytes; also the piece in which payloads are drained.
const STEP: usize = 64 << 10;
/// The most memory kept for the next payload, in bytes.
const KEPT: usize = 4 << 20;

/// The use of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Only the first bytes are wanted yet: a context's number, or the offset of a read's data.
    Peek,
    /// Data of a read, after `skip` bytes of payload; they go to the read's bytes from `start`.
    Data { start: u64, skip: u64 },
    /// A hole of a read.
    Hole,
    /// A status chunk that the caller takes.
    Take { context: u32 },
    /// A status chunk that the caller drains.
    Drain { context: u32 },
    /// A chunk that is read and ignored.
    Drop,
    /// An error chunk.
    Error,
}

/// A payload under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) chunk: ChunkHeader,
    pub(super) role: Role,
    /// The first bytes, which are kept; the rest is drained.
    keep: u64,
    filled: u64,
}

/// The result of a few more bytes.
#[derive(Debug)]
pub(super) enum InputStep {
    More,
    Header(ReplyHeader),
    /// The bytes to peek at are there, see [`ReplyInput::payload`].
    Peeked(ChunkHeader),
    Body(Body),
}

#[derive(Debug, Default)]
pub(super) struct ReplyInput {
    head: [u8; ReplyHeader::MAX_LEN],
    head_filled: usize,
    /// The payload under way.
    pub(super) body: Option<Body>,
    /// Its bytes that are kept; those of a peek, until it is decided.
    pub(super) payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl ReplyInput {
    /// Which read the next bytes are data of, and of which of its bytes.
    pub(super) fn data(&self) -> Option<(u64, u64, u64)> {
        let Body { chunk, role: Role::Data { start, skip }, filled, .. } = self.body? else { return None };
        let position = |payload: u64| Some(start.saturating_add(payload.checked_sub(skip)?));
        Some((chunk.cookie, position(filled)?, position(chunk.length)?))
    }

    /// The buffer for the next bytes, unless they are [data](Self::data); never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let Some(body) = self.body else {
            let want = self.head_len();
            return self.head.get_mut(self.head_filled..want).unwrap_or_default();
        };
        let room = usize::try_from(body.chunk.length - body.filled).unwrap_or(usize::MAX);
        if body.filled >= body.keep {
            // the rest is drained: each piece overwrites the one before
            let piece = room.min(STEP);
            self.scratch.resize(self.scratch.len().max(piece), 0);
            return self.scratch.get_mut(..piece).unwrap_or_default();
        }
        let filled = usize::try_from(body.filled).unwrap_or(usize::MAX);
        let keep = usize::try_from(body.keep).unwrap_or(usize::MAX);
        if filled >= self.payload.len() {
            let grown = filled.saturating_mul(2).max(STEP).min(keep);
            self.payload.reserve_exact(grown.saturating_sub(self.payload.len()));
            self.payload.resize(grown, 0);
        }
        self.payload.get_mut(filled..).unwrap_or_default()
    }

    /// `count` bytes were put into the space.
    pub(super) fn advance(&mut self, count: usize) -> Result<InputStep, UnknownMagic> {
        let Some(body) = &mut self.body else { return self.advance_head(count) };
        body.filled = body.filled.saturating_add(count as u64).min(body.chunk.length);
        if body.filled == body.chunk.length {
            let whole = *body;
            self.body = None;
            return Ok(InputStep::Body(whole));
        }
        if body.role == Role::Peek && body.filled == body.keep {
            return Ok(InputStep::Peeked(body.chunk));
        }
        Ok(InputStep::More)
    }

    fn advance_head(&mut self, count: usize) -> Result<InputStep, UnknownMagic> {
        self.head_filled = self.head_filled.saturating_add(count).min(ReplyHeader::MAX_LEN);
        let bytes = self.head.get(..self.head_filled).unwrap_or_default();
        // an unknown magic is an error as soon as it is there, before a whole header
        ReplyHeader::len_of(bytes)?;
        let Some(header) = ReplyHeader::decode(bytes) else { return Ok(InputStep::More) };
        self.head_filled = 0;
        Ok(InputStep::Header(header))
    }

    /// Reads the payload of `chunk` next, which is not empty, and keeps its first `keep` bytes.
    pub(super) fn begin(&mut self, chunk: ChunkHeader, role: Role, keep: u64) {
        self.payload.clear();
        self.body = Some(Body { chunk, role, keep: keep.min(chunk.length), filled: 0 });
    }

    /// Decides on a chunk that was peeked into.
    pub(super) fn decide(&mut self, role: Role) {
        if let Some(body) = &mut self.body {
            body.role = role;
            if matches!(role, Role::Take { .. }) {
                body.keep = body.chunk.length;
            }
        }
    }

    pub(super) fn recycle(&mut self, mut payload: Vec<u8>) {
        let better = payload.capacity() > self.payload.capacity() && payload.capacity() <= KEPT;
        if better && self.body.is_none() {
            payload.clear();
            self.payload = payload;
        }
    }

    /// The error if the stream ends here, in the middle of a reply or of the wait for one.
    pub(super) fn eof(&self) -> UnexpectedEof {
        let (during, got, expected) = match &self.body {
            Some(body) => (During::Payload, body.filled, body.chunk.length),
            None => (During::ReplyHeader, self.head_filled as u64, self.head_len() as u64),
        };
        UnexpectedEof { during, got, expected }
    }

    fn head_len(&self) -> usize {
        let bytes = self.head.get(..self.head_filled).unwrap_or_default();
        ReplyHeader::len_of(bytes).unwrap_or(ReplyHeader::MIN_LEN)
    }
}
