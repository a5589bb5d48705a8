//! One flat JSON object: the fields that a format knows. Others are passed over, whatever they
//! hold, so that a newer version of a program can say more.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::fault::Fault;

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
        self.twice.map_or(Ok(()), |field| Err(Fault::Twice { field: self.name(field) }))
    }

    /// The value of a field; `None` if it is missing.
    pub(crate) fn value(&self, field: usize) -> Option<&Value> {
        self.values.get(field).and_then(Option::as_ref)
    }

    /// The fault of a field that is missing or not what it should be.
    pub(crate) fn wrong(&self, field: usize, expected: &'static str) -> Fault {
        let (name, there) = (self.name(field), self.value(field).is_some());
        if there { Fault::Type { field: name, expected } } else { Fault::Missing { field: name } }
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
        number.ok_or_else(|| self.wrong(field, "a whole number from 0 to 2^64 - 1"))
    }

    /// True or false, and it must be there.
    pub(crate) fn flag(&self, field: usize) -> Result<bool, Fault> {
        self.value(field).and_then(Value::as_bool).ok_or_else(|| self.wrong(field, "true or false"))
    }

    /// A word that must be one of `words`: its place among them.
    pub(crate) fn word(&self, field: usize, words: &[&str], expected: &'static str) -> Result<usize, Fault> {
        let word = self.value(field).and_then(Value::as_str);
        let place = word.and_then(|word| words.iter().position(|known| *known == word));
        place.ok_or_else(|| self.wrong(field, expected))
    }
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(field) = map.next_key_seed(Key(&self))? {
            match field {
                Some(field) => self.set(field, map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// Reads a key as its place among the names.
struct Key<'a>(&'a Fields);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.field(key))
    }
}
