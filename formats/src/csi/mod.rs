//! The changed-block lists of Kubernetes: `GetMetadataDelta` and `GetMetadataAllocated` of the CSI
//! snapshot metadata service, as the tools of its sidecar print them, and as gRPC clients do.
//!
//! ```text
//! [{"block_metadata_type":1,"volume_capacity_bytes":1048576,
//! "block_metadata":[{"size_bytes":65536},{"byte_offset":262144,"size_bytes":65536}]}]
//! ```
//!
//! - A list names only the ranges that have changed (or are allocated). The reader makes extents of
//!   the rest of the volume too. An empty list names no capacity: it is read when the size of the
//!   disk is given.
//! - `block_metadata_type` is 1 for blocks of one size (`FIXED_LENGTH`), 2 for ranges of any size
//!   (`VARIABLE_LENGTH`).
//! - Whoever asks from an offset on may get a first range that starts before it, and the last block
//!   may end beyond the volume: both are cut.
//! - A field that is 0 is left out, as Go and protocol buffers do. The reader takes the names in
//!   both spellings (`byteOffset`), numbers in quotes, and the types by name; one list of records,
//!   or records one after the other. The writer writes as `snapshot-metadata-lister -o json` does.
//! - The records do not say which call they answer: each has a format of its own, `csi-delta` and
//!   `csi-allocated`. Neither says which bytes read as zero. With some drivers bytes that are not
//!   allocated read as zeroes, with others they do not: the caller says which ([`Unallocated`]).

mod decode;
mod encode;

use std::num::NonZeroU64;

use crate::spec::{Decoder, Spec, Syntax};
use crate::{Attribute, Attributes, ImageLayer, ReadOptions};
use decode::Records;
use encode::RecordWriter;

/// How long the listed ranges are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// Blocks of one size in bytes: each listed range must be made of whole ones, but for the last
    /// of the volume.
    Fixed(NonZeroU64),
    /// As they come.
    #[default]
    Variable,
}

/// The content of bytes that a snapshot does not hold, as far as the caller knows it.
///
/// ```
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents_formats::csi::Unallocated;
/// use nbd_extents_formats::{Format, ReadOptions};
///
/// let record = br#"[{"block_metadata_type":2,"volume_capacity_bytes":4096}]"#;
/// let cases = [(Unallocated::Undefined, None), (Unallocated::Zero, Some(true))];
/// for (unallocated, zero) in cases {
///     let options = ReadOptions { unallocated, ..ReadOptions::default() };
///     let rows = Format::CsiAllocated.read(&record[..], options).collect_vec()?;
///     assert_eq!((rows[0].range(), rows[0].status().zero), (0..4096, zero));
/// }
/// # Ok::<(), nbd_extents_formats::ListReadError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unallocated {
    /// Nothing: their content is undefined, and they have to be read.
    #[default]
    Undefined,
    /// The driver promises that they read as zero.
    Zero,
}

pub(crate) const DELTA: Spec = Spec {
    name: "csi-delta",
    must: &[Attribute::Dirty],
    may: &[],
    layer: ImageLayer::coarse,
    decoder: |options| {
        let row = |dirty| Attributes { dirty: Some(dirty), ..Attributes::default() };
        decoder(options, row(true), row(false))
    },
    encoder: |options| {
        let listed = |known: &Attributes| known.dirty != Some(false);
        Box::new(RecordWriter::new("csi-delta", options, listed))
    },
};

pub(crate) const ALLOCATED: Spec = Spec {
    name: "csi-allocated",
    must: &[Attribute::Layer],
    may: &[],
    layer: ImageLayer::coarse,
    decoder: |options| {
        let layer = |layer| Attributes { layer: Some(layer), ..Attributes::default() };
        let zero = (options.unallocated == Unallocated::Zero).then_some(true);
        decoder(options, layer(ImageLayer::Present), Attributes { zero, ..layer(ImageLayer::Absent) })
    },
    encoder: |options| {
        let listed = |known: &Attributes| known.layer != Some(ImageLayer::Absent);
        Box::new(RecordWriter::new("csi-allocated", options, listed))
    },
};

fn decoder(options: ReadOptions, listed: Attributes, unlisted: Attributes) -> Decoder<Attributes> {
    let mut records = Records::new(options, listed);
    Decoder::new(Syntax::Json, Some(unlisted), move |input| records.next(input))
}
