//! Faults of streams: of one that is read, with their place, and of one that is written.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use nbd_extents::chain::Checksum;

use super::{FrameKind, MetaError};

/// A stream that is not a sound sparse stream: the fault, its frame and its byte in the stream.
///
/// ```
/// use std::error::Error;
///
/// use nbd_extents_backup::sparse_stream::Reader;
///
/// let stream = b"meta 0000000000000000 0000000000000002\r\n[]\r\n";
/// let error = Reader::new().next(&mut &stream[..]).unwrap_err();
/// assert_eq!((error.frame, error.at), (0, 40));
/// assert_eq!(
///     error.to_string(),
///     "frame 0, byte 40 of the stream: the JSON of the meta frame cannot be used"
/// );
/// assert_eq!(error.source().unwrap().to_string(), "the JSON is not an object");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The frame, counted from 0, which is the meta frame.
    pub frame: u64,
    /// The byte in the stream, counted from 0.
    pub at: u64,
    /// The fault.
    pub fault: FrameFault,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, at, fault } = self;
        write!(f, "frame {frame}, byte {at} of the stream: {fault}")
    }
}

/// The fault is part of the message, so that the cause is the fault's own.
impl Error for FrameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// The faults of a frame, one that is read or one that is to be written. Ranges
/// and offsets are bytes of the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// There is no frame header where one must be.
    #[error("not the header of a frame")]
    Header,
    /// The meta frame is not the first, or is there again.
    #[error("a {kind} frame out of place")]
    OutOfPlace {
        /// The kind of the frame.
        kind: FrameKind,
    },
    /// The meta frame is larger than [`Reader::MAX_META`](super::Reader::MAX_META).
    #[error(
        "a meta frame of {length} bytes is larger than {max}: it needs shorter names",
        max = super::Reader::MAX_META
    )]
    MetaTooLarge {
        /// Its length, in bytes.
        length: u64,
    },
    /// The JSON of the meta frame cannot be used. The error's source says why.
    #[error("the JSON of the meta frame cannot be used")]
    Meta(#[source] MetaError),
    /// A payload is not followed by the end of a line.
    #[error("a payload does not end where its frame says")]
    Terminator,
    /// A frame is empty.
    #[error("a {kind} frame without a length, at byte {start} of the disk")]
    Empty {
        /// The kind of the frame.
        kind: FrameKind,
        /// The byte of the disk.
        start: u64,
    },
    /// A frame goes back.
    #[error("a frame for byte {start} of the disk comes after one that ends at byte {expected}")]
    Overlap {
        /// The start of the frame.
        start: u64,
        /// The lowest byte where it could start.
        expected: u64,
    },
    /// A frame leaves the disk.
    #[error("a frame of {length} bytes for byte {start} leaves a disk of {size} bytes")]
    PastEnd {
        /// The start of the frame.
        start: u64,
        /// Its length.
        length: u64,
        /// The size of the disk.
        size: u64,
    },
    /// A full stream says nothing of some bytes of the disk.
    #[error("a full backup leaves out bytes {}..{} of the disk", range.start, range.end)]
    Gap {
        /// The bytes left out.
        range: Range<u64>,
    },
    /// An incremental says nothing of some bytes that its parent's disk did not have.
    #[error(
        "an incremental leaves out bytes {}..{} of the disk, beyond its parent's {parent_size} bytes",
        range.start,
        range.end
    )]
    GrowthGap {
        /// The bytes left out.
        range: Range<u64>,
        /// The size of the disk at the parent.
        parent_size: u64,
    },
    /// There is more data than the meta frame says.
    #[error("more data than the {expected} bytes that the meta frame says")]
    TooMuchData {
        /// The figure of the meta frame.
        expected: u64,
    },
    /// There is less data than the meta frame says.
    #[error("{got} bytes of data in all, where the meta frame says {expected}")]
    TooLittleData {
        /// The figure of the meta frame.
        expected: u64,
        /// The bytes in the data frames.
        got: u64,
    },
    /// The meta frame promises a checksum, and the stop frame has none.
    #[error("the stop frame has no checksum, which the meta frame promises")]
    NoChecksum,
    /// The checksum in the stop frame is not that of the bytes before it: some of them have
    /// changed.
    #[error("the checksum is {computed}, and the stop frame says {stated}: bytes have changed")]
    Checksum {
        /// The checksum in the stop frame.
        stated: Checksum,
        /// The checksum of the bytes that have been read.
        computed: Checksum,
    },
    /// The stream ends before its stop frame: its writer or its carrier has failed.
    #[error("the stream ends {part}, before its stop frame: it is not whole")]
    Truncated {
        /// The part of a frame.
        part: FramePart,
    },
    /// Bytes follow the stop frame.
    #[error("bytes after the stop frame")]
    Trailing,
}

/// The part of a frame in which a stream has ended.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{FrameFault, FramePart, Reader};
///
/// let mut reader = Reader::new();
/// assert_eq!(reader.next(&mut &b"meta 00000000"[..])?, None, "more is needed");
/// let error = reader.finish().unwrap_err();
/// assert_eq!((error.at, error.fault), (13, FrameFault::Truncated { part: FramePart::Header }));
/// # Ok::<(), nbd_extents_backup::sparse_stream::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FramePart {
    /// Between two frames, or before the first.
    Between,
    /// In a header.
    Header,
    /// In the JSON of the meta frame.
    Meta,
    /// In the payload of a data frame.
    Payload,
    /// In the end of the line after a payload.
    Terminator,
}

impl fmt::Display for FramePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Between => "between two frames",
            Self::Header => "in a header",
            Self::Meta => "in the meta frame",
            Self::Payload => "in a payload",
            Self::Terminator => "after a payload",
        })
    }
}
