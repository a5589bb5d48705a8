//! The meta frame: the facts that a stream states of itself, as JSON.

use std::fmt::Write as _;

use nbd_extents::MAX_END;
use nbd_extents::chain::{ChainLayer, Checksum, ParentLayer};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::{ChecksumAlgorithm, StreamEnds};

/// The facts that a stream states of itself in its first frame.
///
/// Four keys are imageio's. The others are this project's: each is written only where it has
/// something to say, and imageio's reader passes over them. The
/// [specification](super::specification) has all of them.
///
/// ```
/// use nbd_extents_backup::sparse_stream::Meta;
///
/// let meta = Meta::full(6 << 30, 1_288_486_912, "2020-07-09T20:33:34.349705").without_checksum();
/// let json = meta.to_json();
/// assert_eq!(json.len(), 131);
/// assert_eq!(Meta::from_json(json.as_bytes())?, meta);
/// # Ok::<(), nbd_extents_backup::sparse_stream::MetaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Meta {
    /// The disk's size in bytes (`virtual-size`).
    pub virtual_size: u64,
    /// The bytes in all data frames (`data-size`). What imageio writes of an incremental may be
    /// more.
    pub data_size: u64,
    /// When the backup was made, in any form; imageio's is ISO 8601 without a zone (`date`).
    pub date: String,
    /// Whether the stream has only changes, to be applied to its parent (`incremental`).
    pub incremental: bool,
    /// The name of this backup's checkpoint (`checkpoint`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The name of the checkpoint that an incremental is to be applied to (`parent`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The size of the disk at the parent, in bytes (`parent-size`). What lies beyond it is in this
    /// stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_size: Option<u64>,
    /// The checksum of the stream that an incremental is to be applied to (`parent-checksum`).
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub parent_checksum: Option<Checksum>,
    /// The identity of the disk: the same text in every backup of one disk (`disk`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The dirty bitmaps whose ranges an incremental has (`bitmaps`). They are for people: nothing
    /// says when a bitmap began.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<String>,
    /// Whether `data_size` is an upper bound, since zeroes are looked for in the data
    /// (`data-size-is-limit`).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub data_size_is_limit: bool,
    /// How the checksum in the stop frame is computed (`checksum`); `None` for a stream without
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<ChecksumAlgorithm>,
}

impl Meta {
    /// The meta frame of a full backup with a checksum.
    #[must_use]
    pub fn full(virtual_size: u64, data_size: u64, date: impl Into<String>) -> Self {
        Self {
            virtual_size,
            data_size,
            date: date.into(),
            incremental: false,
            checkpoint: None,
            parent: None,
            parent_size: None,
            parent_checksum: None,
            disk: None,
            bitmaps: Vec::new(),
            data_size_is_limit: false,
            checksum: Some(ChecksumAlgorithm::Xxh3),
        }
    }

    /// The meta frame of an incremental backup with a checksum.
    #[must_use]
    pub fn incremental(virtual_size: u64, data_size: u64, date: impl Into<String>) -> Self {
        Self { incremental: true, ..Self::full(virtual_size, data_size, date) }
    }

    /// This stream without a checksum: the bytes that imageio itself would write.
    ///
    /// Nothing then protects the stream's bytes, and no later stream can say for sure what it is
    /// based on.
    #[must_use]
    pub fn without_checksum(self) -> Self {
        Self { checksum: None, ..self }
    }

    /// Makes this the incremental that follows another stream.
    ///
    /// It takes the other's checkpoint, size and checksum as its parent's, and its disk as its own.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::{Meta, StreamEnds};
    ///
    /// let mut monday = Meta::full(8192, 0, "monday");
    /// monday.checkpoint = Some("m".into());
    /// let mut tuesday = Meta::incremental(8192, 0, "tuesday");
    /// tuesday.follow(&StreamEnds { meta: monday, checksum: None });
    /// assert_eq!((tuesday.parent.as_deref(), tuesday.parent_size), (Some("m"), Some(8192)));
    /// ```
    pub fn follow(&mut self, previous: &StreamEnds) {
        let StreamEnds { meta, checksum } = previous;
        self.incremental = true;
        self.parent.clone_from(&meta.checkpoint);
        self.parent_size = Some(meta.virtual_size);
        self.parent_checksum = *checksum;
        self.disk.clone_from(&meta.disk);
    }

    /// Whether the data frames must add up to `data_size`, no fewer bytes and no more.
    ///
    /// A limit is none, and neither is the figure of an incremental by imageio, which counts clean
    /// data too.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::Meta;
    ///
    /// assert!(Meta::incremental(8192, 0, "").is_data_size_exact());
    /// assert!(!Meta::incremental(8192, 0, "").without_checksum().is_data_size_exact());
    /// ```
    #[must_use]
    pub const fn is_data_size_exact(&self) -> bool {
        !self.data_size_is_limit && (!self.incremental || self.checksum.is_some())
    }

    /// The stream as a layer of a chain. `checksum` is its own.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::Meta;
    ///
    /// assert_eq!(Meta::full(8192, 0, "monday").layer(None).size, 8192);
    /// ```
    #[must_use]
    pub fn layer(&self, checksum: Option<Checksum>) -> ChainLayer<&str> {
        let parent = ParentLayer {
            id: self.parent.as_deref(),
            size: self.parent_size,
            checksum: self.parent_checksum,
        };
        ChainLayer {
            disk: self.disk.as_deref(),
            id: self.checkpoint.as_deref(),
            size: self.virtual_size,
            checksum,
            parent: self.incremental.then_some(parent),
        }
    }

    /// The JSON, laid out as imageio's (Python's `json.dumps(meta, indent=4)`).
    #[must_use]
    pub fn to_json(&self) -> String {
        let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut json = Vec::new();
        let written = self.serialize(&mut serde_json::Serializer::with_formatter(&mut json, layout));
        debug_assert!(written.is_ok(), "a Vec takes all bytes, and the form has no maps with odd keys");
        let json = String::from_utf8_lossy(&json);
        // Python writes ASCII alone. Anything else stands inside of a text, where an escape is the
        // same.
        let mut ascii = String::with_capacity(json.len());
        for character in json.chars() {
            if character.is_ascii() {
                ascii.push(character);
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}"); // a String takes all that is written to it
            }
        }
        ascii
    }

    /// Reads the JSON of a meta frame. Unknown keys are passed over.
    ///
    /// # Errors
    ///
    /// [`MetaError`] names the first fault: text that is not JSON (RFC 8259), a known key that is
    /// missing, of another type or there twice, an algorithm that is not known, and facts that
    /// cannot be.
    ///
    /// ```
    /// use nbd_extents_backup::sparse_stream::Meta;
    ///
    /// let error = Meta::from_json(b"{\n  \"virtual-size\": \"6G\"}").unwrap_err();
    /// assert_eq!(error.to_string(), "line 2, column 22: invalid type: string \"6G\", expected u64");
    /// ```
    pub fn from_json(json: &[u8]) -> Result<Self, MetaError> {
        // serde takes a list of all values for a struct as well
        if json.trim_ascii_start().first().is_some_and(|&byte| byte != b'{') {
            return Err(MetaError::NoObject);
        }
        let meta: Self = serde_json::from_slice(json).map_err(MetaError::json)?;
        meta.check()?;
        Ok(meta)
    }

    /// Refuses facts that cannot be. Both the reader and the writer of streams do.
    pub(super) fn check(&self) -> Result<(), MetaError> {
        let &Self { virtual_size, data_size, .. } = self;
        let sizes = [("virtual-size", virtual_size), ("parent-size", self.parent_size.unwrap_or(0))];
        for (key, size) in sizes {
            if size > MAX_END {
                return Err(MetaError::DiskSize { key, size });
            }
        }
        if data_size > virtual_size {
            return Err(MetaError::DataSize { data_size, virtual_size });
        }
        let of_an_incremental = [
            ("parent", self.parent.is_some()),
            ("parent-size", self.parent_size.is_some()),
            ("parent-checksum", self.parent_checksum.is_some()),
            ("bitmaps", !self.bitmaps.is_empty()),
        ];
        match of_an_incremental.into_iter().find(|(_, is_there)| *is_there && !self.incremental) {
            Some((key, _)) => Err(MetaError::FullWithParent { key }),
            None => Ok(()),
        }
    }
}

/// A checksum as 32 hexadecimal digits, where there is one.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Checksum;

    pub(super) fn serialize<S: Serializer>(checksum: &Option<Checksum>, out: S) -> Result<S::Ok, S::Error> {
        checksum.map(|checksum| checksum.to_string()).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Checksum>, D::Error> {
        let text = Option::<String>::deserialize(json)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// A key that may be missing or null, both of which say no, or none.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(json: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(json)?.unwrap_or_default())
}

/// A meta frame whose JSON cannot be used.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, MetaError};
///
/// let json = Meta::full(1 << 63, 0, "").to_json();
/// let error = Meta::from_json(json.as_bytes()).unwrap_err();
/// assert_eq!(error, MetaError::DiskSize { key: "virtual-size", size: 1 << 63 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The text is not JSON, or a key is missing, there twice or of another type.
    #[error("line {line}, column {column}: {message}")]
    Json {
        /// The line, counted from 1.
        line: usize,
        /// The column in bytes, counted from 1.
        column: usize,
        /// The fault.
        message: String,
    },
    /// The JSON is a list, a text or a number.
    #[error("the JSON is not an object")]
    NoObject,
    /// No disk has this size.
    #[error("\"{key}\" is {size}, and a disk has at most {MAX_END} bytes")]
    DiskSize {
        /// The key.
        key: &'static str,
        /// Its value.
        size: u64,
    },
    /// There is more data than disk.
    #[error("\"data-size\" is {data_size}, more than the {virtual_size} bytes of the disk")]
    DataSize {
        /// The bytes of data.
        data_size: u64,
        /// The bytes of the disk.
        virtual_size: u64,
    },
    /// A full backup has neither a parent nor bitmaps.
    #[error("a full backup has \"{key}\", which only an incremental can have")]
    FullWithParent {
        /// The key.
        key: &'static str,
    },
}

impl MetaError {
    fn json(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        // the place stands in fields of its own
        let place = format!(" at line {line} column {column}");
        let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
        Self::Json { line, column, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meta frame of ovirt-imageio, byte for byte.
    const IMAGEIO: &str = "{\n    \"virtual-size\": 6442450944,\n    \"data-size\": 1288486912,\n    \
                           \"date\": \"2020-07-09T20:33:34.349705\",\n    \"incremental\": false\n}";

    fn imageio() -> Meta {
        Meta::full(6_442_450_944, 1_288_486_912, "2020-07-09T20:33:34.349705").without_checksum()
    }

    #[test]
    fn imageio_s_own_bytes_both_ways() {
        assert_eq!(imageio().to_json(), IMAGEIO);
        assert_eq!(Meta::from_json(IMAGEIO.as_bytes()), Ok(imageio()));
    }

    #[test]
    fn every_key_comes_back() {
        let mut meta = Meta::incremental(1 << 40, 0, "\"é\u{1f600}\u{7}\\");
        meta.checkpoint = Some("two\n".into());
        meta.parent = Some(String::new());
        meta.parent_size = Some(1 << 39);
        meta.parent_checksum = Some(Checksum::new(u128::MAX - 1));
        meta.disk = Some("vda".into());
        meta.bitmaps = vec!["b0".into(), "é".into()];
        meta.data_size_is_limit = true;
        let json = meta.to_json();
        assert!(json.is_ascii());
        assert_eq!(Meta::from_json(json.as_bytes()), Ok(meta));
    }

    #[test]
    fn unknown_keys_and_other_layouts_are_taken() {
        let text = br#" {"x": [1, {"y": -2.5e3, "z": []}, "]"], "incremental":true,"date":"", "parent": null,
            "bitmaps": null,
            "data-size":0 ,"virtual-size": 512, "w": {}} "#;
        assert_eq!(Meta::from_json(text), Ok(Meta::incremental(512, 0, "").without_checksum()));
    }

    #[test]
    fn faults_are_named_with_their_places() {
        let error = |from: &str, to: &str| {
            let json = IMAGEIO.replacen(from, to, 1);
            Meta::from_json(json.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(error("date", "data"), "line 6, column 1: missing field `date`");
        assert_eq!(error("false", "0"), "line 5, column 20: invalid type: integer `0`, expected a boolean");
        for number in ["-1", "1.0", "18446744073709551616", "[]", "null"] {
            let fault = error("1288486912", number);
            assert!(fault.starts_with("line 3, column ") && fault.contains("expected u64"), "{fault}");
        }
        assert!(error("\"2020-07-09T20:33:34.349705\"", "2020").contains("expected a string"));
        assert_eq!(
            error("6442450944", "9223372036854775808"),
            "\"virtual-size\" is 9223372036854775808, and a disk has at most 9223372036854775807 bytes"
        );
        assert_eq!(error("{", "{\"date\": \"\", "), "line 4, column 10: duplicate field `date`");
        assert_eq!(error("}", "} x"), "line 6, column 3: trailing characters");
        for other in ["1", "\"\"", "[]"] {
            assert_eq!(Meta::from_json(other.as_bytes()), Err(MetaError::NoObject), "{other}");
        }
        let list = b"[512, 0, \"\", false, null, null, null, null, null, null, null, null]";
        assert_eq!(Meta::from_json(list), Err(MetaError::NoObject));
        for end in 0..IMAGEIO.len() {
            let fault = Meta::from_json(&IMAGEIO.as_bytes()[..end]).unwrap_err();
            assert!(fault.to_string().contains("EOF"), "{end}: {fault}");
        }
    }

    #[test]
    fn facts_that_cannot_be_are_refused() {
        let error = |keys: &str| {
            let json = IMAGEIO.replacen('}', &format!(", {keys}}}"), 1);
            Meta::from_json(json.as_bytes()).unwrap_err()
        };
        assert_eq!(error("\"parent\": \"a\""), MetaError::FullWithParent { key: "parent" });
        assert_eq!(error("\"parent-size\": 1"), MetaError::FullWithParent { key: "parent-size" });
        assert_eq!(error("\"bitmaps\": [\"b0\"]"), MetaError::FullWithParent { key: "bitmaps" });
        let size = MAX_END + 1;
        let keys = format!("\"parent-size\": {size}");
        assert_eq!(error(&keys), MetaError::DiskSize { key: "parent-size", size });
        for keys in [
            "\"checksum\": \"md5\"",
            "\"checksum\": true",
            "\"bitmaps\": \"b0\"",
            "\"parent-checksum\": \"ff\"",
        ] {
            assert!(matches!(error(keys), MetaError::Json { line: 6, .. }), "{keys}");
        }
        let more = IMAGEIO.replacen("1288486912", "6442450945", 1);
        let fault = MetaError::DataSize { data_size: 6_442_450_945, virtual_size: 6_442_450_944 };
        assert_eq!(Meta::from_json(more.as_bytes()), Err(fault));
    }

    /// An unknown key may hold anything: passing over it takes no stack.
    #[test]
    fn unknown_values_may_nest_as_deep_as_a_meta_frame_is_long() {
        let nested = |depth: usize| {
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            Meta::from_json(IMAGEIO.replace('{', &format!("{{\"x\": {value}, ")).as_bytes())
        };
        assert!(nested(15).is_ok());
        assert!(nested(30_000).is_ok());
    }
}
