//! One flat JSON object: the fields that a format knows, collected until the object ends. Other fields are passed over, whatever they hold, so that
//! a newer version of a program can say more.

use super::error::{Fault, Position, ReadError};
use super::json::{Lexed, Token};

/// The most fields that a format knows (qemu-img's).
const MAX_FIELDS: usize = 8;

/// A word in a field, as far as any format has words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    bytes: [u8; 32],
    length: u8,
}

impl Word {
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    pub(super) fn text(&self) -> &str {
        let kept = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(kept).unwrap_or_default()
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Missing,
    Null,
    Bool(bool),
    Number(u64),
    Word(Word),
    /// A fraction, a long text, an array, an object.
    Other,
}

/// An object in the making.
#[derive(Clone, Debug)]
pub struct Record {
    names: &'static [&'static str],
    /// Whether `byteOffset` is `byte_offset`, and a number may stand in quotes, as in the JSON of protocol buffers.
    protobuf: bool,
    values: [Value; MAX_FIELDS],
    at: Position,
    /// The field whose value comes next, unless it is one to be passed over.
    field: Option<usize>,
    /// How deep within a value that is passed over.
    inside: u32,
}

impl Record {
    /// For objects with these fields.
    pub(super) const fn new(names: &'static [&'static str], protobuf: bool) -> Self {
        debug_assert!(names.len() <= MAX_FIELDS);
        Self {
            names,
            protobuf,
            values: [Value::Missing; MAX_FIELDS],
            at: Position::START,
            field: None,
            inside: 0,
        }
    }

    /// An object begins.
    pub(super) fn begin(&mut self, at: Position) {
        *self = Self { at, ..Self::new(self.names, self.protobuf) };
    }

    /// Takes a token of the object; true when it was the last.
    pub(super) fn take(&mut self, lexed: Lexed<'_>) -> Result<bool, ReadError> {
        let value = match lexed.token {
            Token::EndObject if self.inside == 0 => return Ok(true),
            Token::BeginObject | Token::BeginArray => {
                self.inside += 1;
                Value::Other
            }
            Token::EndObject | Token::EndArray => {
                self.inside -= 1;
                return Ok(false);
            }
            _ if self.inside > 0 => return Ok(false),
            Token::Key(key) => {
                self.field =
                    key.known().and_then(|key| self.names.iter().position(|name| self.is(name, key)));
                return match self.field {
                    Some(field) if self.value(field) != Value::Missing => {
                        Err(Fault::Twice { field: self.name(field) }.at(lexed.at))
                    }
                    _ => Ok(false),
                };
            }
            Token::Text(text) => text.known().and_then(Word::new).map_or(Value::Other, Value::Word),
            Token::Number(number) => {
                number.known().and_then(|digits| digits.parse().ok()).map_or(Value::Other, Value::Number)
            }
            Token::Bool(value) => Value::Bool(value),
            Token::Null => Value::Null,
        };
        if let Some(place) = self.field.take().and_then(|field| self.values.get_mut(field)) {
            *place = value;
        }
        Ok(false)
    }

    /// The field that the next token is the value of, or begins.
    pub(super) const fn field(&self) -> Option<usize> {
        self.field
    }

    /// Whether the next token of the object itself is a key or its end, and not within a value that is passed over.
    pub(super) const fn is_at_key(&self) -> bool {
        self.inside == 0
    }

    /// Whether a key is the name of a field.
    pub(super) fn is(&self, name: &str, key: &str) -> bool {
        name == key || self.protobuf && is_camel_case_of(key, name)
    }

    /// Where the object begins.
    pub(super) const fn at(&self) -> Position {
        self.at
    }

    fn name(&self, field: usize) -> &'static str {
        self.names.get(field).copied().unwrap_or_default()
    }

    pub(super) fn value(&self, field: usize) -> Value {
        self.values.get(field).copied().unwrap_or(Value::Missing)
    }

    /// The fault of a field that is missing or not what it should be.
    pub(super) fn wrong<T>(&self, field: usize, expected: &'static str) -> Result<T, Fault> {
        match self.value(field) {
            Value::Missing => Err(Fault::Missing { field: self.name(field) }),
            _ => Err(Fault::Type { field: self.name(field), expected }),
        }
    }

    /// A whole number that must be there.
    pub(super) fn number(&self, field: usize) -> Result<u64, Fault> {
        match self.value(field) {
            Value::Number(number) => Ok(number),
            Value::Word(word) if self.protobuf => match word.text().parse() {
                Ok(number) => Ok(number),
                Err(_) => self.wrong(field, "a whole number from 0 to 2^64 - 1"),
            },
            _ => self.wrong(field, "a whole number from 0 to 2^64 - 1"),
        }
    }

    /// A whole number that may be missing or null.
    pub(super) fn number_if_there(&self, field: usize) -> Result<Option<u64>, Fault> {
        if self.is_there(field) { self.number(field).map(Some) } else { Ok(None) }
    }

    /// True or false, and it must be there.
    pub(super) fn flag(&self, field: usize) -> Result<bool, Fault> {
        match self.value(field) {
            Value::Bool(value) => Ok(value),
            _ => self.wrong(field, "true or false"),
        }
    }

    /// True or false, missing or null.
    pub(super) fn flag_if_there(&self, field: usize) -> Result<Option<bool>, Fault> {
        if self.is_there(field) { self.flag(field).map(Some) } else { Ok(None) }
    }

    /// A word that must be one of `words`: its place among them.
    pub(super) fn word(&self, field: usize, words: &[&str], expected: &'static str) -> Result<usize, Fault> {
        let place = match self.value(field) {
            Value::Word(word) => words.iter().position(|known| *known == word.text()),
            _ => None,
        };
        place.map_or_else(|| self.wrong(field, expected), Ok)
    }

    /// Whether the field has a value, and not null.
    pub(super) fn is_there(&self, field: usize) -> bool {
        !matches!(self.value(field), Value::Missing | Value::Null)
    }
}

/// Whether `camel` is `snake_case` as protocol buffers write it in JSON.
fn is_camel_case_of(camel: &str, snake: &str) -> bool {
    let mut camel = camel.bytes();
    let mut up = false;
    for byte in snake.bytes() {
        if byte == b'_' {
            up = true;
        } else if camel.next() != Some(if up { byte.to_ascii_uppercase() } else { byte }) {
            return false;
        } else {
            up = false;
        }
    }
    camel.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case() {
        assert!(is_camel_case_of("byteOffset", "byte_offset"));
        assert!(!is_camel_case_of("byteoffset", "byte_offset"));
        assert!(!is_camel_case_of("byteOffsets", "byte_offset"));
        assert!(!is_camel_case_of("byteOffse", "byte_offset"));
    }
}
