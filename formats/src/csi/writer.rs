//! From a stream to records: what `snapshot-metadata-lister -o json` prints.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;

use super::super::Encode;
use super::super::cover::Cover;
use super::super::error::WriteError;
use super::Call;
use nbd_extents::Extent;
use nbd_extents::StreamError;

/// How long the listed ranges are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// Blocks of one size in bytes: every listed range must be made of whole ones, but for the last of the volume.
    Fixed(NonZeroU64),
    /// As they come.
    Variable,
}

/// Writes the records of a call. What is not listed is left out, so the stream must cover the volume from its first extent to the end.
///
/// ```
/// use std::num::NonZeroU64;
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, csi};
///
/// let mut out = String::new();
/// let mut writer = csi::Writer::new(8192, csi::Blocks::Variable, NonZeroU64::new(256).unwrap());
/// writer.extent(&Extent::new(0, 4096, csi::Delta { changed: false })?, &mut out)?;
/// writer.extent(&Extent::new(4096, 4096, csi::Delta { changed: true })?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(
///     out,
///     r#"[{"block_metadata_type":2,"volume_capacity_bytes":8192,"block_metadata":[{"byte_offset":4096,"size_bytes":4096}]}]"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer<C> {
    capacity: u64,
    blocks: Blocks,
    per_record: NonZeroU64,
    /// How many ranges the record in hand has, and whether it is the first.
    count: u64,
    first: bool,
    cover: Cover,
    call: PhantomData<C>,
}

impl<C: Call> Writer<C> {
    /// For a volume of `capacity` bytes, with so many ranges a record (the `max_results` of the call).
    #[must_use]
    pub const fn new(capacity: u64, blocks: Blocks, per_record: NonZeroU64) -> Self {
        Self {
            capacity,
            blocks,
            per_record,
            count: 0,
            first: true,
            cover: Cover::anywhere(),
            call: PhantomData,
        }
    }

    fn open(&mut self, out: &mut dyn fmt::Write) -> fmt::Result {
        let before = if self.first { "[" } else { "]}," };
        self.first = false;
        self.count = 0;
        let kind = if matches!(self.blocks, Blocks::Fixed(_)) { 1 } else { 2 };
        write!(
            out,
            "{before}{{\"block_metadata_type\":{kind},\"volume_capacity_bytes\":{},\"block_metadata\":[",
            self.capacity
        )
    }

    fn range(&mut self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.first || self.count == self.per_record.get() {
            self.open(out)?;
        }
        out.write_str(if self.count == 0 { "{" } else { ",{" })?;
        self.count += 1;
        if start != 0 {
            write!(out, "\"byte_offset\":{start},")?;
        }
        write!(out, "\"size_bytes\":{length}}}")
    }
}

impl<C: Call> Encode for Writer<C> {
    type Row = C;

    fn extent(&mut self, extent: &Extent<C>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let (start, length) = (extent.start(), extent.length());
        self.cover.next(start, length, ())?;
        if extent.end() > self.capacity {
            return Err(StreamError::OutOfRange { extent: extent.range(), range: 0..self.capacity }.into());
        }
        if !extent.status().is_listed() {
            return Ok(());
        }
        let Blocks::Fixed(block) = self.blocks else {
            return Ok(self.range(start, length, out)?);
        };
        let block = block.get();
        let is_whole = length.is_multiple_of(block) || extent.end() == self.capacity;
        if !start.is_multiple_of(block) || !is_whole {
            return Err(WriteError::Ragged { start, length, block });
        }
        for nth in 0..length.div_ceil(block) {
            self.range(start + nth * block, block, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let position = self.cover.position().unwrap_or(0);
        if position < self.capacity {
            return Err(StreamError::Gap { range: position..self.capacity }.into());
        }
        if self.first {
            self.open(out)?; // the capacity is worth a record without ranges
        }
        Ok(out.write_str("]}]")?)
    }
}
