//! The disk that a restore writes to: bytes that follow each other are joined into long writes,
//! several in flight.

use core::ops::Range;

use nbd_client::pipeline::PipelineOptions;
use nbd_client::{Export, Pool, WriteBehind};

use crate::failure::Failure;

/// The longest write: a stream's pieces are joined up to multiples of it.
const WRITE: u64 = 256 << 10;

/// A writable export. Nothing written is durable before [`finish`](Self::finish).
pub(super) struct Target<'a> {
    export: Export,
    writes: WriteBehind<'a>,
    /// A write being put together, from this byte of the disk on.
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Target<'a> {
    pub(super) fn new(pool: &'a mut Pool) -> Result<Self, Failure> {
        let export = pool.export().clone();
        let writes = WriteBehind::new(pool, PipelineOptions::default())?;
        Ok(Self { export, writes, offset: 0, bytes: Vec::new() })
    }

    pub(super) const fn export(&self) -> &Export {
        &self.export
    }

    pub(super) fn write(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), Failure> {
        if self.end() != offset {
            self.send()?;
            self.offset = offset;
        }
        while !bytes.is_empty() {
            let room = WRITE - self.end() % WRITE;
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.end().is_multiple_of(WRITE) {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Never by a TRIM, which promises nothing.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        self.send()?;
        Ok(self.writes.zero(range.start, range.end - range.start)?)
    }

    /// Waits until all of it is durable.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.send()?;
        Ok(self.writes.finish()?)
    }

    /// The end of the bytes put together.
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let mut next = self.writes.buffer(0);
        next.clear();
        let (offset, end) = (self.offset, self.end());
        let bytes = core::mem::replace(&mut self.bytes, next);
        self.offset = end;
        Ok(self.writes.write(offset, bytes)?)
    }
}
