//! What a stream is about: the JSON of its first frame.

use alloc::string::String;
use core::fmt::Write as _;

use super::json::{self, Value};
use super::meta_error::{MetaError, MetaFault};
use crate::extent::MAX_END;

/// What a stream is about.
///
/// Four keys are imageio's; what is `None` or `false` of the others is not written, and imageio's reader passes over them.
///
/// ```
/// use nbd_extents::format::sparse_stream::Meta;
///
/// let meta = Meta::full(6 << 30, 1_288_486_912, "2020-07-09T20:33:34.349705");
/// let json = meta.to_json();
/// assert_eq!(json.len(), 131);
/// assert_eq!(Meta::from_json(json.as_bytes())?, meta);
/// # Ok::<(), nbd_extents::format::sparse_stream::MetaError>(())
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
        let mut out = String::from("{\n    \"virtual-size\": ");
        // a String takes whatever is written to it
        let _ = write!(out, "{},\n    \"data-size\": {},\n    \"date\": ", self.virtual_size, self.data_size);
        json::write_string(&mut out, &self.date);
        let _ = write!(out, ",\n    \"incremental\": {}", self.incremental);
        for (key, name) in [("checkpoint", &self.checkpoint), ("parent", &self.parent)] {
            if let Some(name) = name {
                let _ = write!(out, ",\n    \"{key}\": ");
                json::write_string(&mut out, name);
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
    /// [`MetaError`] names the first fault and its place: what is not JSON (RFC 8259), a key that is missing, of another type, or there twice, a disk
    /// above [`MAX_END`](crate::MAX_END).
    pub fn from_json(text: &[u8]) -> Result<Self, MetaError> {
        let mut draft = Draft::default();
        json::read_object(text, &mut |key, value, at| {
            draft.set(key, value).map_err(|fault| MetaError { at, fault })
        })?;
        draft.finish().map_err(|fault| MetaError { at: text.len(), fault })
    }
}

/// A [`Meta`] while its keys come in.
#[derive(Default)]
struct Draft {
    virtual_size: Option<u64>,
    data_size: Option<u64>,
    date: Option<String>,
    incremental: Option<bool>,
    checkpoint: Option<String>,
    parent: Option<String>,
    data_size_is_limit: Option<bool>,
}

impl Draft {
    fn set(&mut self, key: &str, value: Value) -> Result<(), MetaFault> {
        match key {
            "virtual-size" => fill(&mut self.virtual_size, "virtual-size", value.number()),
            "data-size" => fill(&mut self.data_size, "data-size", value.number()),
            "date" => fill(&mut self.date, "date", value.string()),
            "incremental" => fill(&mut self.incremental, "incremental", value.truth()),
            "checkpoint" if value != Value::Null => fill(&mut self.checkpoint, "checkpoint", value.string()),
            "parent" if value != Value::Null => fill(&mut self.parent, "parent", value.string()),
            "data-size-is-limit" => fill(&mut self.data_size_is_limit, "data-size-is-limit", value.truth()),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Meta, MetaFault> {
        let virtual_size = self.virtual_size.ok_or(MetaFault::Missing { key: "virtual-size" })?;
        if virtual_size > MAX_END {
            return Err(MetaFault::TooLarge { virtual_size });
        }
        Ok(Meta {
            virtual_size,
            data_size: self.data_size.ok_or(MetaFault::Missing { key: "data-size" })?,
            date: self.date.ok_or(MetaFault::Missing { key: "date" })?,
            incremental: self.incremental.ok_or(MetaFault::Missing { key: "incremental" })?,
            checkpoint: self.checkpoint,
            parent: self.parent,
            data_size_is_limit: self.data_size_is_limit.unwrap_or(false),
        })
    }
}

fn fill<T>(slot: &mut Option<T>, key: &'static str, value: Option<T>) -> Result<(), MetaFault> {
    let value = value.ok_or(MetaFault::Type { key })?;
    if slot.is_some() {
        return Err(MetaFault::Twice { key });
    }
    *slot = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn faults_are_named() {
        let fault =
            |from: &str, to: &str| Meta::from_json(IMAGEIO.replace(from, to).as_bytes()).unwrap_err().fault;
        assert_eq!(fault("date", "data"), MetaFault::Missing { key: "date" });
        assert_eq!(fault("false", "0"), MetaFault::Type { key: "incremental" });
        assert_eq!(fault("1288486912", "-1"), MetaFault::Type { key: "data-size" });
        assert_eq!(fault("1288486912", "1.0"), MetaFault::Type { key: "data-size" });
        assert_eq!(fault("6442450944", "18446744073709551616"), MetaFault::Type { key: "virtual-size" });
        let most = 1_u64 << 63;
        assert_eq!(fault("6442450944", "9223372036854775808"), MetaFault::TooLarge { virtual_size: most });
        assert_eq!(fault("{", "{\"date\": \"\", "), MetaFault::Twice { key: "date" });
        assert_eq!(fault("}", ""), MetaFault::Json);
    }
}
