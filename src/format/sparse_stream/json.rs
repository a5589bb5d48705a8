//! As much of JSON (RFC 8259) as a meta frame needs: one flat object out, one object in. Nested values are passed over, so that keys of others do
//! not matter. A library for all of JSON would be this crate's largest dependency.

use alloc::string::String;
use core::fmt::Write as _;

use super::meta_error::{MetaError, MetaFault};

/// How deep values of unknown keys may be nested.
const DEEPEST: usize = 16;

/// A value, as far as meta frames use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Truth(bool),
    /// A whole number that fits.
    Number(u64),
    String(String),
    /// Another number, an array, an object.
    Other,
}

impl Value {
    pub(super) fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn string(self) -> Option<String> {
        if let Self::String(string) = self { Some(string) } else { None }
    }

    pub(super) fn truth(self) -> Option<bool> {
        if let Self::Truth(truth) = self { Some(truth) } else { None }
    }
}

/// Writes a string in ASCII, with the escapes that Python's `json` uses.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='\u{7f}' => out.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // a String takes whatever is written to it
                }
            }
        }
    }
    out.push('"');
}

/// Reads an object and hands each key, its value, and where the value ends, to `member`.
pub(super) fn read_object(
    text: &[u8],
    member: &mut dyn FnMut(&str, Value, usize) -> Result<(), MetaError>,
) -> Result<(), MetaError> {
    let mut parser = Parser { text, at: 0 };
    parser.members(0, member)?;
    parser.space();
    if parser.at < text.len() { Err(parser.fault()) } else { Ok(()) }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn fault(&self) -> MetaError {
        MetaError { at: self.at, fault: MetaFault::Json }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, MetaError> {
        let byte = self.peek().ok_or_else(|| self.fault())?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    /// Takes this byte, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn demand(&mut self, byte: u8) -> Result<(), MetaError> {
        if self.take(byte) { Ok(()) } else { Err(self.fault()) }
    }

    fn members(
        &mut self,
        depth: usize,
        member: &mut dyn FnMut(&str, Value, usize) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        self.space();
        self.demand(b'{')?;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.demand(b':')?;
            let value = self.value(depth)?;
            member(&key, value, self.at)?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.demand(b',')?;
        }
    }

    fn elements(&mut self, depth: usize) -> Result<(), MetaError> {
        self.demand(b'[')?;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.demand(b',')?;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, MetaError> {
        self.space();
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{' | b'[') if depth >= DEEPEST => Err(self.fault()),
            Some(b'{') => self.members(depth + 1, &mut |_, _, _| Ok(())).map(|()| Value::Other),
            Some(b'[') => self.elements(depth + 1).map(|()| Value::Other),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Value, MetaError> {
        let words = [("null", Value::Null), ("true", Value::Truth(true)), ("false", Value::Truth(false))];
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in words {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.fault())
    }

    fn number(&mut self) -> Result<Value, MetaError> {
        let negative = self.take(b'-');
        let whole = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                Some(0)
            }
            _ => self.digits()?,
        };
        let fraction = self.take(b'.');
        if fraction {
            self.digits()?;
        }
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let plain = whole.filter(|_| !negative && !fraction && !exponent);
        Ok(plain.map_or(Value::Other, Value::Number))
    }

    /// At least one digit; `None` when their number does not fit.
    fn digits(&mut self) -> Result<Option<u64>, MetaError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.fault());
        }
        let mut number = Some(0_u64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            number = number.and_then(|n| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        }
        Ok(number)
    }

    fn string(&mut self) -> Result<String, MetaError> {
        self.demand(b'"')?;
        let mut out = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain =
                rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len());
            let plain = rest.get(..plain).unwrap_or_default();
            out.push_str(core::str::from_utf8(plain).map_err(|_| self.fault())?);
            self.at += plain.len();
            match self.next()? {
                b'"' => return Ok(out),
                b'\\' => out.push(self.escape()?),
                _ => return Err(self.fault()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, MetaError> {
        Ok(match self.next()? {
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'u' => return self.utf16(),
            _ => return Err(self.fault()),
        })
    }

    /// One character of one or two `\u` escapes. Half of a pair is refused.
    fn utf16(&mut self) -> Result<char, MetaError> {
        let first = self.unit()?;
        let mut units = [first, 0];
        let mut count = 1;
        if (0xd800..0xdc00).contains(&first) {
            self.demand(b'\\')?;
            self.demand(b'u')?;
            units = [first, self.unit()?];
            count = 2;
        }
        match char::decode_utf16(units.into_iter().take(count)).next() {
            Some(Ok(char)) => Ok(char),
            _ => Err(self.fault()),
        }
    }

    fn unit(&mut self) -> Result<u16, MetaError> {
        (0..4).try_fold(0, |unit, _| {
            let digit = char::from(self.next()?).to_digit(16).ok_or_else(|| self.fault())?;
            Ok(unit << 4 | u16::try_from(digit).unwrap_or(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<Value> {
        let mut found = None;
        let text = alloc::format!("{{\"\": {text}}}");
        read_object(text.as_bytes(), &mut |_, value, _| {
            found = Some(value);
            Ok(())
        })
        .ok()?;
        found
    }

    #[test]
    fn values() {
        assert_eq!(value("18446744073709551615"), Some(Value::Number(u64::MAX)));
        assert_eq!(value("\"\\ud83d\\ude00\\/\\u00e9é\""), Some(Value::String("\u{1f600}/éé".into())));
        for other in ["18446744073709551616", "-1", "1.5", "1e3", "0.0E-2", "[]", "[[], {}]", "{\"a\": null}"]
        {
            assert_eq!(value(other), Some(Value::Other), "{other}");
        }
        for (word, expected) in
            [("null", Value::Null), ("true", Value::Truth(true)), (" false ", Value::Truth(false))]
        {
            assert_eq!(value(word), Some(expected));
        }
    }

    #[test]
    fn what_is_not_json() {
        for text in [
            "",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "-",
            "True",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\u00g0\"",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{a: 1}",
            "{\"a\": 1,}",
            "1 2",
            "nul",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| alloc::format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value(&nested(DEEPEST)).is_some());
        assert!(value(&nested(DEEPEST + 1)).is_none());
        assert!(value(&"[".repeat(100_000)).is_none());
    }
}
