//! What a stream is about: the JSON of its first frame.

use std::fmt::Write as _;
use std::string::String;

use super::super::error::{Fault, Position, ReadError};
use super::super::json::{Quoted, Token, Tokens};
use super::super::record::Record;
use nbd_extents::MAX_END;

/// The keys of a meta frame. What is read of them stands in this order.
const KEYS: [&str; 7] =
    ["virtual-size", "data-size", "date", "incremental", "checkpoint", "parent", "data-size-is-limit"];

/// What a stream is about.
///
/// Four keys are imageio's; what is `None` or `false` of the others is not written, and imageio's reader passes over them.
///
/// ```
/// use nbd_extents_formats::sparse_stream::Meta;
///
/// let meta = Meta::full(6 << 30, 1_288_486_912, "2020-07-09T20:33:34.349705");
/// let json = meta.to_json();
/// assert_eq!(json.len(), 131);
/// assert_eq!(Meta::from_json(json.as_bytes())?, meta);
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Meta {
    /// The disk's size in bytes (`virtual-size`).
    pub virtual_size: u64,
    /// The bytes in all data frames (`data-size`). What imageio writes of an incremental may be more.
    pub data_size: u64,
    /// When the backup was made, in whatever form the writer chose; imageio's is ISO 8601 without a zone (`date`).
    pub date: String,
    /// Whether the stream has changes alone, to be applied to the backup before (`incremental`).
    pub incremental: bool,
    /// The name of the checkpoint that this backup is of (`checkpoint`).
    pub checkpoint: Option<String>,
    /// The name of the checkpoint that an incremental is to be applied to (`parent`).
    pub parent: Option<String>,
    /// Whether `data_size` is an upper bound, since it was not known which blocks would turn out to be zeroes (`data-size-is-limit`).
    pub data_size_is_limit: bool,
}

impl Meta {
    /// Of a full backup.
    #[must_use]
    pub fn full(virtual_size: u64, data_size: u64, date: impl Into<String>) -> Self {
        Self {
            virtual_size,
            data_size,
            date: date.into(),
            incremental: false,
            checkpoint: None,
            parent: None,
            data_size_is_limit: false,
        }
    }

    /// Of an incremental backup.
    #[must_use]
    pub fn incremental(virtual_size: u64, data_size: u64, date: impl Into<String>) -> Self {
        Self { incremental: true, ..Self::full(virtual_size, data_size, date) }
    }

    /// The JSON, laid out as imageio's (Python's `json.dumps(meta, indent=4)`).
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { virtual_size, data_size, date, incremental, .. } = self;
        let mut out = String::new();
        // a String takes whatever is written to it
        let _ = write!(
            out,
            "{{\n    \"virtual-size\": {virtual_size},\n    \"data-size\": {data_size},\n    \"date\": {},\n    \
             \"incremental\": {incremental}",
            Quoted(date)
        );
        for (key, name) in [("checkpoint", &self.checkpoint), ("parent", &self.parent)] {
            if let Some(name) = name {
                let _ = write!(out, ",\n    \"{key}\": {}", Quoted(name));
            }
        }
        if self.data_size_is_limit {
            out.push_str(",\n    \"data-size-is-limit\": true");
        }
        out.push_str("\n}");
        out
    }

    /// Reads the JSON of a meta frame. Keys that are not known are passed over.
    ///
    /// # Errors
    ///
    /// [`ReadError`] names the first fault and its place in the JSON: what is not JSON (RFC 8259), a key that is missing, of another type, or there
    /// twice, a disk above [`MAX_END`](nbd_extents::MAX_END).
    ///
    /// ```
    /// use nbd_extents_formats::sparse_stream::Meta;
    ///
    /// let error = Meta::from_json(b"{\n  \"virtual-size\": \"6G\",\n  \"data-size\": 0}").unwrap_err();
    /// assert_eq!(error.to_string(), "line 2 (byte 20): \"virtual-size\" is not a whole number from 0 to 2^64 - 1");
    /// ```
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        let mut draft = Draft { record: Record::new(&KEYS, false), values: Default::default() };
        draft.read(json)?;
        draft.finish()
    }
}

/// A [`Meta`] while its keys come in.
struct Draft {
    record: Record,
    /// Of each key where its value begins, and all of it when it is a text.
    values: [(Option<Position>, Option<String>); KEYS.len()],
}

impl Draft {
    fn read(&mut self, mut json: &[u8]) -> Result<(), ReadError> {
        let mut tokens = Tokens::whole_texts();
        let mut inside = false;
        while let Some(lexed) = tokens.next(&mut json)? {
            if !inside {
                if lexed.token != Token::BeginObject {
                    return Err(Fault::Type { field: "the whole", expected: "an object" }.at(lexed.at));
                }
                self.record.begin(lexed.at);
                inside = true;
                continue;
            }
            if let Some(value) = self.record.field().and_then(|field| self.values.get_mut(field)) {
                value.0 = Some(lexed.at);
                if let Token::Text(text) = lexed.token {
                    value.1 = text.known().map(String::from);
                }
            }
            let _ = self.record.take(lexed)?; // when the object has ended, the tokenizer lets nothing follow
        }
        match tokens.end()? {
            None => Ok(()),
            Some(lexed) => Err(Fault::Type { field: "the whole", expected: "an object" }.at(lexed.at)),
        }
    }

    fn finish(mut self) -> Result<Meta, ReadError> {
        Ok(Meta {
            virtual_size: self.disk()?,
            data_size: self.read_as(1, Record::number)?,
            date: self.text(2)?,
            incremental: self.read_as(3, Record::flag)?,
            checkpoint: self.text_if_there(4)?,
            parent: self.text_if_there(5)?,
            data_size_is_limit: self.read_as(6, Record::flag_if_there)?.unwrap_or(false),
        })
    }

    fn disk(&self) -> Result<u64, ReadError> {
        self.read_as(0, |record, field| match record.number(field)? {
            size @ ..=MAX_END => Ok(size),
            _ => record.wrong(field, "the size of a disk, which has at most 2^63 - 1 bytes"),
        })
    }

    fn text_if_there(&mut self, field: usize) -> Result<Option<String>, ReadError> {
        if self.record.is_there(field) { self.text(field).map(Some) } else { Ok(None) }
    }

    fn text(&mut self, field: usize) -> Result<String, ReadError> {
        let text = self.values.get_mut(field).and_then(|(_, text)| text.take());
        self.read_as(field, |record, field| text.map_or_else(|| record.wrong(field, "a text"), Ok))
    }

    /// Reads a field, with its value's place on a fault; a key that is missing is missed where the object begins.
    fn read_as<T>(
        &self,
        field: usize,
        read: impl FnOnce(&Record, usize) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let at = self.values.get(field).and_then(|(at, _)| *at).unwrap_or_else(|| self.record.at());
        read(&self.record, field).map_err(|fault| fault.at(at))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    /// What imageio wrote, byte for byte.
    const IMAGEIO: &str = "{\n    \"virtual-size\": 6442450944,\n    \"data-size\": 1288486912,\n    \
                           \"date\": \"2020-07-09T20:33:34.349705\",\n    \"incremental\": false\n}";

    #[test]
    fn imageio_s_own_bytes_both_ways() {
        let meta = Meta::full(6_442_450_944, 1_288_486_912, "2020-07-09T20:33:34.349705");
        assert_eq!(meta.to_json(), IMAGEIO);
        assert_eq!(Meta::from_json(IMAGEIO.as_bytes()), Ok(meta));
    }

    #[test]
    fn every_key_comes_back() {
        let mut meta = Meta::incremental(1 << 40, 0, "\"é\u{1f600}\u{7}\\");
        meta.checkpoint = Some("two\n".into());
        meta.parent = Some(String::new());
        meta.data_size_is_limit = true;
        let json = meta.to_json();
        assert!(json.is_ascii());
        assert_eq!(Meta::from_json(json.as_bytes()), Ok(meta));
    }

    #[test]
    fn unknown_keys_and_other_layouts_are_taken() {
        let text = br#" {"x": [1, {"y": -2.5e3, "z": []}, "]"], "incremental":true,"date":"", "parent": null,
            "data-size":0 ,"virtual-size": 512, "w": {}} "#;
        assert_eq!(Meta::from_json(text), Ok(Meta::incremental(512, 0, "")));
    }

    #[test]
    fn faults_are_named_with_their_places() {
        let error = |from: &str, to: &str| {
            let json = IMAGEIO.replacen(from, to, 1);
            Meta::from_json(json.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(error("date", "data"), "line 1 (byte 0): there is no \"date\"");
        assert_eq!(error("false", "0"), "line 5 (byte 124): \"incremental\" is not true or false");
        for number in ["-1", "1.0", "18446744073709551616", "[]", "null"] {
            let fault = "line 3 (byte 51): \"data-size\" is not a whole number from 0 to 2^64 - 1";
            assert_eq!(error("1288486912", number), fault, "{number}");
        }
        assert_eq!(
            error("\"2020-07-09T20:33:34.349705\"", "2020"),
            "line 4 (byte 75): \"date\" is not a text"
        );
        assert_eq!(
            error("6442450944", "9223372036854775808"),
            "line 2 (byte 22): \"virtual-size\" is not the size of a disk, which has at most 2^63 - 1 bytes"
        );
        assert_eq!(error("{", "{\"date\": \"\", "), "line 4 (byte 79): \"date\" is there twice");
        assert_eq!(error("}", "} x"), "line 6 (byte 132): 'x' where nothing should be");
        assert_eq!(error("{", "[{"), "line 1 (byte 0): \"the whole\" is not an object");
        for number in ["1", "\"\"", "[]"] {
            assert_eq!(Meta::from_json(number.as_bytes()).unwrap_err().at.byte, 0, "{number}");
        }
        for end in 0..IMAGEIO.len() {
            let fault = Meta::from_json(&IMAGEIO.as_bytes()[..end]).unwrap_err();
            assert!(matches!(fault.fault, Fault::Ended { .. }), "{fault}");
            assert_eq!(fault.at.byte, end as u64);
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| {
            let value = std::format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            Meta::from_json(IMAGEIO.replace('{', &std::format!("{{\"x\": {value}, ")).as_bytes())
        };
        assert!(nested(15).is_ok());
        assert!(matches!(nested(16).unwrap_err().fault, Fault::TooDeep { .. }));
        assert!(matches!(nested(100_000).unwrap_err().fault, Fault::TooDeep { .. }));
    }
}
