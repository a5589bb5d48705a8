//! The requests of the transmission phase.

use core::fmt;

use crate::frame::{command, command_flag};

/// A command, printed by its name (NBD protocol, "Request types"). `as u16` is its number on the
/// wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Command {
    /// Reads data.
    Read = command::READ,
    /// Writes data.
    Write = command::WRITE,
    /// Makes all answered writes durable.
    Flush = command::FLUSH,
    /// Tells the server that the content of a range is no longer needed.
    Trim = command::TRIM,
    /// Prepares a range for fast reads.
    Cache = command::CACHE,
    /// Makes a range read as zeroes.
    WriteZeroes = command::WRITE_ZEROES,
    /// Asks for block status.
    BlockStatus = command::BLOCK_STATUS,
}

impl Command {
    /// True if it changes the export.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Flush => "FLUSH",
            Self::Trim => "TRIM",
            Self::Cache => "CACHE",
            Self::WriteZeroes => "WRITE_ZEROES",
            Self::BlockStatus => "BLOCK_STATUS",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request, whatever it is for: as it is checked, sent, and named by an error.
///
/// ```
/// use nbd_client::session::{Event, ReadRequest, Session, SessionConfig, take_all};
/// use nbd_client::frame::Headers;
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, []));
/// let cookie = session.start_read(&ReadRequest::new(512), vec![0; 4096])?;
/// session.take_output();
/// // A simple reply with error 5.
/// let mut reply = vec![0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// session.feed(&reply, &mut take_all)?;
/// let Some(Event::Failed { error, .. }) = session.poll() else { panic!("it failed") };
/// assert_eq!((error.request.offset, error.request.length), (512, 4096));
/// assert_eq!(error.request.to_string(), "READ of 4096 bytes at 512");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RequestInfo {
    /// The command.
    pub command: Command,
    /// Command flags, see [`command_flag`].
    pub flags: u16,
    /// The start of its range, in bytes.
    pub offset: u64,
    /// Bytes of its range; 0 for FLUSH.
    pub length: u64,
}

impl RequestInfo {
    pub(crate) const fn new(command: Command, offset: u64, length: u64) -> Self {
        Self { command, flags: 0, offset, length }
    }

    pub(crate) const FLUSH: Self = Self::new(Command::Flush, 0, 0);

    pub(super) const fn with(self, flag: u16) -> Self {
        Self { flags: self.flags | flag, ..self }
    }

    pub(crate) const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The number of bytes of data that it sends or receives.
    pub(crate) const fn moves(self) -> u64 {
        match self.command {
            Command::Read | Command::Write => self.length,
            _ => 0,
        }
    }
}

impl fmt::Display for RequestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Command::Flush => f.write_str("FLUSH"),
            command => write!(f, "{command} of {} bytes at {}", self.length, self.offset),
        }
    }
}

/// A block status request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct StatusRequest<'a> {
    pub(super) info: RequestInfo,
    pub(super) contexts: Option<&'a [u32]>,
}

impl<'a> StatusRequest<'a> {
    /// The status of `length` bytes from `offset`, of every context of the connection.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { info: RequestInfo::new(Command::BlockStatus, offset, length), contexts: None }
    }

    /// Only the first extent of each context (REQ_ONE).
    pub const fn req_one(self) -> Self {
        Self { info: self.info.with(command_flag::REQ_ONE), ..self }
    }

    /// Only the contexts with these numbers; the server must know the payload form, see
    /// [`Export::payload_status`](crate::Export::payload_status).
    pub const fn only(self, contexts: &'a [u32]) -> Self {
        Self { contexts: Some(contexts), ..self }
    }
}

/// A request to make a range read as zeroes (WRITE_ZEROES).
///
/// It may punch a hole unless it is told not to. It always does what it says, which a TRIM does
/// not: after a TRIM a range may read as anything.
///
/// ```
/// use nbd_client::session::ZeroRequest;
///
/// // A hole is fine, and it fails at once where the server would have to write zeroes one by one.
/// let request = ZeroRequest::new(0, 1 << 30).fast();
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ZeroRequest(pub(crate) RequestInfo);

impl ZeroRequest {
    /// `length` bytes from `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self(RequestInfo::new(Command::WriteZeroes, offset, length))
    }

    /// The range stays allocated (NO_HOLE): later writes to it do not run out of space.
    pub const fn no_hole(self) -> Self {
        Self(self.0.with(command_flag::NO_HOLE))
    }

    /// Fails with ENOTSUP where it would be no faster than writing zeroes (FAST_ZERO, which the
    /// server must offer).
    pub const fn fast(self) -> Self {
        Self(self.0.with(command_flag::FAST_ZERO))
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self(self.0.with(command_flag::FUA))
    }
}

/// A request to read.
///
/// ```
/// use nbd_client::session::ReadRequest;
///
/// assert_ne!(ReadRequest::new(4096).df(), ReadRequest::new(4096));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReadRequest(RequestInfo);

impl ReadRequest {
    /// From `offset`; how much is said by the buffer that goes with it.
    pub const fn new(offset: u64) -> Self {
        Self(RequestInfo::new(Command::Read, offset, 0))
    }

    /// In one chunk of content (DF, which the server must offer). A server that cannot fails it
    /// with EOVERFLOW.
    pub const fn df(self) -> Self {
        Self(self.0.with(command_flag::DF))
    }

    pub(crate) const fn of(self, length: u64) -> RequestInfo {
        RequestInfo { length, ..self.0 }
    }
}

/// A request to write.
///
/// ```
/// use nbd_client::session::WriteRequest;
///
/// assert_ne!(WriteRequest::new(4096).fua(), WriteRequest::new(4096));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct WriteRequest(RequestInfo);

impl WriteRequest {
    /// To `offset`; how much is said by the data that go with it.
    pub const fn new(offset: u64) -> Self {
        Self(RequestInfo::new(Command::Write, offset, 0))
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self(self.0.with(command_flag::FUA))
    }

    pub(crate) const fn of(self, length: u64) -> RequestInfo {
        RequestInfo { length, ..self.0 }
    }
}

/// A request to give a range up (TRIM). It promises nothing: the server may do nothing, and the
/// range may read as anything afterwards. To have zeroes there is [`ZeroRequest`].
///
/// ```
/// use nbd_client::session::TrimRequest;
///
/// assert_ne!(TrimRequest::new(4096, 512).fua(), TrimRequest::new(4096, 512));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TrimRequest(pub(crate) RequestInfo);

impl TrimRequest {
    /// `length` bytes from `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self(RequestInfo::new(Command::Trim, offset, length))
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self(self.0.with(command_flag::FUA))
    }
}
