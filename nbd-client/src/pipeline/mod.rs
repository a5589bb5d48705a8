//! Pipelines for copy tools: they keep several reads or writes in flight at once.
//!
//! [`ReadAhead`] reads a list of ranges ahead of its caller and hands out their blocks in order.
//! [`WriteBehind`] takes writes and lets the caller go on before they are answered.
//!
//! Each sends its requests over a [`Pool`](crate::Pool) of one connection or several, and holds no
//! more memory than [`PipelineOptions`] allow. The pool receives replies even while the program
//! does something else, so a server never waits for a consumer that has stopped.
//!
//! Each is written once, as a future over the pool. A program that blocks has calls that wait for
//! the future; an asynchronous one awaits it (`aio::Pool`).

mod blocking;
mod calls;
mod rate_limit;
mod read_ahead;
mod write_behind;

pub use rate_limit::RateLimit;
pub use read_ahead::{Block, ReadAhead};
pub use write_behind::WriteBehind;
pub(crate) use write_behind::WriteCall;

use crate::session::SessionLimits;

/// How much a pipeline does at a time.
///
/// The default was measured on unix sockets against qemu-nbd; over a slow network more requests in
/// flight do no harm.
///
/// ```
/// use nbd_client::pipeline::PipelineOptions;
///
/// let options = PipelineOptions::default().requests(32).bytes(64 << 20);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct PipelineOptions {
    requests: usize,
    bytes: u64,
    piece: u32,
}

impl Default for PipelineOptions {
    /// 16 requests of up to 256 KiB.
    fn default() -> Self {
        Self { requests: 16, bytes: 16 << 20, piece: 256 << 10 }
    }
}

impl PipelineOptions {
    /// The most requests in flight, at least 1.
    pub const fn requests(self, requests: usize) -> Self {
        Self { requests: if requests == 0 { 1 } else { requests }, ..self }
    }

    /// The most bytes held at a time, in flight or waiting for their turn. One request is always
    /// possible.
    pub const fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// The longest request in bytes, a power of two from 64 KiB (others are rounded down) to the
    /// server's maximum.
    pub const fn piece(self, piece: u32) -> Self {
        let piece = if piece < 64 << 10 { 64 << 10 } else { piece };
        Self { piece: 1 << piece.ilog2(), ..self }
    }

    /// These options, lowered to what a connection with these limits takes.
    pub(crate) fn within(self, limits: SessionLimits, longest: u32) -> Self {
        Self {
            piece: self.piece.min(longest).max(1),
            bytes: self.bytes.min(limits.max_bytes_in_flight),
            ..self.requests(self.requests.min(limits.max_in_flight))
        }
    }

    /// Whether `more` bytes may be held beside `held`. Always, if no request is in flight.
    pub(crate) const fn has_room(&self, requests: usize, held: u64, more: u64) -> bool {
        requests == 0 || requests < self.requests && held.saturating_add(more) <= self.bytes
    }

    /// Whether more than three quarters of the room are in use. While they are, no request is
    /// begun; afterwards several are, together: to wake a thread and a server for each costs more
    /// than the requests.
    pub(crate) const fn is_nearly_full(&self, requests: usize, held: u64) -> bool {
        requests > self.requests - self.requests / 4 || held > self.bytes - self.bytes / 4
    }

    /// The part of one of `count` connections in the bytes that all of them hold.
    pub(crate) fn share(self, count: usize) -> Self {
        Self { bytes: self.bytes / (count.max(1) as u64), ..self }
    }

    /// How many more requests may be in flight.
    pub(crate) const fn room(&self, requests: usize) -> usize {
        self.requests.saturating_sub(requests)
    }

    /// How much of a range from `offset` to `end` one request does: up to the next multiple of a
    /// piece.
    pub(crate) fn cut(&self, offset: u64, end: u64) -> u64 {
        let piece = u64::from(self.piece);
        (piece - offset % piece).min(end - offset)
    }
}
