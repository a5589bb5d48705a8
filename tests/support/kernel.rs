//! The tests of every kernel, whichever the processor and the features choose. The model is the
//! same merge read extent by extent; the kernel must give the same result. Property tests
//! (`tests/kernel.rs`) and the fuzzer (`fuzz/bodies/kernel.rs`) use it.

use core::fmt::Debug;
use core::hash::Hash;
use std::sync::{Mutex, PoisonError};

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentSource, ExtentStream, place};
use nbd_extents::wire::{Compact, Descriptors, Extended, Pair32, Pair64, RawDescriptor};
use nbd_extents::{Extent, Processor, StreamError};

pub type List = Vec<(u64, u64)>;
type Answer<T> = (Vec<Extent<T>>, Option<StreamError>);

/// Extent by extent: the scalar path.
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

/// The rest as a whole: by a kernel, if there is one.
fn fast<S: ExtentStream<Error = StreamError>>(stream: S) -> Answer<S::Status> {
    let mut extents = Vec::new();
    let error = stream.for_each(|extent| extents.push(extent)).err();
    (extents, error)
}

/// As [`fast`], with an accumulator, for which other code is generated. Extents before an error are
/// lost with it.
fn folded<S: ExtentStream<Error = StreamError>>(stream: S) -> Result<Vec<Extent<S::Status>>, StreamError> {
    stream.fold(Vec::new(), |mut extents, extent| {
        extents.push(extent);
        extents
    })
}

/// A stream that can only be read extent by extent.
struct OneByOne<S>(S);

impl<S: ExtentStream> ExtentSource for OneByOne<S> {
    type Status = S::Status;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        self.0.next_extent()
    }
}

/// Sinks that must stop at the first fault: maps and checks, of the whole stream and of a part of
/// it, with gaps and without.
fn same_until_a_fault<S>(stream: &S, what: &str)
where
    S: ExtentStream<Error = StreamError, Status: Copy + Eq + Hash + Debug> + Clone,
{
    let all = plain(stream.clone()).0;
    let (Some(first), Some(middle), Some(last)) = (all.first(), all.get(all.len() / 2), all.last()) else {
        return;
    };
    let ranges =
        [first.start()..last.end(), first.start()..middle.end(), first.end()..last.end(), 0..last.end() + 1];
    for range in ranges {
        let (fast, slow) = (|| stream.clone(), || OneByOne(stream.clone()));
        let covering =
            (ExtentMap::covering(fast(), range.clone()), ExtentMap::covering(slow(), range.clone()));
        assert_eq!(covering.0, covering.1, "{what}, covering {range:?}");
        let within = (ExtentMap::within(fast(), range.clone()), ExtentMap::within(slow(), range.clone()));
        assert_eq!(within.0, within.1, "{what}, within {range:?}");
        same(&stream.clone().covering(range.clone()), what);
        same(&stream.clone().within(range.clone()), what);
        let checked = stream.clone().covering(range.clone());
        assert_eq!(checked.clone().collect_vec(), OneByOne(checked).collect_vec(), "{what}");
    }
}

fn same<S: ExtentStream<Error = StreamError, Status: PartialEq + Debug> + Clone>(stream: &S, what: &str) {
    let (expected, got) = (plain(stream.clone()), fast(stream.clone()));
    match folded(stream.clone()) {
        Ok(extents) => assert!(expected.1.is_none() && extents == expected.0, "{what}, folded"),
        Err(error) => assert_eq!(Some(error), expected.1, "{what}, folded"),
    }
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

/// Every sink over every kind of merge, from the start and from the middle of an extent.
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
    same(&even.clone().filter(|(a, b)| b > a), "filter by both");
    same(&even.clone().filter(|(a, b)| b > a).coalesce(), "filter by both, coalesce");
    same(
        &even.clone().map_status(|(a, b)| b > a).filter(|&greater| greater).coalesce(),
        "map, filter, coalesce",
    );
    same(
        &even.clone().filter(|(a, _)| a & 2 == 0).map_status(|(a, b)| a & b & 1).coalesce(),
        "filter, map, coalesce",
    );
    same(
        &even.clone().filter(|(a, _)| a & 2 == 0).map_status(|(_, b)| b).filter(|b| b & 1 == 1).coalesce(),
        "filter, map, filter, coalesce",
    );
    same(&even.clone().coalesce().filter(|(a, b)| a & 2 == 0 && b & 1 == 1), "coalesce, filter");
    same(
        &even.clone().map_err(|error| error).filter(|(_, b)| b & 1 == 1).coalesce(),
        "map_err, filter, coalesce",
    );
    same(&even.clone().filter(|_| true), "filter that keeps everything");
    same(&even.filter(|(a, b)| a & 2 == 0 && b & 1 == 1).coalesce(), "filter, coalesce");
}

/// The sinks that stop at the first fault, which do not depend on the form.
fn every_check(left: &List, right: &List, starts: (u64, u64)) {
    let right = place(Descriptors::new(right), starts.1).map_status(|flags| flags & 9);
    let merged = place(Descriptors::new(left), starts.0).merge(right, |&a, &b| (a, b));
    same_until_a_fault(&merged, "merge");
    let filtered = merged.filter(|(a, b)| a & 2 == 0 && b & 1 == 1);
    same_until_a_fault(&filtered.map_status(|(a, b)| a > b).coalesce(), "filter, map, coalesce");
}

/// Every kernel of this processor.
pub fn every_kernel(left: &List, right: &List, starts: (u64, u64), skip: usize) {
    static ONE_TEST_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_TEST_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let all = [Processor::Any, Processor::Avx2, Processor::Avx512];
    // the best comes last, and stays
    for processor in all {
        processor.limit();
        if Processor::found() == processor {
            every_form(left, right, starts, skip);
        }
    }
}

/// Every form of descriptors, with every sink; the first `skip` extents are read one by one.
fn every_form(left: &List, right: &List, starts: (u64, u64), skip: usize) {
    every_sink::<Pair64>(left, right, starts, skip);
    every_check(left, right, starts);
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
