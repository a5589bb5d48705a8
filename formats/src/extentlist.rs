//! The list that nbdkit's extentlist filter reads, to say which parts of a disk are holes.
//!
//! ```text
//! 0 1048576
//! 1048576 9437184 hole,zero
//! ```
//!
//! Offsets and lengths may have a unit (`1M`, `512s`), the type may be a number. Bytes that the list leaves out are `hole,zero`, up to the disk's size,
//! which the list does not name: the reader is told. nbdkit takes the lines in any order; this reader wants them ascending, since it holds one at
//! a time, and `sort -n` puts a list without units in order. An unknown word is an error here, and data to nbdkit.

use std::fmt;

use super::cover::Cover;
use super::error::{Fault, ReadError, WriteError};
use super::lines::{Lines, word};
use super::{Decode, Encode};
use nbd_extents::Allocation;
use nbd_extents::Extent;
use nbd_extents::StreamError;

const HOLE_AND_ZERO: Allocation = Allocation::from_flags(3);

/// Reads an extent list: rows of [`Allocation`], gaps included.
///
/// ```
/// use nbd_extents_formats::{Decode, extentlist};
///
/// let mut list = &b"0 1K\n4K 1K zero\n"[..];
/// let mut reader = extentlist::Reader::new(8192);
/// let mut shown = Vec::new();
/// while let Some(extent) = reader.next(&mut list)? {
///     shown.push(extent.to_string());
/// }
/// while let Some(extent) = reader.end()? {
///     shown.push(extent.to_string());
/// }
/// assert_eq!(shown, ["0..1024 data", "1024..4096 zero,hole", "4096..5120 zero", "5120..8192 zero,hole"]);
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    lines: Lines,
    cover: Cover,
    size: u64,
    /// The extent behind a gap that has been handed out.
    behind_gap: Option<Extent<Allocation>>,
}

impl Reader {
    /// For a disk of `size` bytes.
    ///
    /// ```
    /// use nbd_extents_formats::{Decode, extentlist};
    ///
    /// let gap = extentlist::Reader::new(4096).end()?.ok_or("no extent")?;
    /// assert_eq!(gap.to_string(), "0..4096 zero,hole", "a list that says nothing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { lines: Lines::new(), cover: Cover::from(0), size, behind_gap: None }
    }

    /// The extent of a line, or the gap in front of it.
    fn place(&mut self, start: u64, length: u64, status: Allocation) -> Result<Extent<Allocation>, Fault> {
        let position = self.cover.position().unwrap_or_default();
        let extent = self.cover.next_behind(start, length, status)?;
        if extent.end() > self.size {
            return Err(StreamError::OutOfRange { extent: extent.range(), range: 0..self.size }.into());
        }
        if extent.start() == position {
            return Ok(extent);
        }
        let gap = Extent::from_range(position..extent.start(), HOLE_AND_ZERO).map_err(StreamError::from)?;
        self.behind_gap = Some(extent);
        Ok(gap)
    }

    fn line(&mut self, line: (u64, u64, Allocation)) -> Result<Option<Extent<Allocation>>, ReadError> {
        let (start, length, status) = line;
        self.place(start, length, status).map(Some).map_err(|fault| fault.at(self.lines.began()))
    }
}

impl Decode for Reader {
    type Row = Allocation;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<Allocation>>, ReadError> {
        if let Some(extent) = self.behind_gap.take() {
            return Ok(Some(extent));
        }
        let Some(line) = self.lines.next(input)? else {
            return Ok(None);
        };
        match parse(line) {
            Ok(line) => self.line(line),
            Err(fault) => Err(fault.at(self.lines.began())),
        }
    }

    fn end(&mut self) -> Result<Option<Extent<Allocation>>, ReadError> {
        if let Some(extent) = self.behind_gap.take() {
            return Ok(Some(extent));
        }
        // people write these lists, and leave the last end of line out
        if let Some(line) = self.lines.rest()? {
            return match parse(line) {
                Ok(line) => self.line(line),
                Err(fault) => Err(fault.at(self.lines.began())),
            };
        }
        let position = self.cover.position().unwrap_or_default();
        if position >= self.size {
            return Ok(None);
        }
        let gap = self.cover.next(position, self.size - position, HOLE_AND_ZERO);
        gap.map(Some).map_err(|error| Fault::from(error).at(self.lines.began()))
    }
}

fn parse(line: &str) -> Result<(u64, u64, Allocation), Fault> {
    let (start, line) = size(line, "offset")?;
    let (length, line) = size(line, "length")?;
    let Some((words, rest)) = word(line) else {
        return Ok((start, length, Allocation::DATA));
    };
    if let Some((_, _)) = word(rest) {
        return Err(Fault::Type { field: "type", expected: "the last word of the line" });
    }
    let flags = match words.parse::<u32>() {
        Ok(flags) if !words.starts_with('+') => u64::from(flags),
        _ => words.split(',').try_fold(0, |flags, word| match word {
            "hole" => Ok(flags | 1),
            "zero" => Ok(flags | 2),
            _ => Err(Fault::Type {
                field: "type",
                expected: "a number, or \"hole\" and \"zero\" with a comma",
            }),
        })?,
    };
    Ok((start, length, Allocation::from_flags(flags)))
}

/// A number of bytes as nbdkit reads it: with a binary unit or without.
fn size<'a>(line: &'a str, field: &'static str) -> Result<(u64, &'a str), Fault> {
    const UNITS: [(&str, u32); 8] =
        [("b", 0), ("s", 9), ("k", 10), ("m", 20), ("g", 30), ("t", 40), ("p", 50), ("e", 60)];
    let (text, rest) = word(line).ok_or(Fault::Missing { field })?;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let shift = if unit.is_empty() {
        Some(0)
    } else {
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, shift)| shift)
    };
    let number: Option<u64> = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    match (number, shift) {
        (Some(number), Some(shift)) if number <= u64::MAX >> shift => Ok((number << shift, rest)),
        _ => Err(Fault::Type { field, expected: "a number of bytes, with or without a unit" }),
    }
}

/// Writes an extent list: a line a range, in bytes, and no type where there is data.
///
/// ```
/// use nbd_extents_formats::{Encode, extentlist};
/// use nbd_extents::{Allocation, Extent};
///
/// let mut out = String::new();
/// let mut writer = extentlist::Writer::new();
/// writer.extent(&Extent::new(0, 1024, Allocation::DATA)?, &mut out)?;
/// writer.extent(&Extent::new(1024, 7168, Allocation::from_flags(3))?, &mut out)?;
/// assert_eq!(out, "0 1024\n1024 7168 hole,zero\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer {
    cover: Cover,
}

impl Writer {
    /// Before the first line.
    #[must_use]
    pub const fn new() -> Self {
        Self { cover: Cover::from(0) }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Encode for Writer {
    type Row = Allocation;

    fn extent(&mut self, extent: &Extent<Allocation>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let (start, length, flags) = (extent.start(), extent.length(), extent.status().flags());
        self.cover.next(start, length, ())?;
        write!(out, "{start} {length}")?;
        let words = ["", " hole", " zero", " hole,zero"];
        match usize::try_from(flags).ok().and_then(|flags| words.get(flags)) {
            Some(words) => writeln!(out, "{words}")?,
            None => writeln!(out, " {flags}")?,
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        Ok(())
    }
}
