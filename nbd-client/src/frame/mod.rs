//! Numbers and layouts of the NBD protocol: headers to bytes and back. No state, no I/O.
//!
//! Everything is big-endian (NBD protocol, "Conventions"). A decoder here either returns what the
//! bytes say, or says how many bytes it needs, or says why they cannot be it; it never judges
//! whether the message makes sense at that moment.

mod during;
mod error_chunk;
mod option;
mod reply;
mod request;

pub use during::{During, UnexpectedEof};
pub use error_chunk::{ErrorChunk, ErrorChunkFault};
pub use option::{OptionName, OptionReply, put_option};
pub(crate) use option::{contexts_data, go_data};
pub use reply::{ChunkHeader, ReplyHeader, UnknownMagic};
pub(crate) use request::RequestHeader;

/// Which headers the two sides agreed on (NBD protocol, "Transmission phase").
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, StartError, StatusRequest};
///
/// // With simple replies there is no block status.
/// let mut session = Session::new(SessionConfig::new(Headers::Simple, [0]));
/// let refused = session.start_block_status(&StatusRequest::new(0, 4096));
/// assert!(matches!(refused, Err(StartError::NotOffered(_))));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Headers {
    /// Compact requests, simple replies: no block status, and the data of a read follows its reply.
    #[default]
    Simple,
    /// Compact requests of 28 bytes, structured reply chunks with a 20-byte header.
    Structured,
    /// Extended requests and chunks, 32-byte headers both ways, 64-bit lengths.
    Extended,
}

/// `NBDMAGIC`: the first 8 bytes that a server sends.
pub const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the second magic of a newstyle server, and the magic of every option request.
pub const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
/// The second magic of an oldstyle server, which has no options at all.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// The magic of an option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The magic of a compact request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The magic of an extended request.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// The magic of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// The magic of a structured reply chunk.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// The magic of an extended reply chunk.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// The longest string of the protocol, in bytes (NBD protocol, "Conventions").
pub const MAX_STRING: usize = 4096;

/// True if this can be sent as a string of the protocol.
pub(crate) fn is_string(text: &str) -> bool {
    text.len() <= MAX_STRING && !text.contains('\0')
}

/// Handshake flags of the server, and the client's flags of the same meaning.
pub mod handshake_flag {
    /// The server speaks fixed newstyle.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 zero bytes after the answer to EXPORT_NAME.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Option numbers (NBD protocol, "Option types").
pub mod option_type {
    /// Ends the handshake; answered by data without a reply header.
    pub const EXPORT_NAME: u32 = 1;
    /// Leaves the handshake.
    pub const ABORT: u32 = 2;
    /// Lists exports.
    pub const LIST: u32 = 3;
    /// Starts TLS.
    pub const STARTTLS: u32 = 5;
    /// Ends the handshake with information on the export.
    pub const GO: u32 = 7;
    /// Asks for structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Lists meta contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Chooses meta contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Asks for extended headers.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Option reply types (NBD protocol, "Option reply types").
pub mod option_reply_type {
    /// The option was done; the last reply.
    pub const ACK: u32 = 1;
    /// One export.
    pub const SERVER: u32 = 2;
    /// One piece of information about the export.
    pub const INFO: u32 = 3;
    /// One meta context.
    pub const META_CONTEXT: u32 = 4;
    /// Set in every error, known or not.
    pub const ERROR_BIT: u32 = 1 << 31;
}

/// Types of information in a reply to GO.
pub mod info_type {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The export's own name.
    pub const NAME: u16 = 1;
    /// A description for people.
    pub const DESCRIPTION: u16 = 2;
    /// Block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Command numbers (NBD protocol, "Request types").
pub mod command {
    /// Reads data.
    pub const READ: u16 = 0;
    /// Writes the payload that follows the header.
    pub const WRITE: u16 = 1;
    /// Soft disconnect.
    pub const DISC: u16 = 2;
    /// Makes all writes that were answered durable.
    pub const FLUSH: u16 = 3;
    /// Tells the server that the content of a range is no longer needed. It may then read as
    /// anything.
    pub const TRIM: u16 = 4;
    /// Asks the server to prepare a range for fast reads.
    pub const CACHE: u16 = 5;
    /// Makes a range read as zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Block status.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags.
pub mod command_flag {
    /// The effect is durable before the reply comes (force unit access).
    pub const FUA: u16 = 1;
    /// WRITE_ZEROES keeps the range allocated.
    pub const NO_HOLE: u16 = 1 << 1;
    /// READ is answered by one chunk of content (do not fragment).
    pub const DF: u16 = 1 << 2;
    /// One descriptor for each context only.
    pub const REQ_ONE: u16 = 1 << 3;
    /// WRITE_ZEROES fails at once with ENOTSUP where it would be no faster than writing.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The header's length is that of the payload (extended headers only).
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Flags of a reply chunk.
pub mod reply_flag {
    /// The last chunk of the reply. All others MUST be ignored.
    pub const DONE: u16 = 1;
}

/// Types of a reply chunk (NBD protocol, "Structured reply types").
pub mod chunk_type {
    /// No payload; only to say DONE.
    pub const NONE: u16 = 0;
    /// Data of a read.
    pub const OFFSET_DATA: u16 = 1;
    /// A hole of a read.
    pub const OFFSET_HOLE: u16 = 2;
    /// Block status with 32-bit descriptors.
    pub const BLOCK_STATUS: u16 = 5;
    /// Block status with 64-bit descriptors.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// Set in every type that is an error, known or not.
    pub const ERROR_BIT: u16 = 1 << 15;
    /// An error.
    pub const ERROR: u16 = 0x8001;
    /// An error with an offset.
    pub const ERROR_OFFSET: u16 = 0x8002;
}

/// The fields of a message, read one after the other; `None` where the bytes end before.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// All of the message was read.
    pub(crate) const fn end(&self) -> Option<()> {
        if self.0.is_empty() { Some(()) } else { None }
    }
}
