//! Rows without format strings, for the forms that are written by the hundred thousand: a program that prints a whole disk's map would spend most of
//! its time in them.

use std::fmt;

/// A number in decimal digits.
pub(super) struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    pub(super) fn of(mut number: u64) -> Self {
        let mut bytes = [b'0'; 20];
        let mut start = bytes.len();
        for (place, byte) in bytes.iter_mut().enumerate().rev() {
            *byte = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            start = place;
            if number == 0 {
                break;
            }
        }
        Self { bytes, start }
    }

    pub(super) fn text(&self) -> &str {
        let digits = self.bytes.get(self.start..).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

/// Writes the pieces, one after the other.
pub(super) fn put(out: &mut dyn fmt::Write, pieces: &[&str]) -> fmt::Result {
    pieces.iter().try_for_each(|piece| out.write_str(piece))
}

/// `true` or `false`.
pub(super) const fn word(truth: bool) -> &'static str {
    if truth { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn digits_are_those_of_display() {
        let powers = (0..20).map(|power| 10_u64.pow(power));
        for number in powers.flat_map(|power| [power - 1, power, power + 1]).chain([u64::MAX, u64::MAX / 2]) {
            assert_eq!(Digits::of(number).text(), number.to_string());
        }
    }
}
