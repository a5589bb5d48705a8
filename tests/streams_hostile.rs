//! Sources that misbehave: iterators that continue after their end, report a wrong size or panic,
//! and streams that yield more after their end. No adapter may read on, hang or use it.
#![cfg(feature = "alloc")]

use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use nbd_extents::stream::{ExtentSource, ExtentStream, from_iter, merge_all, place_iter};
use nbd_extents::wire::Descriptor;
use nbd_extents::{Extent, StreamError};

fn extent(start: u64, end: u64, status: u8) -> Extent<u8> {
    Extent::from_range(start..end, status).unwrap()
}

/// An iterator that ends, and continues when it is read again; with a size hint that is wrong in
/// both directions.
#[derive(Clone, Debug)]
struct Unfused<T>(Vec<Option<T>>);

impl<T> Iterator for Unfused<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.0.is_empty() { None } else { self.0.remove(0) }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, Some(0))
    }
}

fn unfused() -> Unfused<Extent<u8>> {
    Unfused(vec![Some(extent(0, 10, 1)), None, Some(extent(10, 20, 2)), None, Some(extent(20, 30, 3))])
}

#[test]
fn from_iter_ends_at_the_first_none() {
    let mut stream = from_iter(unfused());
    assert_eq!(stream.next_extent(), Ok(Some(extent(0, 10, 1))));
    for _ in 0..5 {
        assert_eq!(stream.next_extent(), Ok(None));
    }
}

#[test]
fn a_lying_size_hint_is_not_believed() {
    assert_eq!(from_iter(unfused()).collect_vec().unwrap(), [extent(0, 10, 1)]);
    assert_eq!(from_iter(unfused()).into_iter().count(), 1);
    let merged = from_iter(unfused()).merge(from_iter(unfused()), |a, b| a + b).collect_vec();
    assert_eq!(merged.unwrap(), [extent(0, 10, 2)]);
}

/// A stream that ends, and continues when it is read again. The trait leaves that open: "take the
/// first as the answer".
#[derive(Clone, Debug)]
struct Undead(Unfused<Extent<u8>>);

impl ExtentSource for Undead {
    type Status = u8;
    type Error = StreamError;

    fn pull(&mut self) -> Result<Option<Extent<u8>>, StreamError> {
        Ok(self.0.next())
    }
}

/// Reads until the first `None`, as every reader does.
#[track_caller]
fn ends_with(stream: impl ExtentStream<Status = u8, Error = StreamError>, expected: &[Extent<u8>]) {
    assert_eq!(stream.collect_vec().unwrap(), expected);
}

#[test]
fn clip_within_and_merge_take_the_first_end_for_the_end() {
    let undead = || Undead(unfused());
    let first = [extent(0, 10, 1)];
    ends_with(undead(), &first);
    ends_with(undead().clip(0..100), &first);
    ends_with(undead().within(0..100), &first);
    ends_with(undead().filter(|_| true), &first);
    ends_with(undead().map_status(|status| status), &first);
    ends_with(undead().merge(undead(), |a, _| *a), &first);
    ends_with(undead().merge_shortest(undead(), |a, _| *a), &first);
    ends_with(merge_all([undead(), undead()], |a, _| a), &first);
    let gap = undead().covering(0..20).collect_vec();
    assert_eq!(gap, Err(StreamError::Gap { range: 10..20 }));
}

#[test]
fn coalesce_takes_the_first_end_for_the_end() {
    ends_with(Undead(unfused()).coalesce(), &[extent(0, 10, 1)]);
    let mut read = Undead(unfused()).coalesce();
    while read.next_extent().unwrap().is_some() {}
    ends_with(read, &[]);
}

#[test]
fn fill_takes_the_first_end_for_the_end() {
    ends_with(Undead(unfused()).fill(0..30, 9), &[extent(0, 10, 1), extent(10, 30, 9)]);
}

/// A fill over an adapter of the crate: `place_iter` over an iterator that is not fused.
#[test]
fn fill_over_place_never_overlaps() {
    let descriptors = Unfused(vec![
        Some(Descriptor { length: 10, flags: 1 }),
        None,
        Some(Descriptor { length: 10, flags: 0 }),
    ]);
    let filled = place_iter(descriptors, 0).fill(0..30, 9).collect_vec().unwrap();
    for pair in filled.windows(2) {
        assert!(pair[0].end() <= pair[1].start(), "{filled:?}");
    }
    assert_eq!(filled.last().unwrap().end(), 30);
}

/// An error in the middle passes through every adapter, once, and the extents before it are not
/// lost.
#[test]
fn errors_come_through_every_adapter() {
    let broken = || from_iter([extent(0, 10, 1), extent(10, 20, 2), extent(5, 30, 3)]);
    let overlap = Err(StreamError::Overlap { start: 5, expected: 20 });
    assert_eq!(broken().clip(0..100).collect_vec(), overlap);
    assert_eq!(broken().coalesce().collect_vec(), overlap);
    assert_eq!(broken().fill(0..100, 9).collect_vec(), overlap);
    assert_eq!(broken().filter(|_| false).collect_vec(), overlap);
    assert_eq!(broken().map_status(|status| status).collect_vec(), overlap);
    assert_eq!(broken().within(0..100).collect_vec(), overlap);
    assert_eq!(broken().covering(0..100).collect_vec(), overlap);
    assert_eq!(broken().merge(from_iter([extent(0, 99, 1)]), |a, _| *a).collect_vec(), overlap);
    assert_eq!(from_iter([extent(0, 99, 1)]).merge_shortest(broken(), |a, _| *a).collect_vec(), overlap);
    assert_eq!(merge_all([broken(), broken()], |a, _| a).collect_vec(), overlap);
}

#[test]
fn iter_is_over_after_an_error() {
    let mut iter = from_iter([extent(0, 10, 1), extent(5, 30, 3), extent(30, 40, 3)]).into_iter();
    assert!(iter.next().unwrap().is_ok());
    assert!(iter.next().unwrap().is_err());
    assert!(iter.next().is_none() && iter.next().is_none());
}

/// An iterator that panics at its third item.
fn panicking(asked: &Cell<u64>) -> impl Iterator<Item = Extent<u8>> {
    core::iter::from_fn(move || {
        let nth = asked.replace(asked.get() + 1);
        assert!(nth != 2, "the source panics");
        Some(extent(nth * 10, nth * 10 + 10, 1))
    })
}

#[test]
fn a_panic_in_the_source_passes_through() {
    let asked = Cell::new(0);
    let read = |run: &dyn Fn()| {
        asked.set(0);
        let message = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(message.downcast_ref::<&str>(), Some(&"the source panics"));
        assert_eq!(asked.get(), 3);
    };
    let other = || from_iter([extent(0, 100, 1)]);
    read(&|| drop(from_iter(panicking(&asked)).collect_vec()));
    read(&|| drop(from_iter(panicking(&asked)).coalesce().collect_vec()));
    read(&|| drop(from_iter(panicking(&asked)).clip(5..90).fill(0..100, 0).collect_vec()));
    read(&|| drop(from_iter(panicking(&asked)).merge(other(), |a, _| *a).collect_vec()));
    read(&|| drop(merge_all([from_iter(panicking(&asked))], |a, _| a).covering(0..90).collect_vec()));
}

/// After a caught panic, the stream can still be read; no extent comes twice.
#[test]
fn a_stream_survives_a_caught_panic() {
    let asked = Cell::new(0);
    let mut stream = from_iter(panicking(&asked)).merge(from_iter([extent(0, 100, 1)]), |a, _| *a);
    let mut last = 0;
    for _ in 0..8 {
        let next = catch_unwind(AssertUnwindSafe(|| stream.next_extent()));
        if let Ok(Ok(Some(extent))) = next {
            assert!(extent.start() >= last, "{extent:?} comes after byte {last}");
            last = extent.end();
        }
    }
    assert!(last >= 20);
}

/// Adapters are lazy: they read nothing in advance, and no more than needed.
#[test]
fn adapters_are_lazy() {
    let asked = Cell::new(0);
    let mut stream = from_iter(panicking(&asked)).clip(0..15).coalesce().fill(0..15, 0);
    assert_eq!(asked.get(), 0);
    assert_eq!(
        stream.next_extent(),
        Ok(Some(extent(0, 15, 1))),
        "the third item, which panics, is not needed"
    );
    assert_eq!(asked.get(), 2);
}
