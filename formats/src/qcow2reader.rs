//! What the `map` command of go-qcow2reader's example prints: one JSON object a line, without a list around them.
//!
//! ```text
//! {"start":0,"length":65536,"allocated":true,"zero":false,"compressed":false}
//! ```

use std::fmt;

use super::error::Fault;
use super::facts::{Fact, Facts, Layer, Row};
use super::list::{InList, ListReader, ListWriter, Style};
use super::record::Record;

/// Reads go-qcow2reader's map.
///
/// ```
/// use nbd_extents_formats::{Decode, qcow2reader};
///
/// let mut input = &b"{\"start\":0,\"length\":512,\"allocated\":false,\"zero\":true,\"compressed\":false}\n"[..];
/// let extent = qcow2reader::Reader::new().next(&mut input)?.ok_or("no extent")?;
/// assert!(extent.status().zero && !extent.status().allocated);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Reader = ListReader<Entry>;
/// Writes what go-qcow2reader prints.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, qcow2reader};
///
/// let mut out = String::new();
/// let row = qcow2reader::Entry { allocated: true, zero: false, compressed: true };
/// qcow2reader::Writer::new().extent(&Extent::new(0, 512, row)?, &mut out)?;
/// assert_eq!(out, r#"{"start":0,"length":512,"allocated":true,"zero":false,"compressed":true}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Writer = ListWriter<Entry>;

/// One range of the map.
///
/// ```
/// use nbd_extents_formats::qcow2reader::Entry;
/// use nbd_extents_formats::{Layer, Row};
///
/// let facts = Entry { allocated: false, zero: true, compressed: false }.facts();
/// assert_eq!((facts.layer, facts.zero), (Some(Layer::Absent), Some(true)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Whether the image, or one below it, holds the bytes.
    pub allocated: bool,
    /// Whether every byte reads as zero.
    pub zero: bool,
    /// Whether the bytes are stored compressed.
    pub compressed: bool,
}

impl Row for Entry {
    fn facts(&self) -> Facts {
        let layer = if self.allocated { Layer::Present } else { Layer::Absent };
        Facts {
            zero: Some(self.zero),
            layer: Some(layer),
            compressed: Some(self.compressed),
            ..Facts::default()
        }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self {
            allocated: facts.layer.ok_or(Fact::Layer)? != Layer::Absent,
            zero: facts.zero.ok_or(Fact::Zero)?,
            compressed: facts.compressed.ok_or(Fact::Compressed)?,
        })
    }
}

impl InList for Entry {
    const FIELDS: &'static [&'static str] = &["start", "length", "allocated", "zero", "compressed"];
    const STYLE: Style =
        Style { open: "", between: "\n", close: "\n", empty: "", array: false, zero_length: false };

    fn read(record: &Record) -> Result<Self, Fault> {
        Ok(Self { allocated: record.flag(2)?, zero: record.flag(3)?, compressed: record.flag(4)? })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { allocated, zero, compressed } = self;
        write!(
            out,
            "{{\"start\":{start},\"length\":{length},\"allocated\":{allocated},\"zero\":{zero},\"compressed\":{compressed}}}"
        )
    }
}
