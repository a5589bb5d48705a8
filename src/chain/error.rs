//! What can be wrong with a chain, and with reading it.

use core::ops::Range;

use thiserror::Error;

use crate::error::StreamError;
use crate::extent::MAX_END;

/// Layers that are not a chain. `I` is what names disks and layers; positions count from the oldest layer, 0.
///
/// ```
/// use nbd_extents::chain::ChainError;
///
/// let error = ChainError::Missing { position: 1, id: "tuesday", parent: "monday" };
/// assert_eq!(error.to_string(), "layer tuesday at position 1 was made on top of layer monday, which is missing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError<I> {
    /// There is no layer at all.
    #[error("a chain needs at least one layer")]
    Empty,
    /// A layer belongs to another disk.
    #[error("layer {id} at position {position} is of disk {disk}, the chain is of disk {expected}")]
    Foreign {
        /// Where the layer stands.
        position: usize,
        /// The layer.
        id: I,
        /// Its disk.
        disk: I,
        /// The disk of the first layer.
        expected: I,
    },
    /// The layer that a layer was made on top of is not in the chain.
    #[error("layer {id} at position {position} was made on top of layer {parent}, which is missing")]
    Missing {
        /// Where the layer stands.
        position: usize,
        /// The layer.
        id: I,
        /// The layer that is missing.
        parent: I,
    },
    /// The layer that a layer was made on top of is in the chain, but not right before it.
    #[error(
        "layer {id} at position {position} was made on top of layer {parent}, which stands at position {parent_position}"
    )]
    Reordered {
        /// Where the layer stands.
        position: usize,
        /// The layer.
        id: I,
        /// The layer that should come right before it.
        parent: I,
        /// Where that one stands.
        parent_position: usize,
    },
    /// A full backup stands on top of other layers.
    #[error("layer {id} at position {position} is a full backup; only the first layer can be one")]
    FullInside {
        /// Where the layer stands.
        position: usize,
        /// The layer.
        id: I,
    },
    /// A layer stands in the chain twice.
    #[error("layer {id} stands at positions {first} and {second}")]
    Twice {
        /// The layer.
        id: I,
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// A disk is larger than any can be.
    #[error("layer {id} at position {position} is of a disk of {size} bytes, more than {max}", max = MAX_END)]
    TooLarge {
        /// Where the layer stands.
        position: usize,
        /// The layer.
        id: I,
        /// The size that it states, in bytes.
        size: u64,
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

/// Why it cannot be said where some bytes come from. `E` is what the layers' streams fail with; layers are named by their positions in the chain.
///
/// ```
/// use nbd_extents::chain::ReadError;
///
/// let error: ReadError<nbd_extents::StreamError> = ReadError::Grown { layer: 2, range: 4096..8192 };
/// assert_eq!(error.to_string(), "layer 2 leaves out bytes 4096..8192, which lie beyond the end of the layer before it");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError<E> {
    /// A layer's stream has failed, or does not cover its disk exactly once.
    #[error("layer {layer}: {error}")]
    Layer {
        /// The position of the layer in the chain.
        layer: usize,
        /// What is wrong with it.
        error: E,
    },
    /// No layer has these bytes: the full backup leaves them out, and no later layer has them either.
    #[error("bytes {}..{} are in no layer of the chain", range.start, range.end)]
    Uncovered {
        /// The first such bytes.
        range: Range<u64>,
    },
    /// A layer leaves out bytes beyond the end of the layer before it, and no later layer has them either. Either it was decided against a
    /// baseline that did not know the old size, and they are lost, or they read as zero since the disk has grown: see
    /// [`Chain::growth_reads_as_zero`](super::Chain::growth_reads_as_zero).
    #[error("layer {layer} leaves out bytes {}..{}, which lie beyond the end of the layer before it", range.start, range.end)]
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
