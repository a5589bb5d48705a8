//! The facts that a session needs before it begins: the terms of the handshake, and the bounds that
//! the caller sets.

use super::StartError;
use crate::export::{Export, MetaContext, TransmissionFlags};
use crate::frame::Headers;
use crate::stats::ToleratedCounts;
use nbd_extents::Strictness;

/// The longest read or write where the server names no other limit, in bytes (NBD protocol, "Block
/// size constraints"): 32 MiB.
pub(super) const PAYLOAD: u32 = 1 << 25;
/// The longest request that moves no data where a length has 32 bits, in bytes. Some servers do not
/// survive 0xffffffff.
pub(super) const COMPACT_EFFECT: u64 = 1 << 31;

/// Bounds on what a server may send in the transmission phase, and on what a caller may ask at one
/// time.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, StartError, StatusRequest};
///
/// let mut config = SessionConfig::new(Headers::Structured, [0]);
/// config.limits.max_in_flight = 1;
/// let mut session = Session::new(config);
/// session.start_block_status(&StatusRequest::new(0, 4096))?;
/// let second = session.start_block_status(&StatusRequest::new(4096, 4096));
/// assert_eq!(second, Err(StartError::TooManyInFlight(1)));
/// # Ok::<(), StartError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// The longest payload of a chunk, in bytes. The protocol asks to bear 2^25.
    pub max_payload: u64,
    /// The most payload of a whole reply, in bytes.
    pub max_reply: u64,
    /// The most chunks of a reply beyond the first, those of further contexts, and those that bring
    /// new bytes of a read: errors, and chunks that are drained.
    pub max_extra_chunks: u32,
    /// The most requests in flight: of one connection, and of all connections of a pool together.
    pub max_in_flight: usize,
    /// The most bytes of reads and writes in flight, counted likewise. One longer request may go
    /// alone.
    pub max_bytes_in_flight: u64,
}

impl Default for SessionLimits {
    /// 2^25 + 64 bytes a chunk, 1 GiB a reply, 64 extra chunks; 1024 requests and 256 MiB in
    /// flight.
    fn default() -> Self {
        Self {
            max_payload: (1 << 25) + 64,
            max_reply: 1 << 30,
            max_extra_chunks: 64,
            max_in_flight: 1024,
            max_bytes_in_flight: 256 << 20,
        }
    }
}

impl SessionLimits {
    /// An error if one more request, which moves `length` bytes, is too much beside these requests
    /// and bytes in flight.
    pub(crate) const fn check(&self, requests: usize, in_flight: u64, length: u64) -> Result<(), StartError> {
        let limit = self.max_bytes_in_flight;
        if requests >= self.max_in_flight {
            return Err(StartError::TooManyInFlight(requests));
        }
        if in_flight > 0 && in_flight.saturating_add(length) > limit {
            return Err(StartError::TooMuchInFlight { in_flight, length, limit });
        }
        Ok(())
    }

    /// The lower of both limits, one by one.
    pub(crate) fn lower(self, other: Self) -> Self {
        Self {
            max_payload: self.max_payload.min(other.max_payload),
            max_reply: self.max_reply.min(other.max_reply),
            max_extra_chunks: self.max_extra_chunks.min(other.max_extra_chunks),
            max_in_flight: self.max_in_flight.min(other.max_in_flight),
            max_bytes_in_flight: self.max_bytes_in_flight.min(other.max_bytes_in_flight),
        }
    }
}

/// The results of the handshake that a session needs.
///
/// ```
/// use nbd_client::Strictness;
/// use nbd_client::export::TransmissionFlags;
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, StartError};
///
/// let mut config = SessionConfig::new(Headers::Structured, [0]);
/// config.strictness = Strictness::Strict;
/// assert_eq!(
///     Session::new(config.clone()).start_flush(),
///     Err(StartError::NotOffered("FLUSH"))
/// );
/// config.export.flags = TransmissionFlags(1 | 1 << 2);
/// assert!(Session::new(config).start_flush().is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The export, as the handshake described it.
    pub export: Export,
    /// The treatment of violations of the protocol.
    pub strictness: Strictness,
    /// Bounds on what the server sends.
    pub limits: SessionLimits,
    /// The faults that the handshake forgave, with which the statistics begin.
    pub forgiven: ToleratedCounts,
}

impl SessionConfig {
    /// A lenient session with these headers and contexts, on a writable export of the greatest
    /// size, with no command offered beyond those that every server knows.
    #[must_use]
    pub fn new(headers: Headers, contexts: impl Into<Vec<u32>>) -> Self {
        let unnamed = |id| MetaContext { id, name: String::new() };
        Self::of_export(Export {
            size: i64::MAX as u64,
            flags: TransmissionFlags(1),
            headers,
            contexts: contexts.into().into_iter().map(unnamed).collect(),
            ..Export::default()
        })
    }

    /// A lenient session on this export.
    #[must_use]
    pub fn of_export(export: Export) -> Self {
        Self { export, ..Self::default() }
    }

    /// The longest read or write of whole blocks, at most this long.
    pub(super) fn whole_blocks(&self, longest: u32) -> u32 {
        let Some(sizes) = self.export.block_size else { return longest };
        let longest = longest.min(sizes.maximum());
        longest - longest % sizes.minimum()
    }
}
