//! Requests of the transmission phase (NBD protocol, "Request message" and, for 32-byte headers,
//! "Extended request message").
//!
//! ```text
//! compact  28: magic:4 flags:2 type:2 cookie:8 offset:8 length:4
//! extended 32: magic:4 flags:2 type:2 cookie:8 offset:8 length:8
//! ```

use super::{EXTENDED_REQUEST_MAGIC, Headers, REQUEST_MAGIC, command};

/// One request header, before it is bytes.
///
/// ```
/// use nbd_client::frame::{RequestHeader, command};
/// use nbd_client::frame::Headers;
///
/// let read = RequestHeader { flags: 0, command: command::READ, cookie: 1, offset: 512, length: 4096 };
/// let mut out = Vec::new();
/// read.encode(Headers::Extended, &mut out)?;
/// assert_eq!(out.len(), RequestHeader::EXTENDED_LEN);
/// # Ok::<(), nbd_client::frame::RequestTooLong>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Command flags, see [`command_flag`](super::command_flag).
    pub flags: u16,
    /// Command number, see [`command`](super::command).
    pub command: u16,
    /// The number that the answer repeats.
    pub cookie: u64,
    /// The offset on the export, in bytes.
    pub offset: u64,
    /// How much of the export in bytes, or with `PAYLOAD_LEN` the bytes that follow the header.
    pub length: u64,
}

/// A length that does not fit the 32 bits of a compact request.
///
/// ```
/// use nbd_client::frame::{RequestHeader, RequestTooLong, command};
/// use nbd_client::frame::Headers;
///
/// let length = 1 << 32;
/// let all = RequestHeader { flags: 0, command: command::BLOCK_STATUS, cookie: 1, offset: 0, length };
/// let mut out = Vec::new();
/// assert_eq!(all.encode(Headers::Structured, &mut out), Err(RequestTooLong { length }));
/// assert!(out.is_empty() && all.encode(Headers::Extended, &mut out).is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request of {length} bytes does not fit a compact header, the most is 4294967295")]
pub struct RequestTooLong {
    /// The length asked for, in bytes.
    pub length: u64,
}

impl RequestHeader {
    /// Bytes of a compact request header.
    pub const COMPACT_LEN: usize = 28;
    /// Bytes of an extended request header.
    pub const EXTENDED_LEN: usize = 32;
    /// The end of the session, which has no answer.
    pub const DISC: Self = Self { flags: 0, command: command::DISC, cookie: 0, offset: 0, length: 0 };

    /// Appends the header to `out`, in the form that `headers` asks for.
    ///
    /// # Errors
    ///
    /// [`RequestTooLong`] if the length does not fit a compact header; `out` is then untouched.
    ///
    /// ```
    /// use nbd_client::frame::{Headers, RequestHeader};
    ///
    /// let request = RequestHeader { flags: 0, command: 7, cookie: 1, offset: 0, length: 1 << 22 };
    /// let mut out = Vec::new();
    /// request.encode(Headers::Structured, &mut out)?;
    /// assert_eq!(out.len(), RequestHeader::COMPACT_LEN);
    /// # Ok::<(), nbd_client::frame::RequestTooLong>(())
    /// ```
    pub fn encode(&self, headers: Headers, out: &mut Vec<u8>) -> Result<(), RequestTooLong> {
        let is_extended = headers == Headers::Extended;
        let length = self.length.to_be_bytes();
        let (high, low) = length.split_at(4);
        if !is_extended && high != [0; 4] {
            return Err(RequestTooLong { length: self.length });
        }
        let magic = if is_extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.command.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(if is_extended { &length } else { low });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: RequestHeader =
        RequestHeader { flags: 8, command: 7, cookie: 2, offset: 3, length: 1 << 33 };

    #[test]
    fn compact_is_28_bytes_and_has_no_room_for_64_bits() {
        let mut out = vec![0xa5];
        assert_eq!(STATUS.encode(Headers::Structured, &mut out), Err(RequestTooLong { length: 1 << 33 }));
        assert_eq!(out, [0xa5]);
        RequestHeader { length: 4, ..STATUS }.encode(Headers::Structured, &mut out).unwrap();
        assert_eq!(out.len(), 1 + RequestHeader::COMPACT_LEN);
        assert_eq!(out[1..9], [0x25, 0x60, 0x95, 0x13, 0, 8, 0, 7]);
        assert_eq!(out[25..], [0, 0, 0, 4]);
    }

    #[test]
    fn extended_is_32_bytes() {
        let mut out = Vec::new();
        STATUS.encode(Headers::Extended, &mut out).unwrap();
        assert_eq!(out.len(), RequestHeader::EXTENDED_LEN);
        assert_eq!(out[24..], (1_u64 << 33).to_be_bytes());
    }
}
