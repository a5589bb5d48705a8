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

use super::key::{CODE_BITS, FLAGS, LEFT, LONGEST, RIGHT};
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
    prefetch(list);
    let mut check = Check::default();
    let (count, front) = simd::decode(list, end, code, SHIFT, keys)?;
    check.flags = front.flags;
    let (list, keys) = (list.get(count..)?, keys.get_mut(count..)?);
    let mut end = front.end << CODE_BITS | code;
    let mut decode = |raw: &R, key: &mut u64| {
        let descriptor = raw.read();
        check.see(descriptor);
        end = end.wrapping_add(descriptor.length << CODE_BITS);
        *key = end | descriptor.flags << SHIFT;
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
/// two descriptors differ, or a number does not fit a key.
#[inline(always)]
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
            *key = end | left.flags << LEFT | right.flags << RIGHT;
        }
    }
    let left = check.decoded(end >> CODE_BITS)?;
    (unequal == 0 && flags < FLAGS).then_some((left, Decoded { flags, ..left }))
}

/// Sums the lengths of descriptors that start at `end`. `None` where a number does not fit a key.
#[inline(always)]
pub(super) fn measure<R: RawDescriptor>(list: &[R], end: u64) -> Option<Decoded> {
    prefetch(list);
    let Measured { sum, lengths, flags, empty } = R::measure(list);
    (!empty && lengths < LONGEST && flags < FLAGS).then(|| Decoded { end: end + sum, flags })
}
