//! What can be wrong with a stream that is read, and at which of its bytes.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use super::super::error::ReadError as JsonError;
use super::FrameKind;

/// A stream that is not a sound sparse stream. `at` is a position in the stream, in bytes; other numbers are bytes of the disk.
///
/// ```
/// use std::error::Error;
///
/// use nbd_extents_formats::sparse_stream::Reader;
///
/// let stream = b"meta 0000000000000000 0000000000000002\r\n{}\r\n";
/// let error = Reader::new().next(&mut &stream[..]).unwrap_err();
/// assert_eq!(error.to_string(), "byte 40 of the stream: the JSON of the meta frame cannot be used");
/// assert_eq!(error.source().unwrap().to_string(), "line 1 (byte 0): there is no \"virtual-size\"");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no frame header where one must be.
    #[error("byte {at} of the stream: not the header of a frame")]
    Header {
        /// Where the header starts.
        at: u64,
    },
    /// A frame is not allowed here: the first has to be the meta frame, and no other may.
    #[error("byte {at} of the stream: a {kind} frame out of place")]
    OutOfPlace {
        /// Where its header starts.
        at: u64,
        /// What it is.
        kind: FrameKind,
    },
    /// The meta frame is larger than [`Reader::MAX_META`](super::Reader::MAX_META).
    #[error("byte {at} of the stream: a meta frame of {length} bytes is larger than {max}", max = super::Reader::MAX_META)]
    MetaTooLarge {
        /// Where its header starts.
        at: u64,
        /// How long it claims to be.
        length: u64,
    },
    /// The JSON of the meta frame cannot be used. What is wrong with it is the error's source.
    #[error("byte {at} of the stream: the JSON of the meta frame cannot be used")]
    Meta {
        /// Where the JSON starts.
        at: u64,
        /// What is wrong with it, and where in it.
        #[source]
        error: JsonError,
    },
    /// A payload is not followed by a line's end.
    #[error("byte {at} of the stream: a payload does not end where its frame says")]
    Terminator {
        /// The byte that should have been part of the line's end.
        at: u64,
    },
    /// A frame is empty.
    #[error("byte {at} of the stream: a {kind} frame without a length, at byte {start} of the disk")]
    Empty {
        /// Where its header starts.
        at: u64,
        /// What it is.
        kind: FrameKind,
        /// The byte of the disk.
        start: u64,
    },
    /// A frame goes back.
    #[error(
        "byte {at} of the stream: a frame for byte {start} of the disk comes after one that ends at byte {expected}"
    )]
    Overlap {
        /// Where its header starts.
        at: u64,
        /// Where it starts on the disk.
        start: u64,
        /// The lowest byte of the disk where it could start.
        expected: u64,
    },
    /// A frame leaves the disk.
    #[error(
        "byte {at} of the stream: a frame of {length} bytes for byte {start} leaves a disk of {size} bytes"
    )]
    PastEnd {
        /// Where its header starts.
        at: u64,
        /// Where it starts on the disk.
        start: u64,
        /// How long it is.
        length: u64,
        /// The size of the disk.
        size: u64,
    },
    /// A full stream says nothing of some bytes of the disk.
    #[error("byte {at} of the stream: a full backup leaves out bytes {}..{} of the disk", range.start, range.end)]
    Gap {
        /// Where the next frame's header starts.
        at: u64,
        /// The bytes of the disk.
        range: Range<u64>,
    },
    /// There is more data than the meta frame says.
    #[error("byte {at} of the stream: more data than the {expected} bytes that the meta frame says")]
    TooMuchData {
        /// Where the header of the frame that is too much starts.
        at: u64,
        /// What the meta frame says.
        expected: u64,
    },
    /// The stream ends before its stop frame: something that made or carried it has failed.
    #[error("the stream ends at byte {at}, {place}, before its stop frame: it is not whole")]
    Truncated {
        /// Its length.
        at: u64,
        /// Where in a frame that is.
        place: Place,
    },
    /// Something follows the stop frame.
    #[error("byte {at} of the stream: bytes behind the stop frame")]
    Trailing {
        /// The first of them.
        at: u64,
    },
}

/// Where in a frame a stream has ended.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Place, ReadError, Reader};
///
/// let mut reader = Reader::new();
/// assert_eq!(reader.next(&mut &b"meta 00000000"[..])?, None, "more is needed");
/// assert_eq!(reader.finish(), Err(ReadError::Truncated { at: 13, place: Place::Header }));
/// # Ok::<(), ReadError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// Between two frames, or before the first.
    BetweenFrames,
    /// In a header.
    Header,
    /// In the JSON of the meta frame.
    Meta,
    /// In the payload of a data frame.
    Payload,
    /// In what ends a payload.
    Terminator,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BetweenFrames => "between two frames",
            Self::Header => "in a header",
            Self::Meta => "in the meta frame",
            Self::Payload => "in a payload",
            Self::Terminator => "behind a payload",
        })
    }
}
