//! Policies against every possible status: no dirty byte is lost, no byte that may hold data is
//! taken for zero, and no policy can change that.
#![cfg(feature = "alloc")]

mod support;

use nbd_extents::action::{
    Base, Baseline, BaselineError, Cause, Content, DecideError, Decision, Explanation, Full, Incremental,
    Policy, PolicyError, Reason, SingleLayer, StatusStream, Totals, Zeroes,
};
use nbd_extents::chain::{Chain, ChainLayer, Source};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{
    Action, Allocation, BitmapIndex, Bitmaps, Context, Contexts, Depth, Dirtiness, Extent, ExtentError,
    Status, StreamError,
};
use proptest::prelude::*;

use support::dense::{Dense, assert_canonical, from_extents, to_extents};

const ZEROES: [Zeroes; 4] = [Zeroes::MayUnmap, Zeroes::KeepHoles, Zeroes::Allocate, Zeroes::AsData];

/// Every status of allocation, two bitmaps and the depth, with missing parts and the depth in
/// doubt.
fn all_statuses() -> Vec<Status> {
    let mut all = vec![Status::UNKNOWN];
    let add = |all: Vec<Status>, flags: &[u64], with: &dyn Fn(Status, u64) -> Status| -> Vec<Status> {
        let added =
            all.iter().flat_map(|status| flags.iter().map(|flags| with(*status, *flags))).collect::<Vec<_>>();
        [all, added].concat()
    };
    all = add(all, &[0, 1, 2, 3], &|status, flags| status.with_allocation(Allocation::from_flags(flags)));
    all = add(all, &[0, 1], &|status, flags| {
        status.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(flags))
    });
    all = add(all, &[0, 1], &|status, flags| {
        status.with_bitmap(BitmapIndex::of::<5>(), Dirtiness::from_flags(flags))
    });
    add(all, &[0, 1, 2, 1 << 40], &|status, flags| status.with_depth(Depth::from_flags(flags)))
}

fn extent(start: u64, end: u64, status: Status) -> Extent<Status> {
    Extent::from_range(start..end, status).unwrap()
}

fn action(policy: &dyn Policy, extent: &Extent<Status>) -> Action {
    policy.decide(extent).unwrap().action
}

/// The bitmaps of the baselines here: one, the other, both, one that nobody requested, and both
/// with that one.
const TRACKED: [&[BitmapIndex]; 5] = [&[B0], &[B5], &[B0, B5], &[B7], &[B0, B5, B7]];
const B0: BitmapIndex = BitmapIndex::FIRST;
const B5: BitmapIndex = BitmapIndex::of::<5>();
const B7: BitmapIndex = BitmapIndex::of::<7>();

/// A baseline of 1000 bytes.
fn baseline(bitmaps: &[BitmapIndex]) -> Baseline {
    Baseline::new(1000, bitmaps.iter().copied().collect())
}

/// The model of changes, bitmap by bitmap: one dirty bitmap is enough; clean needs all, and at
/// least one.
fn changed(status: Status, bitmaps: &[BitmapIndex]) -> Option<bool> {
    let answers: Vec<Option<bool>> = bitmaps.iter().map(|&index| status.dirty_in(index)).collect();
    if answers.contains(&Some(true)) {
        return Some(true);
    }
    (!answers.is_empty() && answers.iter().all(|answer| *answer == Some(false))).then_some(false)
}

/// Every set of bitmaps with every treatment of zeroes.
fn incrementals() -> impl Iterator<Item = (&'static [BitmapIndex], Zeroes)> {
    TRACKED.into_iter().flat_map(|bitmaps| ZEROES.map(|zeroes| (bitmaps, zeroes)))
}

/// The action for needed bytes: the table of the documentation, written a second time.
fn brought(status: Status, zeroes: Zeroes) -> Action {
    match (status.zero(), zeroes) {
        (Some(true), Zeroes::MayUnmap) => Action::Zero { may_unmap: true },
        (Some(true), Zeroes::KeepHoles) => Action::Zero { may_unmap: status.hole().unwrap() },
        (Some(true), Zeroes::Allocate) => Action::Zero { may_unmap: false },
        _ => Action::Copy,
    }
}

#[test]
fn a_full_backup_looks_at_the_zero_status_only() {
    for status in all_statuses() {
        for zeroes in ZEROES {
            let policy = Full::new().with_zeroes(zeroes);
            assert_eq!(policy.zeroes(), zeroes);
            assert!(!policy.is_onto_zeroes() && policy.onto_zeroes().is_onto_zeroes());
            let expected = brought(status, zeroes);
            assert_eq!(action(&policy, &extent(0, 8, status)), expected, "{status} {zeroes:?}");
            let skipped = if expected == Action::Copy { Action::Copy } else { Action::Skip };
            assert_eq!(action(&policy.onto_zeroes(), &extent(0, 8, status)), skipped, "{status} {zeroes:?}");
        }
    }
}

#[test]
fn an_incremental_brings_what_is_dirty_and_skips_what_is_clean() {
    for status in all_statuses() {
        for (bitmaps, zeroes) in incrementals() {
            let policy = Incremental::new(baseline(bitmaps), 1000).unwrap().with_zeroes(zeroes);
            assert_eq!((policy.baseline(), policy.zeroes()), (baseline(bitmaps), zeroes));
            assert_eq!(policy.baseline().dirty(&status), changed(status, bitmaps), "{status} {bitmaps:?}");
            let decided = policy.decide(&extent(10, 1000, status)).map(|decision| decision.action);
            let silent = |index: &BitmapIndex| status.dirty_in(*index).is_none();
            let expected = match changed(status, bitmaps) {
                Some(true) => Ok(brought(status, zeroes)),
                Some(false) => Ok(Action::Skip),
                None => Err(PolicyError::NoBitmap {
                    range: 10..1000,
                    missing: bitmaps.iter().copied().filter(silent).collect(),
                }),
            };
            assert_eq!(decided, expected, "{status} {policy:?}");
        }
    }
}

#[test]
fn no_incremental_skips_a_byte_that_any_of_its_bitmaps_calls_dirty_or_does_not_answer_for() {
    for status in all_statuses() {
        for (bitmaps, zeroes) in incrementals() {
            // dirty, or perhaps dirty: a bitmap without an answer may have marked the bytes
            let dirty = bitmaps.iter().any(|&index| status.dirty_in(index) != Some(false));
            let policy = Incremental::new_or_grown(baseline(bitmaps), 2000).unwrap().with_zeroes(zeroes);
            for (start, end) in [(0, 10), (990, 1000), (999, 1001), (1000, 1001), (0, 2000)] {
                let Ok(decision) = policy.decide(&extent(start, end, status)) else { continue };
                let kept = matches!(decision.action, Action::Skip | Action::Absent);
                assert!(!kept || !dirty && end <= 1000, "{start}..{end} {status} {policy:?} {decision}");
            }
        }
    }
}

#[test]
fn beyond_the_old_end_all_is_brought_whatever_the_bitmaps_say() {
    let policy = Incremental::new_or_grown(baseline(&[B0]), 2000).unwrap();
    for status in all_statuses() {
        let decision = policy.decide(&extent(1000, 2000, status)).unwrap();
        assert_eq!(decision.action, brought(status, Zeroes::MayUnmap));
        assert!(matches!(decision.reason, Reason::Needed { cause: Cause::Grown, .. }));
    }
}

#[test]
fn a_baseline_of_another_size_is_refused() {
    let baseline = baseline(&[B0]);
    assert!(Incremental::new(baseline, 1000).is_ok());
    assert_eq!(Incremental::new_or_grown(baseline, 1000), Incremental::new(baseline, 1000));
    for export in [0, 999, 1001, u64::MAX] {
        assert_eq!(
            Incremental::new(baseline, export),
            Err(BaselineError::SizeChanged { baseline: 1000, export })
        );
    }
    let shrunk = BaselineError::Shrunk { baseline: 1000, export: 999 };
    assert_eq!(Incremental::new_or_grown(baseline, 999), Err(shrunk));
    assert!(Incremental::new_or_grown(baseline, 1001).is_ok());
}

#[test]
fn an_incremental_without_a_bitmap_is_refused() {
    for none in [Bitmaps::NONE, Bitmaps::default()] {
        assert_eq!(Incremental::new(Baseline::new(8, none), 8), Err(BaselineError::NoBitmap));
        assert_eq!(Incremental::new_or_grown(Baseline::new(8, none), 9), Err(BaselineError::NoBitmap));
        let clean = extent(0, 8, Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0)));
        let base = Base::Backup(Baseline::new(8, none));
        assert!(!base.permits(&clean, Action::Skip), "an empty set says of nothing that it is clean");
    }
    let policy = Incremental::new(Baseline::new(8, Bitmaps::FIRST), 8).unwrap();
    let refused = Err(PolicyError::NoBitmap { range: 0..8, missing: Bitmaps::FIRST });
    assert_eq!(policy.decide(&extent(0, 8, Status::UNKNOWN.with_allocation(Allocation::DATA))), refused);
}

/// Two bitmaps are requested and one is missing: the clean answer of the other is no reason to skip
/// a byte.
#[test]
fn an_optional_bitmap_that_is_missing_is_not_taken_for_clean() {
    let contexts = Contexts::new().require(Context::bitmap("b0")).unwrap();
    let contexts = contexts.optional(Context::bitmap("b1")).unwrap();
    assert!(contexts.negotiate([(0, "qemu:dirty-bitmap:b0")]).is_ok(), "b1 is optional");
    let disk = || {
        let status = |flags| Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(flags));
        from_iter([extent(0, 512, status(1)), extent(512, 1024, status(0))])
    };
    let policy = Incremental::new(Baseline::new(1024, contexts.all_bitmaps()), 1024).unwrap();
    let error = disk().decide(policy).collect_vec().unwrap_err();
    let missing = Bitmaps::only(BitmapIndex::of::<1>());
    assert_eq!(error, DecideError::Policy(PolicyError::NoBitmap { range: 512..1024, missing }));
    let policy = Incremental::new(Baseline::new(1024, contexts.bitmap_set(["b0"]).unwrap()), 1024).unwrap();
    assert_eq!(disk().decide(policy).collect_vec().unwrap().len(), 2);
}

#[test]
fn in_a_single_layer_depth_0_is_absent_and_an_unknown_depth_is_refused() {
    for status in all_statuses() {
        for zeroes in ZEROES {
            let policy = SingleLayer::new().with_zeroes(zeroes);
            assert_eq!(policy.zeroes(), zeroes);
            let decided = policy.decide(&extent(3, 8, status)).map(|decision| decision.action);
            let expected = match status.depth() {
                Some(0) => Ok(Action::Absent),
                Some(_) => Ok(brought(status, zeroes)),
                None => Err(PolicyError::NoDepth { range: 3..8 }),
            };
            assert_eq!(decided, expected, "{status} {zeroes:?}");
        }
    }
}

#[test]
fn holes_that_are_not_said_to_be_zero_are_copied() {
    let hole = Status::UNKNOWN
        .with_allocation(Allocation::from_flags(1))
        .with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY)
        .with_depth(Depth::from_flags(1));
    let incremental = Incremental::new(Baseline::new(8, Bitmaps::FIRST), 8).unwrap();
    for zeroes in ZEROES {
        let full = Full::new().with_zeroes(zeroes);
        let policies: [&dyn Policy; 4] = [
            &full,
            &full.onto_zeroes(),
            &incremental.with_zeroes(zeroes),
            &SingleLayer::new().with_zeroes(zeroes),
        ];
        for policy in policies {
            let decision = policy.decide(&extent(0, 8, hole)).unwrap();
            assert_eq!(decision.action, Action::Copy);
            assert!(matches!(decision.reason, Reason::Needed { content: Content::UndefinedHole, .. }));
        }
    }
}

/// A base, and the bitmaps of its baseline.
fn bases() -> Vec<(Base, &'static [BitmapIndex])> {
    let backups = TRACKED.map(|bitmaps| (Base::Backup(baseline(bitmaps)), bitmaps));
    let others = [Base::Nothing, Base::Zeroes, Base::LowerLayers].map(|base| (base, &[] as &[BitmapIndex]));
    backups.into_iter().chain(others).collect()
}

/// All combinations of the byte now, the byte before, and whether the layer holds it, that the
/// status and the base allow.
fn worlds(base: Base, bitmaps: &[BitmapIndex], extent: &Extent<Status>) -> Vec<(u8, u8, bool)> {
    let status = extent.status();
    let mut worlds = Vec::new();
    for (new, old, held) in
        (0..3).flat_map(|new| (0..3).flat_map(move |old| [true, false].map(|held| (new, old, held))))
    {
        let zero = status.zero() != Some(true) || new == 0;
        let depth = status.depth().is_none_or(|depth| held == (depth > 0));
        let target = match base {
            Base::Nothing | Base::LowerLayers => true,
            Base::Zeroes => old == 0,
            Base::Backup(before) => {
                new == old || extent.end() > before.size() || changed(*status, bitmaps) != Some(false)
            }
        };
        if zero && depth && target {
            worlds.push((new, old, held));
        }
    }
    worlds
}

#[test]
fn exactly_the_actions_that_are_right_in_every_possible_world_are_permitted() {
    let bases = bases().into_iter();
    for ((base, bitmaps), status) in
        bases.flat_map(|base| all_statuses().into_iter().map(move |status| (base, status)))
    {
        // a single layer reports its own bytes and no others; a whole disk has no byte that it does
        // not hold
        let layer = base == Base::LowerLayers;
        for extent in [extent(0, 1000, status), extent(0, 1001, status), extent(1000, 1001, status)] {
            let worlds = worlds(base, bitmaps, &extent);
            let right = |action: Action| {
                worlds.iter().all(|&(new, old, held)| match action {
                    Action::Copy => !layer || held,
                    Action::Zero { .. } => new == 0 && (!layer || held),
                    Action::Skip => !layer && new == old,
                    Action::Absent => layer && !held,
                })
            };
            for action in [
                Action::Copy,
                Action::Zero { may_unmap: true },
                Action::Zero { may_unmap: false },
                Action::Skip,
                Action::Absent,
            ] {
                assert_eq!(base.permits(&extent, action), right(action), "{base:?} {extent} {action}");
            }
        }
    }
}

/// A policy with a constant answer, right or wrong, and with cuts.
#[derive(Clone, Copy, Debug)]
struct Stubborn(Base, Action, u64);

impl Policy for Stubborn {
    fn base(&self) -> Base {
        self.0
    }

    fn decide(&self, _: &Extent<Status>) -> Result<Decision, PolicyError> {
        Ok(Decision { action: self.1, reason: Reason::Other("always") })
    }

    fn next_cut(&self, offset: u64) -> Option<u64> {
        // also invalid cuts: at the offset itself, and before it
        Some((offset / self.2 + u64::from(!offset.is_multiple_of(3))) * self.2)
    }
}

#[test]
fn a_policy_that_would_lose_bytes_is_stopped_at_the_first() {
    let dirty = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY);
    let clean = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
    let base = Base::Backup(Baseline::new(4096, Bitmaps::FIRST));
    let policy = Stubborn(base, Action::Skip, 4096);
    let mut actions = from_iter([extent(0, 512, clean), extent(512, 1024, dirty)]).decide(policy);
    let error = actions.next_extent().unwrap_err();
    let expected = PolicyError::Unsafe { range: 512..1024, status: dirty, action: Action::Skip, base };
    assert_eq!(error, DecideError::Policy(expected));
    let words = "the policy would lose bytes 512..1024: skip is wrong for dirty on a backup of 4096 bytes";
    assert_eq!(error.to_string(), words);
}

#[test]
fn a_policy_cannot_skip_past_the_end_of_its_baseline() {
    let clean = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
    let policy = Stubborn(Base::Backup(baseline(&[B0])), Action::Skip, 1 << 20);
    let error = from_iter([extent(0, 1001, clean)]).decide(policy).collect_vec().unwrap_err();
    assert!(matches!(error, DecideError::Policy(PolicyError::Unsafe { range, .. }) if range == (1000..1001)));
}

#[test]
fn errors_of_the_source_and_refusals_come_through() {
    let overlap = [extent(8, 16, Status::UNKNOWN), extent(0, 8, Status::UNKNOWN)];
    let error = from_iter(overlap).decide(Full::new()).collect_vec().unwrap_err();
    assert_eq!(error, DecideError::Stream(StreamError::Overlap { start: 0, expected: 16 }));
    let checked =
        from_iter([extent(0, 8, Status::UNKNOWN)]).decide(Full::new()).covering(0..16).collect_vec();
    assert_eq!(
        checked,
        Err(DecideError::Stream(StreamError::Gap { range: 8..16 })),
        "adapters go on after it"
    );
    let none = from_iter([extent(0, 8, Status::UNKNOWN)]).explain(SingleLayer::new()).collect_vec();
    assert_eq!(none, Err(DecideError::Policy(PolicyError::NoDepth { range: 0..8 })));
}

/// Runs of statuses with gaps between, over at most 200 bytes.
fn disks() -> impl Strategy<Value = Vec<Extent<Status>>> {
    let status = prop::option::weighted(0.9, prop::sample::select(all_statuses()));
    prop::collection::vec((1_u64..12, status), 0..16).prop_map(|runs| {
        let mut start = 0;
        let mut place = |(length, status): (u64, Option<Status>)| {
            start += length;
            status.map(|status| extent(start - length, start, status))
        };
        runs.into_iter().filter_map(&mut place).collect()
    })
}

/// A policy that a failing test can print.
trait Shown: Policy + core::fmt::Debug {}
impl<P: Policy + core::fmt::Debug> Shown for P {}

fn policies() -> impl Strategy<Value = Box<dyn Shown>> {
    let zeroes = || prop::sample::select(ZEROES.to_vec());
    let size = prop_oneof![Just(0_u64), 0_u64..200, Just(u64::MAX)];
    prop_oneof![
        (zeroes(), any::<bool>()).prop_map(|(zeroes, onto)| {
            let full = Full::new().with_zeroes(zeroes);
            Box::new(if onto { full.onto_zeroes() } else { full }) as Box<dyn Shown>
        }),
        zeroes().prop_map(|zeroes| Box::new(SingleLayer::new().with_zeroes(zeroes)) as _),
        (size.clone(), zeroes()).prop_map(|(size, zeroes)| {
            let policy = Incremental::new_or_grown(
                Baseline::new(size, Bitmaps::FIRST.with(BitmapIndex::of::<5>())),
                u64::MAX,
            )
            .unwrap();
            Box::new(policy.with_zeroes(zeroes)) as _
        }),
        (size, 1_u64..20).prop_map(|(size, cut)| {
            Box::new(Stubborn(Base::Backup(Baseline::new(size, Bitmaps::FIRST)), Action::Copy, cut)) as _
        }),
    ]
}

proptest! {
    #![proptest_config(support::config(1024))]

    /// Bytes are lost only explicitly: inside the ranges a copy becomes zeroes, and no other
    /// decision changes anywhere.
    #[test]
    fn excluding_turns_copies_within_the_ranges_into_zeroes_and_changes_nothing_else(
        disk in disks(),
        policy in policies(),
        cuts in proptest::collection::btree_set(0_u64..200, 0..8),
    ) {
        let cuts: Vec<_> = cuts.into_iter().collect();
        let ranges: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let all = from_iter(disk.clone()).decide(&*policy).collect_vec();
        let excluding = (&*policy).excluding(&ranges).unwrap();
        let kept = from_iter(disk.clone()).decide(&excluding).collect_vec();
        prop_assert_eq!(all.is_err(), kept.is_err(), "a range that is left out excuses no other fault");
        let (Ok(all), Ok(kept)) = (all, kept) else { return Ok(()) };
        let mut expected = from_extents(&all, 200);
        for (at, action) in expected.iter_mut().enumerate() {
            if *action == Some(Action::Copy) && ranges.iter().any(|range| range.contains(&(at as u64))) {
                *action = Some(Action::Zero { may_unmap: true });
            }
        }
        prop_assert_eq!(kept, to_extents(&expected));
        for why in from_iter(disk).explain(&excluding).collect_vec().unwrap() {
            let excluded = ranges.iter().any(|range| range.contains(&why.start()));
            prop_assert!(excluded || why.status().decision.reason != Reason::LeftOut);
        }
    }

    /// A stream decides about each byte as the policy decides about that byte alone; or it ends at
    /// the first byte about which the policy cannot decide.
    #[test]
    fn a_stream_decides_each_byte_as_if_it_stood_alone(disk in disks(), policy in policies()) {
        let dense = from_extents(&disk, 200);
        let alone = |(at, status): (usize, &Option<Status>)| {
            let explained = |status| {
                let decision = policy.decide(&extent(at as u64, at as u64 + 1, status))?;
                Ok::<_, PolicyError>((at, Explanation { status, decision }))
            };
            status.map(explained)
        };
        let alone: Vec<_> = dense.iter().enumerate().filter_map(alone).collect();
        let decided = from_iter(disk.clone()).decide(&*policy).collect_vec();
        let explained = from_iter(disk).explain(&*policy).collect_vec();
        if alone.iter().any(Result::is_err) {
            prop_assert!(decided.is_err() && explained.is_err());
            return Ok(());
        }
        let mut expected: Dense<Explanation> = vec![None; 200];
        for (at, explanation) in alone.into_iter().map(Result::unwrap) {
            expected[at] = Some(explanation);
        }
        prop_assert_eq!(explained.unwrap(), to_extents(&expected));
        let expected: Dense<Action> = expected.iter().map(|row| row.map(|row| row.decision.action)).collect();
        let decided = decided.unwrap();
        assert_canonical(&decided);
        prop_assert_eq!(&decided, &to_extents(&expected));

        let count = |wanted: fn(&Action) -> bool| {
            expected.iter().flatten().filter(|&action| wanted(action)).count() as u64
        };
        let totals = Totals::of(from_iter(decided)).unwrap();
        prop_assert_eq!(totals.copy, count(|action| *action == Action::Copy));
        prop_assert_eq!(totals.zero, count(|action| matches!(action, Action::Zero { .. })));
        prop_assert_eq!(totals.skip, count(|action| *action == Action::Skip));
        prop_assert_eq!(totals.absent, count(|action| *action == Action::Absent));
        prop_assert_eq!(totals.sum(), expected.iter().flatten().count() as u64);
    }
}

/// oVirt bug 1971185: the incremental reads 2 GiB of a 10 GiB disk, not 9.
#[test]
fn the_bug_that_started_it() {
    const GIB: u64 = 1 << 30;
    let status = |dirty, flags| {
        Status::UNKNOWN
            .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(dirty))
            .with_allocation(Allocation::from_flags(flags))
    };
    let disk = [(0, 1, status(0, 0)), (1, 2, status(1, 0)), (2, 9, status(1, 3)), (9, 10, status(1, 0))]
        .map(|(start, end, status)| extent(start * GIB, end * GIB, status));
    let policy = Incremental::new(Baseline::new(10 * GIB, Bitmaps::FIRST), 10 * GIB).unwrap();
    let totals = Totals::of(from_iter(disk).decide(policy)).unwrap();
    assert_eq!((totals.copy, totals.zero, totals.skip), (2 * GIB, 7 * GIB, GIB));
}

/// An overlay reads as zero where it holds nothing. A policy that believes it would hide the data
/// below it, and is stopped.
#[test]
fn a_policy_for_a_single_layer_cannot_say_zero_or_copy_at_depth_0() {
    let zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(3));
    let absent = extent(0, 512, zero.with_depth(Depth::from_flags(0)));
    let held = extent(512, 1024, zero.with_depth(Depth::from_flags(1)));
    for action in [Action::Zero { may_unmap: true }, Action::Copy, Action::Skip] {
        let mut actions = from_iter([held]).decide(Stubborn(Base::LowerLayers, action, 4096));
        let error = from_iter([absent]).decide(Stubborn(Base::LowerLayers, action, 4096)).collect_vec();
        assert!(matches!(error, Err(DecideError::Policy(PolicyError::Unsafe { .. }))), "{action}");
        assert_eq!(actions.next_extent().is_ok(), action != Action::Skip, "{action} of bytes that it holds");
    }
    let unknown = extent(0, 512, zero);
    for action in [Action::Zero { may_unmap: true }, Action::Copy, Action::Skip, Action::Absent] {
        assert!(!Base::LowerLayers.permits(&unknown, action), "{action} without the depth");
    }
}

/// A restore must not serve bytes that were left out from the previous backup.
#[test]
fn a_chain_serves_zeroes_where_a_backup_has_left_something_out() {
    let dirty = Status::from(Allocation::DATA).combine(Dirtiness::DIRTY.into());
    let policy = Incremental::new(Baseline::new(8192, Bitmaps::FIRST), 8192).unwrap();
    let excluded = [1024..1536, 1536..2048];
    let tuesday = from_iter([extent(0, 8192, dirty)]).decide(policy.excluding(&excluded).unwrap());
    let monday = vec![Extent::new(0, 8192, Action::Copy).unwrap()];
    let chain = Chain::new([
        (ChainLayer::full("vda", "monday", 8192), from_iter(monday)),
        (
            ChainLayer::incremental("vda", "tuesday", "monday", 8192),
            from_iter(tuesday.collect_vec().unwrap()),
        ),
    ])
    .unwrap();
    let served = chain.restore().collect_vec().unwrap();
    assert_eq!(*served[1].status(), Source::Zero { layer: 1, may_unmap: true });
    assert_eq!(served[1].range(), 1024..2048);
}

#[test]
fn ranges_to_leave_out_are_checked_when_they_are_given() {
    let refused = |ranges: &[core::ops::Range<u64>]| Full::new().excluding(ranges).unwrap_err();
    assert_eq!(refused(&[0..1, 5..5]), StreamError::Extent(ExtentError::Empty { start: 5 }));
    let inverted = core::ops::Range { start: 9, end: 3 };
    assert_eq!(refused(&[inverted]), StreamError::Extent(ExtentError::Inverted { start: 9, end: 3 }));
    assert_eq!(refused(&[0..10, 9..20]), StreamError::Overlap { start: 9, expected: 10 });
    Full::new().excluding(&[0..10, 10..20]).unwrap();
}

/// A merge of long lists is decided block by block, with one decision for all extents of one status
/// between two cuts. The cuts of the policy and its faults must equal those of a decision extent by
/// extent.
#[test]
fn long_merges_are_decided_as_their_extents_are() {
    use nbd_extents::stream::place;
    use nbd_extents::wire::Descriptors;

    let zero: Vec<(u64, u64)> = (0..3000).map(|nth| (512 * (1 + nth % 7), nth % 4)).collect();
    let size: u64 = zero.iter().map(|descriptor| descriptor.0).sum();
    let mut dirty: Vec<(u64, u64)> = (0..1000).map(|nth| (512 * (1 + nth % 5), nth / 3 % 2)).collect();
    dirty.push((size - dirty.iter().map(|descriptor| descriptor.0).sum::<u64>(), 1));
    let disk = || {
        let zero = place(Descriptors::new(&zero), 0).map_status(Allocation::from_flags);
        let dirty = place(Descriptors::new(&dirty), 0).map_status(Dirtiness::from_flags);
        zero.merge(dirty, |&zero, &dirty| {
            Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirty).with_allocation(zero)
        })
    };
    // the previous backup ends in the middle of an extent: the bytes beyond have the same status
    // but another decision
    for old in [size, size / 2 + 100, 700, 1] {
        let policy = || Incremental::new_or_grown(Baseline::new(old, Bitmaps::FIRST), size).unwrap();
        let by_hand: Result<Vec<_>, _> = disk().decide(policy()).into_iter().collect();
        assert_eq!(disk().decide(policy()).collect_vec(), by_hand, "{old}");
        let by_hand: Result<Vec<_>, _> = disk().explain(policy()).into_iter().collect();
        assert_eq!(disk().explain(policy()).collect_vec(), by_hand, "{old}");
        let mut begun = disk().decide(policy());
        let first = begun.next_extent().unwrap().unwrap();
        let rest = begun.collect_vec().unwrap();
        assert_eq!((first, rest), {
            let all = disk().decide(policy()).collect_vec().unwrap();
            (all[0], all[1..].to_vec())
        });
    }
}
