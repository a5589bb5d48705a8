//! The fast way of a merge against the plain one: whoever asks for the whole stream (`fold`, `for_each`, `collect_vec`) gets what asking
//! extent by extent gives, the error and what came before it included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use core::fmt::Debug;

use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Compact, Descriptors, Extended, Pair32, Pair64, RawDescriptor};
use nbd_extents::{Extent, MAX_END, StreamError};
use proptest::prelude::*;

type List = Vec<(u64, u64)>;
type Answer<T> = (Vec<Extent<T>>, Option<StreamError>);

/// One by one: the plain way.
fn plain<S: ExtentStream<Error = StreamError>>(mut stream: S) -> Answer<S::Status> {
    let mut extents = Vec::new();
    loop {
        match stream.next_extent() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// All that is left: the fast way, where there is one.
fn fast<S: ExtentStream<Error = StreamError>>(stream: S) -> Answer<S::Status> {
    let mut extents = Vec::new();
    let error = stream.for_each(|extent| extents.push(extent)).err();
    (extents, error)
}

fn same<S: ExtentStream<Error = StreamError, Status: PartialEq + Debug> + Clone>(stream: &S, what: &str) {
    let (expected, got) = (plain(stream.clone()), fast(stream.clone()));
    if expected != got {
        let at = expected.0.iter().zip(&got.0).position(|(one, other)| one != other);
        let at = at.unwrap_or(expected.0.len().min(got.0.len()));
        panic!(
            "{what}: from extent {at} on (of {} and {}): {:?} {:?} is {:?} {:?}",
            expected.0.len(),
            got.0.len(),
            &expected.0[at..].first(),
            expected.1,
            &got.0[at..].first(),
            got.1
        );
    }
}

/// Every sink over every kind of merge, from the start and from the middle of an extent on.
fn every_sink<R: RawDescriptor>(left: &[R], right: &[R], starts: (u64, u64), skip: usize) {
    let left = || place(Descriptors::new(left), starts.0);
    let right = || place(Descriptors::new(right), starts.1).map_status(|flags| !flags);
    let pair = |&a: &u64, &b: &u64| (a, !b);
    let mut even = left().merge(right(), pair);
    let mut shortest = left().merge_shortest(right(), pair);
    for _ in 0..skip {
        if !matches!((even.next_extent(), shortest.next_extent()), (Ok(_), Ok(_))) {
            return;
        }
    }
    same(&even, "merge");
    same(&shortest, "merge_shortest");
    same(&even.clone().map_status(|(a, b)| a & b).coalesce(), "coalesce");
    same(&even.clone().coalesce(), "coalesce as it is");
    same(&even.clone().filter(|(a, b)| a & 2 == 0 && b & 1 == 1), "filter");
    same(
        &even.clone().map_status(|(a, b)| b > a).filter(|&greater| greater).coalesce(),
        "map, filter, coalesce",
    );
    same(&even.filter(|(a, b)| a & 2 == 0 && b & 1 == 1).coalesce(), "filter, coalesce");
}

/// Every form of descriptors.
fn every_form(left: &List, right: &List, starts: (u64, u64), skip: usize) {
    every_sink::<Pair64>(left, right, starts, skip);
    let extended = |list: &List| -> Vec<Extended> {
        let bytes = |&(length, flags): &(u64, u64)| u128::from(length) << 64 | u128::from(flags);
        list.iter().map(|pair| bytes(pair).to_be_bytes()).collect()
    };
    every_sink(&extended(left), &extended(right), starts, skip);
    let narrow = |list: &List| -> Option<Vec<Pair32>> {
        list.iter().map(|&(length, flags)| Some([length.try_into().ok()?, flags.try_into().ok()?])).collect()
    };
    let (Some(left), Some(right)) = (narrow(left), narrow(right)) else {
        return;
    };
    every_sink(&left, &right, starts, skip);
    let compact = |list: &[Pair32]| -> Vec<Compact> {
        let bytes = |&[length, flags]: &Pair32| u64::from(length) << 32 | u64::from(flags);
        list.iter().map(|pair| bytes(pair).to_be_bytes()).collect()
    };
    every_sink(&compact(&left), &compact(&right), starts, skip);
}

/// Runs of descriptors of one character: all cuts, long ones, ties, with now and then something that a kernel does not take.
fn lists() -> impl Strategy<Value = List> {
    let lengths = prop_oneof![
        6 => 1_u64..=64,
        3 => Just(8),
        2 => 1_u64..4000,
        1 => Just(100_000),
        1 => (1_u64 << 31)..(1 << 32),
    ];
    let flags = prop_oneof![8 => 0_u64..4, 4 => Just(0), 1 => 0_u64..8];
    let run = (lengths, flags, 1_usize..200, any::<u64>());
    let odd = prop_oneof![
        Just((0, 0)),
        (1_u64..64, 8_u64..70),
        Just((1 << 47, 1)),
        Just((MAX_END, 0)),
        Just((u64::MAX, 3)),
        (1_u64..64, Just(1 << 32)),
    ];
    let odd = prop::option::weighted(0.3, (odd, any::<prop::sample::Index>()));
    (prop::collection::vec(run, 0..12), odd).prop_map(|(runs, odd)| {
        let mut list = List::new();
        for (length, flags, count, seed) in runs {
            let vary = |nth: u64| match seed % 3 {
                0 => (length, flags),
                1 => (length, (flags ^ nth) & 7),
                _ => (length.min(1 + ((seed >> (nth * 7 % 58)) & 63)), (seed >> (nth % 60)) & 3),
            };
            list.extend((0..count as u64).map(vary));
        }
        if let Some((odd, at)) = odd {
            list.insert(at.index(list.len() + 1), odd);
        }
        list
    })
}

proptest! {
    #[test]
    fn the_fast_way_says_what_the_plain_way_says(left in lists(), right in lists(), skip in 0_usize..300) {
        every_form(&left, &right, (4096, 4096), skip % 7 * skip);
        every_form(&left, &right, (4096, 4104), 0);
    }

    /// Both sides end at the same byte, as they mostly do.
    #[test]
    fn evenly(mut left in lists(), mut right in lists(), start in prop_oneof![Just(0), Just(MAX_END - 100_000)]) {
        let span = |list: &List| list.iter().map(|&(length, _)| u128::from(length)).sum::<u128>();
        let (a, b) = (span(&left), span(&right));
        let missing = u64::try_from(a.abs_diff(b)).unwrap_or(u64::MAX);
        if a < b { left.push((missing, 1)) } else { right.push((missing, 1)) }
        every_form(&left, &right, (start, start), 0);
    }
}
