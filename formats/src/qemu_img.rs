//! `qemu-img map --output=json`: of an image, of a dirty bitmap, and of the allocation depth.
//!
//! ```text
//! [{ "start": 0, "length": 1048576, "depth": 0, "present": true, "zero": false,
//! "data": true, "compressed": false, "offset": 327680},
//! { "start": 1048576, "length": 983040, "depth": 0, "present": false, "zero": true,
//! "data": false, "compressed": false}]
//! ```
//!
//! - `depth` counts from 0, the top image, where `qemu:allocation-depth` counts from 1. With
//!   `present` false no image holds the bytes, and `depth` is the number of images that were looked
//!   at ([`Attributes::searched`]).
//! - Before 6.1 there is no `present`, before 8.2 no `compressed`. Without `present` the layer is
//!   not known, and the map is written as it came.
//! - `data` false is the hole of qemu's NBD server. It does not say that the bytes read as zero;
//!   only `zero` does.
//! - Of a disk of size 0 it prints one entry of length 0, which is read as no entry at all.
//!
//! # The map of another context
//!
//! With the option `x-dirty-bitmap`, qemu takes a context of an NBD server for the allocation, and
//! the same keys mean something else. Nothing in the output says so: each reading is a format of
//! its own.
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

use crate::objects::{Fields, FlatObject};
use crate::row::row;
use crate::spec::{Spec, Style, rows};
use crate::{Attribute, Attributes, Fault, ImageLayer};

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
    decoder: |_| FlatObject { fields: FIELDS, read: allocation }.array(true),
    encoder: |_| rows(STYLE, write),
};

pub(crate) const DIRTY: Spec = Spec {
    name: "qemu-img-dirty",
    must: &[Attribute::Dirty],
    may: &[],
    layer: ImageLayer::coarse,
    decoder: |_| FlatObject { fields: FIELDS, read: dirty }.array(true),
    encoder: |_| {
        rows(STYLE, |known: &Attributes, start, length, out| {
            write(&export(known.dirty == Some(false), false, start), start, length, out)
        })
    },
};

pub(crate) const DEPTH: Spec = Spec {
    name: "qemu-img-depth",
    must: &[Attribute::Layer],
    may: &[],
    layer: ImageLayer::top_or_backing,
    decoder: |_| FlatObject { fields: FIELDS, read: depth }.array(true),
    encoder: |_| {
        rows(STYLE, |known: &Attributes, start, length, out| {
            let below = known.layer == Some(ImageLayer::Backing);
            let top = matches!(known.layer, Some(ImageLayer::Depth(_)));
            write(&export(!top, below, start), start, length, out)
        })
    },
};

fn allocation(fields: &Fields) -> Result<Attributes, Fault> {
    let depth = u32::try_from(fields.number(2)?).map_err(|_| fields.wrong(2, "a number of images"))?;
    let (layer, searched) = match fields.if_there(3, Fields::flag)? {
        Some(true) => (depth.checked_add(1).map_or(ImageLayer::Present, ImageLayer::Depth).into(), None),
        Some(false) => (Some(ImageLayer::Absent), (depth > 0).then_some(depth)),
        None => (None, Some(depth)),
    };
    Ok(Attributes {
        zero: Some(fields.flag(4)?),
        hole: !fields.flag(5)?,
        dirty: None,
        layer,
        searched,
        compressed: fields.if_there(6, Fields::flag)?,
        host_offset: fields.if_there(7, Fields::number)?,
    })
}

/// Reads `zero` and `data` of the map of another context, in which `data` says the same as
/// `present`.
fn of_export(fields: &Fields) -> Result<(bool, bool), Fault> {
    let Attributes { zero, hole, layer, .. } = allocation(fields)?;
    if layer.is_some_and(|layer| hole != (layer == ImageLayer::Absent)) {
        return Err(Fault::Contradiction { field: "present", other: "data" });
    }
    Ok((zero == Some(true), !hole))
}

fn dirty(fields: &Fields) -> Result<Attributes, Fault> {
    // an allocation map: say so rather than that its holes are odd
    if fields.flag(4)? {
        return Err(Fault::Contradiction { field: "zero", other: "x-dirty-bitmap" });
    }
    let (_, data) = of_export(fields)?;
    Ok(Attributes { dirty: Some(!data), ..Attributes::default() })
}

fn depth(fields: &Fields) -> Result<Attributes, Fault> {
    let layer = match of_export(fields)? {
        (false, true) => ImageLayer::Absent,
        (true, true) => ImageLayer::Backing,
        (false, false) => ImageLayer::Depth(1),
        // a hole of the allocation, which this context does not have
        (true, false) => return Err(Fault::Contradiction { field: "zero", other: "data" }),
    };
    Ok(Attributes { layer: Some(layer), ..Attributes::default() })
}

/// The row of an NBD export, whose data is where it is on the disk.
fn export(present: bool, zero: bool, start: u64) -> Attributes {
    Attributes {
        zero: Some(zero),
        hole: !present,
        layer: Some(if present { ImageLayer::Depth(1) } else { ImageLayer::Absent }),
        compressed: Some(false),
        host_offset: present.then_some(start),
        ..Attributes::default()
    }
}

fn write(known: &Attributes, start: u64, length: u64, out: &mut Vec<u8>) {
    let depth = match known.layer {
        Some(ImageLayer::Depth(depth)) => depth.saturating_sub(1),
        _ => known.searched.unwrap_or(0),
    };
    row!(out, "{ \"start\": ", start, ", \"length\": ", length, ", \"depth\": ", u64::from(depth));
    if let Some(layer) = known.layer {
        row!(out, ", \"present\": ", layer != ImageLayer::Absent);
    }
    row!(out, ", \"zero\": ", known.zero == Some(true), ", \"data\": ", !known.hole);
    if let Some(compressed) = known.compressed {
        row!(out, ", \"compressed\": ", compressed);
    }
    if let Some(offset) = known.host_offset {
        row!(out, ", \"offset\": ", offset);
    }
    row!(out, "}");
}
