//! What a caller can do wrong: requests that are refused before the wire.

use super::{Command, ProtocolError};

/// A request that cannot be started. Nothing was sent.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, StatusRequest};
///
/// let mut config = SessionConfig::new(Headers::Structured, [0]);
/// config.size = 1 << 20;
/// let mut session = Session::new(config);
/// let error = session.start_block_status(&StatusRequest::new(1 << 20, 512)).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "BLOCK_STATUS of 512 bytes at 1048576 goes beyond the end at 1048576"
/// );
/// assert!(!session.has_output());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The length is 0, which means nothing to a server.
    #[error("{command} of 0 bytes at {offset}")]
    ZeroLength {
        /// The command.
        command: Command,
        /// The offset in bytes.
        offset: u64,
    },
    /// Offset and length go beyond the end of the export.
    #[error("{command} of {length} bytes at {offset} goes beyond the end at {size}")]
    PastEnd {
        /// The command.
        command: Command,
        /// The offset in bytes.
        offset: u64,
        /// The length in bytes.
        length: u64,
        /// The size of the export in bytes.
        size: u64,
    },
    /// Not whole blocks.
    #[error("{command} of {length} bytes at {offset}: the server takes whole blocks of {minimum} bytes")]
    Unaligned {
        /// The command.
        command: Command,
        /// The offset in bytes.
        offset: u64,
        /// The length in bytes.
        length: u64,
        /// The minimum block size in bytes.
        minimum: u64,
    },
    /// Longer than one request may be.
    #[error("{command} of {length} bytes, the most for one request is {longest}")]
    TooLong {
        /// The command.
        command: Command,
        /// The length in bytes.
        length: u64,
        /// The longest in bytes.
        longest: u64,
    },
    /// The export is read-only.
    #[error("{command} on a read-only export")]
    ReadOnly {
        /// The command.
        command: Command,
    },
    /// The server does not offer a command, or a flag of one.
    #[error("the server does not offer {what}")]
    NotOffered {
        /// The command's name, or the flag's.
        what: &'static str,
    },
    /// As many requests as may be are in flight.
    #[error("{requests} requests are in flight, which is the limit")]
    TooManyInFlight {
        /// How many.
        requests: usize,
    },
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
    /// No structured replies: there is no block status.
    #[error("the server has no structured replies and so no block status")]
    NoStructuredReplies,
    /// No context was granted, or none named.
    #[error("block status of no context")]
    NoContexts,
    /// The server does not take a list of contexts.
    #[error("the server does not take a list of contexts with a request")]
    NoPayloadStatus,
    /// A context that was not granted.
    #[error("context id {context} is not one of this connection")]
    UnknownContext {
        /// The number.
        context: u32,
    },
    /// A context named twice.
    #[error("context id {context} is named twice")]
    DuplicateContext {
        /// The number.
        context: u32,
    },
    /// The server said that it is going down, or the session was ended.
    #[error("the session is ending, no more requests")]
    Ending,
    /// Other requests are in flight, whose events would be lost.
    #[error("{in_flight} other requests are in flight")]
    Busy {
        /// How many.
        in_flight: usize,
    },
    /// An earlier protocol error ended the session.
    #[error("the connection is broken: {0}")]
    Broken(ProtocolError),
}
