//! The frames of a backup, with zeroes that touch joined into one frame.

use core::ops::Range;
use std::io::Write;

use super::BackupError;
use crate::sparse_stream::{Frame, Meta, Writer};

/// Zeroes are looked for in blocks of this size: file systems and qcow2 images mostly keep to it.
const BLOCK: usize = 4096;

/// A stream being written. Dropped without [`finish`](Self::finish), it has no stop frame and is not whole.
pub(super) struct FrameOutput<W: Write> {
    out: W,
    writer: Writer,
    /// A range of zeroes not yet written: the next may touch its end.
    zeroes: Option<Range<u64>>,
    detect_zeroes: bool,
    /// The bytes of the frames written.
    length: u64,
}

impl<W: Write> FrameOutput<W> {
    pub(super) fn new(mut out: W, meta: &Meta, detect_zeroes: bool) -> Result<Self, BackupError> {
        let (writer, first) = Writer::new(meta)?;
        out.write_all(&first).map_err(BackupError::Write)?;
        Ok(Self { out, writer, zeroes: None, detect_zeroes, length: first.len() as u64 })
    }

    /// Adds a range that reads as zero. It is written when it is known that no other touches its end.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<(), BackupError> {
        match &mut self.zeroes {
            Some(zeroes) if zeroes.end == range.start => zeroes.end = range.end,
            _ => {
                self.flush_zeroes()?;
                self.zeroes = Some(range);
            }
        }
        Ok(())
    }

    /// Adds bytes of the disk from `offset` on, and finds the zeroes in them if it is to.
    pub(super) fn copy(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BackupError> {
        if !self.detect_zeroes {
            return self.data(offset, bytes);
        }
        let mut at = offset;
        for (zero, run) in runs(bytes) {
            let end = at + run.len() as u64;
            if zero {
                self.zero(at..end)?
            } else {
                self.data(at, run)?
            }
            at = end;
        }
        Ok(())
    }

    /// Writes the last frame, and gives back the output, flushed, and the length of the stream.
    pub(super) fn finish(mut self) -> Result<(W, u64), BackupError> {
        self.flush_zeroes()?;
        let stop = self.writer.stop()?;
        self.length += put(&mut self.out, &stop)?;
        self.out.flush().map_err(BackupError::Write)?;
        Ok((self.out, self.length))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BackupError> {
        self.flush_zeroes()?;
        let frame = self.writer.data(offset, bytes)?;
        self.length += put(&mut self.out, &frame)?;
        Ok(())
    }

    fn flush_zeroes(&mut self) -> Result<(), BackupError> {
        if let Some(range) = self.zeroes.take() {
            let frame = self.writer.zero(range)?;
            self.length += put(&mut self.out, &frame)?;
        }
        Ok(())
    }
}

fn put(out: &mut impl Write, frame: &Frame<'_>) -> Result<u64, BackupError> {
    let mut length = 0;
    for part in frame.parts() {
        out.write_all(part).map_err(BackupError::Write)?;
        length += part.len() as u64;
    }
    Ok(length)
}

/// The longest runs of whole blocks that are all zero, or all not, and which of the two.
fn runs(bytes: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let mut blocks = rest.chunks(BLOCK);
        let first = blocks.next()?;
        let zero = is_zero(first);
        let more: usize = blocks.take_while(|block| is_zero(block) == zero).map(<[u8]>::len).sum();
        let (run, later) = rest.split_at(first.len() + more);
        rest = later;
        Some((zero, run))
    })
}

fn is_zero(block: &[u8]) -> bool {
    const ZEROES: [u8; BLOCK] = [0; BLOCK];
    ZEROES.get(..block.len()) == Some(block)
}
