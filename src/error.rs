//! The errors of extents, payloads and streams. They are small and carry numbers; the errors of a
//! whole survey are in `survey/error.rs`.

use core::ops::Range;

use thiserror::Error;

use crate::extent::MAX_END;

/// Why a range of bytes cannot be an [`Extent`](crate::Extent).
///
/// ```
/// use nbd_extents::{Extent, MAX_END};
///
/// let error = Extent::new(MAX_END, 512, ()).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "an extent of 512 bytes at byte 9223372036854775807 ends above 9223372036854775807"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExtentError {
    /// The extent would cover no byte.
    #[error("an extent at byte {start} has length 0")]
    Empty {
        /// Its start, in bytes.
        start: u64,
    },
    /// The range ends before it starts.
    #[error("a range that starts at byte {start} cannot end at byte {end}, before its start")]
    Inverted {
        /// Its start, in bytes.
        start: u64,
        /// Its end, in bytes.
        end: u64,
    },
    /// The extent would end above [`MAX_END`].
    #[error("an extent of {length} bytes at byte {start} ends above {max}", max = MAX_END)]
    TooLarge {
        /// Its start, in bytes.
        start: u64,
        /// Its length, in bytes.
        length: u64,
    },
}

/// Why a payload is not a list of block-status descriptors.
///
/// NBD protocol, "Structured reply types", `NBD_REPLY_TYPE_BLOCK_STATUS` and
/// `NBD_REPLY_TYPE_BLOCK_STATUS_EXT`.
///
/// ```
/// use nbd_extents::wire::parse_compact;
///
/// // a context id, and a descriptor that was cut off
/// let error = parse_compact(&[0, 0, 0, 1, 0, 0, 16, 0, 0, 0]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "a block status payload of 10 bytes holds 6 bytes more than whole descriptors of 8 bytes"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload is too short for its context id and, in the extended form, its count.
    #[error("a block status payload of {got} bytes is shorter than its header of {header} bytes")]
    Truncated {
        /// The size of the payload, in bytes.
        got: usize,
        /// The number of bytes before the first descriptor.
        header: usize,
    },
    /// The bytes after the header are not a whole number of descriptors.
    #[error(
        "a block status payload of {got} bytes holds {rest} bytes more than whole descriptors of \
            {descriptor} bytes"
    )]
    Ragged {
        /// The size of the payload, in bytes.
        got: usize,
        /// The size of one descriptor, in bytes.
        descriptor: usize,
        /// The number of bytes left over.
        rest: usize,
    },
    /// The payload has no descriptor; the protocol demands at least one.
    #[error("a block status payload for context {context} has no descriptor")]
    Empty {
        /// The context id.
        context: u32,
    },
    /// The count of the extended form differs from the number of descriptors.
    #[error("a block status payload for context {context} counts {claimed} descriptors but holds {got}")]
    Count {
        /// The context id.
        context: u32,
        /// The count in the payload.
        claimed: u32,
        /// The number of descriptors in the payload.
        got: usize,
    },
    /// A flat list of (length, flags) values has an odd number of values.
    #[error("a list of {got} numbers is not made of (length, flags) pairs")]
    OddPairs {
        /// The number of values in the list.
        got: usize,
    },
}

/// Why a list of descriptors cannot be encoded.
///
/// ```
/// use nbd_extents::wire::{Descriptor, Form, encode};
///
/// let wide = Descriptor { length: 1 << 32, flags: 0 };
/// let error = encode(Form::Compact, 1, [wide]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "descriptor 0 (length 4294967296, flags 0x0) does not fit the compact form"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A status chunk needs at least one descriptor.
    #[error("a block status payload needs at least one descriptor")]
    Empty,
    /// A descriptor's length is 0.
    #[error("descriptor {index} has length 0")]
    ZeroLength {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The length or the flags of a descriptor do not fit the 32-bit fields of the compact form.
    #[error("descriptor {index} (length {length}, flags {flags:#x}) does not fit the compact form")]
    TooWide {
        /// Its place in the list, from 0.
        index: usize,
        /// Its length, in bytes.
        length: u64,
        /// Its flags.
        flags: u64,
    },
    /// The list does not fit the buffer, or its count does not fit 32 bits.
    #[error("{needed} bytes of block status do not fit {available}")]
    NoRoom {
        /// The number of bytes that the payload needs.
        needed: usize,
        /// The number of bytes available.
        available: usize,
    },
}

/// A violation of the rules of a stream: ordered, disjoint, valid extents, and no gap where none is
/// allowed.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::stream::{ExtentStream, from_iter};
///
/// let list = [Extent::new(0, 512, ()).unwrap(), Extent::new(1024, 512, ()).unwrap()];
/// let error = from_iter(list).covering(0..1536).collect_vec().unwrap_err();
/// assert_eq!(error.to_string(), "bytes 512..1024 have no status");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// An extent is invalid in itself: empty, or too large.
    #[error(transparent)]
    Extent(#[from] ExtentError),
    /// An extent starts before the end of the one before it.
    #[error("an extent at byte {start} starts before byte {expected}, where the one ahead of it ends")]
    Overlap {
        /// Its start.
        start: u64,
        /// The lowest valid start.
        expected: u64,
    },
    /// An extent reaches beyond its permitted range.
    #[error(
        "an extent over bytes {}..{} leaves the range {}..{}",
        extent.start, extent.end, range.start, range.end
    )]
    OutOfRange {
        /// The bytes of the extent.
        extent: Range<u64>,
        /// The permitted range.
        range: Range<u64>,
    },
    /// Bytes that must be described are not.
    #[error("bytes {}..{} have no status", range.start, range.end)]
    Gap {
        /// The bytes without a status.
        range: Range<u64>,
    },
    /// One of the merged streams describes bytes that another leaves out.
    #[error("bytes {}..{} are described by only some of the merged streams: stream {silent} leaves \
        them out", range.start, range.end)]
    Uneven {
        /// Some of the bytes concerned.
        range: Range<u64>,
        /// The stream without a status for them: its place in the merge, from 0.
        silent: usize,
    },
}
