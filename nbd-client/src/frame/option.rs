//! Option requests and the headers of their replies (NBD protocol, "Fixed newstyle negotiation").
//!
//! ```text
//! request 16 + n: IHAVEOPT:8 option:4 length:4 data
//! reply   20 + n: magic:8 option:4 type:4 length:4 data
//! ```

use core::fmt;

use super::{IHAVEOPT, MAX_STRING, option_type, take_u32, take_u64};

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
        let (magic, rest) = take_u64(bytes)?;
        let (option, rest) = take_u32(rest)?;
        let (kind, rest) = take_u32(rest)?;
        let (length, _) = take_u32(rest)?;
        Some(Self { magic, option, kind, length })
    }
}

/// An option request, before it is bytes.
///
/// ```
/// use nbd_client::frame::OptionRequest;
///
/// let mut out = Vec::new();
/// OptionRequest::Structured.encode(&mut out);
/// assert_eq!(out, b"IHAVEOPT\0\0\0\x08\0\0\0\0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionRequest<'a> {
    /// EXPORT_NAME, of this name.
    ExportName(&'a str),
    /// ABORT: leaves the handshake.
    Abort,
    /// LIST: the exports.
    List,
    /// STARTTLS.
    StartTls,
    /// GO to the export of this name, with these types of information asked for.
    Go(&'a str, &'a [u16]),
    /// STRUCTURED_REPLY.
    Structured,
    /// LIST_META_CONTEXT of an export with these queries.
    ListContexts(&'a str, &'a [&'a str]),
    /// SET_META_CONTEXT of an export to these names.
    SetContexts(&'a str, &'a [&'a str]),
    /// EXTENDED_HEADERS.
    ExtendedHeaders,
}

impl OptionRequest<'_> {
    /// The option's number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        match self {
            Self::ExportName(_) => option_type::EXPORT_NAME,
            Self::Abort => option_type::ABORT,
            Self::List => option_type::LIST,
            Self::StartTls => option_type::STARTTLS,
            Self::Go(..) => option_type::GO,
            Self::Structured => option_type::STRUCTURED_REPLY,
            Self::ListContexts(..) => option_type::LIST_META_CONTEXT,
            Self::SetContexts(..) => option_type::SET_META_CONTEXT,
            Self::ExtendedHeaders => option_type::EXTENDED_HEADERS,
        }
    }

    /// Appends the whole request to `out`. Names longer than the protocol's 4096 bytes are cut;
    /// check them before.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        match *self {
            Self::ExportName(name) => data.extend_from_slice(cap(name)),
            Self::Go(name, infos) => {
                put_string(&mut data, name);
                put_count(&mut data, infos.len(), 2);
                infos.iter().for_each(|info| data.extend_from_slice(&info.to_be_bytes()));
            }
            Self::ListContexts(name, queries) | Self::SetContexts(name, queries) => {
                put_string(&mut data, name);
                put_count(&mut data, queries.len(), 4);
                queries.iter().for_each(|query| put_string(&mut data, query));
            }
            Self::Abort | Self::List | Self::StartTls | Self::Structured | Self::ExtendedHeaders => {}
        }
        out.extend_from_slice(&IHAVEOPT.to_be_bytes());
        out.extend_from_slice(&self.number().to_be_bytes());
        put_count(out, data.len(), 4);
        out.extend_from_slice(&data);
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

fn cap(name: &str) -> &[u8] {
    let bytes = name.as_bytes();
    bytes.get(..MAX_STRING).unwrap_or(bytes)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = cap(text);
    put_count(out, bytes.len(), 4);
    out.extend_from_slice(bytes);
}

/// A count in the last `width` bytes of its big-endian form.
fn put_count(out: &mut Vec<u8>, count: usize, width: usize) {
    let bytes = (count as u64).to_be_bytes();
    out.extend_from_slice(bytes.get(8_usize.saturating_sub(width)..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(request: OptionRequest<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.encode(&mut out);
        out
    }

    #[test]
    fn the_captured_go() {
        let go = encoded(OptionRequest::Go("", &[3]));
        assert_eq!(go, b"IHAVEOPT\0\0\0\x07\0\0\0\x08\0\0\0\0\0\x01\0\x03");
    }

    #[test]
    fn the_captured_list_and_set() {
        let list = encoded(OptionRequest::ListContexts("", &[]));
        assert_eq!(list, b"IHAVEOPT\0\0\0\x09\0\0\0\x08\0\0\0\0\0\0\0\0");
        let names = ["qemu:dirty-bitmap:b0", "qemu:allocation-depth", "base:allocation"];
        let set = encoded(OptionRequest::SetContexts("", &names));
        assert_eq!(set[12..16], [0, 0, 0, 0x4c]);
        assert_eq!(set.len(), 16 + 0x4c);
    }
}
