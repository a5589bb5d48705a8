//! From descriptors to keys. All of a block is read before anything in it is judged: what is wrong with it, if anything, is for the plain way
//! to find, so one answer at the end is enough.

use super::key::{CODE_BITS, FLAGS, LEFT, LONGEST, RIGHT};
use super::prefetch::prefetch;
use super::wide;
use crate::wire::{Descriptor, Measured, RawDescriptor};

/// What all descriptors of a block have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Check {
    /// The highest bit is set once a length was 0, or far too long.
    empty: u64,
    lengths: u64,
    pub(super) flags: u64,
}

impl Check {
    #[inline(always)]
    pub(super) fn see(&mut self, descriptor: Descriptor) {
        self.empty |= descriptor.length.wrapping_sub(1);
        self.lengths |= descriptor.length;
        self.flags |= descriptor.flags;
    }

    /// The block, unless a length or a flag does not fit a key.
    #[inline(always)]
    pub(super) fn block(&self, end: u64) -> Option<Block> {
        let fits = self.empty >> 63 == 0 && self.lengths < LONGEST && self.flags < FLAGS;
        fits.then_some(Block { end, flags: self.flags })
    }
}

/// A block that was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    /// Where it ends, from the tile's start.
    pub(super) end: u64,
    /// All bits of its flags.
    pub(super) flags: u64,
}

/// Decodes a block of the side whose flags are shifted by `SHIFT`. It starts `end` bytes behind the tile's start; `code` is what the other side says of all of it. `None` where
/// something does not fit a key.
#[inline(always)]
pub(super) fn decode<R: RawDescriptor, const SHIFT: u32>(
    block: &[R],
    end: u64,
    code: u64,
    keys: &mut [u64],
) -> Option<Block> {
    prefetch(block);
    let mut check = Check::default();
    let (count, front) = wide::decode(block, end, code, SHIFT, keys)?;
    check.flags = front.flags;
    let (block, keys) = (block.get(count..)?, keys.get_mut(count..)?);
    let mut end = front.end << CODE_BITS | code;
    let mut decode = |raw: &R, key: &mut u64| {
        let descriptor = raw.read();
        check.see(descriptor);
        end = end.wrapping_add(descriptor.length << CODE_BITS);
        *key = end | descriptor.flags << SHIFT;
    };
    let (fours, rest) = block.as_chunks::<4>();
    let (key_fours, keys) = keys.split_at_mut(block.len() - rest.len());
    for (raws, keys) in fours.iter().zip(key_fours.as_chunks_mut::<4>().0) {
        raws.iter().zip(keys).for_each(|(raw, key)| decode(raw, key));
    }
    rest.iter().zip(keys).for_each(|(raw, key)| decode(raw, key));
    check.block(end >> CODE_BITS)
}

/// Decodes two blocks into the keys of both. `None` where their lengths differ, or something does not fit a key.
#[inline(always)]
pub(super) fn decode_ties<R: RawDescriptor>(
    left: &[R],
    right: &[R],
    end: u64,
    keys: &mut [u64],
) -> Option<(Block, Block)> {
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
    let left = check.block(end >> CODE_BITS)?;
    (unequal == 0 && flags < FLAGS).then_some((left, Block { flags, ..left }))
}

/// Sums the lengths of a block that starts at `end`. `None` where something does not fit a key.
#[inline(always)]
pub(super) fn measure<R: RawDescriptor>(block: &[R], end: u64) -> Option<Block> {
    prefetch(block);
    let Measured { sum, lengths, flags, empty } = R::measure(block);
    (!empty && lengths < LONGEST && flags < FLAGS).then(|| Block { end: end + sum, flags })
}
