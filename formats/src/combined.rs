//! Our own list with all that a backup goes by: dirty, zero and hole of each range. Its name is
//! `combined`.
//!
//! The merge of a dirty bitmap and `base:allocation`, which no other program prints:
//!
//! ```text
//! [{"start": 0, "length": 65536, "dirty": true, "zero": false, "hole": false},
//! {"start": 65536, "length": 65536, "dirty": true, "zero": true, "hole": true}]
//! ```
//!
//! The keys are ovirt-imageio's, but `hole` is the HOLE bit of `base:allocation`: it does not say
//! that the bytes read as zero. All three must be there. Keys may be added without notice.

use crate::objects::{Fields, FlatObject};
use crate::row::row;
use crate::spec::{Spec, Style, rows};
use crate::{Attribute, Attributes, ImageLayer};

pub(crate) const COMBINED: Spec = Spec {
    name: "combined",
    must: &[Attribute::Dirty, Attribute::Zero],
    may: &[Attribute::Hole],
    layer: ImageLayer::coarse,
    decoder: |_| {
        let fields = &["start", "length", "dirty", "zero", "hole"];
        let read = |fields: &Fields| {
            let (dirty, zero, hole) = (fields.flag(2)?, fields.flag(3)?, fields.flag(4)?);
            Ok(Attributes { dirty: Some(dirty), zero: Some(zero), hole, ..Attributes::default() })
        };
        FlatObject { fields, read }.array(false)
    },
    encoder: |_| {
        rows(Style::PYTHON, |known: &Attributes, start, length, out| {
            let (dirty, zero, hole) = (known.dirty != Some(false), known.zero == Some(true), known.hole);
            row!(out, "{\"start\": ", start, ", \"length\": ", length, ", \"dirty\": ", dirty);
            row!(out, ", \"zero\": ", zero, ", \"hole\": ", hole, "}");
        })
    },
};
