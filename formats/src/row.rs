//! Puts the text of a row together.
//!
//! Rows are not written by `write!`: with it, the numbers alone took a third of the time that a program
//! needs to print the map of a fragmented disk as JSON.

/// Adds the parts of a row to a text, one after the other.
macro_rules! row {
    ($text:expr, $($part:expr),+ $(,)?) => {{
        $($crate::row::Part::add_to($part, $text);)+
    }};
}
pub(crate) use row;

/// A part of a row.
pub(crate) trait Part {
    fn add_to(self, text: &mut Vec<u8>);
}

impl Part for &str {
    #[inline]
    fn add_to(self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.as_bytes());
    }
}

impl Part for bool {
    fn add_to(self, text: &mut Vec<u8>) {
        (if self { "true" } else { "false" }).add_to(text);
    }
}

impl Part for u64 {
    fn add_to(self, text: &mut Vec<u8>) {
        itoa::Buffer::new().format(self).add_to(text);
    }
}

/// A number with as many blanks before it as give it a width.
pub(crate) struct Padded(pub(crate) u64, pub(crate) usize);

impl Part for Padded {
    fn add_to(self, text: &mut Vec<u8>) {
        let Self(number, width) = self;
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number);
        text.resize(text.len() + width.saturating_sub(digits.len()), b' ');
        digits.add_to(text);
    }
}

#[cfg(test)]
mod tests {
    use super::Padded;

    #[test]
    fn parts_are_as_write_has_them() {
        let numbers = [0, 9, 10, 999, 1000, 1_234_567_890, 9_999_999_999, 10_000_000_000, u64::MAX];
        for number in numbers {
            let mut text = b"before".to_vec();
            row!(&mut text, "<", number, ">", Padded(number, 10), number == 9);
            let expected = format!("before<{number}>{number:10}{}", number == 9);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
