//! The output of `nbdinfo --map` for one metadata context, as text and as JSON, and with
//! `--totals`.
//!
//! ```text
//!          0     1114112    0  data
//!    1114112     3604480    3  hole,zero
//! ```
//!
//! ```text
//! [
//! { "offset": 0, "length": 1114112, "type": 0, "description": "data"},
//! { "offset": 1114112, "length": 3604480, "type": 3, "description": "hole,zero"}
//! ]
//! ```
//!
//! The number is the status as it came over the wire, so its meaning depends on the context, which
//! the output does not name: a 1 is a hole, dirty, or the top layer. So each context has a format
//! of its own: `nbdinfo-allocation`, `nbdinfo-dirty` and `nbdinfo-depth`, and the same with
//! `-json`. The description must be the one that nbdinfo has for this context and number; anything
//! else is an error, since then it is the map of another context.
//!
//! Every line of the text must have its end: a table without the last one may have been cut in a
//! number.

use std::collections::BTreeMap;
use std::io::Write;
use std::marker::PhantomData;

use nbd_extents::{Allocation, Depth, Dirtiness};

use crate::numbers::{Numbers, spec};
use crate::objects::{Fields, Object};
use crate::spec::{Decoder, Spec, Step, Style, Syntax, Text, rows};
use crate::{Attributes, Fault};

pub(crate) const ALLOCATION: Spec = text::<Allocation>("nbdinfo-allocation");
pub(crate) const DIRTY: Spec = text::<Dirtiness>("nbdinfo-dirty");
pub(crate) const DEPTH: Spec = text::<Depth>("nbdinfo-depth");
pub(crate) const ALLOCATION_JSON: Spec = json::<Allocation>("nbdinfo-allocation-json");
pub(crate) const DIRTY_JSON: Spec = json::<Dirtiness>("nbdinfo-dirty-json");
pub(crate) const DEPTH_JSON: Spec = json::<Depth>("nbdinfo-depth-json");

const fn text<C: Numbers>(name: &'static str) -> Spec {
    let encoder = |_| {
        rows(Style::LINES, |known, start, length, out| {
            let number = C::number(known);
            write!(out, "{start:10}  {length:10}  {number:3}")?;
            C::words(number).map_or(Ok(()), |words| write!(out, "  {words}"))
        })
    };
    spec::<C>(name, |_| Decoder::new(Syntax::Lines, None, line::<C>), encoder)
}

const fn json<C: Numbers>(name: &'static str) -> Spec {
    let decoder =
        |_| Object { fields: &["offset", "length", "type", "description"], read: object::<C> }.array(false);
    let encoder = |_| {
        let (open, close) = ("[\n", "\n]\n");
        let style = Style { open, between: ",\n", close, empty: "[\n\n]\n", from_zero: false };
        rows(style, |known, start, length, out| {
            let number = C::number(known);
            write!(out, "{{ \"offset\": {start}, \"length\": {length}, \"type\": {number}")?;
            match C::words(number) {
                Some(words) => write!(out, ", \"description\": \"{words}\"}}"),
                None => write!(out, "}}"),
            }
        })
    };
    spec::<C>(name, decoder, encoder)
}

fn line<C: Numbers>(input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
    let Some((line, ended)) = input.line()? else {
        return Ok(Step::End(None));
    };
    if !ended {
        return Err(Fault::Ended("the end of the line"));
    }
    let (start, line) = number(line, "offset")?;
    let (length, line) = number(line, "length")?;
    let (flags, line) = number(line, "type")?;
    Ok(Step::Row(start, length, C::check(flags, Some(line))?))
}

/// The next word of a line, and the rest of the line.
pub(crate) fn word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches([' ', '\t']);
    (!line.is_empty()).then(|| line.split_once([' ', '\t']).unwrap_or((line, "")))
}

fn number<'a>(line: &'a str, field: &'static str) -> Result<(u64, &'a str), Fault> {
    let (digits, rest) = word(line).ok_or(Fault::Missing(field))?;
    match digits.parse() {
        Ok(number) if !digits.starts_with('+') => Ok((number, rest)),
        _ => Err(Fault::Type { field, expected: "a whole number from 0 to 2^64 - 1" }),
    }
}

fn object<C: Numbers>(fields: &Fields) -> Result<Attributes, Fault> {
    let description = match fields.value(3) {
        None => None,
        Some(value) => Some(value.as_str().ok_or_else(|| fields.wrong(3, "one of nbdinfo's descriptions"))?),
    };
    C::check(fields.number(2)?, description)
}

/// The bytes of each status of one context: [`Allocation`], [`Dirtiness`] or [`Depth`].
///
/// ```
/// use nbd_extents::Allocation;
/// use nbd_extents_formats::nbdinfo::ContextTotals;
///
/// let mut totals = ContextTotals::<Allocation>::default();
/// totals.add(Allocation::DATA.flags(), 1024);
/// totals.add(3, 3072);
/// assert_eq!(
///     totals.text(),
///     "      1024  25.0%   0 data\n      3072  75.0%   3 hole,zero\n"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextTotals<C> {
    bytes: BTreeMap<u64, u64>,
    context: PhantomData<C>,
}

impl<C> Default for ContextTotals<C> {
    fn default() -> Self {
        Self { bytes: BTreeMap::new(), context: PhantomData }
    }
}

impl<C: Numbers> ContextTotals<C> {
    /// Counts bytes that have these flags on the wire.
    pub fn add(&mut self, flags: u64, bytes: u64) {
        let sum = self.bytes.entry(flags).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// The output of `nbdinfo --map --totals`.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(flags, bytes, share)| {
            let words = C::words(flags).map(|words| format!(" {words}")).unwrap_or_default();
            format!("{bytes:10} {share:5.1}% {flags:3}{words}\n")
        };
        self.rows().map(line).collect()
    }

    /// The output of `nbdinfo --map --totals --json`.
    #[must_use]
    pub fn json(&self) -> String {
        let object = |(flags, bytes, share)| {
            let (share, words) = (general(share), C::words(flags));
            let words = words.map(|words| format!(", \"description\": \"{words}\"")).unwrap_or_default();
            format!("\n{{ \"size\": {bytes}, \"percent\": {share}, \"type\": {flags}{words} }}")
        };
        let objects: Vec<String> = self.rows().map(object).collect();
        format!("[{}{}]\n", objects.join(","), if objects.is_empty() { "" } else { "\n" })
    }

    /// The flags, their bytes, and the percentage of all bytes.
    #[expect(clippy::cast_precision_loss, reason = "a share is shown to six digits")]
    fn rows(&self) -> impl Iterator<Item = (u64, u64, f64)> {
        let size = self.bytes.values().fold(0_u64, |sum, &bytes| sum.saturating_add(bytes));
        let share = move |bytes| if size == 0 { 0.0 } else { 100.0 * bytes as f64 / size as f64 };
        self.bytes.iter().map(move |(&flags, &bytes)| (flags, bytes, share(bytes)))
    }
}

/// A number as C's `%g` prints it: six digits, no zeroes at the end, an exponent where the number
/// is very small.
fn general(number: f64) -> String {
    fn without_zeroes(number: &str) -> &str {
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
    }
    // six digits first, since rounding decides the exponent: 9.999999 is 10
    let rounded = format!("{number:.5e}");
    let (digits, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        let places = usize::try_from(5 - exponent).unwrap_or_default();
        return without_zeroes(&format!("{number:.places$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeroes(digits), exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_printf() {
        // printf '%g\n' ...
        let printed = [
            (100.0, "100"),
            (26.0417, "26.0417"),
            (50.0, "50"),
            (0.008_493_47, "0.00849347"),
            (99.974_5, "99.9745"),
            (9.999_999_9, "10"),
            (99.999_999, "100"),
            (0.0001, "0.0001"),
            (0.000_099_999_999, "0.0001"),
            (0.000_012_345_67, "1.23457e-05"),
            (1.0e-17, "1e-17"),
            (1.084_202_17e-17, "1.0842e-17"),
            (0.1, "0.1"),
            (33.333_333_333_333_336, "33.3333"),
            (66.666_666_666_666_67, "66.6667"),
        ];
        for (number, text) in printed {
            assert_eq!(general(number), text);
        }
    }
}
