//! A server's messages as bytes, right or wrong: lengths are counted unless a function takes them.

use nbd_client::frame::{
    EXTENDED_REPLY_MAGIC, Headers, IHAVEOPT, NBDMAGIC, OPTION_REPLY_MAGIC, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, chunk_type, info_type,
};

/// A length as the 32 bits of a field; what does not fit becomes the most that does.
fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The client's decoders are under test, so a script reads its numbers without them.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
}

pub(super) fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    take(bytes).map(|(head, rest)| (u16::from_be_bytes(head), rest))
}

pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    take(bytes).map(|(head, rest)| (u32::from_be_bytes(head), rest))
}

pub(super) fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    take(bytes).map(|(head, rest)| (u64::from_be_bytes(head), rest))
}

/// The first 18 bytes of a newstyle server, with these handshake flags.
///
/// ```
/// use testkit::scripted::bytes;
///
/// assert_eq!(bytes::hello(3), b"NBDMAGICIHAVEOPT\0\x03");
/// ```
#[must_use]
pub fn hello(flags: u16) -> Vec<u8> {
    [&NBDMAGIC.to_be_bytes()[..], &IHAVEOPT.to_be_bytes(), &flags.to_be_bytes()].concat()
}

/// The header of an option reply, whose payload claims `length` bytes.
///
/// ```
/// use testkit::scripted::bytes;
///
/// // It claims 9 bytes, and they never come.
/// let cut = bytes::option_reply_header(7, 3, 9);
/// assert_eq!(cut, b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x09");
/// ```
#[must_use]
pub fn option_reply_header(option: u32, kind: u32, length: u32) -> Vec<u8> {
    let mut out = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for word in [option, kind, length] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out
}

/// An option reply.
///
/// ```
/// use testkit::scripted::bytes;
///
/// let ack = bytes::option_reply(8, 1, b"");
/// assert_eq!(ack, b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\x01\0\0\0\0");
/// ```
#[must_use]
pub fn option_reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = option_reply_header(option, kind, short(payload.len()));
    out.extend_from_slice(payload);
    out
}

/// The payload of a META_CONTEXT reply.
///
/// ```
/// use testkit::scripted::bytes;
///
/// assert_eq!(bytes::context(7, b"base:allocation"), b"\0\0\0\x07base:allocation");
/// ```
#[must_use]
pub fn context(id: u32, name: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], name].concat()
}

/// The payload of an INFO reply about size and transmission flags.
///
/// ```
/// use testkit::scripted::bytes;
///
/// assert_eq!(bytes::export_info(1 << 20, 3), b"\0\0\0\0\0\0\0\x10\0\0\0\x03");
/// ```
#[must_use]
pub fn export_info(size: u64, flags: u16) -> Vec<u8> {
    [&info_type::EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &flags.to_be_bytes()].concat()
}

/// The payload of an INFO reply about block sizes: minimum, preferred, maximum payload, in bytes.
///
/// ```
/// use testkit::scripted::bytes;
///
/// let info = bytes::block_size_info([512, 4096, 1 << 25]);
/// assert_eq!(info, b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0");
/// ```
#[must_use]
pub fn block_size_info(sizes: [u32; 3]) -> Vec<u8> {
    let mut out = info_type::BLOCK_SIZE.to_be_bytes().to_vec();
    sizes.iter().for_each(|size| out.extend_from_slice(&size.to_be_bytes()));
    out
}

/// A simple reply.
///
/// ```
/// use nbd_client::frame::ReplyHeader;
/// use testkit::scripted::bytes;
///
/// let reply = bytes::simple_reply(5, 9);
/// assert_eq!(ReplyHeader::decode(&reply), Some(ReplyHeader::Simple { error: 5, cookie: 9 }));
/// ```
#[must_use]
pub fn simple_reply(errno: u32, cookie: u64) -> Vec<u8> {
    [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &errno.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

/// The header of a structured chunk, whose payload claims `length` bytes.
///
/// ```
/// use nbd_client::frame::{ChunkHeader, ReplyHeader};
/// use testkit::scripted::bytes;
///
/// let header = ChunkHeader { flags: 1, kind: 5, cookie: 9, offset: None, length: 12 };
/// let bytes = bytes::structured_header(1, 5, 9, 12);
/// assert_eq!(ReplyHeader::decode(&bytes), Some(ReplyHeader::Chunk(header)));
/// ```
#[must_use]
pub fn structured_header(flags: u16, kind: u16, cookie: u64, length: u32) -> Vec<u8> {
    let mut out = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out
}

/// The header of an extended chunk, whose payload claims `length` bytes.
///
/// ```
/// use nbd_client::frame::{ChunkHeader, ReplyHeader};
/// use testkit::scripted::bytes;
///
/// let header = ChunkHeader { flags: 1, kind: 6, cookie: 9, offset: Some(4096), length: 24 };
/// let bytes = bytes::extended_header(1, 6, 9, 4096, 24);
/// assert_eq!(ReplyHeader::decode(&bytes), Some(ReplyHeader::Chunk(header)));
/// ```
#[must_use]
pub fn extended_header(flags: u16, kind: u16, cookie: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut out = EXTENDED_REPLY_MAGIC.to_be_bytes().to_vec();
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    for word in [cookie, offset, length] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out
}

/// A structured chunk.
///
/// ```
/// use testkit::scripted::bytes;
///
/// let error = bytes::structured_chunk(1, 0x8001, 9, &bytes::error(5, b"no"));
/// assert_eq!(error[..20], bytes::structured_header(1, 0x8001, 9, 8));
/// assert_eq!(error.len(), 20 + 8);
/// ```
#[must_use]
pub fn structured_chunk(flags: u16, kind: u16, cookie: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = structured_header(flags, kind, cookie, short(payload.len()));
    out.extend_from_slice(payload);
    out
}

/// An extended chunk.
///
/// ```
/// use testkit::scripted::bytes;
///
/// let error = bytes::extended_chunk(1, 0x8001, 9, 4096, &bytes::error(5, b"no"));
/// assert_eq!(error[..32], bytes::extended_header(1, 0x8001, 9, 4096, 8));
/// assert_eq!(error.len(), 32 + 8);
/// ```
#[must_use]
pub fn extended_chunk(flags: u16, kind: u16, cookie: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = extended_header(flags, kind, cookie, offset, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

/// The payload of a status chunk in the form that goes with these headers: a context's id, and
/// (length, flags) for each descriptor. In the 32-bit form, what does not fit becomes the most that
/// does.
///
/// ```
/// use nbd_client::frame::Headers;
/// use testkit::scripted::bytes;
///
/// // Context 7: 4096 bytes that are a hole and read as zeroes.
/// let payload = bytes::status(Headers::Structured, 7, &[(4096, 3)]);
/// assert_eq!(payload, [0, 0, 0, 7, 0, 0, 0x10, 0, 0, 0, 0, 3]);
/// ```
#[must_use]
pub fn status(headers: Headers, context: u32, descriptors: &[(u64, u64)]) -> Vec<u8> {
    let mut out = context.to_be_bytes().to_vec();
    if headers == Headers::Extended {
        out.extend_from_slice(&short(descriptors.len()).to_be_bytes());
    }
    for &(length, flags) in descriptors {
        for number in [length, flags] {
            if headers == Headers::Extended {
                out.extend_from_slice(&number.to_be_bytes());
            } else {
                out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
    }
    out
}

/// The type of a status chunk that goes with these headers.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::frame::chunk_type;
/// use testkit::scripted::bytes;
///
/// let kind = bytes::status_kind(Headers::Extended);
/// assert_eq!(kind, chunk_type::BLOCK_STATUS_EXT);
/// ```
#[must_use]
pub const fn status_kind(headers: Headers) -> u16 {
    match headers {
        Headers::Extended => chunk_type::BLOCK_STATUS_EXT,
        Headers::Simple | Headers::Structured => chunk_type::BLOCK_STATUS,
    }
}

/// The payload of an error chunk.
///
/// ```
/// use testkit::scripted::bytes;
///
/// assert_eq!(bytes::error(5, b"no"), b"\0\0\0\x05\0\x02no");
/// ```
#[must_use]
pub fn error(errno: u32, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&errno.to_be_bytes()[..], &length.to_be_bytes(), text].concat()
}
