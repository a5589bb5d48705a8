//! Takes the listed ranges from the records of a call, and cuts them to what was asked for.

use std::io::Read;

use nbd_extents::{Extent, StreamError};
use serde_json::Value;

use crate::attributes::Attributes;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::format::ReadOptions;
use crate::input::Input;
use crate::spec::Step;

/// The fields of a record; the last of them are its blocks.
const RECORD: [&[&str]; 2] = [
    &["block_metadata_type", "volume_capacity_bytes", "block_metadata"],
    &["blockMetadataType", "volumeCapacityBytes", "blockMetadata"],
];
const BLOCKS: usize = 2;

/// The fields of a block.
const BLOCK: [&[&str]; 2] = [&["byte_offset", "size_bytes"], &["byteOffset", "sizeBytes"]];

pub(super) struct Records {
    options: ReadOptions,
    listed: Attributes,
    /// Whether the records stand in a list; `None` before the first.
    in_list: Option<bool>,
    state: State,
    /// The fields of the record at hand but for its blocks.
    head: Fields,
    /// Whether the blocks are of one size, and the capacity of the volume: the same in all records.
    volume: Option<(bool, u64)>,
    /// The size of the blocks.
    block: Option<u64>,
    /// No block has come yet: the first may start before the offset that was asked for.
    first: bool,
}

#[derive(Clone, Copy)]
enum State {
    Outside,
    /// In a record, before or after its blocks.
    Record {
        blocks: bool,
    },
    Blocks,
}

impl Records {
    pub(super) fn new(options: ReadOptions, listed: Attributes) -> Self {
        Self {
            options,
            listed,
            in_list: None,
            state: State::Outside,
            head: Fields::new(RECORD[0], RECORD[1]),
            volume: None,
            block: None,
            first: true,
        }
    }

    pub(super) fn next(&mut self, input: &mut Input<dyn Read + '_>) -> Result<Step<Attributes>, Fault> {
        loop {
            match self.state {
                State::Outside => {
                    if !self.record(input)? {
                        return Ok(Step::End(self.volume.map(|(_, capacity)| capacity)));
                    }
                }
                State::Record { blocks } => match input.key()? {
                    Some(key) => self.key(&key, blocks, input)?,
                    None => {
                        self.volume()?;
                        self.state = State::Outside;
                    }
                },
                State::Blocks if input.item(b']')? => return self.range(input),
                State::Blocks => self.state = State::Record { blocks: true },
            }
        }
    }

    /// Goes to the next record; `false` after the last.
    fn record(&mut self, input: &mut Input<dyn Read + '_>) -> Result<bool, Fault> {
        let first = input.peek()?;
        let another = match self.in_list {
            None if first == Some(b'[') => {
                self.in_list = Some(true);
                input.punctuation(b'[', "a list of records")?;
                input.item(b']')?
            }
            Some(true) => input.item(b']')?,
            _ => {
                self.in_list = Some(false);
                first.is_some()
            }
        };
        if another {
            input.punctuation(b'{', "a record in braces")?;
            self.state = State::Record { blocks: false };
            self.head = Fields::new(RECORD[0], RECORD[1]);
        } else {
            input.end()?;
        }
        Ok(another)
    }

    /// Takes the value of a key, unless that is the list of blocks.
    fn key(&mut self, key: &str, blocks: bool, input: &mut Input<dyn Read + '_>) -> Result<(), Fault> {
        match self.head.field(key) {
            Some(BLOCKS) if blocks => return Err(Fault::Twice { field: "block_metadata" }),
            Some(BLOCKS) => {
                // they cannot be read without the fields that say how
                self.volume()?;
                let listed = input.list("a list of blocks")?;
                self.state = if listed { State::Blocks } else { State::Record { blocks: true } };
            }
            Some(field) => {
                self.head.set(field, input.value()?);
                self.head.check()?;
            }
            None => input.skip()?,
        }
        Ok(())
    }

    /// Takes the fields that are the same in all records.
    fn volume(&mut self) -> Result<(), Fault> {
        const EXPECTED: &str = "FIXED_LENGTH (1) or VARIABLE_LENGTH (2)";
        let fixed = match self.head.value(0).and_then(Value::as_u64) {
            Some(1) => true,
            Some(2) => false,
            Some(_) => return Err(self.head.wrong(0, EXPECTED)),
            None => self.head.word(0, &["FIXED_LENGTH", "VARIABLE_LENGTH"], EXPECTED)? == 0,
        };
        let volume = (fixed, self.head.number(1)?);
        let before = *self.volume.get_or_insert(volume);
        let (field, other) = match before {
            _ if before == volume => return Ok(()),
            (_, capacity) if capacity == volume.1 => {
                ("block_metadata_type", "block_metadata_type of the record before")
            }
            _ => ("volume_capacity_bytes", "volume_capacity_bytes of the record before"),
        };
        Err(Fault::Contradiction { field, other })
    }

    fn range(&mut self, input: &mut Input<dyn Read + '_>) -> Result<Step<Attributes>, Fault> {
        let block = input.fields_of_protobuf(BLOCK[0], BLOCK[1])?;
        let start = block.if_there(0, Fields::number)?.unwrap_or(0);
        let whole = Extent::new(start, block.if_there(1, Fields::number)?.unwrap_or(0), ())?;
        let (fixed, capacity) = self.volume.unwrap_or_default();
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
