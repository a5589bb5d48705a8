//! The merge itself: two ascending lists of keys into one, in four places at once.
//!
//! ```text
//! one step:  a, b = the next key of each side
//!            output the smaller, with the flags of both sides (a key has only its own side's)
//!            left += a < b, otherwise right += 1
//!
//! outputs    |--- lane 0 ---|--- lane 1 ---|--- lane 2 ---|--- lane 3 ---|
//!                 step           step           step           step       in turns in the program,
//!                 step           step           step           step       at once in the processor
//! ```
//!
//! One merge alone is a chain: the address of the next load depends on the comparison before, and
//! each link takes as long as the cache does. But the place of the n-th output can be found without
//! the outputs before it, by a binary search (`split`). So the output is split into lanes of equal
//! length, which are independent chains.
//!
//! Of two cuts at one byte the first output is right; the second one's flags are those of the next
//! segment, and it is dropped later.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::block::{CUTS, Keys, SLOTS};
use super::key::{CODE, join};

const LANES: usize = 4;

/// The position of a lane: the next key of the left side, and the next output. Outputs that are not
/// from the left are from the right, so these two give the next key of the right side.
#[derive(Clone, Copy, Debug)]
struct Lane {
    left: usize,
    out: usize,
}

/// Merges the first keys of both sides, as many as `counts` says. Each list must have a guard after
/// its last key. A function of its own, so that the state of all lanes stays in registers.
#[inline(never)]
pub(super) fn merge(keys: &mut Keys, counts: (usize, usize)) {
    let outputs = counts.0 + counts.1;
    let steps = outputs / LANES;
    let mut lanes = [Lane { left: 0, out: 0 }; LANES];
    for (nth, lane) in lanes.iter_mut().enumerate().skip(1) {
        lane.out = nth * steps;
        lane.left = split(&keys.left, &keys.right, counts, lane.out);
    }
    for _ in 0..steps {
        for lane in &mut lanes {
            step(lane, keys);
        }
    }
    let [.., last] = &mut lanes;
    for _ in LANES * steps..outputs {
        step(last, keys);
    }
}

/// Merges one output: the earlier of two cuts, with the flags of both sides.
#[inline(always)]
fn step(lane: &mut Lane, keys: &mut Keys) {
    let a = keys.left[lane.left % SLOTS];
    let b = keys.right[lane.out.wrapping_sub(lane.left) % SLOTS];
    keys.cuts[lane.out % CUTS] = a.min(b) | join(a, b) & CODE;
    lane.left += usize::from(a < b);
    lane.out += 1;
}

/// Finds how many of the first `outputs` keys come from the left side.
#[inline(always)]
fn split(left: &[u64; SLOTS], right: &[u64; SLOTS], counts: (usize, usize), outputs: usize) -> usize {
    let mut low = outputs.saturating_sub(counts.1);
    let mut len = outputs.min(counts.0) - low;
    while len > 0 {
        let half = len / 2;
        let middle = low + half;
        // If the middle one of the left side comes before its counterpart, so do all before it.
        let earlier = left[middle % SLOTS] < right[(outputs - 1 - middle) % SLOTS];
        low = if earlier { middle + 1 } else { low };
        len = if earlier { len - half - 1 } else { half };
    }
    low
}
