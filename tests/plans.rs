//! Plans against a slow model: applied to the old target they give the new disk, in the fewest
//! requests that the rules allow, and they can resume at any position.
#![cfg(feature = "alloc")]

#[path = "plans/by_hand.rs"]
mod by_hand;
#[path = "plans/large.rs"]
mod large;
mod support;

use nbd_extents::action::{Baseline, Full, Incremental, Policy, SingleLayer, StatusStream};
use nbd_extents::plan::{Access, BlockSize, Plan, PlanError, PlanOptions, PlanPosition, PlanStep};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{
    Action, Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, Extent, MAX_END, Status, StreamError,
};
use proptest::prelude::*;

use by_hand::Rules;
use support::dense::{Dense, to_extents};

/// The action of each byte; neighbours are usually alike.
fn disks() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => Just(Action::Copy),
        3 => Just(Action::Zero { may_unmap: true }),
        1 => Just(Action::Zero { may_unmap: false }),
        4 => Just(Action::Skip),
        1 => Just(Action::Absent),
    ];
    let length = prop_oneof![3 => 1_usize..4, 3 => 4_usize..20, 1 => 20_usize..80];
    prop::collection::vec((length, action), 0..24)
        .prop_map(|runs| runs.into_iter().flat_map(|(length, action)| vec![action; length]).collect())
}

fn rules() -> impl Strategy<Value = Rules> {
    let block = prop::sample::select(vec![1_u64, 2, 4, 8, 16, 32]);
    let max = || prop_oneof![0_u64..8, 0_u64..64, Just(1 << 40)];
    let join = prop_oneof![2 => Just(0_u64), 3 => 0_u64..16, 3 => 0_u64..80, 1 => Just(u64::MAX)];
    let access = prop::sample::select(vec![Access::All, Access::DirtyOnly]);
    (block, max(), max(), join, access).prop_map(|(block, copy, zero, join_gaps, access)| Rules {
        block,
        max_copy: block + copy,
        max_zero: block + zero,
        join_gaps,
        access,
    })
}

/// Extents with the actions of the bytes, with some additional cuts: a stream need not be
/// coalesced.
fn cut(actions: &[Action], every: usize) -> Vec<Extent<Action>> {
    let dense: Dense<(Action, usize)> =
        actions.iter().enumerate().map(|(at, action)| Some((*action, at / every))).collect();
    to_extents(&dense).into_iter().map(|extent| extent.map(|(action, _)| action)).collect()
}

fn pieces() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..4, 4_usize..90]
}

fn plan_of(actions: &[Extent<Action>], options: PlanOptions) -> Vec<PlanStep> {
    Plan::new(from_iter(actions.to_vec()), options).collect::<Result<_, _>>().unwrap()
}

proptest! {
    #![proptest_config(support::config(2048))]

    /// The bytes that a plan moves, applied to the old target, give the new disk.
    #[test]
    fn a_plan_gives_the_new_disk_and_touches_nothing_else(
        disk in disks(),
        rules in rules(),
        every in pieces(),
        seed in any::<u8>(),
    ) {
        let steps = plan_of(&cut(&disk, every), rules.options(disk.len()));
        let byte = |at: usize, salt: u8| {
            u8::try_from(at % 251).unwrap().wrapping_mul(31).wrapping_add(seed ^ salt) | 1
        };
        let old: Vec<u8> = (0..disk.len()).map(|at| byte(at, 0)).collect();
        let new: Vec<u8> = disk
            .iter()
            .enumerate()
            .map(|(at, action)| match action {
                Action::Copy => byte(at, 0x5a),
                Action::Zero { .. } => 0,
                Action::Skip | Action::Absent => old[at],
            })
            .collect();
        let mut target = old;
        for step in &steps {
            let range = usize::try_from(step.start()).unwrap()..usize::try_from(step.end()).unwrap();
            prop_assert!(
                disk[range.clone()].iter().all(|action| rules.may_touch(*action)),
                "{step} of {disk:?}"
            );
            match step {
                PlanStep::Copy { .. } => target[range.clone()].copy_from_slice(&new[range]),
                PlanStep::Zero { may_unmap, .. } => {
                    let may = |action: &Action| *may_unmap <= (*action == Action::Zero { may_unmap: true });
                    prop_assert!(disk[range.clone()].iter().all(may), "{step} unmaps what must stay");
                    target[range].fill(0);
                }
            }
        }
        prop_assert_eq!(target, new);
    }

    #[test]
    fn requests_ascend_and_keep_to_blocks_and_maxima(disk in disks(), rules in rules()) {
        let size = disk.len() as u64;
        let mut last = 0;
        for step in plan_of(&cut(&disk, 1000), rules.options(disk.len())) {
            let max = if matches!(step, PlanStep::Copy { .. }) { rules.max_copy } else { rules.max_zero };
            prop_assert!(last <= step.start() && step.start() < step.end() && step.end() <= size, "{step}");
            prop_assert!(step.length() <= max, "{step} is longer than {max}");
            last = step.end();
            let untouchable = |at: u64| !rules.may_touch(disk[usize::try_from(at).unwrap()]);
            let (start, end) = (step.start(), step.end());
            prop_assert!(start % rules.block == 0 || untouchable(start - 1), "{step} starts within a block");
            prop_assert!(
                end % rules.block == 0 || end == size || untouchable(end),
                "{step} ends within a block"
            );
            if matches!(step, PlanStep::Zero { .. }) {
                prop_assert!(
                    start % rules.block == 0 && (end % rules.block == 0 || end == size),
                    "{step} is no whole block"
                );
            }
        }
    }

    /// If an old size or a caller's range cuts a block of the server, the block is copied whole;
    /// and the plan can resume anywhere.
    #[test]
    fn no_request_cuts_a_block_of_the_server(
        disk in disks(),
        rules in rules(),
        log in 0_u32..6,
        every in pieces(),
    ) {
        let min = (1 << log).min(rules.block);
        let actions = cut(&disk, every);
        let options = rules.options(disk.len()).min_block(BlockSize::new(min).unwrap()).unwrap();
        let size = disk.len() as u64;
        let absent = |at: u64| disk[usize::try_from(at).unwrap()] == Action::Absent;
        let mut moved = vec![None; disk.len()];
        let steps = plan_of(&actions, options);
        for (done, step) in steps.iter().enumerate() {
            let (start, end) = (step.start(), step.end());
            prop_assert!(start % min == 0 || absent(start - 1), "{step} starts within a block of the server");
            prop_assert!(
                end % min == 0 || end == size || absent(end),
                "{step} ends within a block of the server"
            );
            moved[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]
                .fill(Some(matches!(step, PlanStep::Copy { .. })));
            if done % 16 == every % 16 {
                let resumed = options.resume(PlanPosition { offset: end, size }).unwrap();
                prop_assert_eq!(&plan_of(&actions, resumed), &steps[done + 1..]);
            }
        }
        for (action, moved) in disk.iter().zip(moved) {
            match action {
                Action::Copy => prop_assert_eq!(moved, Some(true)),
                Action::Zero { .. } => prop_assert!(moved.is_some()),
                Action::Skip => prop_assert_ne!(moved, Some(false)),
                Action::Absent => prop_assert_eq!(moved, None),
            }
        }
    }

    #[test]
    fn the_steps_are_those_of_a_plan_made_by_hand(
        disk in disks(),
        rules in rules(),
        every in pieces(),
    ) {
        let expected = by_hand::plan(&disk, &rules);
        prop_assert_eq!(plan_of(&cut(&disk, every), rules.options(disk.len())), expected);
    }

    #[test]
    fn totals_are_known_before_and_while_bytes_move(disk in disks(), rules in rules()) {
        let mut plan = Plan::new(from_iter(cut(&disk, 1000)), rules.options(disk.len()));
        let before = plan.clone().measure().unwrap();
        let mut seen = nbd_extents::plan::PlanTotals::default();
        while let Some(step) = plan.next_step().unwrap() {
            seen.add(&step);
            prop_assert_eq!(plan.totals().requests(), seen.requests());
            prop_assert_eq!(plan.totals().bytes.copy, seen.bytes.copy);
        }
        prop_assert_eq!(plan.totals(), before);
        prop_assert_eq!(before.bytes.sum(), disk.len() as u64);
        prop_assert_eq!((before.bytes.copy, before.bytes.zero), (seen.bytes.copy, seen.bytes.zero));
        prop_assert_eq!((before.copies, before.zeroes), (seen.copies, seen.zeroes));
        let absent = disk.iter().filter(|action| **action == Action::Absent).count() as u64;
        prop_assert_eq!(before.bytes.absent, absent, "absent bytes are never taken along");
    }

    #[test]
    fn a_plan_can_be_taken_up_at_every_position(
        disk in disks(),
        rules in rules(),
        every in pieces(),
    ) {
        let actions = cut(&disk, every);
        let options = rules.options(disk.len());
        let all = plan_of(&actions, options);
        let mut plan = Plan::new(from_iter(actions.clone()), options);
        for done in 0..=all.len() {
            let saved = plan.position();
            prop_assert_eq!(saved.offset, done.checked_sub(1).map_or(0, |last| all[last].end()));
            let resumed = options.resume(saved).unwrap();
            prop_assert_eq!(&plan_of(&actions, resumed), &all[done..], "from {:?}, all actions given", saved);
            let rest = from_iter(actions.clone()).clip(saved.offset..u64::MAX).collect_vec().unwrap();
            prop_assert_eq!(
                &plan_of(&rest, resumed),
                &all[done..],
                "from {:?}, the rest of the actions given",
                saved
            );
            if let Some(next) = all.get(done) {
                let start = PlanPosition { offset: next.start(), size: disk.len() as u64 };
                prop_assert_eq!(
                    &plan_of(&actions, options.resume(start).unwrap()),
                    &all[done..],
                    "from a step's start"
                );
            }
            let next = plan.next_step().unwrap();
            prop_assert_eq!(next.as_ref(), all.get(done));
        }
        prop_assert!(plan.position().is_end());
    }

    /// From statuses to bytes: whatever the policy, a restore gives the disk.
    #[test]
    fn a_backup_restored_is_the_disk(
        bytes in prop::collection::vec((0_u8..3, 0_u8..3, 0_u64..2, 0_u64..2), 0..200),
        grown in 0_usize..40,
        rules in rules(),
    ) {
        let old_size = bytes.len().saturating_sub(grown);
        // (new byte, old byte, hole, dirty although unchanged); a changed byte is dirty, unless it
        // lies beyond the old end
        let status = |(at, &(new, old, hole, touched)): (usize, &(u8, u8, u64, u64))| {
            let changed = u64::from(new != old && at < old_size) | touched;
            Some(
                Status::UNKNOWN
                    .with_allocation(Allocation::from_flags(hole | u64::from(new == 0) << 1))
                    .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(changed))
                    .with_depth(Depth::from_flags(touched)),
            )
        };
        let disk = to_extents(&bytes.iter().enumerate().map(status).collect::<Dense<_>>());
        let new: Vec<u8> = bytes.iter().map(|byte| byte.0).collect();
        let old: Vec<u8> = bytes.iter().map(|byte| byte.1).collect();
        let restore = |policy: &dyn Policy, mut target: Vec<u8>| {
            for step in Plan::new(from_iter(disk.clone()).decide(policy), rules.options(bytes.len()))
                .map(Result::unwrap)
            {
                let range = usize::try_from(step.start()).unwrap()..usize::try_from(step.end()).unwrap();
                match step {
                    PlanStep::Copy { .. } => target[range.clone()].copy_from_slice(&new[range]),
                    PlanStep::Zero { .. } => target[range].fill(0),
                }
            }
            target
        };
        let incremental =
            Incremental::new_or_grown(Baseline::new(old_size as u64, Bitmaps::FIRST), bytes.len() as u64)
                .unwrap();
        prop_assert_eq!(&restore(&incremental, old.clone()), &new);
        prop_assert_eq!(&restore(&Full::new(), old.clone()), &new);
        prop_assert_eq!(&restore(&Full::new().onto_zeroes(), vec![0; new.len()]), &new);
        let under: Vec<u8> = bytes.iter().map(|byte| if byte.3 == 0 { byte.1 } else { byte.0 }).collect();
        prop_assert_eq!(
            &restore(&SingleLayer::new(), old),
            &under,
            "what the layer does not hold stays what lies under it"
        );
    }
}

fn extent(start: u64, end: u64, action: Action) -> Extent<Action> {
    Extent::from_range(start..end, action).unwrap()
}

fn options(size: u64, block: u64) -> PlanOptions {
    PlanOptions::new(size, BlockSize::new(block).unwrap()).unwrap()
}

#[test]
fn actions_that_do_not_cover_the_disk_are_an_error_never_a_skip() {
    let plan = |list: &[(u64, u64)], options| {
        let list: Vec<_> = list.iter().map(|&(start, end)| extent(start, end, Action::Copy)).collect();
        Plan::new(from_iter(list), options).measure().map(|totals| totals.bytes.copy)
    };
    let disk = options(4096, 512);
    assert_eq!(plan(&[(0, 4096)], disk), Ok(4096));
    assert_eq!(plan(&[], disk), Err(StreamError::Gap { range: 0..4096 }));
    assert_eq!(plan(&[(512, 4096)], disk), Err(StreamError::Gap { range: 0..512 }));
    assert_eq!(plan(&[(0, 100), (101, 4096)], disk), Err(StreamError::Gap { range: 100..101 }));
    assert_eq!(plan(&[(0, 4095)], disk), Err(StreamError::Gap { range: 4095..4096 }));
    assert_eq!(plan(&[(0, 4097)], disk), Err(StreamError::OutOfRange { extent: 0..4097, range: 0..4096 }));
    assert_eq!(
        plan(&[(0, 100), (101, 4097)], disk),
        Err(StreamError::Gap { range: 100..101 }),
        "the first fault"
    );
    assert_eq!(plan(&[(0, 100), (5000, 6000)], disk), Err(StreamError::Gap { range: 100..4096 }));
    let beyond = StreamError::OutOfRange { extent: 4096..4097, range: 0..4096 };
    assert_eq!(plan(&[(0, 4096), (4096, 4097)], disk), Err(beyond));
    let resumed = disk.resume(PlanPosition { offset: 1024, size: 4096 }).unwrap();
    assert_eq!(
        plan(&[(0, 10), (1000, 4096)], resumed),
        Ok(3072),
        "what lies before the position is not looked at"
    );
    assert_eq!(plan(&[(0, 10), (1025, 4096)], resumed), Err(StreamError::Gap { range: 1024..1025 }));
    assert_eq!(plan(&[], options(0, 512)), Ok(0));
    assert_eq!(plan(&[], disk.resume(PlanPosition { offset: 4096, size: 4096 }).unwrap()), Ok(0));
}

/// A copy is of 32 MiB and a zero of 1 GiB unless the options or a larger block say otherwise.
#[test]
fn requests_have_their_usual_length_or_that_of_a_larger_block() {
    let lengths = |size, block, action| -> Vec<u64> {
        let steps = plan_of(&[extent(0, size, action)], options(size, block));
        steps.iter().map(PlanStep::length).collect()
    };
    let zero = Action::Zero { may_unmap: true };
    assert_eq!(lengths(64 << 20, 512, Action::Copy), [32 << 20; 2]);
    assert_eq!(lengths(128 << 20, 64 << 20, Action::Copy), [64 << 20; 2]);
    assert_eq!(lengths(2 << 30, 512, zero), [1 << 30; 2]);
    assert_eq!(lengths(4 << 30, 2 << 30, zero), [2 << 30; 2]);
}

#[test]
fn after_an_error_a_plan_is_over_and_keeps_its_place() {
    let list = [extent(0, 1024, Action::Copy), extent(2048, 4096, Action::Copy)];
    let mut plan = Plan::new(from_iter(list), options(4096, 512).max_copy(512).unwrap());
    let first = plan.next().unwrap().unwrap();
    assert_eq!((first.range(), first.to_string()), (&(0..512), "copy 0..512".into()));
    assert!(!plan.position().is_end());
    assert_eq!(
        plan.next().unwrap().unwrap().range(),
        &(512..1024),
        "as long as it may be: nothing beyond it was looked at"
    );
    assert_eq!(plan.next().unwrap(), Err(StreamError::Gap { range: 1024..2048 }));
    assert_eq!((plan.next(), plan.next_step()), (None, Ok(None)));
    assert_eq!(plan.position(), PlanPosition { offset: 1024, size: 4096 });
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for got in [0, 3, 511, (1 << 62) + 1, 1 << 63, u64::MAX] {
        assert_eq!(BlockSize::new(got), Err(PlanError::BlockSize { got }));
    }
    let block = BlockSize::new(4096).unwrap();
    assert_eq!(PlanOptions::new(MAX_END + 1, block), Err(PlanError::TooLarge { size: MAX_END + 1 }));
    let disk = options(8192, 4096);
    for max in [0, 4095] {
        assert_eq!(disk.max_copy(max), Err(PlanError::MaxRequest { max, block }));
        assert_eq!(disk.max_zero(max), Err(PlanError::MaxRequest { max, block }));
    }
    let position = |offset, size| disk.resume(PlanPosition { offset, size });
    assert_eq!(position(0, 4096), Err(PlanError::SizeChanged { expected: 4096, got: 8192 }));
    assert_eq!(position(8193, 8192), Err(PlanError::Position { offset: 8193, size: 8192 }));
    assert!(position(8192, 8192).is_ok());
    assert_eq!((disk.size(), disk.block()), (8192, block));
}

#[test]
fn a_minimum_larger_than_the_blocks_of_the_plan_is_refused() {
    let (min, block) = (BlockSize::new(4096).unwrap(), BlockSize::SECTOR);
    let refused = PlanOptions::new(8192, block).unwrap().min_block(min).unwrap_err();
    assert_eq!(refused, PlanError::MinBlock { min, block });
    assert_eq!(refused.to_string(), "a plan in blocks of 512 bytes cannot keep to a minimum of 4096 bytes");
}
