//! Block status on the wire: parsers for the payloads of `NBD_REPLY_TYPE_BLOCK_STATUS` and
//! `NBD_REPLY_TYPE_BLOCK_STATUS_EXT`, borrowed from the caller's buffer, and their encoder.
//!
//! This layer knows the layout of a payload and nothing else: no offsets, no meaning of flags, no
//! rules across descriptors. [`parse_compact`] and [`parse_extended`] check in constant time the
//! facts that a header shows (whole descriptors, at least one, the right count). Lengths are
//! checked where they are used: [`place`](crate::stream::place) checks each while it is read, and a
//! [`Survey`](crate::Survey) checks a whole reply before anything of it is visible.

mod decode;
mod descriptor;
mod encode;
mod raw;

pub use decode::{BlockStatus, parse_compact, parse_extended};
pub use descriptor::{Compact, Descriptor, Descriptors, Extended, Pair32, Pair64, RawDescriptor, pairs};
#[cfg(feature = "alloc")]
pub(crate) use encode::PayloadWriter;
#[cfg(feature = "alloc")]
pub use encode::encode;
pub use encode::{encode_into, encoded_size};
pub(crate) use raw::{Measured, RawList};

/// The two layouts of a block-status payload.
///
/// ```
/// use nbd_extents::wire::Form;
///
/// // a compact payload with two descriptors
/// assert_eq!(Form::Compact.header_size() + 2 * Form::Compact.descriptor_size(), 20);
/// assert_eq!(Form::Extended.header_size() + 2 * Form::Extended.descriptor_size(), 40);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `NBD_REPLY_TYPE_BLOCK_STATUS` (5): 32-bit lengths and flags. Used with structured replies.
    Compact,
    /// `NBD_REPLY_TYPE_BLOCK_STATUS_EXT` (6): 64-bit lengths and flags. The only form with extended
    /// headers.
    Extended,
}

impl Form {
    /// The number of bytes before the first descriptor.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    ///
    /// // the context's id, and in the extended form the count of descriptors
    /// assert_eq!((Form::Compact.header_size(), Form::Extended.header_size()), (4, 8));
    /// ```
    #[must_use]
    pub const fn header_size(self) -> usize {
        match self {
            Self::Compact => 4,
            Self::Extended => 8,
        }
    }

    /// The size of one descriptor, in bytes.
    ///
    /// ```
    /// use nbd_extents::wire::Form;
    ///
    /// // how many descriptors there are in a compact payload of 100 bytes
    /// assert_eq!((100 - Form::Compact.header_size()) / Form::Compact.descriptor_size(), 12);
    /// ```
    #[must_use]
    pub const fn descriptor_size(self) -> usize {
        match self {
            Self::Compact => size_of::<Compact>(),
            Self::Extended => size_of::<Extended>(),
        }
    }
}
