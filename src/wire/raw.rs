//! The sealed half of [`RawDescriptor`](super::RawDescriptor): the kernel's view of a list in
//! memory.

use super::descriptor::{Compact, Descriptor, Extended, Pair32, Pair64};

/// Implemented by the four representations, and no other type: the kernel has code for each.
pub trait Raw: Copy {
    /// Decodes the descriptor.
    fn decode(self) -> Descriptor;

    /// A list of this representation, as a variant.
    fn raw_list(list: &[Self]) -> RawList<'_>;

    /// Sums the lengths of a list and collects the bits of all its descriptors.
    #[inline(always)]
    fn measure(list: &[Self]) -> Measured {
        let mut all = Measured::default();
        for raw in list {
            let Descriptor { length, flags } = raw.decode();
            all.sum = all.sum.wrapping_add(length);
            all.lengths |= length;
            all.flags |= flags;
            all.empty |= length == 0;
        }
        all
    }
}

/// The combined facts about the descriptors of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// The sum of the lengths, modulo 2^64.
    pub(crate) sum: u64,
    /// The OR of the lengths, or more bits.
    pub(crate) lengths: u64,
    /// The OR of the flags.
    pub(crate) flags: u64,
    /// True if a length is 0.
    pub(crate) empty: bool,
}

/// A borrowed list in one of the four representations.
#[derive(Clone, Copy, Debug)]
pub enum RawList<'a> {
    Compact(&'a [Compact]),
    Extended(&'a [Extended]),
    Pair32(&'a [Pair32]),
    Pair64(&'a [Pair64]),
}

impl RawList<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Compact(list) => list.len(),
            Self::Extended(list) => list.len(),
            Self::Pair32(list) => list.len(),
            Self::Pair64(list) => list.len(),
        }
    }
}

impl Raw for Compact {
    #[inline]
    fn decode(self) -> Descriptor {
        let [a, b, c, d, e, f, g, h] = self;
        Descriptor {
            length: u64::from(u32::from_be_bytes([a, b, c, d])),
            flags: u64::from(u32::from_be_bytes([e, f, g, h])),
        }
    }

    fn raw_list(list: &[Self]) -> RawList<'_> {
        RawList::Compact(list)
    }

    /// Only the sum needs the numbers in host order; the other three read a descriptor as one
    /// number of 64 bits.
    #[inline(always)]
    fn measure(list: &[Self]) -> Measured {
        let sum = list.iter().map(|raw| raw.decode().length).sum();
        let (mut all, mut empty) = (0, 0);
        for raw in list {
            let raw = u64::from_le_bytes(*raw);
            all |= raw;
            // the highest bit is set if the length, the lower half, is 0
            empty |= (raw & u64::from(u32::MAX)).wrapping_sub(1);
        }
        let flags = u64::from(((all >> 32) as u32).swap_bytes());
        Measured { sum, lengths: u64::from(u32::MAX), flags, empty: empty >> 63 == 1 }
    }
}

impl Raw for Extended {
    #[inline]
    fn decode(self) -> Descriptor {
        let both = u128::from_be_bytes(self);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the 128 bits")]
        Descriptor { length: (both >> 64) as u64, flags: both as u64 }
    }

    fn raw_list(list: &[Self]) -> RawList<'_> {
        RawList::Extended(list)
    }
}

impl Raw for Pair32 {
    #[inline]
    fn decode(self) -> Descriptor {
        let [length, flags] = self;
        Descriptor { length: u64::from(length), flags: u64::from(flags) }
    }

    fn raw_list(list: &[Self]) -> RawList<'_> {
        RawList::Pair32(list)
    }
}

impl Raw for Pair64 {
    #[inline]
    fn decode(self) -> Descriptor {
        let (length, flags) = self;
        Descriptor { length, flags }
    }

    fn raw_list(list: &[Self]) -> RawList<'_> {
        RawList::Pair64(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RawDescriptor;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Against the descriptors read one by one.
    fn check<R: RawDescriptor>(list: &[R]) -> Result<(), TestCaseError> {
        let Measured { sum, lengths, flags, empty } = R::measure(list);
        let all = || list.iter().map(|raw| raw.read());
        prop_assert_eq!(sum, all().fold(0, |sum, one| u64::wrapping_add(sum, one.length)));
        let bits = all().fold(0, |bits, one| bits | one.length);
        prop_assert_eq!(lengths & bits, bits);
        prop_assert_eq!(flags, all().fold(0, |bits, one| bits | one.flags));
        prop_assert_eq!(empty, all().any(|one| one.length == 0));
        Ok(())
    }

    proptest! {
        /// A length of 0 or beyond a key that a measure overlooks gives extents at wrong places.
        #[test]
        fn a_measure_overlooks_nothing(
            list in prop::collection::vec(
                (prop_oneof![8 => any::<u32>(), 1 => 0..2_u32], any::<u32>()),
                0..9,
            ),
            wide in prop::collection::vec(
                (prop_oneof![8 => any::<u64>(), 1 => 0..2_u64], any::<u64>()),
                0..9,
            ),
        ) {
            check(&list.iter().map(|&(length, flags)| [length, flags]).collect::<Vec<_>>())?;
            let compact = |&(length, flags): &(u32, u32)| {
                (u64::from(length) << 32 | u64::from(flags)).to_be_bytes()
            };
            check(&list.iter().map(compact).collect::<Vec<_>>())?;
            let extended = |&(length, flags): &(u64, u64)| {
                (u128::from(length) << 64 | u128::from(flags)).to_be_bytes()
            };
            check(&wide.iter().map(extended).collect::<Vec<_>>())?;
            check(&wide)?;
        }
    }
}
