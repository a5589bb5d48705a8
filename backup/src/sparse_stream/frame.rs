//! The 40 bytes of a frame's header, and a frame as it is written.

use std::fmt;
use std::io::Write;

use nbd_extents::chain::Checksum;

use super::TERM;

/// The bytes of a frame's header.
pub const HEADER_SIZE: usize = 40;

/// The kind of a frame.
///
/// ```
/// assert_eq!(nbd_extents_backup::sparse_stream::FrameKind::Zero.to_string(), "zero");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The first frame, which describes the stream.
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

    const fn word(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Data => "data",
            Self::Zero => "zero",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The header of a frame. In a stop frame both numbers are halves of the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_SIZE] {
        let Self { kind, start, length } = self;
        let mut bytes = [0; HEADER_SIZE];
        let written = write!(&mut bytes[..], "{kind} {start:016x} {length:016x}\r\n");
        debug_assert!(written.is_ok(), "two numbers have 32 digits, and the rest 8 bytes");
        bytes
    }

    /// The stop frame with this checksum; of zeroes where the stream has none.
    pub(super) fn stop(checksum: Option<Checksum>) -> Self {
        let bits = checksum.map_or(0, Checksum::bits);
        let [start, length] = split(bits);
        Self { kind: FrameKind::Stop, start, length }
    }

    /// The checksum of a stop frame; `None` for zeroes, which stand for no checksum.
    pub(super) fn checksum(self) -> Option<Checksum> {
        let bits = u128::from(self.start) << 64 | u128::from(self.length);
        (bits > 0).then_some(Checksum::new(bits))
    }

    /// `None` when these bytes are not a header.
    pub(super) fn decode(bytes: &[u8; HEADER_SIZE]) -> Option<Self> {
        let (word, rest) = bytes.split_at_checked(4)?;
        let (start, rest) = rest.strip_prefix(b" ")?.split_first_chunk()?;
        let (length, rest) = rest.strip_prefix(b" ")?.split_first_chunk()?;
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.word().as_bytes() == word)?;
        (rest == TERM).then_some(Self { kind, start: number(start)?, length: number(length)? })
    }
}

/// Whether bytes are the header of a meta frame, with which every stream begins.
pub(crate) fn begins_stream(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().and_then(Header::decode);
    header.is_some_and(|header| header.kind == FrameKind::Meta)
}

/// The high half and the low half.
#[allow(clippy::cast_possible_truncation, reason = "each half is cut on purpose")]
const fn split(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

fn number(digits: &[u8; 16]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

/// A whole frame of a [`Writer`](super::Writer), to be written as it is.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::incremental(1 << 20, 4, "now"))?;
/// let frame = writer.data(4096, b"data")?;
/// assert_eq!(frame.parts(), [&b"data 0000000000001000 0000000000000004\r\n"[..], b"data", b"\r\n"]);
/// # Ok::<(), nbd_extents_backup::sparse_stream::FrameFault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a frame that was made has to be written"]
pub struct Frame<'a> {
    pub(super) header: [u8; HEADER_SIZE],
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn new(header: Header, payload: &'a [u8]) -> Self {
        Self { header: header.encode(), payload }
    }

    /// The bytes of the frame: header, payload and the payload's line end. The payload is not
    /// copied.
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
    fn both_halves_of_a_checksum_come_back() {
        for bits in [1, 1 << 64, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let header = Header::stop(Some(Checksum::new(bits)));
            assert_eq!(Header::decode(&header.encode()), Some(header));
            assert_eq!(header.checksum(), Some(Checksum::new(bits)));
        }
        let plain = Header::stop(None);
        assert_eq!(&plain.encode(), b"stop 0000000000000000 0000000000000000\r\n");
        assert_eq!(plain.checksum(), None);
        let text = Header::stop(Some(Checksum::new(0x0123_4567_89ab_cdef_0011_2233_4455_6677))).encode();
        assert_eq!(&text, b"stop 0123456789abcdef 0011223344556677\r\n");
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

    #[test]
    fn a_stream_begins_with_the_header_of_a_meta_frame() {
        let header = |kind| Header { kind, start: 0, length: 5 }.encode();
        assert!(begins_stream(&header(FrameKind::Meta)));
        assert!(begins_stream(&[&header(FrameKind::Meta)[..], b"{}"].concat()));
        assert!(!begins_stream(&header(FrameKind::Zero)));
        assert!(!begins_stream(&header(FrameKind::Meta)[..39]) && !begins_stream(b""));
    }
}
