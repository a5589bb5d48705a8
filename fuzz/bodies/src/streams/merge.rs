//! The merges against the dense model.

use super::dense::{self, Dense};
use super::{List, SIZE};
use nbd_extents::stream::{ExtentStream, from_iter, merge_all};
use nbd_extents::{Extent, StreamError};

type Pair = (u8, u8);

/// Reads a stream to its end or its error. Returns the extents before it, too.
fn read<S: ExtentStream<Error = StreamError>>(
    stream: &mut S,
) -> (Vec<Extent<S::Status>>, Option<StreamError>) {
    let mut extents = Vec::new();
    loop {
        match stream.next_extent() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// `merge` and `merge_shortest`.
pub fn two(a: &List, b: &List) {
    let (left, right) = (super::dense(a), super::dense(b));
    let merged = dense::merge(&left, &right, |&a, &b| (a, b));
    let uneven = (0..SIZE).find(|&at| left[at].is_some() != right[at].is_some());
    let shortest = dense::end(&left).min(dense::end(&right));

    let mut stream = from_iter(a.clone()).merge(from_iter(b.clone()), |&a, &b| (a, b));
    let (extents, error) = read(&mut stream);
    judge(&extents, error, &merged, uneven, [&left, &right]);
    assert_eq!(stream.position(), extents.last().map_or(0, Extent::end));
    cuts(&extents, a, b);

    let mut stream = from_iter(a.clone()).merge_shortest(from_iter(b.clone()), |&a, &b| (a, b));
    let (extents, error) = read(&mut stream);
    judge(&extents, error, &merged, uneven.filter(|&at| at < shortest), [&left, &right]);
    assert_eq!(stream.position(), extents.last().map_or(0, Extent::end));
    cuts(&extents, a, b);
}

/// The extents up to the first byte that only one stream describes, and an error there; all of them
/// without an error if there is no such byte.
fn judge(
    extents: &[Extent<Pair>],
    error: Option<StreamError>,
    merged: &Dense<Pair>,
    uneven: Option<usize>,
    lists: [&Dense<u8>; 2],
) {
    let mut expected = merged[..uneven.unwrap_or(SIZE)].to_vec();
    expected.resize(SIZE, None);
    assert_eq!(super::dense(extents), expected);
    match (error, uneven) {
        (None, None) => {}
        (Some(StreamError::Uneven { range, silent }), Some(at)) => {
            assert_eq!(range.start, at as u64);
            silence(&range, lists[silent], &[lists[1 - silent]]);
        }
        (error, uneven) => panic!("{error:?}, but the first uneven byte is {uneven:?}"),
    }
}

/// One stream leaves the whole range out, another describes all of it.
fn silence(range: &core::ops::Range<u64>, silent: &[Option<u8>], others: &[&Dense<u8>]) {
    let range = range.start as usize..range.end as usize;
    assert!(!range.is_empty());
    assert!(silent[range.clone()].iter().all(Option::is_none), "{range:?} is described after all");
    let speaks = |other: &&Dense<u8>| other[range.clone()].iter().all(Option::is_some);
    assert!(others.iter().any(speaks), "{range:?} is described by none");
}

/// No cut except where one of the lists has one.
fn cuts(extents: &[Extent<Pair>], a: &List, b: &List) {
    let cut = |at: u64| a.iter().chain(b).any(|extent| extent.start() == at || extent.end() == at);
    for extent in extents {
        assert!(cut(extent.start()) && cut(extent.end()), "{extent:?} is cut without need");
        let inside = a.iter().chain(b).any(|one| extent.start() < one.start() && one.start() < extent.end());
        assert!(!inside, "{extent:?} runs over a cut");
    }
}

/// `merge_all` of three, and of fewer.
pub fn all(lists: &[List; 3]) {
    for count in 0..=lists.len() {
        some(&lists[..count]);
    }
}

fn some(lists: &[List]) {
    let described: Vec<Dense<u8>> = lists.iter().map(|list| super::dense(list)).collect();
    let streams = lists.iter().map(|list| from_iter(list.clone()).map_status(|status| 1_u32 << (8 * status)));
    let (extents, error) = read(&mut merge_all(streams, |a, b| a.rotate_left(4) ^ b));
    let even = described.windows(2).all(|pair| dense::same_coverage(&pair[0], &pair[1]));
    assert_eq!(error.is_none(), even, "{error:?}");
    let told = |at: usize| {
        let statuses: Option<Vec<u32>> = described.iter().map(|one| Some(1 << (8 * one[at]?))).collect();
        statuses?.into_iter().reduce(|a, b| a.rotate_left(4) ^ b)
    };
    let end = extents.last().map_or(0, Extent::end) as usize;
    let upto = if even { SIZE } else { end };
    let expected: Dense<u32> = (0..SIZE).map(|at| if at < upto { told(at) } else { None }).collect();
    assert_eq!(super::dense(&extents), expected);
    if let Some(error) = error {
        let StreamError::Uneven { range, silent } = error else { panic!("{error}") };
        assert!(range.start >= end as u64);
        let others: Vec<&Dense<u8>> = described.iter().collect();
        silence(&range, &described[silent], &others);
    }
}
