//! Option requests and the headers of their replies (NBD protocol, "Fixed newstyle negotiation").
//!
//! ```text
//! request 16 + n: IHAVEOPT:8 option:4 length:4 data
//! reply   20 + n: magic:8 option:4 type:4 length:4 data
//! ```

use core::fmt;

use super::{Fields, IHAVEOPT, option_type};

/// The header of an option reply.
///
/// ```
/// use nbd_client::frame::{OPTION_REPLY_MAGIC, OptionReply, option_reply_type, option_type};
///
/// let bytes = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\x01\0\0\0\0";
/// let reply = OptionReply::decode(bytes).expect("20 bytes");
/// assert_eq!(reply.magic, OPTION_REPLY_MAGIC);
/// assert_eq!((reply.option, reply.kind), (option_type::STRUCTURED_REPLY, option_reply_type::ACK));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReply {
    /// The magic as sent: anything but [`OPTION_REPLY_MAGIC`](super::OPTION_REPLY_MAGIC) is a
    /// fault.
    pub magic: u64,
    /// The option that this answers.
    pub option: u32,
    /// See [`option_reply_type`](super::option_reply_type).
    pub kind: u32,
    /// Bytes of data after the header.
    pub length: u32,
}

impl OptionReply {
    /// Bytes of the header.
    pub const LEN: usize = 20;

    /// Decodes a header from the start of `bytes`; `None` if there are fewer than [`Self::LEN`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (magic, option) = (fields.u64()?, fields.u32()?);
        Some(Self { magic, option, kind: fields.u32()?, length: fields.u32()? })
    }
}

/// The number of an option, printed by its name.
///
/// ```
/// use nbd_client::frame::{OptionName, option_type};
///
/// assert_eq!(OptionName(option_type::SET_META_CONTEXT).to_string(), "SET_META_CONTEXT");
/// assert_eq!(OptionName(77).to_string(), "option 77");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptionName(pub u32);

impl fmt::Display for OptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            option_type::EXPORT_NAME => "EXPORT_NAME",
            option_type::ABORT => "ABORT",
            option_type::LIST => "LIST",
            option_type::STARTTLS => "STARTTLS",
            option_type::GO => "GO",
            option_type::STRUCTURED_REPLY => "STRUCTURED_REPLY",
            option_type::LIST_META_CONTEXT => "LIST_META_CONTEXT",
            option_type::SET_META_CONTEXT => "SET_META_CONTEXT",
            option_type::EXTENDED_HEADERS => "EXTENDED_HEADERS",
            other => return write!(f, "option {other}"),
        })
    }
}

/// Appends the request for an option with these data to `out`.
///
/// ```
/// use nbd_client::frame::{option_type, put_option};
///
/// let mut out = Vec::new();
/// put_option(&mut out, option_type::STRUCTURED_REPLY, &[]);
/// assert_eq!(out, b"IHAVEOPT\0\0\0\x08\0\0\0\0");
/// ```
pub fn put_option(out: &mut Vec<u8>, option: u32, data: &[u8]) {
    out.extend_from_slice(&IHAVEOPT.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    put_bytes(out, data);
}

/// The data of GO to the export of this name, with these types of information asked for.
pub(crate) fn go_data(export: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = Vec::new();
    put_bytes(&mut data, export.as_bytes());
    data.extend_from_slice(&u16::try_from(infos.len()).unwrap_or(u16::MAX).to_be_bytes());
    infos.iter().for_each(|info| data.extend_from_slice(&info.to_be_bytes()));
    data
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT of an export with these queries.
pub(crate) fn contexts_data(export: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    put_bytes(&mut data, export.as_bytes());
    put_length(&mut data, queries.len());
    queries.iter().for_each(|query| put_bytes(&mut data, query.as_bytes()));
    data
}

/// Bytes, and before them their number. A name was checked to be no longer than a string may be.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    debug_assert!(u32::try_from(length).is_ok(), "an option of more than 4 GiB");
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(option: u32, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_option(&mut out, option, data);
        out
    }

    #[test]
    fn the_captured_go() {
        let go = encoded(option_type::GO, &go_data("", &[3]));
        assert_eq!(go, b"IHAVEOPT\0\0\0\x07\0\0\0\x08\0\0\0\0\0\x01\0\x03");
    }

    #[test]
    fn the_captured_list_and_set() {
        let list = encoded(option_type::LIST_META_CONTEXT, &contexts_data("", &[]));
        assert_eq!(list, b"IHAVEOPT\0\0\0\x09\0\0\0\x08\0\0\0\0\0\0\0\0");
        let names = ["qemu:dirty-bitmap:b0", "qemu:allocation-depth", "base:allocation"];
        let set = encoded(option_type::SET_META_CONTEXT, &contexts_data("", &names));
        assert_eq!(set[12..16], [0, 0, 0, 0x4c]);
        assert_eq!(set.len(), 16 + 0x4c);
    }
}
