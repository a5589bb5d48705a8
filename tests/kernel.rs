//! The kernel of a merge against the scalar path: reading the whole stream (`fold`, `for_each`,
//! `collect_vec`) gives the result of reading it extent by extent, including an error and the
//! extents before it.
#![allow(unreachable_pub, reason = "the kit is shared with the fuzzer")]

#[path = "support/kernel.rs"]
mod kit;

use kit::{List, every_kernel};
use nbd_extents::MAX_END;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::Descriptors;
use proptest::prelude::*;

/// Runs of descriptors of one character: shared cuts, long ones, ties, and sometimes one that a
/// kernel rejects.
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
        Just((1 << 46, 1)),
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
    fn the_fast_way_says_what_the_plain_way_says(
        left in lists(),
        right in lists(),
        skip in 0_usize..300,
    ) {
        every_kernel(&left, &right, (4096, 4096), skip % 7 * skip);
        every_kernel(&left, &right, (4096, 4104), 0);
    }

    /// Both sides end at the same byte, as they usually do.
    #[test]
    fn evenly(
        mut left in lists(),
        mut right in lists(),
        start in prop_oneof![Just(0), Just(MAX_END - 100_000)],
    ) {
        let span = |list: &List| list.iter().map(|&(length, _)| u128::from(length)).sum::<u128>();
        let (a, b) = (span(&left), span(&right));
        let missing = u64::try_from(a.abs_diff(b)).unwrap_or(u64::MAX);
        if a < b {
            left.push((missing, 1))
        } else {
            right.push((missing, 1))
        }
        every_kernel(&left, &right, (start, start), 0);
    }
}

/// A caller may place a list anywhere. No sum of a kernel may wrap round to byte 0.
#[test]
fn a_start_near_the_end_of_all_numbers_is_refused() {
    let list: List = (0..600).map(|nth| (8 + nth % 3, nth & 1)).collect();
    for start in [MAX_END, MAX_END + 1, u64::MAX - 100, u64::MAX] {
        every_kernel(&list, &list, (start, start), 0);
        every_kernel(&list, &vec![(8, 1); 600], (start, start), 0);
    }
}

/// A descriptor whose flags do not fit a key, and in which the merge stands when the kernel begins,
/// over many descriptors within one extent of the other side, and over as many whose cuts are
/// shared with it.
#[test]
fn odd_flags_of_the_descriptor_that_was_begun_stop_the_kernel() {
    for flags in [8, 9, 1 << 32] {
        // of fewer than 1024 descriptors the kernel reads none
        let mut list: List = (0..2000).map(|nth| (8, nth % 4)).collect();
        list.insert(0, (1000, flags));
        for other in [vec![(10, 1), (1 << 20, 3)], vec![(10, 1), (990, 0), (1 << 20, 3)]] {
            every_kernel(&list, &other, (4096, 4096), 1);
            every_kernel(&other, &list, (4096, 4096), 1);
        }
    }
}

/// The kernel skips runs within an extent that a filter rejects; a reader must see the same
/// extents.
#[test]
fn runs_that_end_at_and_beyond_the_end_of_an_extent() {
    for rest in [8 * 15, 8 * 16, 8 * 16 + 1, 8 * 300, 8 * 300 - 1, 8 * 2000] {
        let finer: List = (0..4000).map(|nth| (8, nth % 4)).collect();
        let coarser: List = (0..64).map(|nth| (rest, nth % 3)).collect();
        every_kernel(&finer, &coarser, (4096, 4096), 0);
        every_kernel(&coarser, &finer, (4096, 4096), 0);
        every_kernel(&finer, &coarser, (4096, 4096), 3);
    }
}

/// NaN is not equal to itself, so that no neighbours are joined.
#[test]
fn what_is_not_equal_to_itself_is_not_joined() {
    let list: List = (0..1024).map(|nth| (8, nth & 1)).collect();
    let side = || place(Descriptors::new(&list), 0);
    let joined = || side().merge(side(), |a, _| if *a == 1 { f64::NAN } else { 1.0 }).coalesce();
    assert_eq!(joined().collect_vec().unwrap().len(), joined().into_iter().count());
    let kept = || side().merge(side(), |_, _| f64::NAN).filter(|status| status.is_nan()).coalesce();
    assert_eq!(kept().collect_vec().unwrap().len(), kept().into_iter().count());
    assert_eq!(kept().into_iter().count(), 1024);
    // neighbours of one code, of which some are equal to themselves: only the others stay separate
    let list: List = (0..2048).map(|nth| (8, nth / 64 % 2)).collect();
    let side = || place(Descriptors::new(&list), 0);
    let joined = || side().merge(side(), |a, _| if *a == 1 { f64::NAN } else { 1.0 }).coalesce();
    assert_eq!(joined().collect_vec().unwrap().len(), 16 + 16 * 64);
    assert_eq!(joined().into_iter().count(), 16 + 16 * 64);
}
