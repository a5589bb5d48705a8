//! The frames of one stream until now, and the rules that the next one must keep. The reader and
//! the writer have them from here, so that each refuses the same streams.

use std::ops::Range;

use nbd_extents::Extent;

use super::frame::Header;
use super::{FrameFault, FrameKind, Meta, Summary};

#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) meta: Meta,
    /// The end of the last frame on the disk.
    pub(super) position: u64,
    pub(super) summary: Summary,
}

impl Sequence {
    pub(super) fn new(meta: Meta) -> Self {
        Self { meta, position: 0, summary: Summary::default() }
    }

    /// Takes the header of the next frame of data or zeroes, and returns the bytes of the disk that
    /// it is about. Nothing is changed by a frame that cannot come next.
    pub(super) fn push(&mut self, header: Header) -> Result<Range<u64>, FrameFault> {
        let Header { kind, start, length } = header;
        if length == 0 {
            return Err(FrameFault::Empty { kind, start });
        }
        let size = self.meta.virtual_size;
        let range = match Extent::new(start, length, ()) {
            Ok(extent) if extent.end() <= size => extent.range(),
            _ => return Err(FrameFault::PastEnd { start, length, size }),
        };
        if start < self.position {
            return Err(FrameFault::Overlap { start, expected: self.position });
        }
        self.check_gap(start)?;
        // the sums cannot overflow: frames do not overlap, so that both stay below the disk's size
        let sum = if kind == FrameKind::Data { &mut self.summary.data } else { &mut self.summary.zero };
        if kind == FrameKind::Data && *sum + length > self.meta.data_size {
            return Err(FrameFault::TooMuchData { expected: self.meta.data_size });
        }
        *sum += length;
        self.summary.frames += 1;
        self.position = range.end;
        Ok(range)
    }

    /// Compares the promises of the meta frame with the frames, of which there are no more.
    pub(super) fn check_end(&self) -> Result<(), FrameFault> {
        self.check_gap(self.meta.virtual_size)?;
        let (expected, got) = (self.meta.data_size, self.summary.data);
        if got < expected && self.meta.is_data_size_exact() {
            return Err(FrameFault::TooLittleData { expected, got });
        }
        Ok(())
    }

    /// An error if the frames must not leave out the bytes between the last one and `next`.
    ///
    /// A full stream leaves out none. An incremental leaves out none beyond its parent's disk: no
    /// other stream of the chain has them, and qemu reports as clean the part by which a disk has
    /// grown.
    fn check_gap(&self, next: u64) -> Result<(), FrameFault> {
        let (is_full, parent_size) = (!self.meta.incremental, self.meta.parent_size);
        let covered_from = if is_full { 0 } else { parent_size.unwrap_or(u64::MAX) };
        let range = self.position.max(covered_from)..next;
        match parent_size {
            _ if range.is_empty() => Ok(()),
            Some(parent_size) if !is_full => Err(FrameFault::GrowthGap { range, parent_size }),
            _ => Err(FrameFault::Gap { range }),
        }
    }
}
