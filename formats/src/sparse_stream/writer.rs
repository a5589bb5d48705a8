//! Writing a stream, such that what was written can be read.

use std::ops::Range;
use std::vec::Vec;

use thiserror::Error;

use super::frame::Frame;
use super::{FrameKind, Meta};
use nbd_extents::{Extent, MAX_END};

/// Makes the frames of one stream: the caller writes them out, in the order in which they were made.
///
/// It fails where the stream would not be a sound one: frames that go back or overlap, that leave the disk, or leave out bytes of a full one, and a sum
/// of data that is not what the meta frame has promised. The [module](super) has an example.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// let _ = writer.zero(0..8192)?;
/// assert_eq!(writer.position(), 8192);
/// let _ = writer.stop()?;
/// # Ok::<(), nbd_extents_formats::sparse_stream::WriteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    virtual_size: u64,
    data_size: u64,
    data_size_is_limit: bool,
    incremental: bool,
    /// The end of the last frame.
    position: u64,
    /// Bytes of data so far.
    data: u64,
}

impl Writer {
    /// Begins a stream; the bytes are its meta frame.
    ///
    /// # Errors
    ///
    /// [`WriteError::Sizes`] when the meta says what cannot be: a disk above [`MAX_END`], or more data than disk.
    pub fn new(meta: &Meta) -> Result<(Self, Vec<u8>), WriteError> {
        let &Meta { virtual_size, data_size, data_size_is_limit, incremental, .. } = meta;
        if virtual_size > MAX_END || data_size > virtual_size {
            return Err(WriteError::Sizes { virtual_size, data_size });
        }
        let json = meta.to_json();
        let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
        let bytes = Frame::new(FrameKind::Meta, 0, length, json.as_bytes()).parts().concat();
        Ok((Self { virtual_size, data_size, data_size_is_limit, incremental, position: 0, data: 0 }, bytes))
    }

    /// A frame of data that starts at byte `offset` of the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`] where the frame cannot come next. The writer is unchanged then.
    pub fn data<'a>(&mut self, offset: u64, payload: &'a [u8]) -> Result<Frame<'a>, WriteError> {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let data = self.data.saturating_add(length);
        if data > self.data_size {
            return Err(WriteError::DataSize { expected: self.data_size, got: data });
        }
        self.advance(offset, length)?;
        self.data = data;
        Ok(Frame::new(FrameKind::Data, offset, length, payload))
    }

    /// A frame that says of these bytes of the disk that they read as zero.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub fn zero(&mut self, range: Range<u64>) -> Result<Frame<'static>, WriteError> {
        let length = range.end.saturating_sub(range.start);
        self.advance(range.start, length)?;
        Ok(Frame::new(FrameKind::Zero, range.start, length, &[]))
    }

    /// The last frame.
    ///
    /// # Errors
    ///
    /// [`WriteError::Gap`] when a full stream does not reach the end of the disk, [`WriteError::DataSize`] when it carries less data than promised.
    pub fn stop(self) -> Result<Frame<'static>, WriteError> {
        self.check_gap(self.virtual_size)?;
        if self.data != self.data_size && !self.data_size_is_limit {
            return Err(WriteError::DataSize { expected: self.data_size, got: self.data });
        }
        Ok(Frame::new(FrameKind::Stop, 0, 0, &[]))
    }

    /// The end of the last frame: bytes of the disk.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    fn advance(&mut self, start: u64, length: u64) -> Result<(), WriteError> {
        let end = Extent::new(start, length, ()).map_err(|_| WriteError::Frame { start, length })?.end();
        if start < self.position {
            return Err(WriteError::Overlap { start, expected: self.position });
        }
        if end > self.virtual_size {
            return Err(WriteError::PastEnd { end, size: self.virtual_size });
        }
        self.check_gap(start)?;
        self.position = end;
        Ok(())
    }

    fn check_gap(&self, next: u64) -> Result<(), WriteError> {
        if !self.incremental && self.position < next {
            return Err(WriteError::Gap { range: self.position..next });
        }
        Ok(())
    }
}

/// A frame that cannot come next in a stream.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{Meta, WriteError, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// assert_eq!(writer.zero(4096..8192), Err(WriteError::Gap { range: 0..4096 }));
/// # Ok::<(), nbd_extents_formats::sparse_stream::WriteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No disk has these sizes.
    #[error("a stream of {data_size} bytes of data from a disk of {virtual_size} bytes cannot be")]
    Sizes {
        /// The disk's size, in bytes.
        virtual_size: u64,
        /// The bytes of data that were announced.
        data_size: u64,
    },
    /// The frame is empty, or ends above [`MAX_END`].
    #[error("a frame of {length} bytes at byte {start} cannot be")]
    Frame {
        /// Where it would start.
        start: u64,
        /// How long it would be.
        length: u64,
    },
    /// The frame goes back.
    #[error("a frame at byte {start} starts before byte {expected}, where the one ahead of it ends")]
    Overlap {
        /// Where it would start.
        start: u64,
        /// The lowest byte where it could start.
        expected: u64,
    },
    /// The frame leaves the disk.
    #[error("a frame that ends at byte {end} leaves a disk of {size} bytes")]
    PastEnd {
        /// Where it would end.
        end: u64,
        /// The disk's size.
        size: u64,
    },
    /// A full stream would leave bytes out.
    #[error("a full stream leaves out bytes {}..{}", range.start, range.end)]
    Gap {
        /// The bytes left out.
        range: Range<u64>,
    },
    /// The stream carries another amount of data than its meta frame says.
    #[error("the stream was to carry {expected} bytes of data, not {got}")]
    DataSize {
        /// The bytes that were announced.
        expected: u64,
        /// The bytes so far.
        got: u64,
    },
}
