//! Where intervals of both sides overlap. As in `lanes.rs`, the steps are split in advance into lanes, which take turns; a step passes over the
//! interval that ends first, and keeps the overlap if there is one.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::intervals::{INTERVALS, Intervals};
use super::key::CODE;
use super::lanes::split;
use super::ranges::Ranges;
use super::tile::CUTS;

pub(super) const LANES: usize = 3;

/// Where a lane stands: the next interval of the left side, the next step, and the next output. What is not from the left is from the right.
#[derive(Clone, Copy, Debug)]
struct Lane {
    left: usize,
    step: usize,
    out: usize,
}

/// Finds the overlaps of the first intervals, so many of each side. Without `CODES`, the keys have none; with `EXACT`, all are wanted.
#[inline(always)]
pub(super) fn find<const CODES: bool, const EXACT: bool>(
    left: &Intervals,
    right: &Intervals,
    lens: (usize, usize),
    wanted: u64,
    out: &mut Ranges,
) {
    out.clear();
    if lens.0 == 0 || lens.1 == 0 {
        return;
    }
    let all = lens.0 + lens.1;
    let steps = all / LANES;
    let mut lanes = [Lane { left: 0, step: 0, out: 0 }; LANES];
    for (nth, lane) in lanes.iter_mut().enumerate().skip(1) {
        lane.step = nth * steps;
        lane.out = lane.step;
        lane.left = split(&left.ends, &right.ends, lens, lane.step);
    }
    for _ in 0..steps {
        for lane in &mut lanes {
            step::<CODES, EXACT>(lane, left, right, wanted, out);
        }
    }
    let [.., last] = &mut lanes;
    for _ in LANES * steps..all {
        step::<CODES, EXACT>(last, left, right, wanted, out);
    }
    for (nth, lane) in lanes.iter().enumerate() {
        out.parts[nth] = (nth * steps, lane.out);
    }
}

#[inline(always)]
fn step<const CODES: bool, const EXACT: bool>(
    lane: &mut Lane,
    left: &Intervals,
    right: &Intervals,
    wanted: u64,
    out: &mut Ranges,
) {
    let from_left = lane.left % INTERVALS;
    let from_right = lane.step.wrapping_sub(lane.left) % INTERVALS;
    let (a, b) = (left.ends[from_left], right.ends[from_right]);
    let start = left.starts[from_left].max(right.starts[from_right]);
    let code = if CODES { (a | b) & CODE } else { 0 };
    let cut = a.min(b) | code;
    out.starts[lane.out % CUTS] = start;
    out.cuts[lane.out % CUTS] = cut;
    lane.out += usize::from(start < cut && (EXACT || wanted >> code & 1 == 1));
    lane.left += usize::from(a < b);
    lane.step += 1;
}
