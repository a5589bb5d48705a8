//! Lists in several pieces, as replies deliver them, equal one list to every stream: whichever way
//! it is read, and wherever the pieces end.

use nbd_extents::stream::{ExtentStream, Place, place, place_all};
use nbd_extents::wire::{Descriptors, Pair64};
use nbd_extents::{Extent, StreamError};
use proptest::prelude::*;
use proptest::sample::Index;

type Answer = (Vec<Extent<u64>>, Option<StreamError>);

/// A few hundred descriptors of which all or few cuts are shared; sometimes one is invalid.
fn lists() -> impl Strategy<Value = Vec<Pair64>> {
    let length = prop_oneof![1 => Just(0), 300 => Just(8), 300 => 1_u64..32, 50 => 1000_u64..10_000];
    prop::collection::vec((length, 0_u64..4), 0..600)
}

/// The list in pieces, of which some are empty.
fn pieces<'a>(list: &'a [Pair64], cuts: &[Index]) -> Vec<&'a [Pair64]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(list.len() + 1)).collect();
    at.sort_unstable();
    at.push(list.len());
    let mut start = 0;
    let piece = |end| &list[core::mem::replace(&mut start, end)..end];
    at.into_iter().map(piece).collect()
}

fn chained<'a>(
    pieces: &'a [&'a [Pair64]],
    start: u64,
) -> Place<'a, Pair64, impl Iterator<Item = Descriptors<'a, Pair64>> + Clone> {
    place_all(pieces.iter().copied().map(Descriptors::new), start)
}

/// The scalar path.
fn one_by_one(mut stream: impl ExtentStream<Status = u64, Error = StreamError>) -> Answer {
    let mut extents = Vec::new();
    loop {
        match stream.next_extent() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return (extents, None),
            Err(error) => return (extents, Some(error)),
        }
    }
}

/// The path that may use a kernel.
fn at_once(stream: impl ExtentStream<Status = u64, Error = StreamError>) -> Answer {
    let mut extents = Vec::new();
    let error = stream.for_each(|extent| extents.push(extent)).err();
    (extents, error)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_one_list(
        (left, right) in (lists(), lists()),
        cuts in (prop::collection::vec(any::<Index>(), 0..12), prop::collection::vec(any::<Index>(), 0..12)),
        same_pieces in any::<bool>(),
    ) {
        let (right, right_cuts) = if same_pieces { (&left, &cuts.0) } else { (&right, &cuts.1) };
        let in_pieces = (pieces(&left, &cuts.0), pieces(right, right_cuts));
        let whole = || (place(Descriptors::new(&left), 4096), place(Descriptors::new(right), 4096));
        let chained = || (chained(&in_pieces.0, 4096), chained(&in_pieces.1, 4096));
        let both = |&a: &u64, &b: &u64| a | b << 2;
        macro_rules! same {
            ($name:literal, |$a:ident, $b:ident| $stream:expr) => {{
                let expected = { let ($a, $b) = whole(); one_by_one($stream) };
                let by_hand = { let ($a, $b) = chained(); one_by_one($stream) };
                let fast = { let ($a, $b) = chained(); at_once($stream) };
                prop_assert_eq!(&by_hand, &expected, "{} by hand", $name);
                prop_assert_eq!(&fast, &expected, "{} at once", $name);
            }};
        }
        same!("place", |a, _b| a);
        same!("merge", |a, b| a.merge(b, both));
        same!("merge_shortest", |a, b| a.merge_shortest(b, both));
        same!("coalesce", |a, b| a.merge_shortest(b, both).coalesce());
        same!("filter", |a, b| a.merge_shortest(b, both).filter(|status| status & 5 == 4).coalesce());
    }
}

/// However short the rests of both sides are, the kernel takes over again after them.
#[test]
fn pieces_that_end_together_do_not_end_the_fast_way() {
    let list: Vec<Pair64> = (0..4000).map(|n| (512, n % 4)).collect();
    for length in [1, 7, 63, 64, 65, 512, 1000] {
        let in_pieces: Vec<_> = list.chunks(length).collect();
        let (left, right) = (chained(&in_pieces, 0), chained(&in_pieces, 0));
        let (merged, error) = at_once(left.merge(right, |&a, &b| a * 4 + b));
        assert_eq!((merged.len(), error), (4000, None), "pieces of {length}");
        assert!(merged.iter().zip(0_u64..).all(|(e, n)| e.start() == n * 512 && *e.status() == n % 4 * 5));
    }
}
