//! Headers of replies (NBD protocol, "Simple reply message", "Structured reply chunk message",
//! "Extended reply chunk message").
//!
//! ```text
//! simple     16: magic:4 error:4         cookie:8
//! structured 20: magic:4 flags:2 type:2  cookie:8 length:4
//! extended   32: magic:4 flags:2 type:2  cookie:8 offset:8 length:8
//! ```
//!
//! The cookie is at byte 8 in all three, and the magic says which one it is: four bytes tell how
//! many more to read.

use super::{EXTENDED_REPLY_MAGIC, Fields, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, reply_flag};

/// The header of a reply, of whichever kind its magic says.
///
/// ```
/// use nbd_client::frame::ReplyHeader;
///
/// // Four bytes tell how long the header is.
/// let bytes = b"\x67\x44\x66\x98\0\0\0\x05\0\0\0\0\0\0\0\x09";
/// assert_eq!(ReplyHeader::len_of(&bytes[..4]), Ok(16));
/// assert_eq!(ReplyHeader::decode(bytes), Some(ReplyHeader::Simple { error: 5, cookie: 9 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A whole reply without a payload of its own length.
    Simple {
        /// 0 or an error number.
        error: u32,
        /// The request that this answers.
        cookie: u64,
    },
    /// A chunk with `length` bytes of payload after it.
    Chunk(ChunkHeader),
}

/// The header of a structured or extended chunk.
///
/// ```
/// use nbd_client::frame::{ChunkHeader, chunk_type, reply_flag};
///
/// let kind = chunk_type::BLOCK_STATUS;
/// let first = ChunkHeader { flags: 0, kind, cookie: 9, offset: None, length: 12 };
/// assert!(!first.is_done());
/// assert!(ChunkHeader { flags: reply_flag::DONE, ..first }.is_done());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// See [`reply_flag`].
    pub flags: u16,
    /// See [`chunk_type`](super::chunk_type).
    pub kind: u16,
    /// The request that this answers.
    pub cookie: u64,
    /// The request's offset in bytes, which only an extended header repeats.
    pub offset: Option<u64>,
    /// Bytes of payload after the header.
    pub length: u64,
}

/// Four bytes that begin no reply.
///
/// ```
/// use nbd_client::frame::{ReplyHeader, UnknownMagic};
///
/// assert_eq!(ReplyHeader::len_of(b"HTTP/1.1"), Err(UnknownMagic(0x4854_5450)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMagic(pub u32);

impl ChunkHeader {
    /// True for the last chunk of a reply.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.flags & reply_flag::DONE != 0
    }
}

impl ReplyHeader {
    /// Bytes of the shortest header: a simple reply.
    pub const MIN_LEN: usize = 16;
    /// Bytes of the longest header: an extended chunk.
    pub const MAX_LEN: usize = 32;

    /// How long the header is whose first bytes are `start`, in bytes. With fewer than 4 it is
    /// [`Self::MIN_LEN`] at least.
    ///
    /// # Errors
    ///
    /// [`UnknownMagic`] if the first four bytes begin no reply.
    pub fn len_of(start: &[u8]) -> Result<usize, UnknownMagic> {
        match Fields(start).u32() {
            None | Some(SIMPLE_REPLY_MAGIC) => Ok(Self::MIN_LEN),
            Some(STRUCTURED_REPLY_MAGIC) => Ok(20),
            Some(EXTENDED_REPLY_MAGIC) => Ok(Self::MAX_LEN),
            Some(other) => Err(UnknownMagic(other)),
        }
    }

    /// Decodes a header from the start of `bytes`; `None` if there are too few, or if they begin no
    /// reply.
    ///
    /// ```
    /// use nbd_client::frame::{ChunkHeader, ReplyHeader};
    ///
    /// let bytes = [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 12];
    /// let header = ChunkHeader { flags: 1, kind: 5, cookie: 9, offset: None, length: 12 };
    /// assert_eq!(ReplyHeader::decode(&bytes), Some(ReplyHeader::Chunk(header)));
    /// assert_eq!(ReplyHeader::decode(&bytes[..19]), None);
    /// ```
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        if magic == SIMPLE_REPLY_MAGIC {
            return Some(Self::Simple { error: fields.u32()?, cookie: fields.u64()? });
        }
        let (flags, kind, cookie) = (fields.u16()?, fields.u16()?, fields.u64()?);
        let (offset, length) = match magic {
            EXTENDED_REPLY_MAGIC => (Some(fields.u64()?), fields.u64()?),
            STRUCTURED_REPLY_MAGIC => (None, fields.u32()?.into()),
            _ => return None,
        };
        Some(Self::Chunk(ChunkHeader { flags, kind, cookie, offset, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_tells_the_length() {
        assert_eq!(ReplyHeader::len_of(&[0x67, 0x44]), Ok(16));
        assert_eq!(ReplyHeader::len_of(&0x6744_6698_u32.to_be_bytes()), Ok(16));
        assert_eq!(ReplyHeader::len_of(&0x668e_33ef_u32.to_be_bytes()), Ok(20));
        assert_eq!(ReplyHeader::len_of(&0x6e8a_278c_u32.to_be_bytes()), Ok(32));
    }

    #[test]
    fn historic_magics_are_never_accepted() {
        for magic in [0x1256_0953_u32, 0x9674_4668, 0x2560_9514] {
            assert_eq!(ReplyHeader::len_of(&magic.to_be_bytes()), Err(UnknownMagic(magic)));
        }
    }
}
