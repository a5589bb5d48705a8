//! Decodes the payload of a status chunk into its context id and descriptors, without copying a
//! byte.

use core::fmt;

use super::descriptor::{Compact, Descriptors, Extended, RawDescriptor};
use crate::error::DecodeError;

/// The payload of one status chunk, borrowed: its context id and its descriptors.
#[derive(Clone, Copy)]
pub struct BlockStatus<'a, R> {
    context: u32,
    raw: &'a [R],
}

impl<'a, R: RawDescriptor> BlockStatus<'a, R> {
    /// The context id that the server assigned in the handshake.
    #[must_use]
    pub const fn context(&self) -> u32 {
        self.context
    }

    /// The descriptors; at least one.
    pub fn descriptors(&self) -> Descriptors<'a, R> {
        Descriptors::new(self.raw)
    }

    /// The number of descriptors; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.raw.len()
    }

    fn new(context: u32, raw: &'a [R]) -> Result<Self, DecodeError> {
        if raw.is_empty() { Err(DecodeError::Empty { context }) } else { Ok(Self { context, raw }) }
    }
}

impl<R: RawDescriptor> fmt::Debug for BlockStatus<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockStatus")
            .field("context", &self.context)
            .field("descriptors", &self.descriptors())
            .finish()
    }
}

/// Parses the payload of a `NBD_REPLY_TYPE_BLOCK_STATUS` chunk (type 5).
///
/// It has a 32-bit context id, then 8 bytes per descriptor.
///
/// Takes constant time: it does not check the lengths of the descriptors.
///
/// # Errors
///
/// A [`DecodeError`] when the payload is cut short, is not a whole number of descriptors, or has
/// none.
///
/// ```
/// use nbd_extents::wire::parse_compact;
///
/// let payload = [0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1];
/// let status = parse_compact(&payload)?;
/// assert_eq!(status.context(), 2);
/// assert_eq!(status.descriptors().next().map(|d| (d.length, d.flags)), Some((65536, 1)));
/// # Ok::<(), nbd_extents::DecodeError>(())
/// ```
pub fn parse_compact(payload: &[u8]) -> Result<BlockStatus<'_, Compact>, DecodeError> {
    let truncated = DecodeError::Truncated { got: payload.len(), header: 4 };
    let (context, list) = payload.split_first_chunk().ok_or(truncated)?;
    let raw = whole_descriptors(list, payload.len())?;
    BlockStatus::new(u32::from_be_bytes(*context), raw)
}

/// Parses the payload of a `NBD_REPLY_TYPE_BLOCK_STATUS_EXT` chunk (type 6).
///
/// It has a 32-bit context id, a 32-bit count, then 16 bytes per descriptor.
///
/// Takes constant time: it does not check the lengths of the descriptors.
///
/// # Errors
///
/// As [`parse_compact`], and [`DecodeError::Count`] when the count is not the number of
/// descriptors.
///
/// ```
/// use nbd_extents::wire::parse_extended;
///
/// let mut payload = vec![0, 0, 0, 2, 0, 0, 0, 1];
/// payload.extend(8_589_934_592_u64.to_be_bytes());
/// payload.extend(1_u64.to_be_bytes());
/// assert_eq!(
///     parse_extended(&payload)?.descriptors().next().map(|d| d.length),
///     Some(8 << 30)
/// );
/// # Ok::<(), nbd_extents::DecodeError>(())
/// ```
pub fn parse_extended(payload: &[u8]) -> Result<BlockStatus<'_, Extended>, DecodeError> {
    let truncated = DecodeError::Truncated { got: payload.len(), header: 8 };
    let (context, rest) = payload.split_first_chunk().ok_or(truncated)?;
    let (count, list) = rest.split_first_chunk().ok_or(truncated)?;
    let raw = whole_descriptors(list, payload.len())?;
    let status = BlockStatus::new(u32::from_be_bytes(*context), raw)?;
    let claimed = u32::from_be_bytes(*count);
    if usize::try_from(claimed) != Ok(raw.len()) {
        return Err(DecodeError::Count { context: status.context, claimed, got: raw.len() });
    }
    Ok(status)
}

fn whole_descriptors<const N: usize>(list: &[u8], got: usize) -> Result<&[[u8; N]], DecodeError> {
    match list.as_chunks() {
        (raw, []) => Ok(raw),
        (_, rest) => Err(DecodeError::Ragged { got, descriptor: N, rest: rest.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Descriptor, Form, encode, pairs};
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn pairs_are_the_descriptors_that_they_name() {
        let list = [Descriptor { length: 65536, flags: 0 }, Descriptor { length: 4096, flags: 3 }];
        assert!(pairs(&[65536, 0, 4096, 3]).unwrap().eq(list));
        assert_eq!(pairs(&[65536, 0, 4096]).unwrap_err(), DecodeError::OddPairs { got: 3 });
    }

    #[test]
    fn compact_truncated_ragged_empty() {
        assert_eq!(parse_compact(&[]).unwrap_err(), DecodeError::Truncated { got: 0, header: 4 });
        assert_eq!(parse_compact(&[0, 0, 0]).unwrap_err(), DecodeError::Truncated { got: 3, header: 4 });
        assert_eq!(parse_compact(&[0, 0, 0, 7]).unwrap_err(), DecodeError::Empty { context: 7 });
        let ragged = parse_compact(&[0; 4 + 8 + 7]).unwrap_err();
        assert_eq!(ragged, DecodeError::Ragged { got: 19, descriptor: 8, rest: 7 });
    }

    #[test]
    fn extended_truncated_ragged_empty_miscounted() {
        assert_eq!(parse_extended(&[0; 7]).unwrap_err(), DecodeError::Truncated { got: 7, header: 8 });
        assert_eq!(parse_extended(&[0; 8]).unwrap_err(), DecodeError::Empty { context: 0 });
        let ragged = parse_extended(&[0; 8 + 15]).unwrap_err();
        assert_eq!(ragged, DecodeError::Ragged { got: 23, descriptor: 16, rest: 15 });
        for claimed in [0_u8, 2] {
            let mut payload = vec![0; 8 + 16];
            payload[7] = claimed;
            let error = parse_extended(&payload).unwrap_err();
            assert_eq!(error, DecodeError::Count { context: 0, claimed: claimed.into(), got: 1 });
        }
    }

    #[test]
    fn lists_read_from_both_ends_and_show_themselves() {
        let list = [Descriptor { length: 512, flags: 3 }, Descriptor { length: 1 << 20, flags: 0 }];
        let payload = encode(Form::Compact, 9, list).unwrap();
        let status = parse_compact(&payload).unwrap();
        assert_eq!(status.len(), 2);
        assert_eq!(status.descriptors().rev().collect::<Vec<_>>(), [list[1], list[0]]);
        assert_eq!(status.descriptors().len(), 2);
        assert!(alloc::format!("{status:?}").contains("length: 1048576"));
    }
}
