//! `qemu-img map --output=json`, and what it prints of a dirty bitmap or of the allocation depth.
//!
//! ```text
//! [{ "start": 0, "length": 1048576, "depth": 0, "present": true, "zero": false, "data": true, "compressed": false, "offset": 327680},
//! { "start": 1048576, "length": 983040, "depth": 0, "present": false, "zero": true, "data": false, "compressed": false}]
//! ```
//!
//! - `depth` counts from 0, the top image, where `qemu:allocation-depth` counts from 1. With `present` false no
//!   image holds the bytes, and `depth` is the number of images that were looked at
//!   ([`Attributes::searched`]).
//! - Before 6.1 there is no `present`, before 8.2 no `compressed`. Without `present` the layer is not known, and the
//!   map is written as it came.
//! - `data` false is the hole of qemu's NBD server. It does not say that the bytes read as zero; only `zero` does.
//! - Of a disk of size 0 it prints one entry of length 0, which is read as no entry at all.
//!
//! # The map of another context
//!
//! With the option `x-dirty-bitmap`, qemu takes a context of an NBD server for the allocation, and the same keys
//! mean something else. Nothing in the output says so: each reading is a format of its own.
//!
//! | context | format | meaning | `present` | `zero` | `data` |
//! |---|---|---|---|---|---|
//! | `qemu:dirty-bitmap:NAME` | `qemu-img-dirty` | **dirty** | false | false | false |
//! | | | clean | true | false | true |
//! | `qemu:allocation-depth` | `qemu-img-depth` | in no image | true | false | true |
//! | | | in the top image | false | false | false |
//! | | | in one of its backing files | true | true | true |
//!
//! A program that takes `data` for dirty backs up the opposite.

use std::io::{self, Write};

use crate::attributes::{Attribute, Attributes, ImageLayer};
use crate::fault::Fault;
use crate::fields::Fields;
use crate::objects::Object;
use crate::spec::{Spec, Style, rows};

const FIELDS: &[&str] = &["start", "length", "depth", "present", "zero", "data", "compressed", "offset"];

const STYLE: Style = Style {
    open: "[",
    between: ",\n",
    close: "]\n",
    empty: "[{ \"start\": 0, \"length\": 0, \"depth\": 0, \"present\": false, \"zero\": false, \
            \"data\": false, \"compressed\": false}]\n",
    from_zero: false,
};

pub(crate) const ALLOCATION: Spec = Spec {
    name: "qemu-img",
    must: &[Attribute::Layer, Attribute::Zero],
    may: &[Attribute::Hole, Attribute::Searched, Attribute::Compressed, Attribute::HostOffset],
    layer: ImageLayer::numbered,
    decoder: |_| Object { fields: FIELDS, read: allocation }.array_of_qemu(),
    encoder: |_| rows(STYLE, |known, start, length, out| Entry::of(known).write(start, length, out)),
};

pub(crate) const DIRTY: Spec = Spec {
    name: "qemu-img-dirty",
    must: &[Attribute::Dirty],
    may: &[],
    layer: ImageLayer::coarse,
    decoder: |_| Object { fields: FIELDS, read: dirty }.array_of_qemu(),
    encoder: |_| {
        rows(STYLE, |known: &Attributes, start, length, out| {
            Entry::of_export(known.dirty == Some(false), false, start).write(start, length, out)
        })
    },
};

pub(crate) const DEPTH: Spec = Spec {
    name: "qemu-img-depth",
    must: &[Attribute::Layer],
    may: &[],
    layer: ImageLayer::top_or_backing,
    decoder: |_| Object { fields: FIELDS, read: depth }.array_of_qemu(),
    encoder: |_| {
        rows(STYLE, |known: &Attributes, start, length, out| {
            let below = known.layer == Some(ImageLayer::Backing);
            let top = matches!(known.layer, Some(ImageLayer::Depth(_)));
            Entry::of_export(!top, below, start).write(start, length, out)
        })
    },
};

/// One row of the map.
struct Entry {
    depth: u32,
    /// `None` from qemu before 6.1.
    present: Option<bool>,
    zero: bool,
    data: bool,
    /// `None` from qemu before 8.2.
    compressed: Option<bool>,
    offset: Option<u64>,
}

fn entry(fields: &Fields) -> Result<Entry, Fault> {
    Ok(Entry {
        depth: u32::try_from(fields.number(2)?).map_err(|_| fields.wrong(2, "a number of images"))?,
        present: fields.if_there(3, Fields::flag)?,
        zero: fields.flag(4)?,
        data: fields.flag(5)?,
        compressed: fields.if_there(6, Fields::flag)?,
        offset: fields.if_there(7, Fields::number)?,
    })
}

/// Refuses a row that is not of a context other than the allocation: in those, data is what is present.
fn of_export(entry: &Entry) -> Result<(), Fault> {
    match entry.present {
        Some(present) if present != entry.data => {
            Err(Fault::Contradiction { field: "present", other: "data" })
        }
        _ => Ok(()),
    }
}

fn allocation(fields: &Fields) -> Result<Attributes, Fault> {
    let entry = entry(fields)?;
    let (layer, searched) = match (entry.present, entry.depth.checked_add(1)) {
        (Some(true), Some(depth)) => (Some(ImageLayer::Depth(depth)), None),
        (Some(true), None) => (Some(ImageLayer::Present), None),
        (Some(false), _) => (Some(ImageLayer::Absent), (entry.depth > 0).then_some(entry.depth)),
        (None, _) => (None, Some(entry.depth)),
    };
    Ok(Attributes {
        zero: Some(entry.zero),
        hole: !entry.data,
        dirty: None,
        layer,
        searched,
        compressed: entry.compressed,
        host_offset: entry.offset,
    })
}

fn dirty(fields: &Fields) -> Result<Attributes, Fault> {
    let entry = entry(fields)?;
    if entry.zero {
        return Err(Fault::Contradiction { field: "zero", other: "x-dirty-bitmap" });
    }
    of_export(&entry)?;
    Ok(Attributes { dirty: Some(!entry.data), ..Attributes::default() })
}

fn depth(fields: &Fields) -> Result<Attributes, Fault> {
    let entry = entry(fields)?;
    of_export(&entry)?;
    let layer = match (entry.data, entry.zero) {
        (true, false) => ImageLayer::Absent,
        (true, true) => ImageLayer::Backing,
        (false, false) => ImageLayer::Depth(1),
        // a hole of the allocation, which this context does not have
        (false, true) => return Err(Fault::Contradiction { field: "zero", other: "data" }),
    };
    Ok(Attributes { layer: Some(layer), ..Attributes::default() })
}

impl Entry {
    fn of(known: &Attributes) -> Self {
        let depth = match known.layer {
            Some(ImageLayer::Depth(depth)) => depth.saturating_sub(1),
            _ => known.searched.unwrap_or(0),
        };
        Self {
            depth,
            present: known.layer.map(|layer| layer != ImageLayer::Absent),
            zero: known.zero == Some(true),
            data: !known.hole,
            compressed: known.compressed,
            offset: known.host_offset,
        }
    }

    /// The entry of an NBD export, whose data is where it is on the disk.
    fn of_export(present: bool, zero: bool, start: u64) -> Self {
        let offset = present.then_some(start);
        Self { depth: 0, present: Some(present), zero, data: present, compressed: Some(false), offset }
    }

    fn write(&self, start: u64, length: u64, out: &mut Vec<u8>) -> io::Result<()> {
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
        write!(out, "}}")
    }
}
