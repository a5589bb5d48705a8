//! Payloads of error chunks (NBD protocol, "Structured reply types", ERROR and ERROR_OFFSET).
//!
//! ```text
//! ERROR        : error:4 msglen:2 message            [slop is tolerated]
//! ERROR_OFFSET : error:4 msglen:2 message offset:8   the offset is the tail
//! ```
//!
//! An unknown type of the error class is read like ERROR: all of them start alike.

use super::{Fields, chunk_type};
use crate::text::ServerText;

/// The content of an error chunk.
///
/// ```
/// use nbd_client::frame::{ErrorChunk, chunk_type};
///
/// // EIO, no message, at byte 4096.
/// let payload = b"\0\0\0\x05\0\0\0\0\0\0\0\0\x10\0";
/// let chunk = ErrorChunk::decode(chunk_type::ERROR_OFFSET, payload, payload.len() as u64)?;
/// assert_eq!((chunk.errno, chunk.offset, chunk.slop), (5, Some(4096), 0));
/// # Ok::<(), nbd_client::frame::ErrorChunkFault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorChunk {
    /// The error number as sent; 0 is illegal, and up to the caller.
    pub errno: u32,
    /// The server's message.
    pub text: ServerText,
    /// The offset that the server gives for the failure, unchecked. Only an ERROR_OFFSET chunk has
    /// one.
    pub offset: Option<u64>,
    /// Bytes after the message that mean nothing.
    pub slop: u64,
}

/// Why a payload is no error chunk.
///
/// ```
/// use nbd_client::frame::{ErrorChunk, ErrorChunkFault, chunk_type};
///
/// // A message of 100 bytes, and two are there.
/// let fault = ErrorChunk::decode(chunk_type::ERROR, b"\0\0\0\x05\0\x64no", 8).unwrap_err();
/// assert_eq!(fault, ErrorChunkFault::MessageTooLong { claimed: 100, room: 2 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorChunkFault {
    /// Shorter than its fixed fields. The stream is still in step.
    #[error("an error chunk shorter than its fixed fields")]
    TooShort,
    /// The message claims more bytes than the payload has: the connection MUST end.
    #[error("an error message of {claimed} bytes in a payload with room for {room}")]
    MessageTooLong {
        /// The message's length as claimed, in bytes.
        claimed: u16,
        /// The bytes that the payload has for it.
        room: u64,
    },
}

impl ErrorChunk {
    /// As many bytes of a payload as can matter: fixed fields, the longest message, an offset. The
    /// rest is slop.
    pub const MAX_USED: u64 = 6 + 65535 + 8;

    /// Decodes a payload of `length` bytes, of which `bytes` holds the first [`Self::MAX_USED`] (or
    /// all).
    ///
    /// # Errors
    ///
    /// [`ErrorChunkFault`] names the fault and, by that, whether the connection survives it.
    ///
    /// ```
    /// use nbd_client::frame::ErrorChunk;
    ///
    /// let chunk = ErrorChunk::decode(0x8001, b"\0\0\0\x16\0\x02no", 8)?;
    /// assert_eq!((chunk.errno, chunk.text.as_str()), (22, "no"));
    /// # Ok::<(), nbd_client::frame::ErrorChunkFault>(())
    /// ```
    pub fn decode(kind: u16, bytes: &[u8], length: u64) -> Result<Self, ErrorChunkFault> {
        let tail = if kind == chunk_type::ERROR_OFFSET { 8 } else { 0 };
        let room = length.checked_sub(6 + tail).ok_or(ErrorChunkFault::TooShort)?;
        let mut fields = Fields(bytes);
        let (errno, claimed) = fields.u32().zip(fields.u16()).ok_or(ErrorChunkFault::TooShort)?;
        let slop =
            room.checked_sub(u64::from(claimed)).ok_or(ErrorChunkFault::MessageTooLong { claimed, room })?;
        let message = fields.bytes(usize::from(claimed)).ok_or(ErrorChunkFault::TooShort)?;
        let offset = if tail == 0 { None } else { fields.u64() };
        Ok(Self { errno, text: ServerText::new(message), offset, slop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(kind: u16, bytes: &[u8]) -> Result<ErrorChunk, ErrorChunkFault> {
        ErrorChunk::decode(kind, bytes, bytes.len() as u64)
    }

    #[test]
    fn row_35_message_longer_than_the_payload() {
        let fault = ErrorChunkFault::MessageTooLong { claimed: 9, room: 2 };
        assert_eq!(decode(0x8001, b"\0\0\0\x05\0\x09ab"), Err(fault));
    }

    #[test]
    fn row_36_slop_is_counted_and_skipped() {
        let chunk = decode(0x8001, b"\0\0\0\x05\0\x01abc").unwrap();
        assert_eq!((chunk.text.as_str(), chunk.slop), ("a", 2));
    }

    #[test]
    fn row_37_four_bytes_are_too_short() {
        assert_eq!(decode(0x8001, &[0, 0, 0, 5]), Err(ErrorChunkFault::TooShort));
        assert_eq!(decode(0x8001, &[]), Err(ErrorChunkFault::TooShort));
    }

    #[test]
    fn offset_is_after_the_message() {
        let chunk = decode(0x8002, b"\0\0\0\x05\0\x01a\0\0\0\0\0\0\x01\0").unwrap();
        assert_eq!(chunk.offset, Some(256));
    }

    #[test]
    fn the_offset_leaves_its_room_to_the_message() {
        let fault = ErrorChunkFault::MessageTooLong { claimed: 1, room: 0 };
        assert_eq!(decode(0x8002, b"\0\0\0\x05\0\x01a\0\0\0\0\0\0\x01"), Err(fault));
    }
}
