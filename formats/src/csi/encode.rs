//! Writes the records of a call: the output of `snapshot-metadata-lister -o json`.

use nbd_extents::Extent;

use super::Blocks;
use crate::row::row;
use crate::spec::Encode;
use crate::{Attributes, ListWriteError, WriteOptions};

/// Writes records of the ranges that are listed, and leaves out the others.
pub(super) struct RecordWriter {
    format: &'static str,
    options: WriteOptions,
    is_listed: fn(&Attributes) -> bool,
    /// The ranges in the record at hand; `None` before the first record.
    count: Option<u64>,
}

impl RecordWriter {
    pub(super) const fn new(
        format: &'static str,
        options: WriteOptions,
        is_listed: fn(&Attributes) -> bool,
    ) -> Self {
        Self { format, options, is_listed, count: None }
    }

    /// The size of the volume in bytes, which each record names.
    fn capacity(&self) -> Result<u64, ListWriteError> {
        self.options.size.ok_or(ListWriteError::SizeNeeded { format: self.format })
    }

    /// Begins a record, after the end of the one before.
    fn open(&mut self, capacity: u64, out: &mut Vec<u8>) {
        let before = if self.count.is_none() { "[" } else { "]}," };
        self.count = Some(0);
        let kind = if self.options.blocks == Blocks::Variable { "2" } else { "1" };
        row!(out, before, "{\"block_metadata_type\":", kind, ",\"volume_capacity_bytes\":", capacity);
        row!(out, ",\"block_metadata\":[");
    }

    fn range(&mut self, start: u64, length: u64, capacity: u64, out: &mut Vec<u8>) {
        if self.count.is_none_or(|count| count == self.options.page.get()) {
            self.open(capacity, out);
        }
        row!(out, if self.count == Some(0) { "{" } else { ",{" });
        self.count = self.count.map(|count| count + 1);
        if start != 0 {
            row!(out, "\"byte_offset\":", start, ",");
        }
        row!(out, "\"size_bytes\":", length, "}");
    }
}

impl Encode<Attributes> for RecordWriter {
    fn extent(&mut self, extent: &Extent<Attributes>, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let (start, length, capacity) = (extent.start(), extent.length(), self.capacity()?);
        if !(self.is_listed)(extent.status()) {
            return Ok(());
        }
        let Blocks::Fixed(block) = self.options.blocks else {
            self.range(start, length, capacity, out);
            return Ok(());
        };
        let block = block.get();
        let whole = length.is_multiple_of(block) || extent.end() == capacity;
        if !start.is_multiple_of(block) || !whole {
            return Err(ListWriteError::Ragged { start, length, block });
        }
        for nth in 0..length.div_ceil(block) {
            self.range(start + nth * block, block, capacity, out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let capacity = self.capacity()?;
        if self.count.is_none() {
            self.open(capacity, out); // the capacity is worth a record without ranges
        }
        row!(out, "]}]");
        Ok(())
    }
}
