//! From records to a stream that covers the volume.

use std::marker::PhantomData;

use super::super::Decode;
use super::super::cover::Cover;
use super::super::error::{Fault, Position, ReadError};
use super::super::json::{Lexed, Token, Tokens};
use super::super::record::{Record, Value};
use super::{Allocated, Call, Delta, Unallocated};
use nbd_extents::Extent;
use nbd_extents::StreamError;

/// Reads the records of a call, and fills in what they leave out.
///
/// ```
/// use nbd_extents_formats::{Decode, csi};
///
/// // asked from byte 4096 on; the first block starts before it
/// let mut records = &br#"[{"block_metadata_type":1,"volume_capacity_bytes":16384,"block_metadata":[{"size_bytes":8192}]}]"#[..];
/// let mut reader = csi::Reader::delta(4096);
/// let changed = reader.next(&mut records)?.ok_or("nothing")?;
/// assert_eq!((changed.range(), changed.status().changed), (4096..8192, true));
/// assert_eq!(reader.next(&mut records)?, None);
/// let rest = reader.end()?.ok_or("nothing")?;
/// assert_eq!((rest.range(), rest.status().changed), (8192..16384, false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader<C> {
    tokens: Tokens,
    records: Records<C>,
}

/// What the tokens make of themselves.
#[derive(Clone, Debug)]
struct Records<C> {
    /// The fields of a record but for its blocks, and those of a block.
    head: Record,
    block: Record,
    state: State,
    list: List,
    unallocated: Unallocated,
    cover: Cover,
    /// No block has come yet: the first may start before the offset that was asked.
    clip: bool,
    capacity: Option<u64>,
    sizes: Option<Sizes>,
    /// The range behind a gap that has been handed out.
    behind_gap: Option<Extent<C>>,
    call: PhantomData<C>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Outside,
    /// In a record, before its blocks or behind them.
    Record {
        blocks: bool,
    },
    /// Before the list of blocks, in it, in one of them.
    Blocks,
    List,
    Block,
}

/// Whether the records stand in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum List {
    Unknown,
    Within,
    Ended,
    Without,
}

/// How long the blocks are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sizes {
    /// All the same; the first says how long.
    Fixed(Option<u64>),
    Variable,
}

impl Reader<Delta> {
    /// Of `GetMetadataDelta`, asked from this byte on.
    #[must_use]
    pub const fn delta(starting_offset: u64) -> Self {
        Self::new(starting_offset, Unallocated::Undefined)
    }
}

impl Reader<Allocated> {
    /// Of `GetMetadataAllocated`, asked from this byte on.
    ///
    /// ```
    /// use nbd_extents_formats::{Decode, csi};
    ///
    /// let mut record = &br#"{"blockMetadataType":"VARIABLE_LENGTH","volumeCapacityBytes":"512","blockMetadata":[]}"#[..];
    /// let mut reader = csi::Reader::allocated(0, csi::Unallocated::Zero);
    /// assert_eq!(reader.next(&mut record)?, None);
    /// assert!(reader.end()?.is_some_and(|extent| extent.status().zero && !extent.status().allocated));
    /// # Ok::<(), nbd_extents_formats::ReadError>(())
    /// ```
    #[must_use]
    pub const fn allocated(starting_offset: u64, unallocated: Unallocated) -> Self {
        Self::new(starting_offset, unallocated)
    }
}

impl<C> Reader<C> {
    const fn new(start: u64, unallocated: Unallocated) -> Self {
        let records = Records {
            head: Record::new(&["block_metadata_type", "volume_capacity_bytes"], true),
            block: Record::new(&["byte_offset", "size_bytes"], true),
            state: State::Outside,
            list: List::Unknown,
            unallocated,
            cover: Cover::from(start),
            clip: true,
            capacity: None,
            sizes: None,
            behind_gap: None,
            call: PhantomData,
        };
        Self { tokens: Tokens::many(), records }
    }

    /// The size of the volume in bytes, once a record has said it.
    #[must_use]
    pub const fn capacity(&self) -> Option<u64> {
        self.records.capacity
    }
}

impl<C: Call> Records<C> {
    /// The fields of a record: they say how to read its blocks, and every record says the same.
    fn head(&mut self) -> Result<(), Fault> {
        const EXPECTED: &str = "FIXED_LENGTH (1) or VARIABLE_LENGTH (2)";
        let kind = match self.head.value(0) {
            Value::Number(number @ (1 | 2)) => number,
            Value::Number(_) => return Err(Fault::Type { field: "block_metadata_type", expected: EXPECTED }),
            _ if self.head.word(0, &["FIXED_LENGTH", "VARIABLE_LENGTH"], EXPECTED)? == 0 => 1,
            _ => 2,
        };
        let sizes = if kind == 1 { Sizes::Fixed(None) } else { Sizes::Variable };
        match self.sizes {
            Some(Sizes::Fixed(_)) if kind == 1 => {}
            Some(before) if before != sizes => {
                return Err(Fault::Contradiction {
                    field: "block_metadata_type",
                    other: "block_metadata_type of the record before",
                });
            }
            _ => self.sizes = Some(sizes),
        }
        let capacity = self.head.number(1)?;
        if self.capacity.replace(capacity).is_some_and(|before| before != capacity) {
            return Err(Fault::Contradiction {
                field: "volume_capacity_bytes",
                other: "volume_capacity_bytes of the record before",
            });
        }
        Ok(())
    }

    /// A block: its range, or the gap in front of it.
    fn range(&mut self) -> Result<Extent<C>, Fault> {
        let start = self.block.number_if_there(0)?.unwrap_or(0);
        let length = self.block.number_if_there(1)?.unwrap_or(0);
        let whole = Extent::new(start, length, ()).map_err(StreamError::from)?;
        if let Some(Sizes::Fixed(size)) = &mut self.sizes
            && *size.get_or_insert(length) != length
        {
            return Err(Fault::Contradiction { field: "size_bytes", other: "block_metadata_type" });
        }
        let position = self.cover.position().unwrap_or(0);
        let volume = 0..self.capacity.unwrap_or(0);
        let is_fixed = matches!(self.sizes, Some(Sizes::Fixed(_)));
        if start >= volume.end || (!is_fixed && whole.end() > volume.end) {
            return Err(StreamError::OutOfRange { extent: whole.range(), range: volume }.into());
        }
        let begin = if std::mem::replace(&mut self.clip, false) { start.max(position) } else { start };
        let Some(part) = whole.clip(&(begin..volume.end)) else {
            return Err(StreamError::Overlap { start, expected: position }.into());
        };
        let listed = C::row(true, self.unallocated);
        let extent = self.cover.next_behind(part.start(), part.length(), listed)?;
        if extent.start() == position {
            return Ok(extent);
        }
        self.behind_gap = Some(extent);
        Ok(Extent::from_range(position..part.start(), C::row(false, self.unallocated))
            .map_err(StreamError::from)?)
    }

    /// A token in a record, outside of its blocks.
    fn field(&mut self, lexed: Lexed<'_>, blocks: bool) -> Result<State, ReadError> {
        if let (Token::Key(key), true) = (lexed.token, self.head.is_at_key())
            && key.known().is_some_and(|key| self.head.is("block_metadata", key))
        {
            return if blocks {
                Err(Fault::Twice { field: "block_metadata" }.at(lexed.at))
            } else {
                Ok(State::Blocks)
            };
        }
        if !self.head.take(lexed)? {
            return Ok(State::Record { blocks });
        }
        self.head().map_err(|fault| fault.at(self.head.at()))?;
        Ok(State::Outside)
    }

    /// A token outside of records.
    fn outside(&mut self, at: Position, token: Token<'_>) -> Result<(), ReadError> {
        match (self.list, token) {
            (List::Unknown, Token::BeginArray) => self.list = List::Within,
            (List::Within, Token::EndArray) => self.list = List::Ended,
            (List::Unknown | List::Without | List::Within, Token::BeginObject) => {
                if self.list == List::Unknown {
                    self.list = List::Without;
                }
                self.head.begin(at);
                self.state = State::Record { blocks: false };
            }
            _ => return Err(Fault::Type { field: "the whole", expected: "a list of records" }.at(at)),
        }
        Ok(())
    }

    fn take(&mut self, lexed: Lexed<'_>) -> Result<Option<Extent<C>>, ReadError> {
        let at = lexed.at;
        match (self.state, lexed.token) {
            (State::Block, _) => {
                if self.block.take(lexed)? {
                    self.state = State::List;
                    return self.range().map(Some).map_err(|fault| fault.at(self.block.at()));
                }
            }
            (State::List, Token::BeginObject) => {
                self.block.begin(at);
                self.state = State::Block;
            }
            (State::List, Token::EndArray) | (State::Blocks, Token::Null) => {
                self.state = State::Record { blocks: true };
            }
            (State::Blocks, Token::BeginArray) => {
                self.head().map_err(|fault| fault.at(self.head.at()))?;
                self.state = State::List;
            }
            (State::Blocks | State::List, _) => {
                return Err(Fault::Type { field: "block_metadata", expected: "a list of objects" }.at(at));
            }
            (State::Record { blocks }, _) => self.state = self.field(lexed, blocks)?,
            (State::Outside, token) => self.outside(at, token)?,
        }
        Ok(None)
    }

    /// The end of the volume, which nothing lists.
    fn rest(&mut self) -> Result<Option<Extent<C>>, Fault> {
        // without a record nobody knows how large the volume is, and so what has not changed
        let capacity = self.capacity.ok_or(Fault::Missing { field: "volume_capacity_bytes" })?;
        let position = self.cover.position().unwrap_or(0);
        if position >= capacity {
            return Ok(None);
        }
        Ok(Some(self.cover.next(position, capacity - position, C::row(false, self.unallocated))?))
    }
}

impl<C: Call> Decode for Reader<C> {
    type Row = C;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<C>>, ReadError> {
        if let Some(extent) = self.records.behind_gap.take() {
            return Ok(Some(extent));
        }
        while let Some(lexed) = self.tokens.next(input)? {
            if let Some(extent) = self.records.take(lexed)? {
                return Ok(Some(extent));
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Extent<C>>, ReadError> {
        if let Some(extent) = self.records.behind_gap.take() {
            return Ok(Some(extent));
        }
        let at = self.tokens.position();
        if let Some(lexed) = self.tokens.end()? {
            return Err(Fault::Type { field: "the whole", expected: "a list of records" }.at(lexed.at));
        }
        self.records.rest().map_err(|fault| fault.at(at))
    }
}
