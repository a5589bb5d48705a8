//! The faults of a server: a request has failed, or the connection is broken.

use core::fmt;

use super::{Command, RequestInfo, StartError};
use crate::text::ServerText;

/// An error number of the protocol, as sent (NBD protocol, "Error values").
///
/// ```
/// use nbd_client::session::Errno;
///
/// assert_eq!(Errno(28).to_string(), "ENOSPC");
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
}

impl fmt::Display for Errno {
    /// The number's name, if the protocol has one. Others are to be taken for EINVAL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "EPERM",
            5 => "EIO",
            12 => "ENOMEM",
            22 => "EINVAL",
            28 => "ENOSPC",
            75 => "EOVERFLOW",
            95 => "ENOTSUP",
            108 => "ESHUTDOWN",
            other => return write!(f, "error {other}"),
        })
    }
}

/// One request failed. The connection is in step and usable.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Errno, Event, Session, SessionConfig, StatusRequest, take_all};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// // A simple reply with error 5.
/// let mut reply = vec![0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// session.take_output();
/// session.feed(&reply, &mut take_all)?;
///
/// let Some(Event::Failed { error, .. }) = session.poll() else { panic!("it failed") };
/// assert_eq!(error.to_string(), "BLOCK_STATUS of 4096 bytes at 0 failed with EIO");
/// assert_eq!((error.errno(), error.is_shutdown()), (Some(Errno(5)), false));
/// // The connection is as good as before.
/// session.start_block_status(&StatusRequest::new(0, 4096))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{request} {fault}")]
#[non_exhaustive]
pub struct RequestError {
    /// The request, or the part of a long one.
    pub request: RequestInfo,
    /// The fault of its answer.
    pub fault: RequestFault,
}

/// Why a request failed. The text goes on where that of the request ends.
///
/// ```
/// use nbd_client::session::RequestFault;
///
/// assert_eq!(RequestFault::MissingData(512).to_string(), "got no data for the bytes from 512");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// The server says so.
    #[error("failed with {errno}{}", text.tail())]
    Server {
        /// The error number as sent.
        errno: Errno,
        /// The server's message.
        text: ServerText,
        /// Where, in bytes, if the server said so. It may say nonsense.
        offset: Option<u64>,
    },
    /// An error chunk with the error number 0, and its message.
    #[error("failed with error number 0, which is none{}", .0.tail())]
    ZeroErrno(ServerText),
    /// An error chunk of this many bytes, without room for its fixed fields.
    #[error("failed with an error chunk of {0} bytes, too few to say why")]
    ErrorTooShort(u64),
    /// A simple reply that claims success where only chunks can carry the answer.
    #[error("was answered by a simple reply, without any status")]
    SimpleSuccess,
    /// A status chunk whose length in bytes is not that of whole descriptors, at least one.
    #[error("got a status chunk of {0} bytes, which does not hold whole descriptors")]
    BadStatusLength(u64),
    /// A status chunk of the 32-bit type where headers are extended.
    #[error("got a 32-bit status chunk on a connection with extended headers")]
    CompactStatus,
    /// Two status chunks of the context with this number.
    #[error("got more than one status chunk of context id {0}")]
    DuplicateContext(u32),
    /// The reply is over, and the context with this number, which was asked for, is not in it.
    #[error("got no status for context id {0}")]
    MissingContext(u32),
    /// The reply to a read is over, and its data from this offset in bytes have not come.
    #[error("got no data for the bytes from {0}")]
    MissingData(u64),
    /// A chunk of content with bytes that the read did not ask for.
    #[error("got a chunk of {length} bytes at {offset}, which is not inside of the read")]
    OutsideRead {
        /// The chunk's offset as sent, in bytes.
        offset: u64,
        /// Its bytes of content.
        length: u64,
    },
    /// A chunk of content with bytes that another one had brought.
    #[error("got a chunk of {length} bytes at {offset}, which brings some of them again")]
    Overlap {
        /// The chunk's offset as sent, in bytes.
        offset: u64,
        /// Its bytes of content.
        length: u64,
    },
    /// A data chunk without data, or a hole whose payload is not an offset and a size above 0.
    #[error("got a chunk of type {kind} with {length} bytes of payload, which holds no content")]
    BadContent {
        /// The chunk's type.
        kind: u16,
        /// Bytes of its payload.
        length: u64,
    },
    /// More separate pieces of one read at a time than any honest server sends.
    #[error("got its data in too many separate pieces")]
    Scattered,
    /// Several chunks of content for a read that asked for one (DF; strict).
    #[error("got more than one chunk of content, one was asked for")]
    Fragmented,
    /// A later part of a long range could not be asked for any more.
    #[error("was not sent: {0}")]
    NotStarted(Box<StartError>),
    /// A status chunk of a context with this number, which the request did not ask for (strict).
    #[error("got a status chunk of context id {0}, which was not asked for")]
    UnknownContext(u32),
}

impl RequestError {
    /// The server's error number, if it is the server that failed the request.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match &self.fault {
            RequestFault::Server { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// True if the server is going down: the connection is to be ended with DISC. So is the failure
    /// of a request that was not sent for that reason.
    #[must_use]
    pub fn is_shutdown(&self) -> bool {
        match &self.fault {
            RequestFault::NotStarted(reason) => **reason == StartError::Ending,
            _ => self.errno() == Some(Errno::ESHUTDOWN),
        }
    }

    /// True if the export's storage is full: a request that may need room failed with ENOSPC.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        let needs_room = !matches!(self.request.command, Command::Read | Command::BlockStatus);
        needs_room && matches!(self.errno(), Some(Errno::ENOSPC))
    }
}

/// The server broke the protocol in a way that leaves the stream without meaning. The connection is
/// of no more use.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{ProtocolError, Session, SessionConfig, StartError, StatusRequest, take_all};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let error = session.feed(&[0; 20], &mut take_all).unwrap_err();
/// assert_eq!(error, ProtocolError::BadMagic(0));
/// assert_eq!(error.to_string(), "bad reply magic 0x00000000");
/// // It was the session's last word.
/// let later = session.start_block_status(&StatusRequest::new(0, 4096));
/// assert_eq!(later, Err(StartError::Broken(error)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Four bytes that begin no reply: the magic as sent.
    #[error("bad reply magic {0:#010x}")]
    BadMagic(u32),
    /// A reply with headers that were not negotiated: the magic as sent.
    #[error("reply magic {0:#010x} does not belong to the negotiated headers")]
    WrongHeaders(u32),
    /// An answer to a request that is not in flight: the number as sent.
    #[error("reply to request {0}, which is not in flight")]
    UnknownCookie(u64),
    /// An answer to the request of this number before it was sent: success of one that was not sent
    /// whole, or anything at all before its header was.
    #[error("request {0} was answered before it was sent")]
    AnsweredEarly(u64),
    /// A chunk after the last one of the reply to this request (strict; or more of them than is
    /// borne).
    #[error("chunk of request {0} after its last one")]
    ChunkAfterDone(u64),
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
    /// A simple reply that claims success of this read where only chunks can carry data: whether
    /// data follow it is anyone's guess.
    #[error("read {0} was answered by a simple reply where replies are structured")]
    SimpleRead(u64),
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
