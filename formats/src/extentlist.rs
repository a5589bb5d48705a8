//! The list that nbdkit's extentlist filter reads, to say which parts of a disk are holes.
//!
//! ```text
//! 0 1048576
//! 1048576 9437184 hole,zero
//! ```
//!
//! - Offsets and lengths may have a unit (`1M`, `512s`) and a plus sign; the type may be a number.
//! - Bytes that the list leaves out are `hole,zero`, up to the size of the disk, which the list
//!   does not name: the reader is told. What lies beyond it is cut off.
//! - nbdkit takes the lines in any order. This reader wants them ascending, since it holds one at a
//!   time; `sort -n` puts a list without units in order.
//! - An unknown word is an error here, and data to nbdkit.

use nbd_extents::Allocation;

use crate::nbdinfo::word;
use crate::numbers::Numbers;
use crate::row::row;
use crate::spec::{Decoder, Spec, Step, Style, Syntax, Text, rows};
use crate::{Attributes, Fault, ImageLayer};

pub(crate) const LIST: Spec = Spec {
    name: "extentlist",
    must: Allocation::SAYS.0,
    may: Allocation::SAYS.1,
    layer: ImageLayer::coarse,
    decoder: |options| {
        let size = options.size.unwrap_or(0); // the reader has seen that there is one
        let unlisted = Some(Allocation::attributes(3));
        Decoder::new(Syntax::Lines, unlisted, move |input| next(input, size))
    },
    encoder: |_| {
        // bytes before the first line would be holes to nbdkit
        rows(Style { from_zero: true, ..Style::LINES }, |known, start, length, out| {
            row!(out, start, " ", length);
            let number = Allocation::number(known);
            if number != 0 {
                row!(out, " ", &*Allocation::words(number).unwrap_or_default());
            }
        })
    },
};

fn next(input: &mut Text<'_>, size: u64) -> Result<Step<Attributes>, Fault> {
    // people write these lists, and leave the last end of line out
    while let Some((line, _)) = input.line()? {
        let (start, length, flags) = parse(line)?;
        // what lies beyond the disk is cut off; a range without a byte is left to the reader to
        // refuse
        if start < size || length == 0 {
            let within = length.min(size.saturating_sub(start));
            return Ok(Step::Row(start, within, Allocation::attributes(flags)));
        }
    }
    Ok(Step::End(None))
}

/// The start, the length and the flags of a line.
fn parse(line: &str) -> Result<(u64, u64, u64), Fault> {
    const EXPECTED: &str = "a number, or \"hole\" and \"zero\" with a comma";
    let (start, line) = size(line, "offset")?;
    let (length, line) = size(line, "length")?;
    let Some((words, rest)) = word(line) else {
        return Ok((start, length, 0));
    };
    if word(rest).is_some() {
        return Err(Fault::Type { field: "type", expected: "the last word of the line" });
    }
    let flags = match words.parse::<u32>() {
        Ok(flags) => u64::from(flags),
        Err(_) => words.split(',').try_fold(0, |flags, word| match word {
            "hole" => Ok(flags | 1),
            "zero" => Ok(flags | 2),
            _ => Err(Fault::Type { field: "type", expected: EXPECTED }),
        })?,
    };
    Ok((start, length, flags))
}

/// A number of bytes as nbdkit reads it: with a sign and a binary unit, or without.
fn size<'a>(line: &'a str, field: &'static str) -> Result<(u64, &'a str), Fault> {
    const UNITS: [(&str, u32); 9] =
        [("", 0), ("b", 0), ("s", 9), ("k", 10), ("m", 20), ("g", 30), ("t", 40), ("p", 50), ("e", 60)];
    let (text, rest) = word(line).ok_or(Fault::Missing(field))?;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let shift = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|&(_, shift)| shift);
    match (digits.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()), shift) {
        (Some(number), Some(shift)) if number <= u64::MAX >> shift => Ok((number << shift, rest)),
        _ => Err(Fault::Type { field, expected: "a number of bytes, with or without a unit" }),
    }
}
