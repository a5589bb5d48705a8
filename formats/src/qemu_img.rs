//! `qemu-img map --output=json`, and what the same program prints of a dirty bitmap.
//!
//! ```text
//! [{ "start": 0, "length": 1048576, "depth": 0, "present": true, "zero": false, "data": true, "compressed": false, "offset": 327680},
//! { "start": 1048576, "length": 983040, "depth": 0, "present": false, "zero": true, "data": false, "compressed": false}]
//! ```
//!
//! - `depth` counts from 0, the top image, where `qemu:allocation-depth` counts from 1. With `present` false no image holds the bytes, and `depth` is
//!   the number of images that were looked at.
//! - Before 6.1 there is no `present`, before 8.2 no `compressed`: the [`Entry`] says so, and is written as it came.
//! - `data` false is what qemu's NBD server calls a hole. It does not say that the bytes read as zero; only `zero` does.
//! - Of a disk of size 0 it prints one entry of length 0, which is read as no entry at all.
//!
//! # The map of a dirty bitmap
//!
//! With the option `x-dirty-bitmap`, qemu takes a bitmap for the allocation, and the same keys mean something else: what is **dirty** is
//! `"present": false, "zero": false, "data": false`, and what is clean is called data. Nothing in the output says which of the two it is, so the
//! reading has a name of its own: [`DirtyReader`]. A program that takes `data` for dirty backs up the opposite.

use std::fmt;

use super::error::Fault;
use super::facts::{Fact, Facts, Layer, Row};
use super::list::{InList, ListReader, ListWriter, Style};
use super::record::Record;

/// Reads `qemu-img map --output=json`.
///
/// ```
/// use nbd_extents_formats::{Decode, Row, qemu_img};
///
/// let mut old = &br#"[{ "start": 0, "length": 65536, "depth": 1, "zero": true, "data": false}]"#[..];
/// let entry = *qemu_img::Reader::new().next(&mut old)?.ok_or("no entry")?.status();
/// assert_eq!(entry.present, None);
/// assert_eq!(entry.facts().layer, None, "without \"present\" nobody knows");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Reader = ListReader<Entry>;
/// Writes what `qemu-img map --output=json` prints.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, qemu_img};
///
/// let old = qemu_img::Entry { depth: 1, present: None, zero: true, data: false, compressed: None, offset: None };
/// let mut out = String::new();
/// let mut writer = qemu_img::Writer::new();
/// writer.extent(&Extent::new(0, 512, old)?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(out, "[{ \"start\": 0, \"length\": 512, \"depth\": 1, \"zero\": true, \"data\": false}]\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Writer = ListWriter<Entry>;
/// Reads what `qemu-img map --output=json` prints of a dirty bitmap, with the option `x-dirty-bitmap`.
///
/// ```
/// use nbd_extents_formats::{Decode, qemu_img};
///
/// let mut map = &br#"[{ "start": 0, "length": 512, "depth": 0, "present": false, "zero": false, "data": false}]"#[..];
/// let extent = qemu_img::DirtyReader::new().next(&mut map)?.ok_or("no entry")?;
/// assert!(extent.status().dirty, "what is called no data has changed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DirtyReader = ListReader<DirtyEntry>;
/// Writes what `qemu-img map --output=json` prints of a dirty bitmap.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, qemu_img};
///
/// let mut out = String::new();
/// qemu_img::DirtyWriter::new().extent(&Extent::new(0, 512, qemu_img::DirtyEntry { dirty: true })?, &mut out)?;
/// assert!(out.contains(r#""present": false, "zero": false, "data": false"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DirtyWriter = ListWriter<DirtyEntry>;

/// One range of the map.
///
/// ```
/// use nbd_extents_formats::qemu_img::Entry;
/// use nbd_extents_formats::{Layer, Row};
///
/// let top = Entry { depth: 0, present: Some(true), zero: false, data: true, compressed: None, offset: Some(327680) };
/// assert_eq!(top.facts().layer, Some(Layer::Depth(1)), "qemu:allocation-depth counts from 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// How many images were looked at before the one that holds the bytes.
    pub depth: u32,
    /// Whether that image holds the bytes; `None` from qemu before 6.1.
    pub present: Option<bool>,
    /// Whether every byte reads as zero.
    pub zero: bool,
    /// Whether there is data that must be read.
    pub data: bool,
    /// Whether it is stored compressed; `None` from qemu before 8.2.
    pub compressed: Option<bool>,
    /// Where the image's file holds the bytes as they are.
    pub offset: Option<u64>,
}

/// One range of the map of a dirty bitmap.
///
/// ```
/// use nbd_extents_formats::qemu_img::DirtyEntry;
/// use nbd_extents_formats::{Facts, Row};
///
/// assert_eq!(DirtyEntry { dirty: true }.facts(), Facts { dirty: Some(true), ..Facts::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirtyEntry {
    /// Whether the bitmap marks the bytes as changed.
    pub dirty: bool,
}

impl Row for Entry {
    fn facts(&self) -> Facts {
        let layer = self.present.map(|present| match self.depth.checked_add(1) {
            _ if !present => Layer::Absent,
            Some(depth) => Layer::Depth(depth),
            None => Layer::Present,
        });
        Facts {
            zero: Some(self.zero),
            hole: !self.data,
            dirty: None,
            layer,
            compressed: self.compressed,
            host_offset: self.offset,
        }
    }

    /// Without a layer there is no `depth` to write: that fact is missing then.
    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        let (depth, present) = match facts.layer {
            Some(Layer::Depth(depth)) => (depth.saturating_sub(1), true),
            Some(Layer::Absent) => (0, false),
            Some(Layer::Present) | None => return Err(Fact::Layer),
        };
        Ok(Self {
            depth,
            present: Some(present),
            zero: facts.zero.ok_or(Fact::Zero)?,
            data: !facts.hole,
            compressed: facts.compressed,
            offset: facts.host_offset,
        })
    }
}

impl Row for DirtyEntry {
    fn facts(&self) -> Facts {
        Facts { dirty: Some(self.dirty), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { dirty: facts.dirty.ok_or(Fact::Dirty)? })
    }
}

const FIELDS: &[&str] = &["start", "length", "depth", "present", "zero", "data", "compressed", "offset"];

const EMPTY: &str = "[{ \"start\": 0, \"length\": 0, \"depth\": 0, \"present\": false, \"zero\": false, \"data\": false, \
                     \"compressed\": false}]\n";

const STYLE: Style =
    Style { open: "[", between: ",\n", close: "]\n", empty: EMPTY, array: true, zero_length: true };

impl InList for Entry {
    const FIELDS: &'static [&'static str] = FIELDS;
    const STYLE: Style = STYLE;

    fn read(record: &Record) -> Result<Self, Fault> {
        let depth = record.number(2)?;
        Ok(Self {
            depth: u32::try_from(depth)
                .map_err(|_| Fault::Type { field: "depth", expected: "a number of images" })?,
            present: record.flag_if_there(3)?,
            zero: record.flag(4)?,
            data: record.flag(5)?,
            compressed: record.flag_if_there(6)?,
            offset: record.number_if_there(7)?,
        })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{{ \"start\": {start}, \"length\": {length}, \"depth\": {}", self.depth)?;
        if let Some(present) = self.present {
            write!(out, ", \"present\": {present}")?;
        }
        write!(out, ", \"zero\": {}, \"data\": {}", self.zero, self.data)?;
        if let Some(compressed) = self.compressed {
            write!(out, ", \"compressed\": {compressed}")?;
        }
        if let Some(offset) = self.offset {
            write!(out, ", \"offset\": {offset}")?;
        }
        out.write_char('}')
    }
}

impl InList for DirtyEntry {
    const FIELDS: &'static [&'static str] = FIELDS;
    const STYLE: Style = STYLE;

    fn read(record: &Record) -> Result<Self, Fault> {
        let entry = Entry::read(record)?;
        if entry.zero {
            return Err(Fault::Contradiction { field: "zero", other: "x-dirty-bitmap" });
        }
        if entry.present.is_some_and(|present| present != entry.data) {
            return Err(Fault::Contradiction { field: "present", other: "data" });
        }
        Ok(Self { dirty: !entry.data })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        let clean = !self.dirty;
        let entry = Entry {
            depth: 0,
            present: Some(clean),
            zero: false,
            data: clean,
            compressed: Some(false),
            offset: clean.then_some(start),
        };
        entry.write(start, length, out)
    }
}
