//! From descriptors to keys: big-endian numbers to host order, lengths to their sums.
//!
//! ```text
//! for each descriptor:  end += length;  key = end, flags
//!                       bad |= length is 0;  lengths |= length;  all |= flags
//! at the end:           nothing bad, and lengths and flags fit a key? otherwise give up
//! ```
//!
//! All of a block is read before anything in it is judged. The scalar merge finds the fault, if
//! there is one, so a single answer at the end is enough, and the loop has no branch.

use super::key::{CODE_BITS, FLAGS, LONGEST, code_of, join};
use super::simd::{self, prefetch};
use crate::wire::{Descriptor, Measured, RawDescriptor};

/// The bits that all descriptors of a block have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Check {
    /// The highest bit is set once a length was 0, or far too long.
    empty: u64,
    lengths: u64,
    flags: u64,
}

impl Check {
    #[inline(always)]
    fn see(&mut self, descriptor: Descriptor) {
        self.empty |= descriptor.length.wrapping_sub(1);
        self.lengths |= descriptor.length;
        self.flags |= descriptor.flags;
    }

    /// The decoded block, unless a length or a flag does not fit a key.
    #[inline(always)]
    fn decoded(&self, end: u64) -> Option<Decoded> {
        let fits = self.empty >> 63 == 0 && self.lengths < LONGEST && self.flags < FLAGS;
        fits.then_some(Decoded { end, flags: self.flags })
    }
}

/// Descriptors that were decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoded {
    /// The end of the last, in bytes from the block's start.
    pub(super) end: u64,
    /// The OR of their flags.
    pub(super) flags: u64,
}

/// Decodes descriptors of the side whose flags are shifted by `SHIFT`. The first starts `end` bytes
/// from the block's start; `code` has the flags of the other side over all of them. `None` where a
/// number does not fit a key.
#[inline(always)]
pub(super) fn decode<R: RawDescriptor, const SHIFT: u32>(
    list: &[R],
    end: u64,
    code: u64,
    keys: &mut [u64],
) -> Option<Decoded> {
    let mut check = Check::default();
    let (count, front) = simd::decode(list, end, code, SHIFT, keys)?;
    check.flags = front.flags;
    let (list, keys) = (list.get(count..)?, keys.get_mut(count..)?);
    prefetch(list);
    let mut end = join(front.end << CODE_BITS, code);
    let mut decode = |raw: &R, key: &mut u64| {
        let descriptor = raw.read();
        check.see(descriptor);
        end = end.wrapping_add(descriptor.length << CODE_BITS);
        *key = join(end, descriptor.flags << SHIFT);
    };
    let (fours, rest) = list.as_chunks::<4>();
    let (key_fours, keys) = keys.split_at_mut(list.len() - rest.len());
    for (raws, keys) in fours.iter().zip(key_fours.as_chunks_mut::<4>().0) {
        raws.iter().zip(keys).for_each(|(raw, key)| decode(raw, key));
    }
    rest.iter().zip(keys).for_each(|(raw, key)| decode(raw, key));
    check.decoded(end >> CODE_BITS)
}

/// Decodes two lists of equal length into keys with the flags of both. `None` where the lengths of
/// two descriptors differ, or a number does not fit a key. A function of its own, so that its sums
/// stay in registers.
#[inline(never)]
pub(super) fn decode_ties<R: RawDescriptor>(
    left: &[R],
    right: &[R],
    end: u64,
    keys: &mut [u64],
) -> Option<(Decoded, Decoded)> {
    let (mut check, mut unequal, mut flags) = (Check::default(), 0, 0);
    let mut end = end << CODE_BITS;
    prefetch(left);
    prefetch(right);
    let ((lefts, []), (rights, [])) = (left.as_chunks::<4>(), right.as_chunks::<4>()) else {
        return None;
    };
    for ((left, right), key) in lefts.iter().zip(rights).zip(keys.as_chunks_mut::<4>().0) {
        for ((left, right), key) in left.iter().zip(right).zip(key) {
            let (left, right) = (left.read(), right.read());
            check.see(left);
            flags |= right.flags;
            unequal |= left.length ^ right.length;
            end = end.wrapping_add(left.length << CODE_BITS);
            *key = join(end, code_of(left.flags, right.flags));
        }
    }
    let left = check.decoded(end >> CODE_BITS)?;
    (unequal == 0 && flags < FLAGS).then_some((left, Decoded { flags, ..left }))
}

/// Sums the lengths of descriptors that follow those `before`. `None` where a number does not fit a
/// key.
#[inline(always)]
pub(super) fn measure<R: RawDescriptor>(list: &[R], before: Decoded) -> Option<Decoded> {
    prefetch(list);
    let Measured { sum, lengths, flags, empty } = R::measure(list);
    (!empty && lengths < LONGEST && flags < FLAGS)
        .then(|| Decoded { end: before.end + sum, flags: before.flags | flags })
}

#[cfg(test)]
mod tests {
    use super::super::key::{LEFT, RIGHT};
    use super::*;
    use crate::wire::{Compact, Extended, Pair32, Pair64};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The keys, their end and their flags, from one descriptor after the other.
    fn model(list: &[Pair64], mut end: u64, code: u64, shift: u32) -> Option<(Vec<u64>, u64, u64)> {
        let (mut keys, mut all) = (Vec::new(), 0);
        for &(length, flags) in list {
            if length == 0 || length >= LONGEST || flags >= FLAGS {
                return None;
            }
            end += length;
            all |= flags;
            keys.push(end << CODE_BITS | code | flags << shift);
        }
        Some((keys, end, all))
    }

    fn check<R: RawDescriptor>(raw: &[R], list: &[Pair64]) {
        let facts = |decoded: Option<Decoded>| decoded.map(|Decoded { end, flags }| (end, flags));
        let mut keys = alloc::vec![0; list.len()];
        let left =
            facts(decode::<R, LEFT>(raw, 100, 5, &mut keys)).map(|(end, all)| (keys.clone(), end, all));
        assert_eq!(left, model(list, 100, 5, LEFT), "{list:?}");
        let code = 5 << LEFT;
        let right = facts(decode::<R, RIGHT>(raw, 0, code, &mut keys)).map(|(end, all)| (keys, end, all));
        assert_eq!(right, model(list, 0, code, RIGHT), "{list:?}");
        let measured = facts(measure(raw, Decoded { end: 100, flags: 0 }));
        assert_eq!(measured, model(list, 100, 0, RIGHT).map(|(_, end, all)| (end, all)), "{list:?}");
    }

    fn check_wide(list: &[Pair64]) {
        check(list, list);
        let extended =
            |&(length, flags): &Pair64| (u128::from(length) << 64 | u128::from(flags)).to_be_bytes();
        check::<Extended>(&list.iter().map(extended).collect::<Vec<_>>(), list);
    }

    const LENGTHS: [u64; 7] = [0, 1, 5, LONGEST - 1, LONGEST, LONGEST + 1, u64::MAX];

    #[test]
    fn short_lists_at_every_edge() {
        let all: Vec<_> =
            LENGTHS.iter().flat_map(|&length| [0, 3, 7, 8].map(|flags| (length, flags))).collect();
        check_wide(&[]);
        // The lowest numbers that do not fit, and no other bits: in a register and after it.
        for odd in [(LONGEST, 0), (5, 8)] {
            check_wide(&[odd; 8]);
            check_wide(&[odd; 9]);
        }
        for &one in &all {
            check_wide(&[one]);
            for &two in &all {
                check_wide(&[one, two]);
                for place in 0..9 {
                    let mut list = [(7, 1); 9];
                    (list[place], list[8 - place]) = (one, two);
                    check_wide(&list);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn lists_of_any_length(
            mut list in prop::collection::vec(
                (prop_oneof![20 => 1..5000_u32, 1 => any::<u32>()], 0..8_u32),
                0..50,
            ),
            odd in prop::option::weighted(
                0.2,
                (prop_oneof![Just((0, 0)), Just((1, 8)), Just((1, 1 << 31))], 0..50_usize),
            ),
        ) {
            if let Some((odd, place)) = odd {
                list.insert(place.min(list.len()), odd);
            }
            let widen = |&(length, flags): &(u32, u32)| (u64::from(length), u64::from(flags));
            let wide: Vec<Pair64> = list.iter().map(widen).collect();
            check_wide(&wide);
            let pair = |&(length, flags): &(u32, u32)| [length, flags];
            check::<Pair32>(&list.iter().map(pair).collect::<Vec<_>>(), &wide);
            let compact = |&(length, flags): &Pair64| (length << 32 | flags).to_be_bytes();
            check::<Compact>(&wide.iter().map(compact).collect::<Vec<_>>(), &wide);
        }
    }

    /// Two lists with one cut in common each: any number that differs or does not fit is found.
    #[test]
    fn ties_at_every_edge() {
        const USUAL: [(u64, u64, u64, u64); 8] = [
            (1, 0, 1, 5),
            (5, 3, 5, 0),
            (2, 7, 2, 1),
            (9, 1, 9, 7),
            (4, 2, 4, 4),
            (1, 1, 1, 1),
            (6, 0, 6, 0),
            (3, 4, 3, 2),
        ];
        let check = |list: &[(u64, u64, u64, u64)]| {
            let left: Vec<Pair64> = list.iter().map(|row| (row.0, row.1)).collect();
            let right: Vec<Pair64> = list.iter().map(|row| (row.2, row.3)).collect();
            let mut keys = alloc::vec![0; list.len()];
            let ties = decode_ties(&left, &right, 100, &mut keys);
            let are_equal = list.iter().all(|row| row.0 == row.2) && list.len().is_multiple_of(4);
            let expected = model(&left, 100, 0, LEFT).zip(model(&right, 100, 0, RIGHT)).filter(|_| are_equal);
            let Some(((one, end, left_flags), (other, _, right_flags))) = expected else {
                return assert!(ties.is_none(), "{list:?}");
            };
            let (one_side, other_side) = ties.unwrap();
            assert_eq!((one_side.end, one_side.flags), (end, left_flags), "{list:?}");
            assert_eq!((other_side.end, other_side.flags), (end, right_flags), "{list:?}");
            assert!(one.iter().zip(&other).map(|(one, other)| one | other).eq(keys), "{list:?}");
        };
        for length in 0..=8 {
            check(&USUAL[..length]);
        }
        // The lowest flag that does not fit, alone.
        for place in 0..8 {
            for flags in [(8, 0), (0, 8)] {
                let mut list = [(5, 0, 5, 0); 8];
                (list[place].1, list[place].3) = flags;
                check(&list);
            }
        }
        for place in 0..8 {
            for left in LENGTHS {
                for right in LENGTHS {
                    for flags in [(0, 0), (7, 7), (8, 0), (0, 8)] {
                        let mut list = USUAL;
                        list[place] = (left, flags.0, right, flags.1);
                        check(&list);
                    }
                }
            }
        }
    }
}
