//! Reads the commonest kind of list: of flat JSON objects, one a range. Of an object it takes the
//! fields that a format knows. Others are passed over, whatever they hold, so that a newer version
//! of a program can say more.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::Fault;
use crate::spec::{Decoder, Step, Syntax, Text};

/// The values that a number may have, for errors.
pub(crate) const WHOLE_NUMBER: &str = "a whole number from 0 to 2^64 - 1";

/// A row that is a flat JSON object.
pub(crate) struct FlatObject<T> {
    /// The fields; the first two are the start of the range and its length.
    pub(crate) fields: &'static [&'static str],
    /// Reads the status of a range.
    pub(crate) read: fn(&Fields) -> Result<T, Fault>,
}

impl<T: 'static> FlatObject<T> {
    /// Reads the objects of an array; of qemu's, a single one of length 0 stands for an empty disk.
    pub(crate) fn array(self, of_qemu: bool) -> Decoder<T> {
        let mut begun = false;
        Decoder::new(Syntax::Json, None, move |input| {
            let first = !std::mem::replace(&mut begun, true);
            if first {
                input.punctuation(b'[', "a list in brackets")?;
            }
            if input.item(b']')? {
                let row = self.row(input)?;
                // with other rows after it, the reader refuses a range without a byte
                if !(of_qemu && first && matches!(row, Step::Row(0, 0, _))) || input.item(b']')? {
                    return Ok(row);
                }
            }
            input.end()?;
            Ok(Step::End(None))
        })
    }

    /// Reads objects that follow each other.
    pub(crate) fn lines(self) -> Decoder<T> {
        Decoder::new(Syntax::JsonLines, None, move |input| match input.peek()? {
            Some(_) => self.row(input),
            None => Ok(Step::End(None)),
        })
    }

    fn row(&self, input: &mut Text<'_>) -> Result<Step<T>, Fault> {
        let fields = input.fields(self.fields, &[])?;
        Ok(Step::Row(fields.number(0)?, fields.number(1)?, (self.read)(&fields)?))
    }
}

/// The most fields that a format knows (qemu-img's).
const MAX_FIELDS: usize = 8;

/// The values of an object's fields.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The names of the fields.
    names: &'static [&'static str],
    /// Their names in the JSON of a protocol buffer, in which a number may be in quotes.
    protobuf: &'static [&'static str],
    values: [Option<Value>; MAX_FIELDS],
    twice: Option<usize>,
}

impl Fields {
    pub(crate) fn new(names: &'static [&'static str], protobuf: &'static [&'static str]) -> Self {
        debug_assert!(names.len() <= MAX_FIELDS);
        Self { names, protobuf, values: Default::default(), twice: None }
    }

    /// The place of a key among the names, if it is one of them.
    pub(crate) fn field(&self, key: &str) -> Option<usize> {
        let place = |names: &[&str]| names.iter().position(|name| *name == key);
        place(self.names).or_else(|| place(self.protobuf))
    }

    fn name(&self, field: usize) -> &'static str {
        self.names.get(field).copied().unwrap_or_default()
    }

    /// Sets a field; one that is set twice is a fault for [`check`](Self::check).
    pub(crate) fn set(&mut self, field: usize, value: Value) {
        if self.values.get_mut(field).is_some_and(|place| place.replace(value).is_some()) {
            self.twice = Some(field);
        }
    }

    /// Refuses an object with a field that is there twice.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.twice.map_or(Ok(()), |field| Err(Fault::Twice(self.name(field))))
    }

    /// The value of a field; `None` if it is missing.
    pub(crate) fn value(&self, field: usize) -> Option<&Value> {
        self.values.get(field).and_then(Option::as_ref)
    }

    /// The fault of a field that is missing, or of another type than `expected`.
    pub(crate) fn wrong(&self, field: usize, expected: &'static str) -> Fault {
        let (name, there) = (self.name(field), self.value(field).is_some());
        if there { Fault::Type { field: name, expected } } else { Fault::Missing(name) }
    }

    /// The value that is read from a field which may be missing or null.
    pub(crate) fn if_there<T>(
        &self,
        field: usize,
        read: impl Fn(&Self, usize) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let there = self.value(field).is_some_and(|value| !value.is_null());
        if there { read(self, field).map(Some) } else { Ok(None) }
    }

    /// A whole number that must be there.
    pub(crate) fn number(&self, field: usize) -> Result<u64, Fault> {
        let number = match self.value(field) {
            Some(Value::String(text)) if !self.protobuf.is_empty() && !text.starts_with('+') => {
                text.parse().ok()
            }
            value => value.and_then(Value::as_u64),
        };
        number.ok_or_else(|| self.wrong(field, WHOLE_NUMBER))
    }

    /// True or false, and it must be there.
    pub(crate) fn flag(&self, field: usize) -> Result<bool, Fault> {
        self.value(field).and_then(Value::as_bool).ok_or_else(|| self.wrong(field, "true or false"))
    }

    /// A word that must be one of `words`.
    pub(crate) fn word(&self, field: usize, words: &[&str], expected: &'static str) -> Result<&str, Fault> {
        let word = self.value(field).and_then(Value::as_str).filter(|word| words.contains(word));
        word.ok_or_else(|| self.wrong(field, expected))
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            match self.field(&key) {
                Some(field) => self.set(field, map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// A key, which stays in the text unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
