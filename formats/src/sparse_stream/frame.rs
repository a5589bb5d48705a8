//! One frame's 40 bytes of header, and the frame as it goes out.

use std::fmt;

use super::TERM;

/// The bytes of a frame's header.
pub const HEADER_SIZE: usize = 40;

/// What a frame is.
///
/// ```
/// assert_eq!(nbd_extents_formats::sparse_stream::FrameKind::Zero.to_string(), "zero");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The first frame: what the stream is about.
    Meta,
    /// Bytes of the disk.
    Data,
    /// Bytes of the disk that read as zero.
    Zero,
    /// The end.
    Stop,
}

impl FrameKind {
    const ALL: [Self; 4] = [Self::Meta, Self::Data, Self::Zero, Self::Stop];

    const fn word(self) -> &'static [u8; 4] {
        match self {
            Self::Meta => b"meta",
            Self::Data => b"data",
            Self::Zero => b"zero",
            Self::Stop => b"stop",
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meta => "meta",
            Self::Data => "data",
            Self::Zero => "zero",
            Self::Stop => "stop",
        })
    }
}

/// A header, as it stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_SIZE] {
        let mut bytes = *b"kind 0000000000000000 0000000000000000\r\n";
        let fields = [(0, &self.kind.word()[..]), (5, &hex(self.start)), (22, &hex(self.length))];
        for (at, field) in fields {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        }
        bytes
    }

    /// `None` when these bytes are not a header.
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Option<Self> {
        let (word, rest) = bytes.split_first_chunk()?;
        let (start, rest) = rest.strip_prefix(b" ")?.split_first_chunk()?;
        let (length, rest) = rest.strip_prefix(b" ")?.split_first_chunk()?;
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.word() == word)?;
        (rest == TERM).then_some(Self { kind, start: number(start)?, length: number(length)? })
    }
}

fn hex(number: u64) -> [u8; 16] {
    let mut digits = number.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    std::array::from_fn(|_| match digits.next() {
        Some(digit @ 10..) => b'a' + (digit - 10),
        Some(digit) => b'0' + digit,
        None => b'0',
    })
}

fn number(digits: &[u8; 16]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

/// A whole frame, to be written as it is: what [`Writer`](super::Writer) makes.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::incremental(1 << 20, 4, "now"))?;
/// let frame = writer.data(4096, b"data")?;
/// assert_eq!(frame.parts(), [&b"data 0000000000001000 0000000000000004\r\n"[..], b"data", b"\r\n"]);
/// # Ok::<(), nbd_extents_formats::sparse_stream::WriteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a frame that was made has to be written"]
pub struct Frame<'a> {
    pub(super) header: [u8; HEADER_SIZE],
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn new(kind: FrameKind, start: u64, length: u64, payload: &'a [u8]) -> Self {
        Self { header: Header { kind, start, length }.encode(), payload }
    }

    /// The bytes of the frame, in three parts so that the payload is not copied: header, payload, and what ends a payload.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 3] {
        let end: &[u8] = if self.payload.is_empty() { &[] } else { &TERM };
        [&self.header, self.payload, end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &[u8; HEADER_SIZE] = b"zero 00000000000000ff 000000003fffffff\r\n";

    #[test]
    fn header_is_forty_bytes_both_ways() {
        let header = Header { kind: FrameKind::Zero, start: 255, length: (1 << 30) - 1 };
        assert_eq!(&header.encode(), ZERO);
        assert_eq!(Header::decode(ZERO), Some(header));
    }

    #[test]
    fn extremes_of_both_numbers() {
        for (start, length) in [(0, 0), (u64::MAX, u64::MAX), (0x0123_4567_89ab_cdef, 1)] {
            for kind in FrameKind::ALL {
                let header = Header { kind, start, length };
                assert_eq!(Header::decode(&header.encode()), Some(header));
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        for at in 0..HEADER_SIZE {
            let mut bytes = *ZERO;
            bytes[at] = b'x';
            assert_eq!(Header::decode(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn digits_may_be_upper_case_and_nothing_else() {
        let upper = b"zero 00000000000000FF 000000003FFFFFFF\r\n";
        assert_eq!(Header::decode(upper), Header::decode(ZERO));
        for other in
            [b"zero +0000000000000ff 000000003fffffff\r\n", b"zero  0000000000000ff 000000003fffffff\r\n"]
        {
            assert_eq!(Header::decode(other), None);
        }
    }
}
