//! What most of the formats are: a list of flat JSON objects, one a range. The reader and the writer of all of them; a format brings its fields and
//! its punctuation.

use std::fmt;

use super::cover::Cover;
use super::error::{Fault, ReadError, WriteError};
use super::json::{Token, Tokens};
use super::record::Record;
use super::{Decode, Encode};
use nbd_extents::Extent;

/// How a list is punctuated.
#[derive(Debug)]
pub struct Style {
    /// Before the first row.
    pub(super) open: &'static str,
    /// Between rows.
    pub(super) between: &'static str,
    /// Behind the last row.
    pub(super) close: &'static str,
    /// All of a list without rows.
    pub(super) empty: &'static str,
    /// Whether the list is an array; else the objects just follow each other.
    pub(super) array: bool,
    /// Whether a single row of length 0 stands for an empty disk.
    pub(super) zero_length: bool,
}

impl Style {
    /// An array as Python's `json.dumps` writes it, on one line without an end.
    pub(super) const PYTHON: Self =
        Self { open: "[", between: ", ", close: "]", empty: "[]", array: true, zero_length: false };
}

mod sealed {
    use super::{Fault, Record, Style, fmt};

    /// How a row stands in its list. It cannot be implemented outside.
    pub trait InList: Sized {
        /// The fields that the format knows; the first two are where the range starts and how long it is.
        const FIELDS: &'static [&'static str];
        /// The punctuation.
        const STYLE: Style;

        /// Reads the row of a whole object.
        fn read(record: &Record) -> Result<Self, Fault>;

        /// Writes the object of a range.
        fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result;
    }
}
pub(super) use sealed::InList;

/// Reads a list of JSON objects, one a range: see the aliases, [`imageio::DirtyReader`](super::imageio::DirtyReader) say.
///
/// ```
/// use nbd_extents_formats::{Decode, ListReader, qemu_img};
///
/// let mut reader: ListReader<qemu_img::DirtyEntry> = qemu_img::DirtyReader::new();
/// let mut half = &br#"[{ "start": 0, "length": 65536, "depth": 0, "zero""#[..];
/// assert_eq!(reader.next(&mut half)?, None, "it needs more");
/// let mut rest = &br#": false, "data": false}]"#[..];
/// assert!(reader.next(&mut rest)?.is_some_and(|extent| extent.status().dirty));
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListReader<R> {
    tokens: Tokens,
    record: Record,
    state: State,
    cover: Cover,
    row: std::marker::PhantomData<R>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Before the array's bracket.
    Outside,
    Between,
    Inside,
    /// Behind the row of length 0 that stands for an empty disk.
    Empty,
    Done,
}

impl<R: InList> ListReader<R> {
    /// At the start of an input.
    #[must_use]
    pub fn new() -> Self {
        let tokens = if R::STYLE.array { Tokens::one() } else { Tokens::many() };
        let state = if R::STYLE.array { State::Outside } else { State::Between };
        let record = Record::new(R::FIELDS, false);
        Self { tokens, record, state, cover: Cover::anywhere(), row: std::marker::PhantomData }
    }
}

impl<R: InList> Default for ListReader<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: InList> Decode for ListReader<R> {
    type Row = R;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<R>>, ReadError> {
        while let Some(lexed) = self.tokens.next(input)? {
            match (self.state, lexed.token) {
                (State::Inside, _) => {
                    if self.record.take(lexed)? {
                        self.state = State::Between;
                        match self.row().map_err(|fault| fault.at(self.record.at()))? {
                            Some(extent) => return Ok(Some(extent)),
                            None => self.state = State::Empty,
                        }
                    }
                }
                (State::Outside, Token::BeginArray) => self.state = State::Between,
                (State::Between, Token::BeginObject) => {
                    self.record.begin(lexed.at);
                    self.state = State::Inside;
                }
                (State::Between | State::Empty, Token::EndArray) => self.state = State::Done,
                (State::Outside, _) => {
                    return Err(Fault::Type { field: "the whole", expected: "an array" }.at(lexed.at));
                }
                _ => return Err(Fault::Type { field: "a row", expected: "an object" }.at(lexed.at)),
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Extent<R>>, ReadError> {
        match self.tokens.end()? {
            None => Ok(None),
            // a bare number: the array of objects has not begun
            Some(lexed) => Err(Fault::Type { field: "the whole", expected: "a list" }.at(lexed.at)),
        }
    }
}

impl<R: InList> ListReader<R> {
    /// The extent of a whole object; `None` for the one that says that the disk is empty.
    fn row(&mut self) -> Result<Option<Extent<R>>, Fault> {
        let (start, length) = (self.record.number(0)?, self.record.number(1)?);
        let row = R::read(&self.record)?;
        if R::STYLE.zero_length && (start, length) == (0, 0) && self.cover.position().is_none() {
            return Ok(None);
        }
        Ok(Some(self.cover.next(start, length, row)?))
    }
}

/// Writes a list of JSON objects, one a range: see the aliases, [`imageio::DirtyWriter`](super::imageio::DirtyWriter) say.
///
/// ```
/// use nbd_extents_formats::{Encode, ListWriter, imageio};
///
/// let mut out = String::new();
/// let mut writer: ListWriter<imageio::Dirty> = imageio::DirtyWriter::new();
/// writer.finish(&mut out)?;
/// assert_eq!(out, "[]", "a list without rows is a list");
/// # Ok::<(), nbd_extents_formats::WriteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ListWriter<R> {
    cover: Cover,
    row: std::marker::PhantomData<R>,
}

impl<R: InList> ListWriter<R> {
    /// Before the first row.
    #[must_use]
    pub const fn new() -> Self {
        Self { cover: Cover::anywhere(), row: std::marker::PhantomData }
    }
}

impl<R: InList> Default for ListWriter<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: InList> Encode for ListWriter<R> {
    type Row = R;

    fn extent(&mut self, extent: &Extent<R>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let first = self.cover.position().is_none();
        self.cover.next(extent.start(), extent.length(), ())?;
        out.write_str(if first { R::STYLE.open } else { R::STYLE.between })?;
        Ok(extent.status().write(extent.start(), extent.length(), out)?)
    }

    fn finish(&mut self, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let empty = self.cover.position().is_none();
        Ok(out.write_str(if empty { R::STYLE.empty } else { R::STYLE.close })?)
    }
}
