//! Takes the listed ranges from the records of a call, and cuts them to the range that was asked for.

use nbd_extents::{Extent, StreamError};

use crate::nested::{Found, Nested, Shape};
use crate::objects::Fields;
use crate::spec::{Step, Text};
use crate::{Attributes, Fault, ReadOptions};

const RECORD: Shape = Shape {
    names: &["block_metadata", "block_metadata_type", "volume_capacity_bytes"],
    protobuf: &["blockMetadata", "blockMetadataType", "volumeCapacityBytes"],
    object: "a record in braces",
    rows: "a list of blocks",
};

pub(super) struct Records {
    options: ReadOptions,
    listed: Attributes,
    /// Whether the records stand in a list; `None` before the first.
    in_list: Option<bool>,
    record: Nested,
    /// Whether the blocks are of one size, and the capacity of the volume: the same in all records.
    volume: Option<(bool, u64)>,
    /// The size of the blocks.
    block: Option<u64>,
    /// No block has come yet: the first may start before the offset that was asked for.
    first: bool,
}

impl Records {
    pub(super) fn new(options: ReadOptions, listed: Attributes) -> Self {
        let record = Nested::new(&RECORD);
        Self { options, listed, in_list: None, record, volume: None, block: None, first: true }
    }

    pub(super) fn next(&mut self, input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
        loop {
            match self.record.next(input)? {
                Found::Row => return self.range(input),
                Found::End => drop(self.volume()?),
                Found::Outside if self.is_another(input)? => self.record.open(input)?,
                Found::Outside => {
                    input.end()?;
                    return Ok(Step::End(self.volume.map(|(_, capacity)| capacity)));
                }
            }
        }
    }

    /// Whether another record follows.
    fn is_another(&mut self, input: &mut Text<'_>) -> Result<bool, Fault> {
        let first = input.peek()?;
        match self.in_list {
            None if first == Some(b'[') => {
                self.in_list = Some(true);
                input.punctuation(b'[', "a list of records")?;
                input.item(b']')
            }
            Some(true) => input.item(b']'),
            _ => {
                self.in_list = Some(false);
                Ok(first.is_some())
            }
        }
    }

    /// Returns whether the blocks are of one size, and the capacity of the volume in bytes.
    ///
    /// A record must have both fields before its blocks, and all records of a list the same values.
    fn volume(&mut self) -> Result<(bool, u64), Fault> {
        const EXPECTED: &str = "FIXED_LENGTH (1) or VARIABLE_LENGTH (2)";
        let head = &self.record.head;
        let fixed = match head.value(1) {
            Some(kind) if *kind == 1 || kind == "FIXED_LENGTH" => true,
            Some(kind) if *kind == 2 || kind == "VARIABLE_LENGTH" => false,
            _ => return Err(head.wrong(1, EXPECTED)),
        };
        let volume = (fixed, head.number(2)?);
        let before = *self.volume.get_or_insert(volume);
        if before == volume {
            return Ok(volume);
        }
        let (field, other) = if before.1 == volume.1 {
            ("block_metadata_type", "block_metadata_type of the record before")
        } else {
            ("volume_capacity_bytes", "volume_capacity_bytes of the record before")
        };
        Err(Fault::Contradiction { field, other })
    }

    fn range(&mut self, input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
        let (fixed, capacity) = self.volume()?;
        let block = input.fields(&["byte_offset", "size_bytes"], &["byteOffset", "sizeBytes"])?;
        let start = block.if_there(0, Fields::number)?.unwrap_or(0);
        let whole = Extent::new(start, block.if_there(1, Fields::number)?.unwrap_or(0), ())?;
        if fixed && *self.block.get_or_insert(whole.length()) != whole.length() {
            return Err(Fault::Contradiction { field: "size_bytes", other: "block_metadata_type" });
        }
        if start >= capacity {
            return Err(StreamError::OutOfRange { extent: whole.range(), range: 0..capacity }.into());
        }
        let asked = self.options.starting_offset;
        let begin = if std::mem::replace(&mut self.first, false) { start.max(asked) } else { start };
        match whole.clip(&(begin..capacity)) {
            Some(part) => Ok(Step::Row(part.start(), part.length(), self.listed)),
            None => Err(StreamError::Overlap { start, expected: asked }.into()),
        }
    }
}
