//! The faults of a caller: requests that are refused before they reach the wire.

use super::{Command, ProtocolError, RequestInfo};

/// A request that cannot be started. Nothing was sent.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, StatusRequest};
///
/// let config = SessionConfig::new(Headers::Structured, [0]);
/// let mut session = Session::new(config);
/// let error = session.start_block_status(&StatusRequest::new(1 << 63, 512)).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "BLOCK_STATUS of 512 bytes at 9223372036854775808 \
///      goes beyond the end at 9223372036854775807"
/// );
/// assert!(!session.has_output());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The length is 0, which means nothing to a server.
    #[error("{0}")]
    ZeroLength(RequestInfo),
    /// Offset and length go beyond the end of the export.
    #[error("{request} goes beyond the end at {size}")]
    PastEnd {
        /// The request.
        request: RequestInfo,
        /// The size of the export in bytes.
        size: u64,
    },
    /// Not whole blocks.
    #[error("{request}: the server takes whole blocks of {minimum} bytes")]
    Unaligned {
        /// The request.
        request: RequestInfo,
        /// The minimum block size in bytes.
        minimum: u64,
    },
    /// Longer than one request may be.
    #[error("{request}, the most for one request is {longest}")]
    TooLong {
        /// The request.
        request: RequestInfo,
        /// The longest in bytes.
        longest: u64,
    },
    /// The export is read-only, and this command writes.
    #[error("{0} on a read-only export")]
    ReadOnly(Command),
    /// The server does not offer a command, or a flag or a form of one: its name.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// As many requests as may be are in flight.
    #[error("{0} requests are in flight, which is the limit")]
    TooManyInFlight(usize),
    /// With this one, more bytes of reads and writes would be in flight than may be.
    #[error("{in_flight} bytes are in flight, {length} more are beyond the limit of {limit}")]
    TooMuchInFlight {
        /// Bytes in flight.
        in_flight: u64,
        /// The request's bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No context was granted, or none named.
    #[error("block status of no context")]
    NoContexts,
    /// A context, by its number, that was not granted.
    #[error("context id {0} is not one of this connection")]
    UnknownContext(u32),
    /// A context, by its number, that is named twice.
    #[error("context id {0} is named twice")]
    DuplicateContext(u32),
    /// The server said that it is going down, or the session was ended.
    #[error("the session is ending, no more requests")]
    Ending,
    /// Other requests are in flight, whose events would be lost.
    #[error("{0} other requests are in flight")]
    Busy(usize),
    /// An earlier protocol error ended the session.
    #[error("the connection is broken: {0}")]
    Broken(ProtocolError),
}
