//! `streams`: the input is three lists of extents over a few hundred bytes, a range, a fill, and
//! descriptors to be placed. Asserts that each adapter agrees with the dense model about each byte,
//! is cut only where allowed, and fails exactly where it must, with the right error.
//!
//! ```text
//! three lists  count:1 (modulo 16) {gap and length - 1:1 (4 bits each) status:1 (modulo 4)}*
//! a range      start:2 end:2 (modulo 600)
//! a fill       start:2 end:2 (modulo 600) status:1
//! a mask       keep:1, bit i keeps status i
//! from_iter    count:1 (modulo 16) {start:1 length:1}*, in any order
//! place        start:8 {length:8 flags:8}*
//! ```

#[path = "../../../../tests/support/dense.rs"]
mod dense;
mod merge;
mod sources;

use core::ops::Range;

use super::bytes::Bytes;
use dense::{Dense, assert_canonical, from_extents, to_extents};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Extent, StreamError};

/// The bytes of lists and ranges; the longest list ends at 480.
const SIZE: usize = 600;

type List = Vec<Extent<u8>>;

pub fn streams(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let lists = [list(&mut bytes), list(&mut bytes), list(&mut bytes)];
    let at = range(&mut bytes);
    let filled = (range(&mut bytes), bytes.u8() % 4);
    let keep = bytes.u8();
    for list in &lists {
        clip(list, &at);
        fill(list, &filled.0, filled.1);
        coalesce(list);
        filter(list, keep);
        check(list, &at);
        iter(list);
    }
    merge::two(&lists[0], &lists[1]);
    merge::all(&lists);
    // evenly: each list fills the gaps that it leaves
    let even = lists.each_ref().map(|list| from_iter(list.clone()).fill(0..500, 0).collect_vec().unwrap());
    merge::two(&even[0], &even[1]);
    merge::all(&even);
    sources::unsorted(&mut bytes);
    sources::placed(&mut bytes);
}

fn list(bytes: &mut Bytes<'_>) -> List {
    let count = bytes.u8() % 16;
    let mut at = 0;
    let next = |_| {
        let shape = u64::from(bytes.u8());
        let start = at + (shape >> 4);
        at = start + (shape & 15) + 1;
        Extent::from_range(start..at, bytes.u8() % 4).unwrap()
    };
    (0..count).map(next).collect()
}

fn range(bytes: &mut Bytes<'_>) -> Range<u64> {
    let start = bytes.below(SIZE) as u64;
    start..bytes.below(SIZE) as u64
}

fn dense<T: Clone + core::fmt::Debug>(extents: &[Extent<T>]) -> Dense<T> {
    from_extents(extents, SIZE)
}

/// The extents of a stream that must not fail.
fn collect<S: ExtentStream<Error = StreamError>>(stream: S) -> Vec<Extent<S::Status>> {
    stream.collect_vec().unwrap()
}

fn clip(list: &List, range: &Range<u64>) {
    let clipped = collect(from_iter(list.clone()).clip(range.clone()));
    let inside = |(at, status): (usize, Option<u8>)| status.filter(|_| range.contains(&(at as u64)));
    let expected: Dense<u8> = dense(list).into_iter().enumerate().map(inside).collect();
    assert_eq!(dense(&clipped), expected);
    let one_by_one: List = list.iter().filter_map(|extent| extent.clip(range)).collect();
    assert_eq!(clipped, one_by_one);
}

fn fill(list: &List, range: &Range<u64>, status: u8) {
    let filled = collect(from_iter(list.clone()).fill(range.clone(), status));
    let given = |(at, old): (usize, Option<u8>)| old.or(range.contains(&(at as u64)).then_some(status));
    let expected: Dense<u8> = dense(list).into_iter().enumerate().map(given).collect();
    assert_eq!(dense(&filled), expected);
    assert!(list.iter().all(|extent| filled.contains(extent)), "an extent was changed");
}

fn coalesce(list: &List) {
    let joined = collect(from_iter(list.clone()).coalesce());
    assert_eq!(joined, to_extents(&dense(list)));
    assert_canonical(&joined);
    assert_eq!(collect(from_iter(joined.clone()).coalesce()), joined);
    // the mapped status decides: with one status for all, only gaps cut
    let shown = collect(from_iter(list.clone()).map_status(|_| ()).coalesce());
    let expected: Dense<()> = dense(list).into_iter().map(|status| status.map(|_| ())).collect();
    assert_eq!(shown, to_extents(&expected));
}

fn filter(list: &List, keep: u8) {
    let kept = collect(from_iter(list.clone()).filter(|&status| keep >> status & 1 == 1));
    let expected: List = list.iter().filter(|extent| keep >> extent.status() & 1 == 1).copied().collect();
    assert_eq!(kept, expected);
}

/// `within` and `covering` accept exactly the streams that they promise.
fn check(list: &List, range: &Range<u64>) {
    let described = dense(list);
    let inside = |at: usize| range.contains(&(at as u64));
    let outside = (0..SIZE).any(|at| described[at].is_some() && !inside(at));
    let missing = (0..SIZE).any(|at| described[at].is_none() && inside(at));
    let within = from_iter(list.clone()).within(range.clone()).collect_vec();
    assert_eq!(within.is_ok(), !outside, "{within:?}");
    let covering = from_iter(list.clone()).covering(range.clone()).collect_vec();
    assert_eq!(covering.is_ok(), !outside && !missing, "{covering:?}");
    if let Err(StreamError::Gap { range }) = covering {
        assert!(!range.is_empty() && range.clone().all(|at| described[at as usize].is_none()), "{range:?}");
    }
}

/// All ways of reading a stream agree.
fn iter(list: &List) {
    let read: Result<List, StreamError> = from_iter(list.clone()).into_iter().collect();
    assert_eq!(read.as_ref(), Ok(list));
    let mut seen = Vec::new();
    from_iter(list.clone()).for_each(|extent| seen.push(extent)).unwrap();
    assert_eq!(seen, *list);
}
