//! The merge itself: two ascending lists of keys into one. The output is split in advance into lanes of equal length, which are merged in turns.
//!
//! One merge alone is a chain: where to load next depends on the comparison before, and each link takes as long as the cache does. The lanes are
//! independent chains, and a processor works on all of them at once.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::key::{CODE, differ};
use super::tile::{CUTS, SLOTS};

const LANES: usize = 4;

/// Where a lane stands: the next key of the left side, and the next output. What is not from the left is from the right.
#[derive(Clone, Copy, Debug)]
struct Lane {
    left: usize,
    out: usize,
}

/// Merges the first `outputs` keys. Both lists must have a guard behind their last key, and all `outputs` must be in them.
#[inline(always)]
pub(super) fn merge(
    left: &[u64; SLOTS],
    right: &[u64; SLOTS],
    (from_left, from_right): (usize, usize),
    out: &mut [u64; CUTS],
) {
    let outputs = from_left + from_right;
    let steps = outputs / LANES;
    let mut lanes = [Lane { left: 0, out: 0 }; LANES];
    for (nth, lane) in lanes.iter_mut().enumerate().skip(1) {
        lane.out = nth * steps;
        lane.left = split(left, right, (from_left, from_right), lane.out);
    }
    for _ in 0..steps {
        for lane in &mut lanes {
            step(lane, left, right, out);
        }
    }
    let [.., last] = &mut lanes;
    for _ in LANES * steps..outputs {
        step(last, left, right, out);
    }
}

/// One output: the earlier of two cuts, in the statuses of both sides.
#[inline(always)]
fn step(lane: &mut Lane, left: &[u64; SLOTS], right: &[u64; SLOTS], out: &mut [u64; CUTS]) {
    let a = left[lane.left % SLOTS];
    let b = right[lane.out.wrapping_sub(lane.left) % SLOTS];
    out[lane.out % CUTS] = a.min(b) | (a | b) & CODE;
    lane.left += usize::from(a < b);
    lane.out += 1;
}

/// How many of the first `outputs` come from the left.
#[inline(always)]
pub(super) fn split<const N: usize>(
    left: &[u64; N],
    right: &[u64; N],
    lens: (usize, usize),
    outputs: usize,
) -> usize {
    let mut low = outputs.saturating_sub(lens.1);
    let mut len = outputs.min(lens.0) - low;
    while len > 0 {
        let half = len / 2;
        let middle = low + half;
        let earlier = left[middle % N] < right[(outputs - 1 - middle) % N];
        low = if earlier { middle + 1 } else { low };
        len = if earlier { len - half - 1 } else { half };
    }
    low
}

/// Drops the second of two cuts at one byte: the first has the statuses of the segment, the second would be one of length 0. Returns how many
/// are left.
#[inline(always)]
pub(super) fn drop_ties(cuts: &mut [u64; CUTS], len: usize) -> usize {
    let mut kept = 0;
    let mut before = 0;
    for read in 0..len {
        let cut = cuts[read % CUTS];
        cuts[kept % CUTS] = cut;
        kept += usize::from(differ(cut, before));
        before = cut;
    }
    kept
}
