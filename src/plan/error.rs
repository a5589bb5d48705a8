//! The errors of a plan's options.

use thiserror::Error;

use super::BlockSize;
use crate::extent::MAX_END;

/// Why a plan cannot have these options.
///
/// ```
/// use nbd_extents::plan::{BlockSize, PlanOptions};
///
/// let error = PlanOptions::new(1 << 30, BlockSize::new(4096)?)?.max_copy(1000).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "a request of at most 1000 bytes cannot hold a block of 4096 bytes"
/// );
/// # Ok::<(), nbd_extents::plan::PlanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A block size is not a power of two up to [`BlockSize::MAX`].
    #[error(
        "a block size of {got} bytes is not a power of two{}",
        if got.is_power_of_two() { " up to 2^62" } else { "" }
    )]
    BlockSize {
        /// The requested size, in bytes.
        got: u64,
    },
    /// The disk is larger than [`MAX_END`].
    #[error("a disk of {size} bytes is larger than {MAX_END}")]
    TooLarge {
        /// The size, in bytes.
        size: u64,
    },
    /// The longest request is shorter than a block.
    #[error("a request of at most {max} bytes cannot hold a block of {} bytes", block.bytes())]
    MaxRequest {
        /// The longest request, in bytes.
        max: u64,
        /// The block size.
        block: BlockSize,
    },
    /// The server's smallest block is larger than the blocks of the plan.
    #[error("a plan in blocks of {} bytes cannot keep to a minimum of {} bytes", block.bytes(), min.bytes())]
    MinBlock {
        /// The smallest block of the server.
        min: BlockSize,
        /// The block size.
        block: BlockSize,
    },
    /// The size of the disk has changed since the plan was interrupted.
    #[error("the disk now has {got} bytes, not {expected} as when the plan began")]
    SizeChanged {
        /// The size at the interruption, in bytes.
        expected: u64,
        /// The size now, in bytes.
        got: u64,
    },
    /// A saved position lies beyond the end of the disk.
    #[error("byte {offset} is not a position on a disk of {size} bytes")]
    Position {
        /// The position, in bytes.
        offset: u64,
        /// The size of the disk, in bytes.
        size: u64,
    },
}
