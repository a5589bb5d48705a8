//! The output of the `map` command of go-qcow2reader's example: one JSON object a line, without a
//! list around them.
//!
//! ```text
//! {"start":0,"length":65536,"allocated":true,"zero":false,"compressed":false}
//! ```
//!
//! The name of the format is `qcow2reader`. `allocated` says that the image, or one below it, holds
//! the bytes.

use crate::objects::{Fields, FlatObject};
use crate::row::row;
use crate::spec::{Spec, Style, rows};
use crate::{Attribute, Attributes, ImageLayer};

pub(crate) const MAP: Spec = Spec {
    name: "qcow2reader",
    must: &[Attribute::Layer, Attribute::Zero, Attribute::Compressed],
    may: &[],
    layer: ImageLayer::coarse,
    decoder: |_| {
        let fields = &["start", "length", "allocated", "zero", "compressed"];
        let read = |fields: &Fields| {
            let layer = if fields.flag(2)? { ImageLayer::Present } else { ImageLayer::Absent };
            let (zero, compressed) = (Some(fields.flag(3)?), Some(fields.flag(4)?));
            Ok(Attributes { layer: Some(layer), zero, compressed, ..Attributes::default() })
        };
        FlatObject { fields, read }.lines()
    },
    encoder: |_| {
        rows(Style::LINES, |known: &Attributes, start, length, out| {
            let allocated = known.layer != Some(ImageLayer::Absent);
            let (zero, compressed) = (known.zero == Some(true), known.compressed == Some(true));
            row!(out, "{\"start\":", start, ",\"length\":", length, ",\"allocated\":", allocated);
            row!(out, ",\"zero\":", zero, ",\"compressed\":", compressed, "}");
        })
    },
};
