//! ovirt-imageio's extents: the answer to `GET /images/ID/extents`, and to that with
//! `?context=dirty`.
//!
//! The exchange format of backup tools for oVirt, and of those that took it over: `imageio-zero`
//! and `imageio-dirty`.
//!
//! ```text
//! [{"start": 0, "length": 1114112, "zero": false, "hole": false},
//! {"start": 1114112, "length": 983040, "zero": true, "hole": true}]
//! [{"start": 0, "length": 1048576, "dirty": false, "zero": false},
//! {"start": 1048576, "length": 65536, "dirty": true, "zero": false}]
//! ```
//!
//! - `hole` is not the HOLE bit of `base:allocation`: it says that no layer of the image holds the
//!   bytes (allocation depth 0), and is never true for raw images. CloudStack's answers have no
//!   `hole`.
//! - `zero` is missing from dirty extents before version 2.2.0: it is not known then, and has to be
//!   taken for false.
//! - The text has no end of line. CloudStack's has no blanks either. The reader takes both; the
//!   writer writes as ovirt-imageio does.

use crate::objects::{Fields, FlatObject};
use crate::row::row;
use crate::spec::{Spec, Style, rows};
use crate::{Attribute, Attributes, Fault, ImageLayer};

pub(crate) const ZERO: Spec = Spec {
    name: "imageio-zero",
    must: &[Attribute::Zero],
    may: &[Attribute::Layer],
    layer: ImageLayer::coarse,
    decoder: |_| {
        let fields = &["start", "length", "zero", "hole", "dirty"];
        FlatObject { fields, read: zero }.array(false)
    },
    encoder: |_| {
        rows(Style::PYTHON, |known: &Attributes, start, length, out| {
            let zero = known.zero == Some(true);
            row!(out, "{\"start\": ", start, ", \"length\": ", length, ", \"zero\": ", zero);
            if let Some(layer) = known.layer {
                row!(out, ", \"hole\": ", layer == ImageLayer::Absent);
            }
            row!(out, "}");
        })
    },
};

fn zero(fields: &Fields) -> Result<Attributes, Fault> {
    if fields.value(4).is_some() {
        // the other form: a change must not be passed over
        return Err(Fault::Contradiction { field: "dirty", other: "hole" });
    }
    let zero = fields.if_there(2, Fields::flag)?.unwrap_or(false);
    let hole = fields.if_there(3, Fields::flag)?;
    let layer = hole.map(|hole| if hole { ImageLayer::Absent } else { ImageLayer::Present });
    Ok(Attributes { zero: Some(zero), layer, ..Attributes::default() })
}

pub(crate) const DIRTY: Spec = Spec {
    name: "imageio-dirty",
    must: &[Attribute::Dirty],
    may: &[Attribute::Zero],
    layer: ImageLayer::coarse,
    decoder: |_| {
        let fields = &["start", "length", "dirty", "zero"];
        let read = |fields: &Fields| {
            let (dirty, zero) = (fields.flag(2)?, fields.if_there(3, Fields::flag)?);
            Ok(Attributes { dirty: Some(dirty), zero, ..Attributes::default() })
        };
        FlatObject { fields, read }.array(false)
    },
    encoder: |_| {
        rows(Style::PYTHON, |known: &Attributes, start, length, out| {
            let dirty = known.dirty != Some(false);
            row!(out, "{\"start\": ", start, ", \"length\": ", length, ", \"dirty\": ", dirty);
            if let Some(zero) = known.zero {
                row!(out, ", \"zero\": ", zero);
            }
            row!(out, "}");
        })
    },
};
