//! What nbdinfo prints with `--totals`: how many bytes each status has, and the share of the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use super::super::error::{Fault, Position, ReadError};
use super::super::json::{Token, Tokens};
use super::super::lines::{Lines, word};
use super::super::record::Record;
use super::text::number;
use super::{Context, check, read};
use nbd_extents::Extent;
use nbd_extents::stream::ExtentStream;

/// How many bytes each status of one context has, as `nbdinfo --map --totals` prints it, as text and as JSON.
///
/// The share is written from the bytes, and not read: the statuses of a whole disk add up to its size.
///
/// ```
/// use nbd_extents::Allocation;
/// use nbd_extents_formats::nbdinfo::Totals;
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::Extent;
///
/// let disk = [Extent::new(0, 1024, Allocation::DATA)?, Extent::new(1024, 3072, Allocation::from_flags(3))?];
/// let totals = Totals::of(from_iter(disk))?;
/// assert_eq!(totals.text().to_string(), "      1024  25.0%   0 data\n      3072  75.0%   3 hole,zero\n");
/// assert_eq!(Totals::from_text(totals.text().to_string().as_bytes())?, totals);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals<C> {
    bytes: BTreeMap<u64, u64>,
    context: PhantomData<C>,
}

impl<C> Default for Totals<C> {
    fn default() -> Self {
        Self { bytes: BTreeMap::new(), context: PhantomData }
    }
}

impl<C: Context> Totals<C> {
    /// Counts a whole stream.
    ///
    /// # Errors
    ///
    /// The stream's first error.
    pub fn of<S: ExtentStream<Status = C>>(stream: S) -> Result<Self, S::Error> {
        stream.fold(Self::default(), |mut totals, extent| {
            totals.add(&extent);
            totals
        })
    }

    /// Counts one extent more.
    pub fn add(&mut self, extent: &Extent<C>) {
        let bytes = self.bytes.entry(extent.status().number()).or_default();
        *bytes = bytes.saturating_add(extent.length());
    }

    /// Each status that there is and its bytes, in the order of the numbers.
    pub fn rows(&self) -> impl Iterator<Item = (C, u64)> {
        self.bytes.iter().map(|(&flags, &bytes)| (C::of(flags), bytes))
    }

    /// All bytes together: the size of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Reads what `nbdinfo --map --totals` prints.
    ///
    /// # Errors
    ///
    /// With its line, what is not a row of nbdinfo for this context.
    pub fn from_text(mut text: &[u8]) -> Result<Self, ReadError> {
        let mut totals = Self::default();
        let mut lines = Lines::new();
        while let Some(line) = lines.next(&mut text)? {
            let row = parse::<C>(line).and_then(|(bytes, status)| totals.row(bytes, status));
            row.map_err(|fault| fault.at(lines.began()))?;
        }
        match lines.rest()? {
            None => Ok(totals),
            Some(_) => Err(Fault::Ended { expected: "the end of the line" }.at(lines.began())),
        }
    }

    /// Reads what `nbdinfo --map --totals --json` prints.
    ///
    /// # Errors
    ///
    /// With its position, what is not JSON or not a row of nbdinfo for this context.
    pub fn from_json(mut json: &[u8]) -> Result<Self, ReadError> {
        let mut totals = Self::default();
        let mut tokens = Tokens::one();
        let mut record = Record::new(&["size", "type", "description"], false);
        let mut inside = false;
        while let Some(lexed) = tokens.next(&mut json)? {
            if inside {
                inside = !record.take(lexed)?;
                if !inside {
                    let row = read(&record, 1).and_then(|status| totals.row(record.number(0)?, status));
                    row.map_err(|fault| fault.at(record.at()))?;
                }
                continue;
            }
            match lexed.token {
                Token::BeginObject => {
                    record.begin(lexed.at);
                    inside = true;
                }
                Token::BeginArray if lexed.at == Position::START || totals.bytes.is_empty() => {}
                Token::EndArray => {}
                _ => return Err(Fault::Type { field: "a row", expected: "an object" }.at(lexed.at)),
            }
        }
        match tokens.end()? {
            None => Ok(totals),
            Some(lexed) => Err(Fault::Type { field: "the whole", expected: "a list" }.at(lexed.at)),
        }
    }

    fn row(&mut self, bytes: u64, status: C) -> Result<(), Fault> {
        match self.bytes.insert(status.number(), bytes) {
            None => Ok(()),
            Some(_) => Err(Fault::Twice { field: "type" }),
        }
    }

    /// What nbdinfo prints.
    #[must_use]
    pub fn text(&self) -> impl fmt::Display {
        Shown { totals: self, write: Self::write_text }
    }

    /// What nbdinfo prints with `--json`.
    #[must_use]
    pub fn json(&self) -> impl fmt::Display {
        Shown { totals: self, write: Self::write_json }
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (status, bytes) in self.rows() {
            write!(f, "{bytes:10} {:5.1}% {:3}", percent(bytes, self.size()), status.number())?;
            if let Some(description) = status.description() {
                write!(f, " {description}")?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }

    fn write_json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let mut separator = "\n";
        for (status, bytes) in self.rows() {
            let share = General(percent(bytes, self.size()));
            write!(
                f,
                "{separator}{{ \"size\": {bytes}, \"percent\": {share}, \"type\": {}",
                status.number()
            )?;
            if let Some(description) = status.description() {
                write!(f, ", \"description\": \"{description}\"")?;
            }
            f.write_str(" }")?;
            separator = ",\n";
        }
        f.write_str(if self.bytes.is_empty() { "]\n" } else { "\n]\n" })
    }
}

fn parse<C: Context>(line: &str) -> Result<(u64, C), Fault> {
    let (bytes, line) = number(line, "size")?;
    let (share, line) = word(line).ok_or(Fault::Missing { field: "percent" })?;
    if share.strip_suffix('%').is_none_or(|share| share.parse::<f64>().is_err()) {
        return Err(Fault::Type { field: "percent", expected: "a percentage" });
    }
    let (flags, line) = number(line, "type")?;
    let status = C::of(flags);
    check(&status, Some(line.trim_matches(' ')).filter(|text| !text.is_empty()))?;
    Ok((bytes, status))
}

#[allow(clippy::cast_precision_loss, reason = "a share is shown to six digits")]
fn percent(bytes: u64, size: u64) -> f64 {
    if size == 0 { 0.0 } else { 100.0 * bytes as f64 / size as f64 }
}

/// Prints by one of the methods above.
struct Shown<'a, C> {
    totals: &'a Totals<C>,
    write: fn(&Totals<C>, &mut fmt::Formatter<'_>) -> fmt::Result,
}

impl<C> fmt::Display for Shown<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.write)(self.totals, f)
    }
}

/// A number as C's `%g` prints it: six digits, no zeroes at the end, an exponent where the number is very small.
struct General(f64);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // six digits first, since rounding decides the exponent: 9.999999 is 10
        let rounded = std::format!("{:.5e}", self.0);
        let Some((digits, exponent)) = rounded.split_once('e') else {
            return f.write_str(&rounded); // not a finite number
        };
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if (-4..6).contains(&exponent) {
            let places = usize::try_from(5 - exponent).unwrap_or_default();
            return f.write_str(without_zeroes(&std::format!("{:.places$}", self.0)));
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{}e{sign}{:02}", without_zeroes(digits), exponent.unsigned_abs())
    }
}

/// Cuts the zeroes behind a point, and the point if nothing is left behind it.
fn without_zeroes(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

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
            assert_eq!(General(number).to_string(), text);
        }
    }
}
