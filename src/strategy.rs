//! proptest strategies: statuses, actions and whole disks, for tests of code that uses this crate. Behind the feature `proptest`.
//!
//! They make what servers make: neighbours that are equal, extents of one block beside extents of nearly the whole disk, parts of a status that are
//! not known. A backup tool's own test may read
//!
//! ```
//! use nbd_extents::action::{Full, StatusStream, Totals};
//! use nbd_extents::strategy::{covering, status};
//! use nbd_extents::stream::from_iter;
//! use proptest::prelude::*;
//!
//! proptest!(|(disk in covering(0..1 << 20, 4096, status()))| {
//!     let totals = Totals::of(from_iter(disk).decide(Full::new()))?;
//!     prop_assert_eq!(totals.sum(), 1 << 20);
//! });
//! ```

use alloc::vec::Vec;
use core::ops::Range;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::action::Action;
use crate::extent::Extent;
use crate::status::{Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, MAX_BITMAPS, Status};

/// Cuts of a disk, at most.
const CUTS: usize = 24;

/// What `base:allocation` may say: each of its four meanings.
///
/// ```
/// use nbd_extents::strategy::allocation;
/// use proptest::prelude::*;
///
/// proptest!(|(allocation in allocation())| {
///     prop_assert_eq!(allocation.is_hole(), allocation.flags() & 1 != 0);
/// });
/// ```
pub fn allocation() -> impl Strategy<Value = Allocation> {
    (0..4_u64).prop_map(Allocation::from_flags)
}

/// What a dirty bitmap may say.
///
/// ```
/// use nbd_extents::strategy::dirtiness;
/// use proptest::prelude::*;
///
/// proptest!(|(dirtiness in dirtiness())| {
///     prop_assert_eq!(dirtiness.is_dirty(), dirtiness.flags() == 1);
/// });
/// ```
pub fn dirtiness() -> impl Strategy<Value = Dirtiness> {
    (0..2_u64).prop_map(Dirtiness::from_flags)
}

/// What `qemu:allocation-depth` may say: absent, a layer, or now and then a number that means nothing.
///
/// ```
/// use nbd_extents::strategy::depth;
/// use proptest::prelude::*;
///
/// proptest!(|(depth in depth())| {
///     prop_assert!(depth.is_absent() || depth.layer() != Some(0));
/// });
/// ```
pub fn depth() -> impl Strategy<Value = Depth> {
    prop_oneof![8 => 0..4_u64, 1 => Just(u64::MAX)].prop_map(Depth::from_flags)
}

/// Any status: each part may be unknown, and any of the first three bitmaps may have been asked.
///
/// ```
/// use nbd_extents::strategy::status;
/// use proptest::prelude::*;
///
/// proptest!(|(status in status())| {
///     prop_assert_eq!(status.combine(status), status);
/// });
/// ```
pub fn status() -> impl Strategy<Value = Status> {
    let bitmaps = proptest::array::uniform3(option::of(dirtiness()));
    (option::of(allocation()), bitmaps, option::of(depth())).prop_map(|(allocation, bitmaps, depth)| {
        let known =
            Bitmaps::ALL.indices().zip(bitmaps).filter_map(|(index, dirtiness)| Some((index, dirtiness?)));
        build(allocation, known, depth)
    })
}

/// The status that a survey of `base:allocation` and so many bitmaps gives (at most [`MAX_BITMAPS`]): every one of them has answered.
///
/// ```
/// use nbd_extents::BitmapIndex;
/// use nbd_extents::strategy::surveyed;
/// use proptest::prelude::*;
///
/// proptest!(|(status in surveyed(2))| {
///     prop_assert!(status.zero().is_some() && status.dirty_in(BitmapIndex::of::<1>()).is_some() && status.depth().is_none());
/// });
/// ```
pub fn surveyed(bitmaps: usize) -> impl Strategy<Value = Status> {
    let bitmaps = vec(dirtiness(), bitmaps.min(MAX_BITMAPS));
    (allocation(), bitmaps)
        .prop_map(|(allocation, bitmaps)| build(Some(allocation), Bitmaps::ALL.indices().zip(bitmaps), None))
}

fn build(
    allocation: Option<Allocation>,
    bitmaps: impl Iterator<Item = (BitmapIndex, Dirtiness)>,
    depth: Option<Depth>,
) -> Status {
    let status = allocation.map_or(Status::UNKNOWN, |allocation| Status::UNKNOWN.with_allocation(allocation));
    let status = bitmaps.fold(status, |status, (index, dirtiness)| status.with_bitmap(index, dirtiness));
    depth.map_or(status, |depth| status.with_depth(depth))
}

/// Any action.
///
/// ```
/// use nbd_extents::Action;
/// use nbd_extents::strategy::action;
/// use proptest::prelude::*;
///
/// proptest!(|(action in action())| {
///     let moves_bytes = matches!(action, Action::Copy | Action::Zero { .. });
///     prop_assert!(moves_bytes != matches!(action, Action::Skip | Action::Absent));
/// });
/// ```
pub fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Copy),
        any::<bool>().prop_map(|may_unmap| Action::Zero { may_unmap }),
        Just(Action::Skip),
        Just(Action::Absent),
    ]
}

/// Extents that cover `range` exactly once, cut at multiples of `block` from its start (bytes; a `block` of 0 counts as 1). Neighbours may be
/// equal, as servers send them. Of an empty range, and of one that no extent can have, there are none.
///
/// ```
/// use nbd_extents::strategy::{action, covering};
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use proptest::prelude::*;
///
/// proptest!(|(disk in covering(512..9000, 512, action()))| {
///     prop_assert!(from_iter(disk).covering(512..9000).for_each(drop).is_ok());
/// });
/// ```
pub fn covering<S: Strategy<Value: Clone>>(
    range: Range<u64>,
    block: u64,
    status: S,
) -> impl Strategy<Value = Vec<Extent<S::Value>>> {
    let block = block.max(1);
    let blocks = range.end.saturating_sub(range.start).div_ceil(block);
    vec((0..blocks.max(1), status), 1..=CUTS).prop_map(move |mut cuts| {
        cuts.sort_by_key(|(at, _)| *at);
        let starts = cuts.iter().enumerate().map(|(nth, (at, _))| if nth == 0 { 0 } else { *at * block });
        let starts: Vec<u64> = starts.map(|offset| range.start.saturating_add(offset)).collect();
        let ends = starts.iter().copied().skip(1).chain([range.end]);
        let extents = starts.iter().zip(ends).zip(&cuts);
        // two cuts at one place leave an empty extent, which is none
        extents
            .filter_map(|((&start, end), (_, status))| Extent::from_range(start..end, status.clone()).ok())
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{ExtentStream, from_iter};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    proptest! {
        #[test]
        fn a_disk_is_covered_and_cut_at_blocks(blocks in 1..200_u64, tail in 1..512_u64, start in 0..9_u64) {
            let range = start..start + blocks * 512 - 512 + tail;
            let disks = covering(range.clone(), 512, action());
            let mut runner = TestRunner::deterministic();
            let disk = disks.new_tree(&mut runner).unwrap().current();
            prop_assert!(disk.iter().all(|extent| (extent.start() - start).is_multiple_of(512)));
            prop_assert_eq!(from_iter(disk).covering(range).for_each(drop), Ok(()));
        }

        #[test]
        fn no_range_is_too_odd(start: u64, end: u64) {
            let mut runner = TestRunner::deterministic();
            let disk = covering(start..end, 0, action()).new_tree(&mut runner).unwrap().current();
            prop_assert!(disk.iter().all(|extent| start <= extent.start() && extent.end() <= end));
        }
    }
}
