//! The changed-block lists of Kubernetes: `GetMetadataDelta` and `GetMetadataAllocated` of the CSI snapshot metadata service, as the
//! tools of its sidecar print them, and as gRPC clients do.
//!
//! ```text
//! [{"block_metadata_type":1,"volume_capacity_bytes":1048576,"block_metadata":[{"size_bytes":65536},{"byte_offset":262144,"size_bytes":65536}]}]
//! ```
//!
//! - A list names only the ranges that have changed (or are allocated). The rest of the volume is implied, and the readers hand it out.
//! - `block_metadata_type` is 1 for blocks of one size (`FIXED_LENGTH`), 2 for ranges of any size (`VARIABLE_LENGTH`).
//! - Whoever asks from an offset on may get a first range that starts before it: [`Reader`] cuts it. A last block of a fixed size may reach beyond the
//!   volume: it is cut too.
//! - A field that is 0 is left out, as Go and protocol buffers do. Read are the names in both spellings (`byteOffset`), numbers in quotes, and the types by
//!   name; one list of records, or records one after the other. Written is what `snapshot-metadata-lister -o json` prints.
//! - The records do not say which call they answer, so the reader is told: its rows are [`Delta`] or [`Allocated`]. Neither says which bytes read as
//!   zero. Whether those that are not allocated do, depends on the driver, and the caller says ([`Unallocated`]).

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::{Blocks, Writer};

use super::facts::{Fact, Facts, Layer, Row};

/// One range of `GetMetadataDelta`.
///
/// ```
/// use nbd_extents_formats::csi::Delta;
/// use nbd_extents_formats::{Facts, Row};
///
/// assert_eq!(Delta { changed: true }.facts(), Facts { dirty: Some(true), ..Facts::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delta {
    /// Whether the range is listed: it has changed between the two snapshots.
    pub changed: bool,
}

/// One range of `GetMetadataAllocated`.
///
/// ```
/// use nbd_extents_formats::csi::Allocated;
/// use nbd_extents_formats::{Facts, Layer, Row};
///
/// let listed = Allocated { allocated: true, zero: false };
/// assert_eq!(listed.facts(), Facts { layer: Some(Layer::Present), ..Facts::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Allocated {
    /// Whether the range is listed: the snapshot holds it.
    pub allocated: bool,
    /// Whether it is said to read as zero; only of ranges that are not listed, and only when the caller has said so.
    pub zero: bool,
}

/// What the caller knows of bytes that a snapshot does not hold.
///
/// ```
/// use nbd_extents_formats::csi::{Reader, Unallocated};
/// use nbd_extents_formats::Decode;
///
/// let record = br#"[{"block_metadata_type":2,"volume_capacity_bytes":4096}]"#;
/// for (known, zero) in [(Unallocated::Undefined, false), (Unallocated::Zero, true)] {
///     let mut reader = Reader::allocated(0, known);
///     assert_eq!(reader.next(&mut &record[..])?, None);
///     assert!(reader.end()?.is_some_and(|extent| extent.status().zero == zero));
/// }
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unallocated {
    /// Nothing: their content is undefined, and they have to be read.
    Undefined,
    /// The driver promises that they read as zero.
    Zero,
}

impl Row for Delta {
    fn facts(&self) -> Facts {
        Facts { dirty: Some(self.changed), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { changed: facts.dirty.ok_or(Fact::Dirty)? })
    }
}

impl Row for Allocated {
    fn facts(&self) -> Facts {
        let layer = if self.allocated { Layer::Present } else { Layer::Absent };
        Facts { layer: Some(layer), zero: self.zero.then_some(true), ..Facts::default() }
    }

    /// What a list cannot say is that allocated bytes read as zero, and that unallocated bytes do.
    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { allocated: facts.layer.ok_or(Fact::Layer)? != Layer::Absent, zero: false })
    }
}

/// The two calls: [`Delta`] and [`Allocated`]. It cannot be implemented outside.
///
/// ```
/// use nbd_extents_formats::csi::{Allocated, Call, Delta};
///
/// fn said<C: Call>(row: &C) -> (Option<bool>, bool) {
///     (row.facts().dirty, row.facts().layer.is_some())
/// }
///
/// assert_eq!(said(&Delta { changed: true }), (Some(true), false));
/// assert_eq!(said(&Allocated { allocated: true, zero: false }), (None, true));
/// ```
pub trait Call: Row + sealed::Listed {}

impl Call for Delta {}
impl Call for Allocated {}

mod sealed {
    use super::{Allocated, Delta, Unallocated};

    /// A row that is listed or not.
    pub trait Listed {
        fn row(listed: bool, unallocated: Unallocated) -> Self;
        fn is_listed(&self) -> bool;
    }

    impl Listed for Delta {
        fn row(listed: bool, _unallocated: Unallocated) -> Self {
            Self { changed: listed }
        }

        fn is_listed(&self) -> bool {
            self.changed
        }
    }

    impl Listed for Allocated {
        fn row(listed: bool, unallocated: Unallocated) -> Self {
            Self { allocated: listed, zero: !listed && unallocated == Unallocated::Zero }
        }

        fn is_listed(&self) -> bool {
            self.allocated
        }
    }
}
