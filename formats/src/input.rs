//! The text of a list, read in chunks: a line or a JSON value at a time, however long the whole is.
//!
//! serde_json parses whole values. Between the values of a list stand only brackets, commas and
//! colons; these are read here, so that a list can be taken row by row from any reader and never
//! stands in memory.

use std::io::{ErrorKind, Read};

use serde::de::{Deserialize, Deserializer as _, IgnoredAny};
use serde_json::de::{Deserializer, SliceRead};
use serde_json::error::Category;

use crate::objects::Fields;
use crate::{Fault, LineColumn};

/// The bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// The longest line or JSON value in bytes; nbdinfo's lines have 80, qemu-img's rows some 200.
const MAX_ROW: usize = 1 << 20;

/// A text and how far into it the parser has come.
pub(crate) struct Input<R: ?Sized> {
    buffer: Vec<u8>,
    /// The bytes of the buffer that have been read.
    filled: usize,
    /// The place of the buffer's first byte.
    start: LineColumn,
    /// The bytes of the buffer that have been taken.
    taken: usize,
    /// The byte of the buffer at which the token at hand begins, or is wrong.
    token: usize,
    ended: bool,
    /// A bracket has just been opened, so that no comma comes before the next item.
    opened: bool,
    reader: R,
}

impl<R: Read> Input<R> {
    pub(crate) const fn new(reader: R) -> Self {
        Self {
            buffer: Vec::new(),
            filled: 0,
            start: LineColumn::START,
            taken: 0,
            token: 0,
            ended: false,
            opened: false,
            reader,
        }
    }
}

impl<R: Read + ?Sized> Input<R> {
    /// The place of a fault that has just been found.
    pub(crate) fn place(&self) -> LineColumn {
        self.start.after(self.buffer.get(..self.token).unwrap_or_default())
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..self.filled).unwrap_or_default()
    }

    /// Reads more; `false` when there is none.
    ///
    /// It at least doubles the bytes that are not taken yet, so that parsing a long row again after
    /// each call takes time in proportion to its length.
    fn fill(&mut self) -> Result<bool, Fault> {
        self.start = self.start.after(self.buffer.get(..self.taken).unwrap_or_default());
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.token = self.token.saturating_sub(self.taken);
        self.taken = 0;
        if self.filled > MAX_ROW {
            return Err(Fault::TooLong(MAX_ROW));
        }
        let before = self.filled;
        let wanted = (2 * before).max(1);
        self.buffer.resize(self.buffer.len().max(wanted + CHUNK), 0);
        while !self.ended && self.filled < wanted {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(count) => (self.filled, self.ended) = (self.filled + count, count == 0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.filled > before)
    }

    /// The next line without its end, and whether it has one; `None` at the end.
    pub(crate) fn line(&mut self) -> Result<Option<(&str, bool)>, Fault> {
        self.token = self.taken;
        let (length, ended) = loop {
            match self.rest().iter().position(|&byte| byte == b'\n') {
                Some(length) => break (length, true),
                None if self.fill()? => {}
                None if self.rest().is_empty() => return Ok(None),
                None => break (self.rest().len(), false),
            }
        };
        let line = self.token..self.token + length;
        self.taken = line.end + usize::from(ended);
        let text = std::str::from_utf8(self.buffer.get(line).unwrap_or_default());
        Ok(Some((text.map_err(|_| Fault::Json { message: "the text is not UTF-8".to_owned() })?, ended)))
    }

    /// The next byte of JSON that is not blank; `None` at the end. Takes the blanks.
    pub(crate) fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            let blanks = self.rest().iter().take_while(|byte| blank(byte)).count();
            self.taken += blanks;
            self.token = self.taken;
            if let Some(&byte) = self.rest().first() {
                return Ok(Some(byte));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Refuses a next byte that is not the one wanted.
    fn expect(&mut self, wanted: u8, expected: &'static str) -> Result<(), Fault> {
        match self.peek()? {
            Some(found) if found == wanted => Ok(()),
            found => Err(Fault::Unexpected { found, expected }),
        }
    }

    /// Takes a bracket or a colon.
    pub(crate) fn punctuation(&mut self, wanted: u8, expected: &'static str) -> Result<(), Fault> {
        self.expect(wanted, expected)?;
        self.taken += 1;
        self.opened = matches!(wanted, b'[' | b'{');
        Ok(())
    }

    /// Goes to the next item of a list or an object; `false` when `close` has ended it.
    pub(crate) fn item(&mut self, close: u8) -> Result<bool, Fault> {
        let opened = std::mem::replace(&mut self.opened, false);
        match self.peek()? {
            Some(byte) if byte == close => {
                self.taken += 1;
                Ok(false)
            }
            Some(_) if opened => Ok(true),
            Some(b',') => {
                self.taken += 1;
                Ok(true)
            }
            found => Err(Fault::Unexpected { found, expected: "',' or the end of the list or object" }),
        }
    }

    /// Goes to the next key of an object, and to its value; `None` when the object has ended.
    pub(crate) fn key(&mut self) -> Result<Option<String>, Fault> {
        if !self.item(b'}')? {
            return Ok(None);
        }
        self.expect(b'"', "a key")?;
        let key = self.value()?;
        self.punctuation(b':', "':'")?;
        Ok(Some(key))
    }

    /// Opens the list that is the value of a key; `false` if it is null, Go's empty list.
    pub(crate) fn list(&mut self, expected: &'static str) -> Result<bool, Fault> {
        if self.peek()? == Some(b'n') {
            return self.value::<()>().map(|()| false);
        }
        self.punctuation(b'[', expected).map(|()| true)
    }

    /// Takes a JSON value.
    pub(crate) fn value<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, Fault> {
        self.parse(|json| T::deserialize(json))
    }

    /// Takes an object with these fields, which have other names in the JSON of a protocol buffer.
    pub(crate) fn fields(
        &mut self,
        names: &'static [&'static str],
        protobuf: &'static [&'static str],
    ) -> Result<Fields, Fault> {
        self.expect(b'{', "an object")?;
        let fields = self.parse(|json| json.deserialize_map(Fields::new(names, protobuf)))?;
        fields.check()?;
        Ok(fields)
    }

    /// Takes a JSON value, which must be whole in the buffer: reads more and parses again until it
    /// is.
    fn parse<T>(
        &mut self,
        parse: impl for<'de> Fn(&mut Deserializer<SliceRead<'de>>) -> serde_json::Result<T>,
    ) -> Result<T, Fault> {
        self.peek()?;
        loop {
            let rest = self.rest();
            let mut json = Deserializer::from_slice(rest);
            let parsed = parse(&mut json);
            let length = json.into_iter::<IgnoredAny>().byte_offset();
            // A value that ends at the end of the buffer, or is wrong there, may go on in the next
            // chunk: a number that is cut is whole to serde_json, or wrong, as it happens.
            let cut = match &parsed {
                Ok(_) => length == rest.len(),
                Err(error) => offset(rest, error.line(), error.column()) + 1 >= rest.len(),
            };
            if cut && self.fill()? {
                continue;
            }
            return match parsed {
                Ok(value) => {
                    self.taken += length;
                    Ok(value)
                }
                Err(error) if error.classify() == Category::Eof => {
                    Err(Fault::Unexpected { found: None, expected: "the rest of a value" })
                }
                Err(error) => {
                    self.token += offset(self.rest(), error.line(), error.column());
                    Err(Fault::Json { message: words(&error) })
                }
            };
        }
    }

    /// Takes the end of the text.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek()? {
            None => Ok(()),
            found => Err(Fault::Unexpected { found, expected: "nothing" }),
        }
    }
}

/// The offset of a line and column, both from 1, in a value.
fn offset(value: &[u8], line: usize, column: usize) -> usize {
    let lines = value.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)
}

/// serde_json's words without its place, which is counted from the start of the value.
fn words(error: &serde_json::Error) -> String {
    let words = error.to_string();
    words.rsplit_once(" at line ").map_or(words.clone(), |(words, _)| words.to_owned())
}
