//! proptest strategies for tests of code that uses this crate: statuses, actions, whole disks,
//! replies and chains of backups. They need the feature `proptest`.
//!
//! They imitate servers: equal neighbours, extents of one block beside extents of nearly the whole
//! disk, unknown parts of a status. A backup tool's own test may read
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
use crate::chain::ChainLayer;
use crate::extent::Extent;
use crate::status::{Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, MAX_BITMAPS, Status};

/// The limit on the cuts of a disk.
const CUTS: usize = 24;

/// Any answer of `base:allocation`: one of its four meanings.
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

/// Any answer of a dirty bitmap.
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

/// Any answer of `qemu:allocation-depth`: absent, a layer, or sometimes a number without a meaning.
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

/// Any status: each part may be unknown, and any of the first three bitmaps may have been
/// requested.
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

/// The status from a survey of `base:allocation` and `bitmaps` bitmaps, all of which have answered.
///
/// There are at most [`MAX_BITMAPS`].
///
/// ```
/// use nbd_extents::BitmapIndex;
/// use nbd_extents::strategy::surveyed;
/// use proptest::prelude::*;
///
/// proptest!(|(status in surveyed(2))| {
///     prop_assert!(status.zero().is_some() && status.depth().is_none());
///     prop_assert!(status.dirty_in(BitmapIndex::of::<1>()).is_some());
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

/// Extents that cover `range` exactly once, cut at multiples of `block` from its start.
///
/// Both are in bytes; a `block` of 0 counts as 1. Neighbours may be equal, as from servers. An
/// empty range, or one that no extent can have, gives no extents.
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
        // two cuts at one offset leave an empty extent, which is dropped
        extents
            .filter_map(|((&start, end), (_, status))| Extent::from_range(start..end, status.clone()).ok())
            .collect()
    })
}

/// A server that answers block status, for tests of programs that drive a
/// [`Survey`](crate::Survey).
///
/// Each context has its own list, cut at its own offsets, and its replies cover any range: a block,
/// less than the request, all of it, or more. See [`server`].
#[derive(Clone, Debug)]
pub struct SimulatedServer {
    /// The lists of all contexts for the whole disk.
    contexts: Vec<Vec<Extent<u64>>>,
    /// The minimum number of blocks in a reply, one entry after the other, over and over.
    reach: Vec<u64>,
    block: u64,
    replies: usize,
}

impl SimulatedServer {
    /// Returns the (length, flags) entries of each context in the next reply.
    ///
    /// The reply is about `length` bytes from `offset` on.
    ///
    /// [`Survey::extents64`](crate::Survey::extents64) takes the entries; `wire::encode` makes
    /// payloads of them.
    pub fn answer(&mut self, offset: u64, length: u64) -> Vec<Vec<(u64, u64)>> {
        let answers = self.contexts.iter().map(|context| {
            let reach = self.reach.get(self.replies % self.reach.len().max(1)).copied().unwrap_or(1);
            self.replies += 1;
            let end = offset.saturating_add(reach.saturating_mul(self.block));
            entries(context, &(offset..end), offset.saturating_add(length))
        });
        answers.collect()
    }

    /// The flags of a byte in a context (by its place), for a test to compare with.
    #[must_use]
    pub fn flags(&self, context: usize, byte: u64) -> Option<u64> {
        let list = self.contexts.get(context)?;
        list.iter().find(|extent| extent.range().contains(&byte)).map(|extent| *extent.status())
    }
}

/// Truncates a list to a reply: only its last entry may reach beyond the request.
fn entries(list: &[Extent<u64>], described: &Range<u64>, asked_end: u64) -> Vec<(u64, u64)> {
    let clipped = list.iter().filter_map(|extent| extent.clip(described));
    let asked = clipped.take_while(|extent| extent.start() < asked_end);
    asked.map(|extent| (extent.length(), *extent.status())).collect()
}

/// A [`SimulatedServer`] with an export of `size` bytes, cut at multiples of `block`.
///
/// Flags are 0 to 3: the flags of `base:allocation`, of which a bitmap uses the lowest bit, and
/// small depths.
///
/// ```
/// use nbd_extents::Survey;
/// use nbd_extents::strategy::server;
/// use proptest::prelude::*;
///
/// const NAMES: [&str; 2] = ["base:allocation", "qemu:dirty-bitmap:b0"];
///
/// proptest!(|(mut server in server(1 << 20, 512, 2))| {
///     let mut survey = Survey::new(1 << 20, NAMES)?;
///     while let Some(request) = survey.next_request()? {
///         let (id, offset) = (request.id(), request.offset());
///         for (name, entries) in NAMES.iter().zip(server.answer(offset, request.length())) {
///             survey.extents64(id, name, offset, entries)?;
///         }
///         survey.reply_done(id)?;
///         while let Some(extent) = survey.next_extent()? {
///             let flags = [0, 1].map(|context| server.flags(context, extent.start()));
///             prop_assert_eq!(extent.status().zero(), flags[0].map(|flags| flags & 2 != 0));
///             prop_assert_eq!(extent.status().dirty(), flags[1].map(|flags| flags & 1 != 0));
///         }
///     }
///     survey.complete()?;
/// });
/// ```
pub fn server(size: u64, block: u64, contexts: usize) -> impl Strategy<Value = SimulatedServer> {
    let block = block.max(1);
    let lists = vec(covering(0..size, block, 0..4_u64), contexts);
    let blocks = size.div_ceil(block).max(1);
    // a block or two, and a large part of the disk
    let reach = vec(prop_oneof![1..=4_u64.min(blocks), 1..=blocks, 1..=blocks], 1..12);
    (lists, reach).prop_map(move |(contexts, reach)| SimulatedServer { contexts, reach, block, replies: 0 })
}

/// A full backup and up to four incrementals on top of each other, oldest first.
///
/// Each comes with its actions, as [`Chain::new`](crate::chain::Chain::new) takes them, cut at
/// multiples of `block`.
///
/// The disk grows and shrinks between them; a backup copies or zeroes the bytes added at the end.
/// Backups are named by their numbers.
///
/// ```
/// use nbd_extents::chain::Chain;
/// use nbd_extents::strategy::backups;
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use proptest::prelude::*;
///
/// proptest!(|(backups in backups(4096))| {
///     let size = backups.last().map_or(0, |(layer, _)| layer.size);
///     let streams = backups.into_iter().map(|(layer, actions)| (layer, from_iter(actions)));
///     let chain = Chain::new(streams)?;
///     prop_assert!(chain.restore().covering(0..size).for_each(drop).is_ok());
/// });
/// ```
pub fn backups(block: u64) -> impl Strategy<Value = Vec<(ChainLayer<usize>, Vec<Extent<Action>>)>> {
    let block = block.max(1);
    vec(1..40_u64, 1..=5).prop_flat_map(move |blocks| {
        let sizes: Vec<u64> = blocks.iter().map(|blocks| blocks.saturating_mul(block)).collect();
        let before = core::iter::once(0).chain(sizes.iter().copied());
        let layers: Vec<_> =
            sizes.iter().zip(before).map(|(&size, before)| layer(before.min(size), size, block)).collect();
        layers.prop_map(move |layers| {
            let named = layers.into_iter().zip(&sizes).enumerate();
            named
                .map(|(nth, (actions, &size))| match nth.checked_sub(1) {
                    None => (ChainLayer::full(0, nth, size), actions),
                    Some(parent) => (ChainLayer::incremental(0, nth, parent, size), actions),
                })
                .collect()
        })
    })
}

/// The actions of one backup: bytes of the previous one may be skipped, those beyond its end may
/// not.
fn layer(before: u64, size: u64, block: u64) -> impl Strategy<Value = Vec<Extent<Action>>> {
    let brought =
        || prop_oneof![Just(Action::Copy), any::<bool>().prop_map(|may_unmap| Action::Zero { may_unmap })];
    let old = covering(0..before, block, prop_oneof![2 => Just(Action::Skip), 1 => brought()]);
    let new = covering(before..size, block, brought());
    (old, new).prop_map(|(old, new)| old.into_iter().chain(new).collect())
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
