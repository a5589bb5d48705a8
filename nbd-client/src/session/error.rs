//! What a server can do wrong: a request failed, or the connection is broken.

use core::fmt;

use super::{RequestInfo, StartError};
use crate::text::ServerText;

/// An error number of the protocol, as sent (NBD protocol, "Error values").
///
/// ```
/// use nbd_client::session::Errno;
///
/// assert_eq!(Errno(28).name(), Some("ENOSPC"));
/// assert_eq!(Errno(13).to_string(), "error 13");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub u32);

impl Errno {
    /// Not supported: a FAST_ZERO request that would not be fast.
    pub const ENOTSUP: Self = Self(95);
    /// The server takes a request for invalid. Some say so of one that is only too long.
    pub const EINVAL: Self = Self(22);
    /// The storage of the export is full.
    pub const ENOSPC: Self = Self(28);
    /// The request is too long.
    pub const EOVERFLOW: Self = Self(75);
    /// The server is going down: the client MUST soft-disconnect.
    pub const ESHUTDOWN: Self = Self(108);

    /// The number's name, if the protocol has one. Others are to be taken for EINVAL.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            5 => "EIO",
            12 => "ENOMEM",
            22 => "EINVAL",
            28 => "ENOSPC",
            75 => "EOVERFLOW",
            95 => "ENOTSUP",
            108 => "ESHUTDOWN",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// One request failed. The connection is in step and usable.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Errno, Event, Session, SessionConfig, StatusRequest, TakeAll};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// // A simple reply with error 5.
/// let mut reply = vec![0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// session.take_output();
/// session.feed(&reply, &mut TakeAll)?;
///
/// let Some(Event::Failed { error, .. }) = session.poll() else { panic!("it failed") };
/// assert_eq!(error.to_string(), "BLOCK_STATUS of 4096 bytes at 0 failed with EIO");
/// assert_eq!((error.errno(), error.is_shutdown()), (Some(Errno(5)), false));
/// // The connection is as good as before.
/// session.start_block_status(&StatusRequest::new(0, 4096))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server says so.
    #[error("{request} failed with {errno}{}", text.tail())]
    Server {
        /// The request.
        request: RequestInfo,
        /// The error number as sent.
        errno: Errno,
        /// The server's message.
        text: ServerText,
        /// Where, in bytes, if the server said so. It may say nonsense.
        offset: Option<u64>,
    },
    /// An error chunk with the error number 0.
    #[error("{request} failed with error number 0, which is none{}", text.tail())]
    ZeroErrno {
        /// The request.
        request: RequestInfo,
        /// The server's message.
        text: ServerText,
    },
    /// An error chunk without room for its fixed fields.
    #[error("{request} failed with an error chunk of {length} bytes, too few to say why")]
    ErrorTooShort {
        /// The request.
        request: RequestInfo,
        /// Bytes of its payload.
        length: u64,
    },
    /// A simple reply that claims success where only chunks can carry the answer.
    #[error("{request} was answered by a simple reply, without any status")]
    SimpleSuccess {
        /// The request.
        request: RequestInfo,
    },
    /// A status chunk whose length is not that of whole descriptors, at least one.
    #[error("{request}: a status chunk of {length} bytes does not hold whole descriptors")]
    BadStatusLength {
        /// The request.
        request: RequestInfo,
        /// Bytes of its payload.
        length: u64,
    },
    /// A status chunk of the 32-bit type where headers are extended.
    #[error("{request}: a 32-bit status chunk on a connection with extended headers")]
    CompactStatus {
        /// The request.
        request: RequestInfo,
    },
    /// Two status chunks of one context.
    #[error("{request}: more than one status chunk of context id {context}")]
    DuplicateContext {
        /// The request.
        request: RequestInfo,
        /// The context's number.
        context: u32,
    },
    /// The reply is over, and a context that was asked for is not in it.
    #[error("{request}: no status for context id {context}")]
    MissingContext {
        /// The request.
        request: RequestInfo,
        /// The context's number.
        context: u32,
    },
    /// The reply to a read is over, and not all of its data has come.
    #[error("{request}: no data for the bytes from {offset}")]
    MissingData {
        /// The request.
        request: RequestInfo,
        /// The first byte that is missing.
        offset: u64,
    },
    /// A chunk of content with bytes that the read did not ask for.
    #[error("{request}: a chunk of {length} bytes at {offset}, which is not inside of the read")]
    OutsideRead {
        /// The request.
        request: RequestInfo,
        /// The chunk's offset as sent, in bytes.
        offset: u64,
        /// Its bytes of content.
        length: u64,
    },
    /// A chunk of content with bytes that another one had brought.
    #[error("{request}: a chunk of {length} bytes at {offset} brings some of them again")]
    Overlap {
        /// The request.
        request: RequestInfo,
        /// The chunk's offset as sent, in bytes.
        offset: u64,
        /// Its bytes of content.
        length: u64,
    },
    /// A data chunk without data, or a hole whose payload is not an offset and a size above 0.
    #[error("{request}: a chunk of type {kind} with {length} bytes of payload holds no content")]
    BadContent {
        /// The request.
        request: RequestInfo,
        /// The chunk's type.
        kind: u16,
        /// Bytes of its payload.
        length: u64,
    },
    /// More separate pieces of one read at a time than any honest server sends.
    #[error("{request}: its data come in too many separate pieces")]
    Scattered {
        /// The request.
        request: RequestInfo,
    },
    /// Several chunks of content for a read that asked for one (DF; strict).
    #[error("{request}: more than one chunk of content, one was asked for")]
    Fragmented {
        /// The request.
        request: RequestInfo,
    },
    /// A later part of a long range could not be asked for any more.
    #[error("{request} was not sent: {reason}")]
    NotStarted {
        /// The part.
        request: RequestInfo,
        /// Why not.
        reason: Box<StartError>,
    },
    /// A status chunk of a context that the request did not ask for (strict).
    #[error("{request}: a status chunk of context id {context}, which was not asked for")]
    UnknownContext {
        /// The request.
        request: RequestInfo,
        /// The number as sent.
        context: u32,
    },
}

impl RequestError {
    /// The request that failed.
    #[must_use]
    pub const fn request(&self) -> RequestInfo {
        match self {
            Self::Server { request, .. }
            | Self::ZeroErrno { request, .. }
            | Self::ErrorTooShort { request, .. }
            | Self::MissingContext { request, .. }
            | Self::SimpleSuccess { request }
            | Self::BadStatusLength { request, .. }
            | Self::CompactStatus { request }
            | Self::DuplicateContext { request, .. }
            | Self::MissingData { request, .. }
            | Self::OutsideRead { request, .. }
            | Self::Overlap { request, .. }
            | Self::BadContent { request, .. }
            | Self::Scattered { request }
            | Self::Fragmented { request }
            | Self::UnknownContext { request, .. }
            | Self::NotStarted { request, .. } => *request,
        }
    }

    /// The server's error number, if it is the server that failed the request.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Server { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// True if the server is going down: the connection is to be ended with DISC.
    #[must_use]
    pub fn is_shutdown(&self) -> bool {
        self.errno() == Some(Errno::ESHUTDOWN)
    }
}

/// The server broke the protocol in a way that leaves the stream without meaning. The connection is
/// of no more use.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{ProtocolError, Session, SessionConfig, StartError, StatusRequest, TakeAll};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let error = session.feed(&[0; 20], &mut TakeAll).unwrap_err();
/// assert_eq!(error, ProtocolError::BadMagic { magic: 0 });
/// assert_eq!(error.to_string(), "bad reply magic 0x00000000");
/// // It was the session's last word.
/// let later = session.start_block_status(&StatusRequest::new(0, 4096));
/// assert_eq!(later, Err(StartError::Broken(error)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Four bytes that begin no reply.
    #[error("bad reply magic {magic:#010x}")]
    BadMagic {
        /// The magic as sent.
        magic: u32,
    },
    /// A reply with headers that were not negotiated.
    #[error("reply magic {magic:#010x} does not belong to the negotiated headers")]
    WrongHeaders {
        /// The magic as sent.
        magic: u32,
    },
    /// An answer to a request that is not in flight.
    #[error("reply to request {cookie}, which is not in flight")]
    UnknownCookie {
        /// The number as sent.
        cookie: u64,
    },
    /// An answer to a request before it was sent: success of one that was not sent whole, or
    /// anything at all before its header was.
    #[error("request {cookie} was answered before it was sent")]
    AnsweredEarly {
        /// The number as sent.
        cookie: u64,
    },
    /// A chunk after the last one of a reply (strict; or more of them than is borne).
    #[error("chunk of request {cookie} after its last one")]
    ChunkAfterDone {
        /// The number as sent.
        cookie: u64,
    },
    /// An extended chunk that does not repeat its request's offset.
    #[error("chunk of request {cookie} repeats offset {got}, the request's is {expected}")]
    WrongOffset {
        /// The request.
        cookie: u64,
        /// The offset as sent, in bytes.
        got: u64,
        /// The request's offset, in bytes.
        expected: u64,
    },
    /// A chunk type that is unknown, or that does not answer this command.
    #[error("unexpected chunk type {kind:#06x} for request {cookie}")]
    UnexpectedChunk {
        /// The request.
        cookie: u64,
        /// The type as sent.
        kind: u16,
    },
    /// A simple reply that claims success of a read where only chunks can carry data: whether data
    /// follow it is anyone's guess.
    #[error("read {cookie} was answered by a simple reply where replies are structured")]
    SimpleRead {
        /// The request.
        cookie: u64,
    },
    /// A NONE chunk with a payload, or not the last one.
    #[error("NONE chunk of request {cookie} with flags {flags:#06x} and {length} bytes")]
    BadNone {
        /// The request.
        cookie: u64,
        /// Its flags.
        flags: u16,
        /// Bytes of its payload.
        length: u64,
    },
    /// A payload longer than the limit.
    #[error("chunk of request {cookie} claims {length} bytes, the limit is {limit}")]
    PayloadTooLong {
        /// The request.
        cookie: u64,
        /// Bytes claimed.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An error message that claims more bytes than its chunk has.
    #[error("error message of request {cookie} claims {claimed} bytes, its chunk has {room}")]
    MessageTooLong {
        /// The request.
        cookie: u64,
        /// Bytes claimed.
        claimed: u16,
        /// Bytes that are there.
        room: u64,
    },
    /// A reply of more chunks than any honest one has.
    #[error("reply to request {cookie} does not end: {chunks} chunks, {bytes} bytes")]
    EndlessReply {
        /// The request.
        cookie: u64,
        /// Chunks received.
        chunks: u32,
        /// Bytes received.
        bytes: u64,
    },
}
