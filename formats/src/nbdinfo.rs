//! The output of `nbdinfo --map` for one metadata context, as text and as JSON.
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

use std::borrow::Cow;

use nbd_extents::{Allocation, Depth, Dirtiness};

use crate::numbers::{Numbers, spec};
use crate::objects::{Fields, FlatObject, WHOLE_NUMBER};
use crate::row::{Padded, row};
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
            row!(out, Padded(start, 10), "  ", Padded(length, 10), "  ", Padded(number, 3));
            if let Some(words) = C::words(number) {
                row!(out, "  ", &*words);
            }
        })
    };
    spec::<C>(name, |_| Decoder::new(Syntax::Lines, None, line::<C>), encoder)
}

const fn json<C: Numbers>(name: &'static str) -> Spec {
    let decoder = |_| {
        FlatObject { fields: &["offset", "length", "type", "description"], read: object::<C> }.array(false)
    };
    let encoder = |_| {
        let (open, close) = ("[\n", "\n]\n");
        let style = Style { open, between: ",\n", close, empty: "[\n\n]\n", from_zero: false };
        rows(style, |known, start, length, out| {
            let number = C::number(known);
            row!(out, "{ \"offset\": ", start, ", \"length\": ", length, ", \"type\": ", number);
            if let Some(words) = C::words(number) {
                row!(out, ", \"description\": \"", &*words, "\"");
            }
            row!(out, "}");
        })
    };
    spec::<C>(name, decoder, encoder)
}

fn line<C: Numbers>(input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
    let Some((line, ended)) = input.line()? else {
        return Ok(Step::End(None));
    };
    if !ended {
        return Err(Fault::Unexpected { found: None, expected: "the end of the line" });
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
        _ => Err(Fault::Type { field, expected: WHOLE_NUMBER }),
    }
}

fn object<C: Numbers>(fields: &Fields) -> Result<Attributes, Fault> {
    let wrong = || fields.wrong(3, "one of nbdinfo's descriptions");
    let description = fields.value(3).map(|value| value.as_str().ok_or_else(wrong)).transpose()?;
    C::check(fields.number(2)?, description)
}

/// The description that nbdinfo has for a number of a context: [`Allocation`], [`Dirtiness`] or
/// [`Depth`].
///
/// ```
/// use nbd_extents::{Allocation, Depth};
/// use nbd_extents_formats::nbdinfo::description;
///
/// assert_eq!(description::<Allocation>(3).as_deref(), Some("hole,zero"));
/// assert_eq!(description::<Depth>(2).as_deref(), Some("backing depth 2"));
/// assert_eq!(description::<Allocation>(4), None);
/// ```
#[must_use]
pub fn description<C: Numbers>(number: u64) -> Option<Cow<'static, str>> {
    C::words(number)
}
