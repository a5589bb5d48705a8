//! The kit that judges every kernel, whichever the processor and the features choose: the slow and obvious twin is the merge that is read extent by
//! extent, and nothing that the fast way says may differ from it. Property tests (`tests/kernel.rs`) and the fuzzer (`fuzz/bodies/kernel.rs`) use it.

use core::fmt::Debug;

use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Compact, Descriptors, Extended, Pair32, Pair64, RawDescriptor};
use nbd_extents::{Extent, StreamError};

pub type List = Vec<(u64, u64)>;
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

/// Every form of descriptors, with every sink; the first `skip` extents are read one by one.
pub fn every_form(left: &List, right: &List, starts: (u64, u64), skip: usize) {
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
