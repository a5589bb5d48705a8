//! What can be asked of a server in the transmission phase.

use core::fmt;

use super::{Cookie, RequestInfo};
use crate::frame::{command, command_flag};

/// A command, printed by its name (NBD protocol, "Request types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Makes all answered writes durable.
    Flush,
    /// Gives a range up.
    Trim,
    /// Has a range made ready for reading.
    Cache,
    /// Makes a range read as zeroes.
    WriteZeroes,
    /// Asks for block status.
    BlockStatus,
}

impl Command {
    /// The number on the wire.
    ///
    /// ```
    /// assert_eq!(nbd_client::session::Command::WriteZeroes.number(), 6);
    /// ```
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Read => command::READ,
            Self::Write => command::WRITE,
            Self::Flush => command::FLUSH,
            Self::Trim => command::TRIM,
            Self::Cache => command::CACHE,
            Self::WriteZeroes => command::WRITE_ZEROES,
            Self::BlockStatus => command::BLOCK_STATUS,
        }
    }

    /// True if it changes the export.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// True if its range is bounded by the longest payload. CACHE has none, and servers bound it
    /// all the same (qemu does).
    pub(crate) const fn is_bounded(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Cache)
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

/// A request before it has a number: what it is checked by, and what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestTerms {
    pub(crate) command: Command,
    /// Command flags.
    pub(crate) flags: u16,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl RequestTerms {
    pub(crate) const fn new(command: Command, flags: u16, offset: u64, length: u64) -> Self {
        Self { command, flags, offset, length }
    }

    pub(crate) const FLUSH: Self = Self::new(Command::Flush, 0, 0, 0);

    pub(crate) const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of payload that move because of it.
    pub(crate) const fn moves(self) -> u64 {
        match self.command {
            Command::Read | Command::Write => self.length,
            _ => 0,
        }
    }

    /// As an error names it.
    pub(crate) const fn info(self, cookie: Cookie) -> RequestInfo {
        let Self { command, offset, length, .. } = self;
        RequestInfo { cookie, command, offset, length }
    }
}

/// A command flag, or none.
const fn flag(wanted: bool, flag: u16) -> u16 {
    if wanted { flag } else { 0 }
}

/// A block status request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRequest<'a> {
    offset: u64,
    length: u64,
    req_one: bool,
    pub(super) contexts: Option<&'a [u32]>,
}

impl<'a> StatusRequest<'a> {
    /// The status of `length` bytes from `offset`, of every context of the connection.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset, length, req_one: false, contexts: None }
    }

    /// Only the first extent of each context (REQ_ONE).
    #[must_use]
    pub const fn req_one(self) -> Self {
        Self { req_one: true, ..self }
    }

    /// Only the contexts with these numbers; the server must know the payload form, see
    /// [`Export::payload_status`](crate::Export::payload_status).
    #[must_use]
    pub const fn only(self, contexts: &'a [u32]) -> Self {
        Self { contexts: Some(contexts), ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How far it goes, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    pub(super) const fn terms(&self) -> RequestTerms {
        RequestTerms::new(
            Command::BlockStatus,
            flag(self.req_one, command_flag::REQ_ONE),
            self.offset,
            self.length,
        )
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
/// assert_eq!(request.length(), 1 << 30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ZeroRequest {
    offset: u64,
    length: u64,
    no_hole: bool,
    fast: bool,
    fua: bool,
}

impl ZeroRequest {
    /// `length` bytes from `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset, length, no_hole: false, fast: false, fua: false }
    }

    /// The range stays allocated (NO_HOLE): later writes to it do not run out of space.
    pub const fn no_hole(self) -> Self {
        Self { no_hole: true, ..self }
    }

    /// Fails with ENOTSUP where it would be no faster than writing zeroes (FAST_ZERO, which the
    /// server must offer).
    pub const fn fast(self) -> Self {
        Self { fast: true, ..self }
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self { fua: true, ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How far it goes, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    pub(crate) const fn terms(self) -> RequestTerms {
        let flags = flag(self.fua, command_flag::FUA)
            | flag(self.no_hole, command_flag::NO_HOLE)
            | flag(self.fast, command_flag::FAST_ZERO);
        RequestTerms::new(Command::WriteZeroes, flags, self.offset, self.length)
    }
}

/// A request to read.
///
/// ```
/// use nbd_client::session::ReadRequest;
///
/// assert_eq!(ReadRequest::new(4096).df().offset(), 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReadRequest {
    offset: u64,
    df: bool,
}

impl ReadRequest {
    /// From `offset`; how much is said by the buffer that goes with it.
    pub const fn new(offset: u64) -> Self {
        Self { offset, df: false }
    }

    /// In one chunk of content (DF, which the server must offer). A server that cannot fails it
    /// with EOVERFLOW.
    pub const fn df(self) -> Self {
        Self { df: true, ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) const fn terms(self, length: u64) -> RequestTerms {
        RequestTerms::new(Command::Read, flag(self.df, command_flag::DF), self.offset, length)
    }
}

/// A request to write.
///
/// ```
/// use nbd_client::session::WriteRequest;
///
/// assert_eq!(WriteRequest::new(4096).fua().offset(), 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct WriteRequest {
    offset: u64,
    fua: bool,
}

impl WriteRequest {
    /// To `offset`; how much is said by the data that go with it.
    pub const fn new(offset: u64) -> Self {
        Self { offset, fua: false }
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self { fua: true, ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) const fn terms(self, length: u64) -> RequestTerms {
        RequestTerms::new(Command::Write, flag(self.fua, command_flag::FUA), self.offset, length)
    }
}

/// A request to give a range up (TRIM). It promises nothing: the server may do nothing, and the
/// range may read as anything afterwards. To have zeroes there is [`ZeroRequest`].
///
/// ```
/// use nbd_client::session::TrimRequest;
///
/// assert_eq!(TrimRequest::new(4096, 512).fua().length(), 512);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TrimRequest {
    offset: u64,
    length: u64,
    fua: bool,
}

impl TrimRequest {
    /// `length` bytes from `offset`.
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset, length, fua: false }
    }

    /// Durable before it is answered (FUA, which the server must offer).
    pub const fn fua(self) -> Self {
        Self { fua: true, ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How far it goes, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    pub(crate) const fn terms(self) -> RequestTerms {
        RequestTerms::new(Command::Trim, flag(self.fua, command_flag::FUA), self.offset, self.length)
    }
}
