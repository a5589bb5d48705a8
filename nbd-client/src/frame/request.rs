//! Requests of the transmission phase (NBD protocol, "Request message" and, for 32-byte headers,
//! "Extended request message").
//!
//! ```text
//! compact  28: magic:4 flags:2 type:2 cookie:8 offset:8 length:4
//! extended 32: magic:4 flags:2 type:2 cookie:8 offset:8 length:8
//! ```

use super::{EXTENDED_REQUEST_MAGIC, Headers, REQUEST_MAGIC, command};

/// One request header, before it is bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHeader {
    /// Command flags, see [`command_flag`](super::command_flag).
    pub(crate) flags: u16,
    /// Command number, see [`command`].
    pub(crate) command: u16,
    /// The number that the answer repeats.
    pub(crate) cookie: u64,
    /// The offset on the export, in bytes.
    pub(crate) offset: u64,
    /// How much of the export in bytes, or with `PAYLOAD_LEN` the bytes that follow the header.
    pub(crate) length: u64,
}

impl RequestHeader {
    /// The end of the session, which has no answer.
    pub(crate) const DISC: Self = Self { flags: 0, command: command::DISC, cookie: 0, offset: 0, length: 0 };

    /// Appends the header to `out`, in the form that `headers` asks for. The caller has checked
    /// that the length fits it.
    pub(crate) fn encode(&self, headers: Headers, out: &mut Vec<u8>) {
        let is_extended = headers == Headers::Extended;
        let magic = if is_extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.command.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        let length = self.length.to_be_bytes();
        let (high, low) = length.split_at(4);
        debug_assert!(is_extended || high == [0; 4], "{} bytes in a compact header", self.length);
        out.extend_from_slice(if is_extended { &length } else { low });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: RequestHeader =
        RequestHeader { flags: 8, command: 7, cookie: 2, offset: 3, length: 1 << 33 };

    #[test]
    fn compact_is_28_bytes() {
        let mut out = vec![0xa5];
        RequestHeader { length: 4, ..STATUS }.encode(Headers::Structured, &mut out);
        assert_eq!(out.len(), 1 + 28);
        assert_eq!(out[1..9], [0x25, 0x60, 0x95, 0x13, 0, 8, 0, 7]);
        assert_eq!(out[25..], [0, 0, 0, 4]);
    }

    #[test]
    fn extended_is_32_bytes() {
        let mut out = Vec::new();
        STATUS.encode(Headers::Extended, &mut out);
        assert_eq!(out.len(), 32);
        assert_eq!(out[24..], (1_u64 << 33).to_be_bytes());
    }
}
