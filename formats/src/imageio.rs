//! ovirt-imageio's extents: what `GET /images/ID/extents` answers, and with `?context=dirty`. The exchange format of backup tools for oVirt, and of
//! those that took it over.
//!
//! ```text
//! [{"start": 0, "length": 1114112, "zero": false, "hole": false}, {"start": 1114112, "length": 983040, "zero": true, "hole": true}]
//! [{"start": 0, "length": 1048576, "dirty": false, "zero": false}, {"start": 1048576, "length": 65536, "dirty": true, "zero": false}]
//! ```
//!
//! - `hole` is not the HOLE bit of `base:allocation`: it says that no layer of the image holds the bytes (allocation depth 0), and is
//!   never true for raw images. CloudStack's answers have no `hole`.
//! - `zero` is missing from dirty extents before version 2.2.0; a reader has to take it for false, and [`Dirty::is_zero`] does.
//! - The text has no end of line. CloudStack's has no blanks either; it is read alike and written as ovirt-imageio writes.

use std::fmt;

use super::digits::{Digits, put, word};
use super::error::Fault;
use super::facts::{Fact, Facts, Layer, Row};
use super::list::{InList, ListReader, ListWriter, Style};
use super::record::{Record, Value};

/// Reads the zero extents: rows of [`Zero`].
///
/// ```
/// use nbd_extents_formats::{Decode, imageio};
///
/// let mut answer = &br#"[{"start": 0, "length": 4096, "zero": true, "hole": false}]"#[..];
/// let extent = imageio::ZeroReader::new().next(&mut answer)?.ok_or("no extent")?;
/// assert_eq!(*extent.status(), imageio::Zero { zero: true, hole: Some(false) });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type ZeroReader = ListReader<Zero>;
/// Writes the zero extents.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, imageio};
///
/// let mut out = String::new();
/// let mut writer = imageio::ZeroWriter::new();
/// writer.extent(&Extent::new(0, 4096, imageio::Zero { zero: false, hole: None })?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(out, r#"[{"start": 0, "length": 4096, "zero": false}]"#, "what is not known is left out");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type ZeroWriter = ListWriter<Zero>;
/// Reads the dirty extents: rows of [`Dirty`].
///
/// ```
/// use nbd_extents_formats::{Decode, imageio};
///
/// let mut old = &br#"[{"start": 0, "length": 4096, "dirty": true}]"#[..];
/// let extent = imageio::DirtyReader::new().next(&mut old)?.ok_or("no extent")?;
/// assert_eq!(*extent.status(), imageio::Dirty { dirty: true, zero: None });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DirtyReader = ListReader<Dirty>;
/// Writes the dirty extents.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, imageio};
///
/// let mut out = String::new();
/// let mut writer = imageio::DirtyWriter::new();
/// writer.extent(&Extent::new(0, 4096, imageio::Dirty { dirty: true, zero: Some(true) })?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(out, r#"[{"start": 0, "length": 4096, "dirty": true, "zero": true}]"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type DirtyWriter = ListWriter<Dirty>;

/// One range of the zero extents.
///
/// ```
/// use nbd_extents_formats::imageio::Zero;
/// use nbd_extents_formats::{Layer, Row};
///
/// let facts = Zero { zero: true, hole: Some(true) }.facts();
/// assert_eq!((facts.zero, facts.layer), (Some(true), Some(Layer::Absent)));
/// assert!(!facts.hole, "this hole is not the one of base:allocation");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zero {
    /// Whether every byte reads as zero.
    pub zero: bool,
    /// Whether no layer of the image holds the bytes; `None` where the key is missing or null.
    pub hole: Option<bool>,
}

/// One range of the dirty extents.
///
/// ```
/// use nbd_extents_formats::imageio::Dirty;
/// use nbd_extents_formats::{Facts, Row};
///
/// let facts = Dirty { dirty: true, zero: None }.facts();
/// assert_eq!(facts, Facts { dirty: Some(true), ..Facts::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dirty {
    /// Whether the bytes have changed.
    pub dirty: bool,
    /// Whether every byte reads as zero; `None` where the key is missing, which has to be taken for false.
    pub zero: Option<bool>,
}

impl Dirty {
    /// Whether the bytes may be written as zeroes without being read.
    ///
    /// ```
    /// use nbd_extents_formats::imageio::Dirty;
    ///
    /// assert!(!Dirty { dirty: true, zero: None }.is_zero(), "from an old server: read them");
    /// ```
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        matches!(self.zero, Some(true))
    }
}

impl Row for Zero {
    fn facts(&self) -> Facts {
        let layer = |hole| if hole { Layer::Absent } else { Layer::Present };
        Facts { zero: Some(self.zero), layer: self.hole.map(layer), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self {
            zero: facts.zero.ok_or(Fact::Zero)?,
            hole: facts.layer.map(|layer| layer == Layer::Absent),
        })
    }
}

impl Row for Dirty {
    fn facts(&self) -> Facts {
        Facts { dirty: Some(self.dirty), zero: self.zero, ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { dirty: facts.dirty.ok_or(Fact::Dirty)?, zero: facts.zero })
    }
}

impl InList for Zero {
    const FIELDS: &'static [&'static str] = &["start", "length", "zero", "hole", "dirty"];
    const STYLE: Style = Style::PYTHON;

    fn read(record: &Record) -> Result<Self, Fault> {
        if record.value(4) != Value::Missing {
            // the other form: what has changed must not be passed over
            return Err(Fault::Contradiction { field: "dirty", other: "hole" });
        }
        Ok(Self { zero: record.flag_if_there(2)?.unwrap_or(false), hole: record.flag_if_there(3)? })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        row(start, length, "\"zero\": ", self.zero, out)?;
        match self.hole {
            Some(hole) => put(out, &[", \"hole\": ", word(hole), "}"]),
            None => out.write_char('}'),
        }
    }
}

impl InList for Dirty {
    const FIELDS: &'static [&'static str] = &["start", "length", "dirty", "zero"];
    const STYLE: Style = Style::PYTHON;

    fn read(record: &Record) -> Result<Self, Fault> {
        Ok(Self { dirty: record.flag(2)?, zero: record.flag_if_there(3)? })
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        row(start, length, "\"dirty\": ", self.dirty, out)?;
        match self.zero {
            Some(zero) => put(out, &[", \"zero\": ", word(zero), "}"]),
            None => out.write_char('}'),
        }
    }
}

/// What both forms begin with.
fn row(start: u64, length: u64, key: &str, value: bool, out: &mut dyn fmt::Write) -> fmt::Result {
    let (start, length) = (Digits::of(start), Digits::of(length));
    put(out, &["{\"start\": ", start.text(), ", \"length\": ", length.text(), ", ", key, word(value)])
}
