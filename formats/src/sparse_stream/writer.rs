//! Writing a stream that every reader takes.

use std::ops::Range;

use nbd_extents::{Extent, MAX_END};
use thiserror::Error;

use super::checksum::Hasher;
use super::frame::{Frame, Header};
use super::{FrameKind, Meta, MetaError, Reader};

/// Makes the frames of one stream: the caller writes them out, in the order in which they were
/// made.
///
/// It refuses every frame that a [`Reader`] would refuse: frames that go back or overlap, that
/// leave the disk, or leave out bytes that must not be left out, and a sum of data that is not the
/// one that the meta frame has promised. The [module](super) has an example.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{FrameWriteError, Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// let _ = writer.zero(0..8192)?;
/// assert_eq!(writer.position(), 8192);
/// let _ = writer.stop()?;
/// # Ok::<(), FrameWriteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    meta: Meta,
    /// The end of the last frame.
    position: u64,
    /// The bytes of data until now.
    data: u64,
    /// `None` for a stream without a checksum.
    hasher: Option<Hasher>,
}

impl Writer {
    /// Begins a stream; the bytes are its meta frame.
    ///
    /// # Errors
    ///
    /// [`FrameWriteError::Meta`] when the meta states facts that cannot be,
    /// [`FrameWriteError::MetaTooLarge`] when its texts are longer than a [`Reader`] takes.
    pub fn new(meta: &Meta) -> Result<(Self, Vec<u8>), FrameWriteError> {
        meta.check()?;
        let json = meta.to_json();
        let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
        if length > Reader::MAX_META {
            return Err(FrameWriteError::MetaTooLarge { length });
        }
        let header = Header { kind: FrameKind::Meta, start: 0, length };
        let mut writer =
            Self { meta: meta.clone(), position: 0, data: 0, hasher: meta.checksum.map(|_| Hasher::new()) };
        let bytes = writer.frame(header, json.as_bytes()).parts().concat();
        Ok((writer, bytes))
    }

    /// A frame of data that starts at byte `offset` of the disk.
    ///
    /// # Errors
    ///
    /// [`FrameWriteError`] where the frame cannot come next. The writer is unchanged then.
    pub fn data<'a>(&mut self, offset: u64, payload: &'a [u8]) -> Result<Frame<'a>, FrameWriteError> {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let data = self.data.saturating_add(length);
        if data > self.meta.data_size {
            return Err(FrameWriteError::DataSize { expected: self.meta.data_size, got: data });
        }
        self.advance(offset, length)?;
        self.data = data;
        Ok(self.frame(Header { kind: FrameKind::Data, start: offset, length }, payload))
    }

    /// A frame that says that these bytes of the disk read as zero.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub fn zero(&mut self, range: Range<u64>) -> Result<Frame<'static>, FrameWriteError> {
        let length = range.end.saturating_sub(range.start);
        self.advance(range.start, length)?;
        Ok(self.frame(Header { kind: FrameKind::Zero, start: range.start, length }, &[]))
    }

    /// The last frame, with the checksum over all frames before it.
    ///
    /// # Errors
    ///
    /// [`FrameWriteError::Gap`] when the frames leave out bytes up to the end of the disk that must
    /// not be left out, [`FrameWriteError::DataSize`] when they carry less data than promised.
    pub fn stop(self) -> Result<Frame<'static>, FrameWriteError> {
        self.check_gap(self.meta.virtual_size)?;
        let expected = self.meta.data_size;
        if self.data != expected && !self.meta.data_size_is_limit {
            return Err(FrameWriteError::DataSize { expected, got: self.data });
        }
        Ok(Frame::new(Header::stop(self.hasher.as_ref().map(Hasher::checksum)), &[]))
    }

    /// The end of the last frame, in bytes of the disk.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Makes a frame that has been checked, and adds it to the checksum.
    fn frame<'a>(&mut self, header: Header, payload: &'a [u8]) -> Frame<'a> {
        let frame = Frame::new(header, payload);
        if let Some(hasher) = &mut self.hasher {
            for part in frame.parts() {
                hasher.update(part);
            }
        }
        frame
    }

    fn advance(&mut self, start: u64, length: u64) -> Result<(), FrameWriteError> {
        let extent = Extent::new(start, length, ()).map_err(|_| FrameWriteError::Frame { start, length })?;
        let (end, size) = (extent.end(), self.meta.virtual_size);
        if start < self.position {
            return Err(FrameWriteError::Overlap { start, expected: self.position });
        }
        if end > size {
            return Err(FrameWriteError::PastEnd { end, size });
        }
        self.check_gap(start)?;
        self.position = end;
        Ok(())
    }

    fn check_gap(&self, next: u64) -> Result<(), FrameWriteError> {
        let range = self.position.max(self.meta.covered_from())..next;
        if range.is_empty() { Ok(()) } else { Err(FrameWriteError::Gap { range }) }
    }
}

/// A stream that would not be sound: the meta frame or the next frame cannot be written.
///
/// ```
/// use nbd_extents_formats::sparse_stream::{FrameWriteError, Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// assert_eq!(writer.zero(4096..8192), Err(FrameWriteError::Gap { range: 0..4096 }));
/// # Ok::<(), FrameWriteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameWriteError {
    /// The meta frame states facts that cannot be.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The texts of the meta frame are too long for a reader.
    #[error(
        "a meta frame of {length} bytes is larger than {max}: use shorter names",
        max = Reader::MAX_META
    )]
    MetaTooLarge {
        /// The length of its JSON, in bytes.
        length: u64,
    },
    /// The frame is empty, or ends above [`MAX_END`].
    #[error("a frame of {length} bytes at byte {start} cannot be (frames end at {MAX_END} at the latest)")]
    Frame {
        /// Where it would start.
        start: u64,
        /// Its length.
        length: u64,
    },
    /// The frame goes back.
    #[error("a frame at byte {start} starts before byte {expected}, where the last one ends")]
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
    /// Bytes would be left out that no other stream has: of a full backup, or beyond the parent's
    /// disk.
    #[error("the stream leaves out bytes {}..{}, which no other stream has", range.start, range.end)]
    Gap {
        /// The bytes left out.
        range: Range<u64>,
    },
    /// The stream carries another amount of data than its meta frame says.
    #[error("the stream was to carry {expected} bytes of data, not {got}")]
    DataSize {
        /// The bytes that were announced.
        expected: u64,
        /// The bytes until now.
        got: u64,
    },
}
