//! The table that nbdinfo prints: start, length, number, description.

use std::fmt;
use std::marker::PhantomData;

use super::super::cover::Cover;
use super::super::error::{Fault, ReadError, WriteError};
use super::super::lines::{Lines, word};
use super::super::{Decode, Encode};
use super::{Context, check};
use nbd_extents::Extent;

/// Reads `nbdinfo --map`; `C` is what the map was of: [`Allocation`](nbd_extents::Allocation), [`Dirtiness`](nbd_extents::Dirtiness) or
/// [`Depth`](nbd_extents::Depth). Every line must have its end: a table without the last one may have been cut in a number.
///
/// ```
/// use nbd_extents::Depth;
/// use nbd_extents_formats::{Decode, nbdinfo};
///
/// let mut reader = nbdinfo::TextReader::<Depth>::new();
/// let extent = reader.next(&mut &b"         0       65536    2  backing depth 2\n"[..])?;
/// assert_eq!(extent.and_then(|extent| extent.status().layer()), Some(2));
/// assert_eq!(reader.end()?, None);
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextReader<C> {
    lines: Lines,
    cover: Cover,
    context: PhantomData<C>,
}

impl<C: Context> TextReader<C> {
    /// At the start of an input.
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: Lines::new(), cover: Cover::anywhere(), context: PhantomData }
    }
}

impl<C: Context> Default for TextReader<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Context> Decode for TextReader<C> {
    type Row = C;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<C>>, ReadError> {
        let Some(line) = self.lines.next(input)? else {
            return Ok(None);
        };
        let parsed = parse::<C>(line);
        let extent = parsed.and_then(|(start, length, status)| Ok(self.cover.next(start, length, status)?));
        extent.map(Some).map_err(|fault| fault.at(self.lines.began()))
    }

    fn end(&mut self) -> Result<Option<Extent<C>>, ReadError> {
        match self.lines.rest()? {
            None => Ok(None),
            Some(_) => Err(Fault::Ended { expected: "the end of the line" }.at(self.lines.began())),
        }
    }
}

fn parse<C: Context>(line: &str) -> Result<(u64, u64, C), Fault> {
    let (start, line) = number(line, "offset")?;
    let (length, line) = number(line, "length")?;
    let (flags, line) = number(line, "type")?;
    let status = C::of(flags);
    let description = line.trim_matches(' ');
    check(&status, Some(description).filter(|text| !text.is_empty()))?;
    Ok((start, length, status))
}

/// The next word of a line, which must be a number.
pub(super) fn number<'a>(line: &'a str, field: &'static str) -> Result<(u64, &'a str), Fault> {
    let (digits, rest) = word(line).ok_or(Fault::Missing { field })?;
    match digits.parse() {
        Ok(number) if !digits.starts_with('+') => Ok((number, rest)),
        _ => Err(Fault::Type { field, expected: "a whole number from 0 to 2^64 - 1" }),
    }
}

/// Writes what `nbdinfo --map` prints.
#[derive(Clone, Debug)]
pub struct TextWriter<C> {
    cover: Cover,
    context: PhantomData<C>,
}

impl<C: Context> TextWriter<C> {
    /// Before the first row.
    #[must_use]
    pub const fn new() -> Self {
        Self { cover: Cover::anywhere(), context: PhantomData }
    }
}

impl<C: Context> Default for TextWriter<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Context> Encode for TextWriter<C> {
    type Row = C;

    fn extent(&mut self, extent: &Extent<C>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let (start, length, status) = (extent.start(), extent.length(), extent.status());
        self.cover.next(start, length, ())?;
        write!(out, "{start:10}  {length:10}  {:3}", status.number())?;
        if let Some(description) = status.description() {
            write!(out, "  {description}")?;
        }
        Ok(out.write_char('\n')?)
    }

    fn finish(&mut self, _out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        Ok(())
    }
}
