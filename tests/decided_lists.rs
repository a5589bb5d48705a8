//! Decisions about a merge of two lists in memory: `fold`, which goes block by block through the
//! kernel, and `next_extent`, which does not, must agree, whatever the policy's cuts and errors.

#![allow(clippy::unwrap_used, reason = "test code")]

use core::fmt;

use nbd_extents::action::{
    Base, Baseline, DecideError, Decision, Full, Incremental, Policy, PolicyError, Reason, StatusStream,
};
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Descriptors, Pair64};
use nbd_extents::{Action, Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status, StreamError};
use proptest::collection::vec;
use proptest::prelude::*;

/// Lists of one disk: an allocation and a bitmap, whose longer one is cut at the end of the other.
type Lists = (Vec<Pair64>, Vec<Pair64>);

fn list(flags: u64) -> impl Strategy<Value = Vec<Pair64>> {
    vec((1..40_u64, 0..=flags), 600..3000)
}

fn lists() -> impl Strategy<Value = Lists> {
    (list(3), list(1), 1..60_u64).prop_map(|(mut allocation, mut bitmap, unit)| {
        // Longer units make runs of the finer side.
        bitmap.iter_mut().for_each(|(length, _)| *length *= unit);
        let end = [&allocation, &bitmap].map(|list| list.iter().map(|d| d.0).sum::<u64>());
        let end = end[0].min(end[1]);
        for list in [&mut allocation, &mut bitmap] {
            let mut start = 0;
            list.retain_mut(|(length, _)| {
                let rest = end - start;
                *length = rest.min(*length);
                start += *length;
                rest > 0
            });
        }
        (allocation, bitmap)
    })
}

fn merged((allocation, bitmap): &Lists) -> impl ExtentStream<Status = Status, Error = StreamError> {
    let allocation = place(Descriptors::new(allocation), 0).map_status(Allocation::from_flags);
    let bitmap = place(Descriptors::new(bitmap), 0).map_status(Dirtiness::from_flags);
    allocation.merge(bitmap, |allocation, dirtiness| {
        Status::UNKNOWN.with_allocation(*allocation).with_bitmap(BitmapIndex::FIRST, *dirtiness)
    })
}

fn size((allocation, _): &Lists) -> u64 {
    allocation.iter().map(|(length, _)| length).sum()
}

/// Copies dirty bytes, in zones of `zone` bytes, in every second of which it refuses zeroes.
#[derive(Debug)]
struct Zones {
    zone: u64,
    refuses: bool,
}

impl Policy for Zones {
    fn base(&self) -> Base {
        Base::Nothing
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        let odd = (extent.start() / self.zone) % 2 == 1;
        let zero = extent.status().zero() == Some(true);
        if odd && zero && self.refuses {
            // Other statuses of the zone are decided.
            return Err(PolicyError::Refused { range: extent.range(), reason: "a zero in an odd zone" });
        }
        let action = if zero && !odd { Action::Zero { may_unmap: true } } else { Action::Copy };
        Ok(Decision { action, reason: Reason::Other("by zone") })
    }

    fn next_cut(&self, offset: u64) -> Option<u64> {
        Some((offset / self.zone + 1) * self.zone)
    }
}

/// All extents, and the error that ended them.
type Read<T> = (Vec<Extent<T>>, Option<DecideError<StreamError>>);

fn by_fold<T>(stream: impl ExtentStream<Status = T, Error = DecideError<StreamError>>) -> Read<T> {
    let mut all = Vec::new();
    let end = stream.for_each(|extent| all.push(extent));
    (all, end.err())
}

fn one_by_one<T>(mut stream: impl ExtentStream<Status = T, Error = DecideError<StreamError>>) -> Read<T> {
    let mut all = Vec::new();
    loop {
        match stream.next_extent() {
            Ok(Some(extent)) => all.push(extent),
            Ok(None) => return (all, None),
            Err(error) => return (all, Some(error)),
        }
    }
}

fn both_ways_agree<P: Policy + fmt::Debug>(lists: &Lists, policy: &P) {
    assert_eq!(by_fold(merged(lists).decide(policy)), one_by_one(merged(lists).decide(policy)), "{policy:?}");
    assert_eq!(
        by_fold(merged(lists).explain(policy)),
        one_by_one(merged(lists).explain(policy)),
        "{policy:?}"
    );
    // A check between merge and policy hands blocks on, and finds its faults all the same; a filter
    // leaves gaps within blocks.
    let size = size(lists);
    for range in [0..size, 0..size - 1, 0..size / 2, 1..size, 0..size + 1] {
        let covering = || merged(lists).covering(range.clone()).decide(policy);
        assert_eq!(by_fold(covering()), one_by_one(covering()), "{policy:?} {range:?}");
        let within = || merged(lists).within(range.clone()).decide(policy);
        assert_eq!(by_fold(within()), one_by_one(within()), "{policy:?} {range:?}");
        let dirty = || merged(lists).filter(|status| status.dirty() == Some(true));
        let gaps = || dirty().covering(range.clone()).decide(policy);
        assert_eq!(by_fold(gaps()), one_by_one(gaps()), "{policy:?} {range:?}");
        let gaps = || dirty().within(range.clone()).decide(policy);
        assert_eq!(by_fold(gaps()), one_by_one(gaps()), "{policy:?} {range:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_are_decided_as_their_extents_are(
        lists in lists(),
        zone in 1..60_000_u64,
        refuses: bool,
        excluded in vec((0..3000_u64, 1..3000_u64), 0..20),
        read_first in 0..3_usize,
    ) {
        let size = size(&lists);
        both_ways_agree(&lists, &Full::new());
        both_ways_agree(&lists, &Zones { zone, refuses });
        // The previous backup was of a smaller disk: all beyond is dirty.
        let grown = Incremental::new_or_grown(Baseline::new(zone.min(size), Bitmaps::FIRST), size).unwrap();
        let mut start = 0;
        let ranges: Vec<_> = excluded.iter().map(|(gap, length)| {
            start += gap + length;
            start - length..start
        }).collect();
        both_ways_agree(&lists, &(&grown).excluding(&ranges).unwrap());
        both_ways_agree(&lists, &grown);
        // Reading may begin by hand.
        let mut begun = merged(&lists).decide(Zones { zone, refuses: false });
        let mut all = Vec::new();
        for _ in 0..read_first {
            all.extend(begun.next_extent().unwrap());
        }
        all.extend(by_fold(begun).0);
        prop_assert_eq!(all, one_by_one(merged(&lists).decide(Zones { zone, refuses: false })).0);
    }
}
