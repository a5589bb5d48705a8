//! Faults of a chain, and faults met while its layers are read.

use alloc::string::String;
use core::ops::Range;

use thiserror::Error;

use super::{Checksum, LayerName};
use crate::error::StreamError;
use crate::extent::MAX_END;

/// Layers that are not a chain. Positions count from the oldest layer, 0; names are the layers' as
/// they print.
///
/// ```
/// use nbd_extents::chain::{ChainError, LayerName};
///
/// let layer = LayerName { position: 1, id: Some("tuesday".into()) };
/// let error = ChainError::Missing { layer, parent: "monday".into() };
/// assert_eq!(
///     error.to_string(),
///     "layer tuesday at position 1 was made on top of layer monday, which is missing"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no layer at all.
    #[error("a chain needs at least one layer")]
    Empty,
    /// A layer belongs to another disk than the layer below it.
    #[error("{layer} is of disk {disk}, the layer below it of disk {expected}")]
    OtherDisk {
        /// The layer.
        layer: LayerName,
        /// Its disk.
        disk: String,
        /// The disk of the layer below.
        expected: String,
    },
    /// The layer that a layer was made on top of is not in the chain.
    #[error("{layer} was made on top of layer {parent}, which is missing")]
    Missing {
        /// The layer.
        layer: LayerName,
        /// The name of the layer that is missing.
        parent: String,
    },
    /// The layer that a layer was made on top of is in the chain, but not right before it.
    #[error("{layer} was made on top of layer {parent}, which stands at position {parent_position}")]
    Reordered {
        /// The layer.
        layer: LayerName,
        /// The name of the layer that should come right before it.
        parent: String,
        /// The position of that one.
        parent_position: usize,
    },
    /// The first layer is an incremental that does not name its parent, and nothing lies below it.
    #[error("{layer} is an incremental; a chain begins with a full backup")]
    NoFull {
        /// The layer.
        layer: LayerName,
    },
    /// The first layer is a full backup, and something is to lie below it.
    #[error("{layer} is a full backup, which cannot be applied on top of another state")]
    FullOnBase {
        /// The layer.
        layer: LayerName,
    },
    /// A full backup stands on top of other layers.
    #[error("{layer} is a full backup; only the first layer can be one")]
    FullInside {
        /// The layer.
        layer: LayerName,
    },
    /// A layer stands in the chain twice: two layers have one name, or one checksum.
    #[error("{layer} stands at position {first} already")]
    Twice {
        /// The layer, where it stands again.
        layer: LayerName,
        /// The position at which it stands first.
        first: usize,
    },
    /// A disk is larger than any can be.
    #[error("{layer} is of a disk of {size} bytes, more than {max}", max = MAX_END)]
    TooLarge {
        /// The layer.
        layer: LayerName,
        /// The size that it states, in bytes.
        size: u64,
    },
    /// The parent that a layer was made on top of had a disk of another size than the layer below
    /// it.
    #[error(
        "{layer} was made on top of a disk of {stated} bytes, and the layer below it is of {found} bytes"
    )]
    OtherSize {
        /// The layer.
        layer: LayerName,
        /// The size of the parent's disk that the layer states, in bytes.
        stated: u64,
        /// The size of the disk of the layer below, in bytes.
        found: u64,
    },
    /// The layer below a layer has the right name and other bytes than the parent that the layer
    /// was made on.
    #[error("{layer} was made on top of a backup with checksum {stated}, and the layer below it has {found}")]
    OtherParent {
        /// The layer.
        layer: LayerName,
        /// The checksum of its parent that the layer states.
        stated: Checksum,
        /// The checksum of the layer below.
        found: Checksum,
    },
    /// The layers to merge are not in the chain, or there are none.
    #[error("layers {}..{} of {layers} cannot be merged", range.start, range.end)]
    NoSuchLayers {
        /// The layers that were asked for.
        range: Range<usize>,
        /// How many there are.
        layers: usize,
    },
}

impl ChainError {
    /// The position of the layer that does not fit, counted from the oldest, 0.
    ///
    /// ```
    /// use nbd_extents::chain::{ChainError, LayerName};
    ///
    /// let layer = LayerName { position: 3, id: None };
    /// assert_eq!(ChainError::FullInside { layer }.position(), Some(3));
    /// assert_eq!(ChainError::Empty.position(), None);
    /// ```
    #[must_use]
    pub const fn position(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::NoSuchLayers { .. } => None,
            Self::OtherDisk { layer, .. }
            | Self::Missing { layer, .. }
            | Self::Reordered { layer, .. }
            | Self::NoFull { layer }
            | Self::FullOnBase { layer }
            | Self::FullInside { layer }
            | Self::Twice { layer, .. }
            | Self::TooLarge { layer, .. }
            | Self::OtherSize { layer, .. }
            | Self::OtherParent { layer, .. } => Some(layer.position),
        }
    }
}

/// A fault met while the layers of a chain are read. `E` is the error of the layers' streams.
///
/// Layers are named by their positions in the chain.
///
/// ```
/// use nbd_extents::chain::SourceError;
///
/// let error: SourceError<nbd_extents::StreamError> =
///     SourceError::Grown { layer: 2, range: 4096..8192 };
/// assert_eq!(
///     error.to_string(),
///     "layer 2 leaves out bytes 4096..8192, which lie beyond the end of the layer before it"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError<E> {
    /// A layer's stream has failed, or does not cover its disk exactly once.
    #[error("layer {layer}: {error}")]
    Layer {
        /// The position of the layer in the chain.
        layer: usize,
        /// The fault of its stream.
        error: E,
    },
    /// No layer has these bytes: the full backup leaves them out, and no later layer has them
    /// either.
    #[error("bytes {}..{} are in no layer of the chain", range.start, range.end)]
    Uncovered {
        /// The first such bytes.
        range: Range<u64>,
    },
    /// A layer leaves out bytes beyond the end of the layer before it, and no later layer has them
    /// either.
    ///
    /// Either it was decided against a baseline that did not know the old size, and they are lost,
    /// or they read as zero since the disk has grown: see
    /// [`Chain::growth_reads_as_zero`](super::Chain::growth_reads_as_zero).
    #[error(
        "layer {layer} leaves out bytes {}..{}, which lie beyond the end of the layer before it",
        range.start, range.end
    )]
    Grown {
        /// The position of the layer in the chain.
        layer: usize,
        /// The first such bytes.
        range: Range<u64>,
    },
    /// An adapter on top of the stream found a fault.
    #[error(transparent)]
    Stream(#[from] StreamError),
}
