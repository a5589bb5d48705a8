//! Writing a stream that every reader takes.

use std::ops::Range;

use super::checksum::Hasher;
use super::frame::{Frame, Header};
use super::sequence::Sequence;
use super::{FrameFault, FrameKind, Meta, Reader};

/// Makes the frames of one stream: the caller writes them out, in the order in which they were
/// made.
///
/// It refuses every frame that a [`Reader`] would refuse: frames that go back or overlap, that
/// leave the disk, or leave out bytes that must not be left out, and a sum of data that is not the
/// one that the meta frame has promised. The [module](super) has an example.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{FrameFault, Meta, Writer};
///
/// let (mut writer, _) = Writer::new(&Meta::full(8192, 0, "now"))?;
/// let _ = writer.zero(0..8192)?;
/// assert_eq!(writer.position(), 8192);
/// let _ = writer.stop()?;
/// # Ok::<(), FrameFault>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    sequence: Sequence,
    /// `None` for a stream without a checksum.
    hasher: Option<Hasher>,
}

impl Writer {
    /// Begins a stream; the bytes are its meta frame.
    ///
    /// # Errors
    ///
    /// [`FrameFault::Meta`] when the meta states facts that cannot be,
    /// [`FrameFault::MetaTooLarge`] when its texts are longer than a [`Reader`] takes.
    pub fn new(meta: &Meta) -> Result<(Self, Vec<u8>), FrameFault> {
        meta.check().map_err(FrameFault::Meta)?;
        let json = meta.to_json();
        let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
        if length > Reader::MAX_META {
            return Err(FrameFault::MetaTooLarge { length });
        }
        let header = Header { kind: FrameKind::Meta, start: 0, length };
        let hasher = meta.checksum.map(|_| Hasher::new());
        let mut writer = Self { sequence: Sequence::new(meta.clone()), hasher };
        let bytes = writer.frame(header, json.as_bytes()).parts().concat();
        Ok((writer, bytes))
    }

    /// A frame of data that starts at byte `offset` of the disk.
    ///
    /// # Errors
    ///
    /// [`FrameFault`] where the frame cannot come next. The writer is unchanged then.
    pub fn data<'a>(&mut self, offset: u64, payload: &'a [u8]) -> Result<Frame<'a>, FrameFault> {
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.frame_of(Header { kind: FrameKind::Data, start: offset, length }, payload)
    }

    /// A frame that says that these bytes of the disk read as zero.
    ///
    /// # Errors
    ///
    /// As [`data`](Self::data).
    pub fn zero(&mut self, range: Range<u64>) -> Result<Frame<'static>, FrameFault> {
        let (start, length) = (range.start, range.end.saturating_sub(range.start));
        self.frame_of(Header { kind: FrameKind::Zero, start, length }, &[])
    }

    /// The last frame, with the checksum over all frames before it.
    ///
    /// # Errors
    ///
    /// [`FrameFault::Gap`] when the frames leave out bytes up to the end of the disk that must
    /// not be left out, [`FrameFault::TooLittleData`] when they carry less data than promised.
    pub fn stop(self) -> Result<Frame<'static>, FrameFault> {
        self.sequence.check_end()?;
        Ok(Frame::new(Header::stop(self.hasher.as_ref().map(Hasher::checksum)), &[]))
    }

    /// The end of the last frame, in bytes of the disk.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.sequence.position
    }

    /// Makes the next frame of data or zeroes.
    fn frame_of<'a>(&mut self, header: Header, payload: &'a [u8]) -> Result<Frame<'a>, FrameFault> {
        self.sequence.push(header)?;
        Ok(self.frame(header, payload))
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
}
