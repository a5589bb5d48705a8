//! The adapters between a program's own types and a stream: another error, a look at each extent,
//! fallible iterators, boxes. Each must pass on every extent and the first error, whichever way the
//! stream is read.
#![cfg(feature = "alloc")]

use nbd_extents::stream::{ExtentStream, from_iter, merge_all, merge_all_shortest, place, try_from_iter};
use nbd_extents::wire::Descriptors;
use nbd_extents::{Extent, ExtentError, StreamError};

#[derive(Clone, Debug, PartialEq)]
enum AppError {
    Stream(StreamError),
    Row(u32),
}

impl From<StreamError> for AppError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

type Boxed<'a> = Box<dyn ExtentStream<Status = u64, Error = AppError> + 'a>;

fn extent(start: u64, end: u64, status: u64) -> Extent<u64> {
    Extent::from_range(start..end, status).unwrap()
}

/// Two extents, and then one that overlaps.
fn broken() -> [Extent<u64>; 3] {
    [extent(0, 10, 1), extent(10, 20, 2), extent(15, 30, 3)]
}

const OVERLAP: StreamError = StreamError::Overlap { start: 15, expected: 20 };

#[test]
fn map_err_and_err_into_replace_the_error_of_every_way_to_read() {
    let mapped = || from_iter(broken()).map_err(AppError::Stream);
    let overlap = AppError::Stream(OVERLAP);
    assert_eq!(mapped().collect_vec(), Err(overlap.clone()));
    assert_eq!(mapped().fold(0, |count, _| count + 1), Err(overlap.clone()));
    assert_eq!(mapped().into_iter().last(), Some(Err(overlap.clone())));
    assert_eq!(from_iter(broken()).err_into::<AppError>().collect_vec(), Err(overlap));
}

/// A mapped error does not hide the list from the kernel: long lists give the same result as by
/// hand, and fail with the mapped error.
#[test]
fn merges_of_lists_with_mapped_errors_are_those_of_the_lists() {
    fn mapped(list: &[(u64, u64)]) -> impl ExtentStream<Status = u64, Error = AppError> {
        place(Descriptors::new(list), 0).err_into()
    }
    let mut left: Vec<(u64, u64)> = (0..2000).map(|nth| (512 + nth % 3 * 512, nth % 4)).collect();
    let right: Vec<(u64, u64)> = left.iter().rev().copied().collect();
    let both = |&a: &u64, &b: &u64| a << 2 | b;
    let expected =
        place(Descriptors::new(&left), 0).merge(place(Descriptors::new(&right), 0), both).collect_vec();
    assert_eq!(mapped(&left).merge(mapped(&right), both).collect_vec().unwrap(), expected.unwrap());
    left[1999].0 = 0;
    let empty = ExtentError::Empty { start: left.iter().map(|descriptor| descriptor.0).sum() };
    let error = mapped(&left).merge(mapped(&right), both).collect_vec();
    assert_eq!(error, Err(AppError::Stream(empty.into())));
}

#[test]
fn inspect_sees_each_extent_once() {
    let list = [extent(0, 10, 1), extent(20, 30, 2)];
    let (mut folded, mut stepped) = (Vec::new(), Vec::new());
    assert_eq!(from_iter(list).inspect(|extent| folded.push(*extent)).collect_vec().unwrap(), list);
    from_iter(list).inspect(|extent| stepped.push(*extent)).into_iter().for_each(|extent| {
        extent.unwrap();
    });
    assert_eq!((&folded[..], &stepped[..]), (&list[..], &list[..]));
}

#[test]
fn try_from_iter_ends_at_the_first_error_of_either_kind() {
    let rows = |broken_row: Option<u32>| {
        let last = broken_row.map_or(Ok(extent(20, 30, 3)), |row| Err(AppError::Row(row)));
        try_from_iter([Ok(extent(0, 10, 1)), Ok(extent(10, 20, 2)), last, Ok(extent(30, 40, 4))])
    };
    assert_eq!(rows(None).collect_vec().unwrap().len(), 4);
    assert_eq!(rows(Some(7)).collect_vec(), Err(AppError::Row(7)));
    let read: Vec<_> = rows(Some(7)).into_iter().collect();
    assert_eq!(read[2..], [Err(AppError::Row(7))], "nothing after the error");
    let overlap = try_from_iter(broken().map(Ok::<_, AppError>)).collect_vec();
    assert_eq!(overlap, Err(AppError::Stream(OVERLAP)));
}

#[test]
fn try_for_each_ends_at_the_first_error_of_either_kind() {
    let mut seen = 0;
    let result = from_iter(broken()).try_for_each(|extent| {
        seen += 1;
        if extent.start() == 10 { Err(AppError::Row(1)) } else { Ok(()) }
    });
    assert_eq!((seen, result), (2, Err(AppError::Row(1))));
    let result = from_iter(broken()).try_for_each(|_| Ok::<(), AppError>(()));
    assert_eq!(result, Err(AppError::Stream(OVERLAP)));
    let list = [extent(0, 10, 1)];
    assert_eq!(from_iter(list).try_for_each(|_| Ok::<(), AppError>(())), Ok(()));
}

#[test]
fn streams_of_different_types_merge_in_boxes() {
    let list = [(10, 1), (10, 2)];
    let placed: Boxed<'_> = Box::new(place(Descriptors::new(&list), 0).err_into());
    let parsed: Boxed<'_> = Box::new(try_from_iter([Ok(extent(0, 20, 8))]));
    let merged = merge_all([placed, parsed], |a, b| a | b).collect_vec().unwrap();
    assert_eq!(merged, [extent(0, 10, 9), extent(10, 20, 10)]);
}

/// The shortest stream ends the merge, however unevenly the others go on after a gap.
#[test]
fn streams_that_go_on_unevenly_after_the_shortest_has_ended_are_no_error() {
    let first = extent(0, 10, 1);
    let goes_on = |start| from_iter(vec![first, extent(start, 30, 1)]);
    let streams = [from_iter(vec![first]), goes_on(20), goes_on(15)];
    assert_eq!(merge_all_shortest(streams, |a, b| a & b).collect_vec(), Ok(vec![first]));
}
