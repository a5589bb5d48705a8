//! Every adapter of streams against a slow model: random streams with and without gaps, all pairs
//! of small lists, and the facts in the errors.
#![cfg(feature = "alloc")]

mod support;

use core::ops::Range;

use nbd_extents::stream::{ExtentStream, from_iter, merge_all, place, place_iter};
use nbd_extents::wire::{Descriptor, Form, encode, parse_compact, parse_extended};
use nbd_extents::{Extent, ExtentError, MAX_END, StreamError};
use proptest::prelude::*;

use support::dense::{self, Dense, assert_canonical, from_extents, to_extents};

const SIZE: usize = 64;

/// Statuses of runs, `None` for gaps, written out; equal neighbours are cut at the ends of runs.
fn lists() -> impl Strategy<Value = Vec<Extent<u8>>> {
    let status = prop_oneof![1 => Just(None), 4 => (0_u8..3).prop_map(Some)];
    prop::collection::vec((1_u64..9, status), 0..20).prop_map(|runs| {
        let mut extents = Vec::new();
        let mut start = 0;
        for (length, status) in runs {
            let end = (start + length).min(SIZE as u64);
            extents.extend(status.and_then(|status| Extent::from_range(start..end, status).ok()));
            start = end;
        }
        extents
    })
}

/// Lists over the same bytes with other statuses, cut elsewhere.
fn with_same_coverage(list: Vec<Extent<u8>>) -> impl Strategy<Value = (Vec<Extent<u8>>, Vec<Extent<u8>>)> {
    prop::collection::vec(0_u8..3, SIZE).prop_map(move |statuses| {
        let dense = from_extents(&list, SIZE);
        let other: Dense<u8> =
            dense.iter().zip(&statuses).map(|(there, status)| there.map(|_| *status)).collect();
        (list.clone(), to_extents(&other))
    })
}

fn ranges() -> impl Strategy<Value = Range<u64>> {
    (0..=SIZE as u64, 0..=SIZE as u64).prop_map(|(a, b)| a.min(b)..a.max(b))
}

fn inside(range: &Range<u64>, byte: usize) -> bool {
    range.contains(&(byte as u64))
}

fn of(list: &[Extent<u8>]) -> impl ExtentStream<Status = u8, Error = StreamError> + Clone {
    from_iter(list.to_vec())
}

fn dense_of(list: &[Extent<u8>]) -> Dense<u8> {
    from_extents(list, SIZE)
}

/// Not commutative, and each pair has a result of its own.
fn pair(a: &u8, b: &u8) -> (u8, u8) {
    (*a, *b)
}

proptest! {
    #![proptest_config(support::config(512))]

    #[test]
    fn a_list_comes_out_as_it_went_in(list in lists()) {
        prop_assert_eq!(of(&list).collect_vec().unwrap(), list.clone());
        prop_assert_eq!(of(&list).into_iter().collect::<Result<Vec<_>, _>>().unwrap(), list.clone());
        prop_assert_eq!(
            of(&list).fold(0, |sum, extent| sum + extent.length()).unwrap(),
            dense_of(&list).iter().flatten().count() as u64
        );
        let mut seen = Vec::new();
        of(&list).for_each(|extent| seen.push(extent)).unwrap();
        prop_assert_eq!(seen, list);
    }

    #[test]
    fn descriptors_are_placed_one_after_the_other(
        lengths in prop::collection::vec((1_u64..9, 0_u64..4), 1..12),
        start in 0_u64..9,
    ) {
        let list: Vec<_> = lengths.iter().map(|&(length, flags)| Descriptor { length, flags }).collect();
        let expected: Dense<u64> = (0..start)
            .map(|_| None)
            .chain(lengths.iter().flat_map(|&(length, flags)| {
                core::iter::repeat_n(Some(flags), usize::try_from(length).unwrap())
            }))
            .collect();
        let compact = encode(Form::Compact, 7, list.clone()).unwrap();
        let extended = encode(Form::Extended, 7, list).unwrap();
        let placed = place(parse_compact(&compact).unwrap().descriptors(), start).collect_vec().unwrap();
        prop_assert_eq!(placed.len(), lengths.len(), "equal neighbours are not joined");
        prop_assert_eq!(from_extents(&placed, expected.len()), expected);
        let same = place(parse_extended(&extended).unwrap().descriptors(), start).collect_vec().unwrap();
        prop_assert_eq!(placed, same);
    }

    #[test]
    fn placing_fails_at_the_first_length_that_is_no_length(
        lengths in prop::collection::vec(prop_oneof![6 => 1_u64..1 << 40, 1 => Just(0), 1 => any::<u64>()],
        1..8), start in prop_oneof![0_u64..10,
        MAX_END - 10..=MAX_END,
        any::<u64>()],
    ) {
        let list = lengths.iter().map(|&length| Descriptor { length, flags: 0 });
        prop_assert_eq!(place_iter(list, start).collect_vec(), placed_by_hand(&lengths, start));
    }

    #[test]
    fn clip_keeps_what_lies_inside(list in lists(), range in ranges()) {
        let clipped = of(&list).clip(range.clone()).collect_vec().unwrap();
        let expected: Dense<u8> = dense_of(&list)
            .iter()
            .enumerate()
            .map(|(at, status)| status.filter(|_| inside(&range, at)))
            .collect();
        prop_assert_eq!(from_extents(&clipped, SIZE), expected);
        prop_assert!(clipped.len() <= list.len());
    }

    #[test]
    fn fill_gives_a_status_to_gaps_inside_and_leaves_the_rest(list in lists(), range in ranges()) {
        let filled = of(&list).fill(range.clone(), 9).collect_vec().unwrap();
        let fill = |(at, status): (usize, &Option<u8>)| status.or(inside(&range, at).then_some(9));
        let expected: Dense<u8> = dense_of(&list).iter().enumerate().map(fill).collect();
        prop_assert_eq!(from_extents(&filled, SIZE), expected);
    }

    #[test]
    fn coalescing_is_canonical_and_idempotent(list in lists()) {
        let joined = of(&list).coalesce().collect_vec().unwrap();
        assert_canonical(&joined);
        prop_assert_eq!(&joined, &to_extents(&dense_of(&list)));
        prop_assert_eq!(&of(&joined).coalesce().collect_vec().unwrap(), &joined);
    }

    #[test]
    fn mapping_and_filtering_touch_no_range(list in lists()) {
        let mapped = of(&list).map_status(|status| status + 10).collect_vec().unwrap();
        prop_assert_eq!(
            &mapped,
            &list.iter().map(|extent| extent.map(|status| status + 10)).collect::<Vec<_>>()
        );
        let kept = of(&list).filter(|&status| status == 1).collect_vec().unwrap();
        prop_assert_eq!(
            kept,
            list.iter().filter(|extent| *extent.status() == 1).copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn within_and_covering_name_the_first_fault(list in lists(), range in ranges()) {
        for gaps in [true, false] {
            let checked =
                if gaps { of(&list).within(range.clone()) } else { of(&list).covering(range.clone()) };
            let mut seen = Vec::new();
            let ended = checked.for_each(|extent| seen.push(extent));
            let (before, fault) = first_fault(&list, &range, gaps);
            prop_assert_eq!(ended, fault.map_or(Ok(()), Err));
            prop_assert_eq!(&seen, &list[..before], "what comes before the fault is handed on");
        }
    }

    #[test]
    fn an_overlap_is_refused_where_it_starts(list in lists(), back in 1_u64..9, at in 0_usize..20) {
        let mut list = list;
        let Some(at) = at.checked_rem(list.len()) else { return Ok(()) };
        let expected = list[at].end();
        let start = expected.saturating_sub(back);
        list.insert(at + 1, Extent::new(start, 3, 0).unwrap());
        prop_assert_eq!(of(&list).collect_vec(), Err(StreamError::Overlap { start, expected }));
        let results: Vec<_> = of(&list).into_iter().collect();
        prop_assert_eq!(results.len(), at + 2, "all before it, then the error, then nothing");
    }

    #[test]
    fn merging_equal_coverage((a, b) in lists().prop_flat_map(with_same_coverage)) {
        let merged = of(&a).merge(of(&b), pair).collect_vec().unwrap();
        prop_assert_eq!(from_extents(&merged, SIZE), dense::merge(&dense_of(&a), &dense_of(&b), pair));
        let turned = of(&b).merge(of(&a), |b, a| pair(a, b)).collect_vec().unwrap();
        prop_assert_eq!(&merged, &turned, "the order of the streams does not matter");
        let joined = of(&merged.iter().map(|e| e.map(|(a, b)| 3 * a + b)).collect::<Vec<_>>())
            .coalesce()
            .collect_vec()
            .unwrap();
        prop_assert_eq!(joined, to_extents(&dense::merge(&dense_of(&a), &dense_of(&b), |a, b| 3 * a + b)));
    }

    #[test]
    fn merging_any_two(a in lists(), b in lists()) {
        judge_merge(&a, &b);
        judge_shortest(&a, &b);
    }

    #[test]
    fn merging_any_number(
        lists in lists().prop_flat_map(|list| {
            prop::collection::vec(with_same_coverage(list).prop_map(|(_, b)| b), 1..6)
        }),
        odd in prop::option::weighted(0.3, (lists(), 0_usize..6)),
        turn in 0_usize..6,
    ) {
        let mut lists = lists;
        lists.extend(odd.clone().map(|(list, _)| list));
        let count = lists.len();
        lists.rotate_left(odd.map_or(0, |(_, place)| place) % count);
        let merged = merge_all(lists.iter().map(|list| of(list)), |a, b| a.wrapping_mul(5).wrapping_add(*b))
            .collect_vec();
        let expected = lists.iter().skip(1).fold(dense_of(&lists[0]), |all, list| {
            dense::merge(&all, &dense_of(list), |a, b| a.wrapping_mul(5).wrapping_add(*b))
        });
        if lists.iter().all(|list| dense::same_coverage(&dense_of(list), &dense_of(&lists[0]))) {
            prop_assert_eq!(from_extents(&merged.unwrap(), SIZE), expected);
        } else {
            judge_uneven(&merged.unwrap_err(), &lists);
        }
        let largest = |lists: &[Vec<Extent<u8>>]| {
            merge_all(lists.iter().map(|list| of(list)), |a, b| a.max(*b)).collect_vec().ok()
        };
        let one = largest(&lists);
        lists.rotate_left(turn % count);
        prop_assert_eq!(largest(&lists), one, "a commutative function does not care for the order");
    }
}

fn placed_by_hand(lengths: &[u64], start: u64) -> Result<Vec<Extent<u64>>, StreamError> {
    let mut extents = Vec::new();
    let mut at = u128::from(start);
    for &length in lengths {
        let (from, end) = (u64::try_from(at).unwrap(), at + u128::from(length));
        if length == 0 {
            return Err(ExtentError::Empty { start: from }.into());
        }
        if end > u128::from(MAX_END) {
            return Err(ExtentError::TooLarge { start: from, length }.into());
        }
        extents.push(Extent::new(from, length, 0).unwrap());
        at = end;
    }
    Ok(extents)
}

/// The number of extents of a sorted list before the first fault, and the fault.
fn first_fault(list: &[Extent<u8>], range: &Range<u64>, gaps: bool) -> (usize, Option<StreamError>) {
    let mut covered = range.start;
    for (nth, extent) in list.iter().enumerate() {
        if !gaps && covered < extent.start().min(range.end) {
            return (nth, Some(StreamError::Gap { range: covered..extent.start().min(range.end) }));
        }
        if extent.start() < range.start || extent.end() > range.end {
            let (extent, range) = (extent.range(), range.clone());
            return (nth, Some(StreamError::OutOfRange { extent, range }));
        }
        covered = extent.end();
    }
    let missing = !gaps && covered < range.end;
    (list.len(), missing.then_some(StreamError::Gap { range: covered..range.end }))
}

/// A merge of two succeeds if and only if both cover the same bytes.
#[track_caller]
fn judge_merge(a: &[Extent<u8>], b: &[Extent<u8>]) {
    let (left, right) = (dense_of(a), dense_of(b));
    let merged = of(a).merge(of(b), pair).collect_vec();
    if dense::same_coverage(&left, &right) {
        assert_eq!(from_extents(&merged.unwrap(), SIZE), dense::merge(&left, &right, pair));
    } else {
        judge_uneven(&merged.unwrap_err(), &[a.to_vec(), b.to_vec()]);
    }
}

/// The error names bytes that the silent stream leaves out and another describes, from the first
/// such byte on.
#[track_caller]
fn judge_uneven(error: &StreamError, lists: &[Vec<Extent<u8>>]) {
    let StreamError::Uneven { range, silent } = error else { panic!("{error}") };
    let all: Vec<_> = lists.iter().map(|list| dense_of(list)).collect();
    let uneven = |at: usize| {
        all.iter().any(|dense| dense[at].is_none()) && all.iter().any(|dense| dense[at].is_some())
    };
    let first = (0..SIZE).find(|&at| uneven(at)).unwrap();
    assert_eq!(range.start, first as u64, "{error}");
    assert!(range.start < range.end && range.end <= SIZE as u64, "{error}");
    let mut named = first..usize::try_from(range.end).unwrap();
    assert!(all[*silent][named.clone()].iter().all(Option::is_none), "{error}");
    assert!(named.all(uneven), "{error}");
}

/// A shortest merge ends at the end of the shorter stream, and reports it; before that, coverage
/// must be the same.
#[track_caller]
fn judge_shortest(a: &[Extent<u8>], b: &[Extent<u8>]) {
    let (left, right) = (dense_of(a), dense_of(b));
    let end = dense::end(&left).min(dense::end(&right));
    let (left, right) = (&left[..end], &right[..end]);
    let mut merged = of(a).merge_shortest(of(b), pair);
    let mut extents = Vec::new();
    assert_eq!(merged.position(), 0);
    while let Some(extent) = match merged.next_extent() {
        Ok(next) => next,
        Err(error) => {
            assert!(!dense::same_coverage(left, right), "{error}");
            return assert_is_uneven(&error, end);
        }
    } {
        assert_eq!(merged.position(), extent.end());
        extents.push(extent);
    }
    assert!(dense::same_coverage(left, right));
    assert_eq!(merged.position(), extents.last().map_or(0, Extent::end));
    assert_eq!(from_extents(&extents, end), dense::merge(left, right, pair));
}

#[track_caller]
fn assert_is_uneven(error: &StreamError, end: usize) {
    assert!(matches!(error, StreamError::Uneven { range, .. } if range.start < end as u64), "{error}");
}

/// All lists over 6 blocks with 2 statuses and gaps, merged with all others: 531,441 pairs, each
/// compared with the model.
#[test]
fn all_pairs_of_small_lists() {
    const BLOCKS: u32 = 6;
    let all: Vec<_> = (0..3_usize.pow(BLOCKS)).map(|n| small_list(n, BLOCKS)).collect();
    let mut even = 0_u64;
    for (a, left) in &all {
        for (b, right) in &all {
            let merged = from_iter(a.iter().copied()).merge(from_iter(b.iter().copied()), pair).collect_vec();
            if dense::same_coverage(left, right) {
                even += 1;
                assert_eq!(from_extents(&merged.unwrap(), left.len()), dense::merge(left, right, pair));
            } else {
                assert!(matches!(merged, Err(StreamError::Uneven { .. })), "{a:?} {b:?}");
            }
        }
    }
    // each block is a gap in both, or described in both
    assert_eq!(even, 5_u64.pow(BLOCKS));
}

/// All lists that describe 6 blocks by 3 statuses, merged with all others and joined: 531,441
/// pairs, none of them uneven.
#[test]
fn all_pairs_of_small_lists_without_gaps() {
    const BLOCKS: u32 = 6;
    let statuses = |n: usize| (0..BLOCKS).map(move |block| n / 3_usize.pow(block) % 3);
    let all: Vec<(Vec<Extent<u8>>, Dense<u8>)> = (0..3_usize.pow(BLOCKS))
        .map(|n| statuses(n).map(|status| u8::try_from(status).ok()).collect::<Dense<u8>>())
        .map(|dense| (to_extents(&dense), dense))
        .collect();
    for (a, left) in &all {
        for (b, right) in &all {
            // a product has four values, so that many neighbours become equal
            let merged = from_iter(a.iter().copied()).merge(from_iter(b.iter().copied()), |a, b| a * b);
            let joined = merged.coalesce().covering(0..u64::from(BLOCKS)).collect_vec().unwrap();
            assert_eq!(joined, to_extents(&dense::merge(left, right, |a, b| a * b)));
        }
    }
}

/// List `n`: a digit of base 3 for each block, 2 being a gap. One extent per block where `n` is
/// even, else joined.
fn small_list(n: usize, blocks: u32) -> (Vec<Extent<u8>>, Dense<u8>) {
    let digit = |block: u32| u8::try_from(n / 3_usize.pow(block) % 3).unwrap();
    let dense: Dense<u8> = (0..blocks).map(|block| Some(digit(block)).filter(|&digit| digit < 2)).collect();
    let single =
        |(at, status): (usize, &Option<u8>)| status.map(|status| Extent::new(at as u64, 1, status).unwrap());
    let list = if n.is_multiple_of(2) {
        dense.iter().enumerate().filter_map(single).collect()
    } else {
        to_extents(&dense)
    };
    (list, dense)
}
