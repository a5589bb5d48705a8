//! The output of `nbdinfo --map --totals --json`: the bytes of each status of one context.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The words for a number of one context.
type Description = fn(u64) -> Option<Cow<'static, str>>;

/// The bytes of each status of one context, by its flags on the wire.
#[derive(Debug)]
pub(super) struct ContextTotals {
    bytes: BTreeMap<u64, u64>,
    description: Description,
}

impl ContextTotals {
    pub(super) const fn new(description: Description) -> Self {
        Self { bytes: BTreeMap::new(), description }
    }

    /// Counts bytes that have these flags on the wire.
    pub(super) fn add(&mut self, flags: u64, bytes: u64) {
        let sum = self.bytes.entry(flags).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// The output of `nbdinfo --map --totals --json`.
    pub(super) fn json(&self) -> String {
        let object = |(flags, bytes, share)| {
            let (share, words) = (general(share), (self.description)(flags));
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
    use nbd_extents::stream::ExtentStream;
    use nbd_extents::{Allocation, Depth, Dirtiness};
    use nbd_extents_formats::nbdinfo::description;
    use nbd_extents_formats::{Attributes, Format, ImageLayer, ReadOptions};

    fn data(name: &str) -> String {
        let path = format!("{}/../formats/tests/data/nbdinfo-{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The totals of a map, in which the number of a status is the one on the wire.
    fn totals(format: Format, words: Description, name: &str, number: fn(&Attributes) -> u64) -> String {
        let mut totals = ContextTotals::new(words);
        let map = data(name);
        let rows = format.read(map.as_bytes(), ReadOptions::default());
        rows.for_each(|extent| totals.add(number(extent.status()), extent.length())).unwrap();
        totals.json()
    }

    #[test]
    fn totals_are_those_of_nbdinfo_to_the_byte() {
        let allocation = |known: &Attributes| u64::from(known.hole) | u64::from(known.zero.unwrap()) << 1;
        for name in ["allocation", "all-types"] {
            let json = totals(Format::NbdinfoAllocationJson, description::<Allocation>, name, allocation);
            assert_eq!(json, data(&format!("{name}-totals")), "{name}");
        }
        assert_eq!(ContextTotals::new(description::<Allocation>).json(), data("empty-totals"));
        let dirty = |known: &Attributes| u64::from(known.dirty.unwrap());
        assert_eq!(
            totals(Format::NbdinfoDirtyJson, description::<Dirtiness>, "dirty", dirty),
            data("dirty-totals")
        );
        let depth = |known: &Attributes| match known.layer.unwrap() {
            ImageLayer::Depth(depth) => u64::from(depth),
            _ => 0,
        };
        assert_eq!(
            totals(Format::NbdinfoDepthJson, description::<Depth>, "depth", depth),
            data("depth-totals")
        );
    }

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
