//! The map of a disk against a slow model: built, queried at every byte, sliced everywhere, split
//! and joined, compared, summed up and capped.
#![cfg(feature = "alloc")]

mod support;

use core::ops::Range;

use nbd_extents::map::{Cap, CapError, Change, ExtentMap, MapBuilder, MapSlice};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Action, BitmapIndex, Depth, Dirtiness, Extent, Status, StreamError};
use proptest::prelude::*;

use support::dense::{Dense, assert_canonical, from_extents, to_extents};

const SIZE: usize = 64;
const DISK: Range<u64> = 0..SIZE as u64;

/// Runs of a few statuses, with equal neighbours, as servers send them. With gaps, every eighth run
/// is one.
fn lists(gaps: u32) -> impl Strategy<Value = Vec<Extent<u8>>> {
    let status = prop_oneof![gaps => Just(None), 7 => (0_u8..3).prop_map(Some)];
    prop::collection::vec((1_u64..9, status), 0..24).prop_map(move |runs| {
        let mut extents = Vec::new();
        let mut start = 0;
        let last = (gaps == 0).then_some((DISK.end, Some(0)));
        for (length, status) in runs.into_iter().chain(last) {
            let end = (start + length).min(DISK.end);
            extents.extend(status.and_then(|status| Extent::from_range(start..end, status).ok()));
            start = end;
        }
        extents
    })
}

fn ranges() -> impl Strategy<Value = Range<u64>> {
    (0..=DISK.end + 2, 0..=DISK.end + 2).prop_map(|(a, b)| a.min(b)..a.max(b))
}

fn map(list: &[Extent<u8>]) -> ExtentMap<u8> {
    ExtentMap::within(from_iter(list.to_vec()), DISK).unwrap()
}

fn dense(list: &[Extent<u8>]) -> Dense<u8> {
    from_extents(list, SIZE)
}

/// The map of extents that arrive one at a time, or the first fault, which every later call
/// repeats.
fn pushed(mut builder: MapBuilder<u8>, list: &[Extent<u8>]) -> Result<ExtentMap<u8>, StreamError> {
    let first = list.iter().find_map(|&extent| builder.push(extent).err());
    if let (Some(first), Some(&last)) = (&first, list.last()) {
        assert_eq!(builder.push(last).as_ref(), Err(first));
    }
    let built = builder.finish();
    assert!(first.is_none() || built.as_ref().err() == first.as_ref());
    built
}

/// The expected content of a slice: the bytes of the range, and no others.
fn dense_part(list: &[Extent<u8>], range: &Range<u64>) -> Dense<u8> {
    dense(list)
        .iter()
        .enumerate()
        .map(|(byte, &status)| status.filter(|_| range.contains(&(byte as u64))))
        .collect()
}

/// Describes the same bytes by other statuses, cut elsewhere.
fn recut(list: &[Extent<u8>]) -> Vec<Extent<u8>> {
    let halves = |extent: &Extent<u8>| {
        let middle = (extent.start() + extent.end()) / 2;
        [(extent.start()..middle, 1), (middle..extent.end(), *extent.status() % 2)]
    };
    list.iter()
        .flat_map(halves)
        .filter_map(|(range, status)| Extent::from_range(range, status).ok())
        .collect()
}

fn list_of(slice: MapSlice<'_, u8>) -> Vec<Extent<u8>> {
    slice.extents().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_says_of_each_byte_what_the_stream_said(list in lists(1)) {
        let map = map(&list);
        prop_assert_eq!(map.range(), DISK);
        let extents: Vec<_> = map.extents().collect();
        assert_canonical(&extents);
        prop_assert_eq!(&extents, &to_extents(&dense(&list)));
        prop_assert_eq!(&map.stream().collect_vec().unwrap(), &extents);
        for (byte, status) in dense(&list).into_iter().enumerate() {
            let found = map.get(byte as u64);
            prop_assert_eq!(found.map(|e| *e.status()), status);
            prop_assert_eq!(found, extents.iter().find(|e| e.range().contains(&(byte as u64))).copied());
        }
        prop_assert_eq!(map.get(DISK.end), None);
        prop_assert_eq!(map.get(u64::MAX), None);
    }

    #[test]
    fn every_slice_is_that_part_of_the_map(list in lists(1), range in ranges(), inner in ranges()) {
        let map = map(&list);
        let slice = map.slice(range.clone());
        let within = range.start.min(DISK.end)..range.end.min(DISK.end);
        prop_assert_eq!(slice.range(), within.clone());
        prop_assert_eq!(slice.is_empty(), within.is_empty());
        prop_assert_eq!(list_of(slice), to_extents(&dense_part(&list, &range)));
        for byte in 0..DISK.end + 3 {
            let expected =
                map.get(byte).and_then(|extent| extent.clip(&within)).filter(|_| within.contains(&byte));
            prop_assert_eq!(slice.get(byte), expected, "byte {}", byte);
        }
        // a slice of a slice, and a slice as a map of its own
        let both = range.start.max(inner.start)..range.end.min(inner.end);
        prop_assert_eq!(list_of(slice.slice(inner)), to_extents(&dense_part(&list, &both)));
        let owned = slice.to_map();
        prop_assert_eq!(owned.as_slice(), slice);
    }

    #[test]
    fn parts_worked_on_apart_and_joined_are_the_map(
        list in lists(1),
        cuts in prop::collection::vec(DISK, 0..6),
        count in 0_usize..9,
    ) {
        let map = map(&list);
        prop_assert_eq!(&ExtentMap::join(map.as_slice().parts(count)).unwrap(), &map);
        prop_assert!(map.as_slice().parts(count).count() <= count.max(1));
        // anywhere, also in the middle of an extent
        let mut cuts = cuts;
        cuts.extend([0, DISK.end]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|cut| map.slice(cut[0]..cut[1]).to_map()).collect();
        prop_assert_eq!(&ExtentMap::join(parts.iter().map(ExtentMap::as_slice)).unwrap(), &map);
        // each part read from the stream by its own thread
        let built: Vec<_> = std::thread::scope(|scope| {
            let part = |range: Range<u64>| {
                ExtentMap::within(from_iter(list.clone()).clip(range.clone()), range).unwrap()
            };
            let threads: Vec<_> =
                cuts.windows(2).map(|cut| scope.spawn(move || part(cut[0]..cut[1]))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        prop_assert_eq!(&ExtentMap::join(built.iter().map(ExtentMap::as_slice)).unwrap(), &map);
        let (left, right) = map.as_slice().split_at(cuts[cuts.len() / 2]);
        prop_assert_eq!(ExtentMap::join([left, right]).unwrap(), map);
    }

    #[test]
    fn equal_is_who_says_the_same(a in lists(1), b in lists(1)) {
        prop_assert_eq!(map(&a) == map(&b), dense(&a) == dense(&b));
        prop_assert_eq!(&map(&a), &map(&to_extents(&dense(&a))), "however it was cut");
    }

    #[test]
    fn the_diff_names_every_byte_that_differs_and_no_other(
        a in lists(1),
        b in lists(1),
        left in ranges(),
        right in ranges(),
    ) {
        let (first, second) = (map(&a), map(&b));
        let changes: Vec<_> = first.slice(left.clone()).diff(second.slice(right.clone())).collect();
        assert_canonical(&changes);
        let pairs = dense_part(&a, &left).into_iter().zip(dense_part(&b, &right));
        let expected: Dense<Change<u8>> =
            pairs.map(|(before, after)| (before != after).then_some(Change { before, after })).collect();
        prop_assert_eq!(from_extents(&changes, SIZE), expected);
    }

    /// The result and the error of merging two maps are those of their streams.
    #[test]
    fn merging_maps_is_merging_their_streams(
        (a, b) in prop_oneof![
            (lists(0), lists(0)),
            (lists(1), lists(1)),
            lists(2).prop_map(|list| (list.clone(), recut(&list))),
        ],
        (left, right) in prop_oneof![ranges().prop_map(|range| (range.clone(), range)), (ranges(), ranges())],
    ) {
        let (a, b) = (map(&a), map(&b));
        let (left, right) = (a.slice(left), b.slice(right));
        let combine = |&a: &u8, &b: &u8| a * b;
        let range = left.range().start.min(right.range().start)..left.range().end.max(right.range().end);
        let streams = left.stream().merge(right.stream(), combine);
        prop_assert_eq!(left.merge(right, combine), ExtentMap::within(streams, range));
    }

    #[test]
    fn totals_count_every_byte(list in lists(1), range in ranges()) {
        let map = map(&list);
        let extents = to_extents(&dense_part(&list, &range));
        let mut expected: Vec<(u8, u64, u64)> = Vec::new();
        for extent in &extents {
            match expected.iter_mut().find(|row| row.0 == *extent.status()) {
                Some(row) => *row = (row.0, row.1 + extent.length(), row.2 + 1),
                None => expected.push((*extent.status(), extent.length(), 1)),
            }
        }
        let rows: Vec<_> = map.slice(range).totals().iter().map(|t| (t.status, t.bytes, t.extents)).collect();
        prop_assert_eq!(rows, expected);
    }

    #[test]
    fn covering_is_refused_exactly_where_something_is_missing(list in lists(1), range in ranges()) {
        let streamed = from_iter(list.clone()).covering(range.clone()).for_each(drop);
        let built = ExtentMap::covering(from_iter(list.clone()), range.clone());
        prop_assert_eq!(built.as_ref().map(|_| ()), streamed.as_ref().map(|&()| ()));
        prop_assert_eq!(&pushed(MapBuilder::covering(range.clone()), &list), &built);
        let within = ExtentMap::within(from_iter(list.clone()), range.clone());
        prop_assert_eq!(pushed(MapBuilder::within(range.clone()), &list), within);
        if let Ok(built) = built {
            prop_assert_eq!(built.range(), range.clone());
            prop_assert_eq!(built.covers(range.clone()), Ok(()));
        }
        // a map joins extents that a stream had cut, so its faults name longer extents: only their
        // existence must agree
        prop_assert_eq!(map(&list).covers(range).is_ok(), streamed.is_ok());
    }
}

#[test]
fn overlaps_and_strays_are_refused() {
    let extent = |start, end| Extent::from_range(start..end, 'x').unwrap();
    let overlap = ExtentMap::within(from_iter([extent(0, 10), extent(5, 12)]), 0..20);
    assert_eq!(overlap, Err(StreamError::Overlap { start: 5, expected: 10 }));
    let stray = ExtentMap::within(from_iter([extent(5, 30)]), 0..20);
    assert_eq!(stray, Err(StreamError::OutOfRange { extent: 5..30, range: 0..20 }));
    let after_a_gap = ExtentMap::covering(from_iter([extent(5, 30)]), 0..20);
    assert_eq!(after_a_gap, Err(StreamError::Gap { range: 0..5 }), "the first fault");
    let part = ExtentMap::covering(from_iter([extent(10, 20)]), 10..20).unwrap();
    assert_eq!(
        part.as_slice().parts(usize::MAX).count(),
        1,
        "no time is spent on parts that there cannot be"
    );
    let apart = ExtentMap::join([part.slice(..15), part.slice(16..)]);
    assert_eq!(apart, Err(StreamError::Gap { range: 15..16 }));
}

#[test]
fn empty_maps_and_extreme_ranges() {
    let none = || from_iter(Vec::<Extent<u8>>::new());
    let empty = ExtentMap::covering(none(), 7..7).unwrap();
    assert_eq!((empty.range(), empty.get(7), empty.run_count()), (7..7, None, 0));
    assert_eq!(ExtentMap::<u8>::join([]).unwrap().range(), 0..0);
    assert_eq!(empty.as_slice().parts(3).count(), 0);
    let all = ExtentMap::within(none(), 0..u64::MAX).unwrap();
    assert_eq!((all.run_count(), all.extents().count()), (1, 0));
    assert_eq!(all.diff(&empty).count(), 0);
    let inverted = Range { start: 9, end: 3 };
    assert_eq!(ExtentMap::within(none(), inverted.clone()).unwrap().range(), 9..9);
    assert_eq!(all.slice(inverted).range(), 9..9);
    assert_eq!(all.slice(..=u64::MAX).range(), 0..u64::MAX);
}

/// Depth and bitmaps together can have more than 256 statuses, and a hostile server can send a new
/// one with each extent: the map widens, stays below 16 bytes per extent while each status occurs
/// six times, and never needs much more than the list.
#[test]
fn any_number_of_statuses() {
    let list_of = size_of::<Extent<Status>>();
    for (statuses, most) in
        [(2_u64, 10), (255, 10), (257, 11), (13_000, 16), (70_000, 30), (80_000, list_of + 1)]
    {
        let extents = 80_000_u64;
        let status = |n: u64| {
            let n = n % statuses;
            let dirty = Dirtiness::from_flags(n % 2);
            Status::UNKNOWN.with_bitmap(BitmapIndex::of::<3>(), dirty).with_depth(Depth::from_flags(n / 2))
        };
        let list = (0..extents).map(|n| Extent::new(n * 512, 512, status(n)).unwrap());
        let map = ExtentMap::covering(from_iter(list.clone()), 0..extents * 512).unwrap();
        assert!(map.extents().eq(list), "{statuses} statuses");
        assert_eq!(map.totals().len() as u64, statuses);
        assert!(map.memory_usage() <= 80_000 * most, "{} bytes for {statuses} statuses", map.memory_usage());
        let parts: Vec<_> = map.as_slice().parts(7).map(|part| part.to_map()).collect();
        assert_eq!(ExtentMap::join(parts.iter().map(ExtentMap::as_slice)).unwrap(), map);
    }
}

/// Maps with levels of samples: every byte of the whole, of slices of it, and of parts appended
/// piece by piece.
#[test]
fn look_ups_in_long_maps() {
    let runs = 70_000_u64;
    let extents: Vec<_> = (0..runs).map(|n| Extent::new(n * 7, 7, n % 3).unwrap()).collect();
    let whole = ExtentMap::covering(from_iter(extents.clone()), 0..runs * 7).unwrap();
    let mut grown = ExtentMap::covering(from_iter(extents[..1].to_vec()), 0..7).unwrap();
    let mut rest = whole.slice(7..);
    while !rest.is_empty() {
        // cut within an extent, so that the last run grows with the next part
        let (part, behind) = rest.split_at(rest.range().start + 1234);
        grown.append(part).unwrap();
        rest = behind;
        let last = grown.range().end - 1;
        assert_eq!(grown.get(last).map(|e| (e.start(), e.end())), Some((last / 7 * 7, last + 1)));
    }
    assert_eq!(grown, whole);
    for (from, to) in
        [(0, runs * 7), (1, 6), (3, 450), (500, 31_000), (64 * 7, 129 * 7), (200_000, runs * 7 - 3)]
    {
        let (slice, of_grown) = (whole.slice(from..to), grown.slice(from..to));
        for byte in (from..to).step_by(11).chain([to - 1]) {
            let start = (byte / 7 * 7).max(from);
            let expected = Extent::from_range(start..(byte / 7 * 7 + 7).min(to), byte / 7 % 3).unwrap();
            assert_eq!(
                (slice.get(byte), of_grown.get(byte)),
                (Some(expected), Some(expected)),
                "byte {byte}"
            );
        }
        assert_eq!((slice.get(to), slice.slice(to..to + 9).run_count()), (None, 0));
    }
}

/// More pairs of statuses than the table may have.
#[test]
fn maps_of_many_statuses_are_merged() {
    let disk = |length: u64| {
        let list = (0..6000 / length).map(|n| Extent::new(n * length, length, n as u16).unwrap());
        ExtentMap::covering(from_iter(list), 0..6000).unwrap()
    };
    let (a, b) = (disk(10), disk(15));
    let merged = a.merge(&b, |&a, &b| (a, b)).unwrap();
    assert_eq!(merged.run_count(), 800);
    assert!(
        merged
            .extents()
            .all(|e| u64::from(e.status().0) == e.start() / 10 && u64::from(e.status().1) == e.start() / 15)
    );
}

fn actions() -> impl Strategy<Value = Vec<(u64, Action)>> {
    let action = prop_oneof![
        4 => Just(Action::Copy),
        2 => Just(Action::Zero { may_unmap: true }),
        1 => Just(Action::Zero { may_unmap: false }),
        4 => Just(Action::Skip),
        1 => Just(Action::Absent),
    ];
    prop::collection::vec((1_u64..40, action), 1..200)
}

fn extents_of(runs: &[(u64, Action)]) -> (Vec<Extent<Action>>, u64) {
    let mut end = 0;
    let extents = runs.iter().map(|&(length, action)| {
        end += length;
        Extent::new(end - length, length, action).unwrap()
    });
    (extents.collect(), end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The guarantee: `Copy` and `Absent` stay, every other byte stays or becomes `Copy`, and the
    /// changed bytes are counted.
    #[test]
    fn a_cap_only_ever_copies_more(
        runs in actions(),
        bytes in 0_usize..1200,
        keep in any::<bool>(),
    ) {
        let (list, end) = extents_of(&runs);
        let cap = if keep { Cap::bytes(bytes).keeping_skipped() } else { Cap::bytes(bytes) };
        let capped = match ExtentMap::capped(from_iter(list.clone()), 0..end, cap) {
            Ok(capped) => capped,
            Err(CapError::Full { needed, most, cap, .. }) => {
                prop_assert_eq!(cap, bytes.max(Cap::MIN));
                prop_assert!(needed > most / 4 * 3);
                // the extents that may not be given up, and those between two of them, really fill
                // the map
                let fixed = list
                    .iter()
                    .filter(|e| *e.status() == Action::Absent || keep && *e.status() == Action::Skip)
                    .count();
                prop_assert!(2 * fixed + 1 >= needed, "{fixed} fixed, {needed} needed");
                return Ok(());
            }
            Err(error) => panic!("{error}"),
        };
        prop_assert!(capped.map.memory_usage() <= bytes.max(Cap::MIN), "{} bytes", capped.map.memory_usage());
        let (was, is) = (
            from_extents(&list, end as usize),
            from_extents(&capped.map.extents().collect::<Vec<_>>(), end as usize),
        );
        let (mut zero, mut skip) = (0, 0);
        for (was, is) in was.iter().zip(&is) {
            match (was.unwrap(), is.unwrap()) {
                (was, is) if was == is => {}
                (Action::Zero { .. }, Action::Copy) => zero += 1,
                (Action::Skip, Action::Copy) if !keep => skip += 1,
                (was, is) => panic!("{was} became {is}"),
            }
        }
        prop_assert_eq!((capped.zero_copied, capped.skip_copied), (zero, skip));
        prop_assert_eq!(capped.copied_more(), zero + skip);
    }

    #[test]
    fn a_disk_that_fits_is_left_alone(runs in actions()) {
        let (list, end) = extents_of(&runs);
        let exact = ExtentMap::covering(from_iter(list.clone()), 0..end).unwrap();
        let capped =
            ExtentMap::capped(from_iter(list), 0..end, Cap::bytes(9 * exact.run_count() + 64)).unwrap();
        prop_assert_eq!(capped.map, exact);
        prop_assert_eq!((capped.zero_copied, capped.skip_copied), (0, 0));
    }
}

/// The cap gives up the short ranges and keeps the long ones, and few more than it must.
#[test]
fn a_cap_gives_up_the_short_ranges() {
    let (mut runs, mut short) = (Vec::new(), 0);
    for n in 0_u64..10_000 {
        let length = if n % 10 == 0 { 1 << 20 } else { 512 };
        short += if n % 10 == 0 { 0 } else { length };
        runs.extend([(4096, Action::Copy), (length, Action::Zero { may_unmap: true })]);
    }
    let (list, end) = extents_of(&runs);
    // the 1000 long ones need 2000 runs
    let capped = ExtentMap::capped(from_iter(list.clone()), 0..end, Cap::bytes(9 * 6000)).unwrap();
    assert!(capped.copied_more() <= short, "{} of {short}", capped.copied_more());
    let long = capped.map.extents().filter(|e| *e.status() != Action::Copy && e.length() == 1 << 20).count();
    assert_eq!(long, 1000);
    assert!(capped.map.run_count() >= 3000, "half of the cap is used: {}", capped.map.run_count());
}

#[test]
fn a_cap_refuses_what_it_cannot_hold() {
    let runs: Vec<_> =
        (0..1000).map(|n| (512, if n % 2 == 0 { Action::Absent } else { Action::Copy })).collect();
    let (list, end) = extents_of(&runs);
    let refused = ExtentMap::capped(from_iter(list.clone()), 0..end, Cap::bytes(900));
    assert!(matches!(refused, Err(CapError::Full { cap: 900, .. })), "{refused:?}");
    let gap = ExtentMap::capped(from_iter(list), 0..end + 1, Cap::bytes(9200));
    assert_eq!(gap, Err(CapError::Stream(StreamError::Gap { range: end..end + 1 })));
}

#[test]
fn list_without_gaps_is_a_map_from_its_start_to_its_end() {
    let list = |ranges: &[Range<u64>]| -> Vec<Extent<u8>> {
        ranges
            .iter()
            .zip(0..)
            .map(|(range, status)| Extent::from_range(range.clone(), status).unwrap())
            .collect()
    };
    let map = ExtentMap::try_from(list(&[4..8, 8..9, 9..20])).unwrap();
    assert_eq!(map.range(), 4..20);
    assert!(map.extents().eq(list(&[4..8, 8..9, 9..20])));
    assert_eq!(ExtentMap::<u8>::try_from(Vec::new()).unwrap().range(), 0..0);

    let refused = |ranges: &[Range<u64>]| ExtentMap::try_from(list(ranges)).unwrap_err();
    assert_eq!(refused(&[4..8, 9..20]), StreamError::Gap { range: 8..9 });
    assert_eq!(refused(&[4..8, 7..20]), StreamError::Overlap { start: 7, expected: 8 });
    assert_eq!(refused(&[4..20, 8..9]), StreamError::Overlap { start: 8, expected: 20 });
}

#[test]
fn loop_over_a_slice_sees_the_extents_cut_to_it_and_no_gaps() {
    let list = [(0..8, 1), (8..16, 2), (24..40, 3)]
        .map(|(range, status)| Extent::from_range(range, status).unwrap());
    let map = map(&list);
    let mut seen = Vec::new();
    for extent in map.slice(4..32) {
        seen.push((extent.range(), *extent.status()));
    }
    assert_eq!(seen, [(4..8, 1), (8..16, 2), (24..32, 3)]);
}
