//! From descriptors to keys. All of a block is read before anything in it is judged: what is wrong with it, if anything, is for the plain way
//! to find, so one answer at the end is enough.

use super::key::{CODE_BITS, FLAGS, LEFT, LONGEST, RIGHT};
use crate::wire::{Descriptor, RawDescriptor};

/// What all descriptors of a block have in common.
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

    /// Whether all lengths and flags fit keys.
    #[inline(always)]
    fn fits(&self) -> bool {
        self.empty >> 63 == 0 && self.lengths < LONGEST && self.flags < FLAGS
    }
}

/// Decodes a block of the side whose flags are shifted by `SHIFT`. It starts `end` bytes behind the tile's start; `code` is what the other side says of all of it. Returns its end; `None` where
/// something does not fit a key.
#[inline(always)]
pub(super) fn decode<R: RawDescriptor, const SHIFT: u32>(
    block: &[R],
    end: u64,
    code: u64,
    keys: &mut [u64],
) -> Option<u64> {
    let mut check = Check::default();
    let mut end = end << CODE_BITS | code;
    for (raw, key) in block.iter().zip(keys) {
        let descriptor = raw.read();
        check.see(descriptor);
        end = end.wrapping_add(descriptor.length << CODE_BITS);
        *key = end | descriptor.flags << SHIFT;
    }
    check.fits().then_some(end >> CODE_BITS)
}

/// Decodes two blocks into the keys of both. `None` where their lengths differ, or something does not fit a key.
#[inline(always)]
pub(super) fn decode_ties<R: RawDescriptor>(
    left: &[R],
    right: &[R],
    end: u64,
    keys: &mut [u64],
) -> Option<u64> {
    let (mut check, mut unequal) = (Check::default(), 0);
    let mut end = end << CODE_BITS;
    for ((left, right), key) in left.iter().zip(right).zip(keys) {
        let (left, right) = (left.read(), right.read());
        check.see(left);
        check.flags |= right.flags;
        unequal |= left.length ^ right.length;
        end = end.wrapping_add(left.length << CODE_BITS);
        *key = end | left.flags << LEFT | right.flags << RIGHT;
    }
    (unequal == 0 && check.fits()).then_some(end >> CODE_BITS)
}

/// Sums the lengths of a block that starts at `end`. Returns its end, and bit by bit which flags are in it.
#[inline(always)]
pub(super) fn measure<R: RawDescriptor>(block: &[R], end: u64) -> Option<(u64, u64)> {
    let (mut check, mut end, mut seen) = (Check::default(), end, 0_u64);
    for raw in block {
        let descriptor = raw.read();
        check.see(descriptor);
        end = end.wrapping_add(descriptor.length);
        seen |= 1 << (descriptor.flags & 63);
    }
    check.fits().then_some((end, seen))
}
