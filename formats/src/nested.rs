//! Reads objects that hold a list of rows under one of their keys, row by row, however long the
//! list is: KubeVirt's pages and CSI's records.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::Fault;
use crate::objects::Fields;
use crate::spec::Text;

/// The field that holds the rows.
pub(crate) const ROWS: usize = 0;

/// The fields of an object, and what an error calls its parts.
pub(crate) struct Shape {
    /// The names of the fields, that of the rows first.
    pub(crate) names: &'static [&'static str],
    /// Their names in the JSON of a protocol buffer.
    pub(crate) protobuf: &'static [&'static str],
    pub(crate) object: &'static str,
    pub(crate) rows: &'static str,
}

/// Takes the objects apart. The caller opens each of them, and takes the rows from the text.
pub(crate) struct Nested {
    shape: &'static Shape,
    place: NestedPlace,
    /// The fields of the object at hand or, between two, of the last one. That of the rows is null
    /// once their list has come.
    pub(crate) head: Fields,
}

enum NestedPlace {
    Outside,
    Object,
    Rows,
}

/// The next thing in the text.
#[derive(PartialEq)]
pub(crate) enum Found {
    /// A row, which the caller takes.
    Row,
    /// The end of an object.
    End,
    /// An object, which the caller opens, or what else may stand between two.
    Outside,
}

impl Nested {
    pub(crate) fn new(shape: &'static Shape) -> Self {
        Self { shape, place: NestedPlace::Outside, head: Fields::new(shape.names, shape.protobuf) }
    }

    pub(crate) fn open(&mut self, input: &mut Text<'_>) -> Result<(), Fault> {
        input.punctuation(b'{', self.shape.object)?;
        *self = Self { place: NestedPlace::Object, ..Self::new(self.shape) };
        Ok(())
    }

    pub(crate) fn next(&mut self, input: &mut Text<'_>) -> Result<Found, Fault> {
        loop {
            match self.place {
                NestedPlace::Outside => return Ok(Found::Outside),
                NestedPlace::Rows if input.item(b']')? => return Ok(Found::Row),
                NestedPlace::Rows => self.place = NestedPlace::Object,
                NestedPlace::Object => match input.key()? {
                    Some(key) => self.value(&key, input)?,
                    None => {
                        self.place = NestedPlace::Outside;
                        return Ok(Found::End);
                    }
                },
            }
        }
    }

    /// Takes the value of a key; of the rows, only the bracket before them.
    fn value(&mut self, key: &str, input: &mut Text<'_>) -> Result<(), Fault> {
        let Some(field) = self.head.field(key) else {
            return input.value::<IgnoredAny>().map(drop);
        };
        if field == ROWS && input.list(self.shape.rows)? {
            self.place = NestedPlace::Rows;
        }
        self.head.set(field, if field == ROWS { Value::Null } else { input.value()? });
        self.head.check()
    }
}
