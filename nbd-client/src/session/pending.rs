//! Book-keeping of requests: those in flight, and those that failed and may still get chunks.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::coverage::{Coverage, Misfit};
use super::{Command, Cookie, RequestFault, RequestInfo};
use crate::frame::{Headers, chunk_type, command_flag};
use crate::number_map::NumberMap;

/// A request in flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) info: RequestInfo,
    /// The transfer that it is a part of; 0 is none.
    pub(super) owner: u64,
    /// The ends of its header and of its last byte in the output, counted from the start of the
    /// session.
    pub(super) header_end: u64,
    pub(super) end: u64,
    pub(super) answer: ExpectedAnswer,
    /// The first error; the rest of the reply is drained.
    pub(super) error: Option<RequestFault>,
    /// Chunks received, how many of them were due, and their payload.
    pub(super) chunks: u32,
    pub(super) due: u64,
    pub(super) bytes: u64,
}

/// The answer that a request expects.
#[derive(Debug)]
pub(super) enum ExpectedAnswer {
    /// A chunk for each context that it asks for. Those of which one came are seen.
    Status { contexts: Arc<[u32]>, seen: Vec<u32> },
    /// Data and holes: for the read's own buffer, or for the one that the caller lends, from `at`
    /// on.
    Read { buffer: Option<Vec<u8>>, at: usize, covered: Coverage },
    /// Success or an error.
    Plain,
}

impl ExpectedAnswer {
    /// How many chunks it has at least.
    pub(super) fn due(&self) -> u64 {
        match self {
            Self::Status { contexts, .. } => contexts.len() as u64,
            Self::Read { .. } | Self::Plain => 1,
        }
    }
}

impl Pending {
    /// The place for the bytes from `start` to `end` of a read; `None` if the caller did not lend
    /// it.
    pub(super) fn room<'a>(&'a mut self, lent: &'a mut [u8], start: u64, end: u64) -> Option<&'a mut [u8]> {
        let ExpectedAnswer::Read { buffer, at, .. } = &mut self.answer else { return None };
        let position = |byte: u64| at.checked_add(usize::try_from(byte).ok()?);
        buffer.as_deref_mut().unwrap_or(lent).get_mut(position(start)?..position(end)?)
    }

    /// True if a chunk of this type may answer the request. The 32-bit status chunk is wrong where
    /// headers are extended, but its end is known.
    pub(super) fn takes(&self, kind: u16, headers: Headers) -> bool {
        match self.answer {
            ExpectedAnswer::Status { .. } => is_status(kind, headers),
            ExpectedAnswer::Read { .. } => matches!(kind, chunk_type::OFFSET_DATA | chunk_type::OFFSET_HOLE),
            ExpectedAnswer::Plain => false,
        }
    }

    /// Records content of a read, and returns where in the read it begins.
    pub(super) fn cover(&mut self, offset: u64, length: u64, is_strict: bool) -> Result<u64, RequestFault> {
        let outside = RequestFault::OutsideRead { offset, length };
        let ExpectedAnswer::Read { covered, .. } = &mut self.answer else { return Err(outside) };
        let last_start = self.info.length.checked_sub(length);
        let start = offset.checked_sub(self.info.offset).filter(|&start| Some(start) <= last_start);
        let Some(start) = start else { return Err(outside) };
        if is_strict && self.info.has(command_flag::DF) && covered.first_gap(1).is_none() {
            return Err(RequestFault::Fragmented);
        }
        match covered.add(start, start + length) {
            Ok(()) => {
                self.due += 1;
                Ok(start)
            }
            Err(Misfit::Overlap) => Err(RequestFault::Overlap { offset, length }),
            Err(Misfit::Scattered) => Err(RequestFault::Scattered),
        }
    }

    /// The error if the answer is over and lacks something.
    fn missing(&self) -> Option<RequestFault> {
        match &self.answer {
            ExpectedAnswer::Status { contexts, seen } => {
                let missing = contexts.iter().find(|context| !seen.contains(context));
                missing.map(|&context| RequestFault::MissingContext(context))
            }
            ExpectedAnswer::Read { covered, .. } => {
                let gap = covered.first_gap(self.info.length);
                gap.map(|gap| RequestFault::MissingData(self.info.offset.saturating_add(gap)))
            }
            ExpectedAnswer::Plain => None,
        }
    }
}

/// The two types that may carry block status.
pub(super) fn is_status(kind: u16, headers: Headers) -> bool {
    kind == chunk_type::BLOCK_STATUS || kind == chunk_type::BLOCK_STATUS_EXT && headers == Headers::Extended
}

/// The most failed requests that may still get chunks; older ones are forgotten. By default no more
/// requests are in flight at a time.
const LATE_REQUESTS: usize = 1024;

/// All requests that a chunk may belong to.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) in_flight: NumberMap<u64, Pending>,
    /// Bytes of all reads and writes in flight.
    pub(super) bytes: u64,
    /// How many are FLUSH.
    pub(super) flushes: usize,
    /// The number of chunks that each failed request may still get: a server may send the other
    /// contexts' chunks after the error that ended the reply (qemu does).
    late: BTreeMap<u64, usize>,
    last: u64,
}

impl Requests {
    /// A number that no request has had.
    pub(super) fn next_number(&mut self) -> Cookie {
        self.last += 1;
        Cookie(self.last)
    }

    /// Enters a request under its number.
    pub(super) fn enter(&mut self, cookie: Cookie, pending: Pending) {
        self.bytes = self.bytes.saturating_add(pending.info.moves());
        self.flushes += usize::from(pending.info.command == Command::Flush);
        self.in_flight.insert(cookie.get(), pending);
    }

    /// Ends a request; `None` if it was not in flight. An answer that is not whole is an error.
    pub(super) fn finish(&mut self, cookie: u64) -> Option<Pending> {
        let mut pending = self.in_flight.remove(&cookie)?;
        self.bytes = self.bytes.saturating_sub(pending.info.moves());
        self.flushes -= usize::from(pending.info.command == Command::Flush);
        pending.error = pending.error.take().or_else(|| pending.missing());
        if pending.error.is_some()
            && let ExpectedAnswer::Status { contexts, .. } = &pending.answer
            && contexts.len() > 1
        {
            if self.late.len() >= LATE_REQUESTS {
                self.late.pop_first();
            }
            self.late.insert(cookie, contexts.len() - 1);
        }
        Some(pending)
    }

    /// Uses up one chunk of a request that has failed; false if it may get none any more.
    pub(super) fn take_late(&mut self, cookie: u64) -> bool {
        let left = self.late.get_mut(&cookie).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    /// True if the number was given to a request of this session.
    pub(super) fn was_used(&self, cookie: u64) -> bool {
        (1..=self.last).contains(&cookie)
    }
}
