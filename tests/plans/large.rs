//! Disks too large for a model per byte: real block sizes from 512 bytes to 4 MiB, and the largest
//! possible numbers.

use core::cell::Cell;

use nbd_extents::action::{Baseline, Incremental, StatusStream};
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions, PlanStep};
use nbd_extents::stream::{ExtentSource, ExtentStream, from_iter};
use nbd_extents::{
    Action, Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, MAX_END, Status, StreamError,
};
use proptest::prelude::*;

const ACTIONS: [Action; 5] = [
    Action::Copy,
    Action::Zero { may_unmap: true },
    Action::Zero { may_unmap: false },
    Action::Skip,
    Action::Absent,
];

/// Extents of up to some GiB, cut at sectors, at clusters, and at odd bytes.
fn large_disks() -> impl Strategy<Value = Vec<Extent<Action>>> {
    let length =
        (1_u64..100, prop::sample::select(vec![1_u64, 512, 4096, 65536, 1 << 20, 1 << 26]), 0_u64..3)
            .prop_map(|(count, unit, odd)| count * unit + odd / 2);
    prop::collection::vec((length, prop::sample::select(ACTIONS.to_vec())), 1..30).prop_map(|runs| {
        let mut start = 0;
        let mut place = |(length, action)| {
            start += length;
            Extent::from_range(start - length..start, action).unwrap()
        };
        runs.into_iter().map(&mut place).collect()
    })
}

proptest! {
    #![proptest_config(crate::support::config(256))]

    /// The model again, one entry for each range between two cuts: bytes that a plan leaves out may
    /// be left out, and its steps are valid.
    #[test]
    fn real_block_sizes(
        disk in large_disks(),
        block in (9_u32..=22).prop_map(|bits| 1_u64 << bits),
        max in (0_u64..64, 0_u64..5000),
        join_gaps in prop_oneof![Just(0_u64), 0_u64..(1 << 24)],
        access in prop::sample::select(vec![Access::All, Access::DirtyOnly]),
    ) {
        let size = disk.last().unwrap().end();
        let max = (block * (max.0 + 1) + max.1).max(size / 1000); // some thousand steps at most
        let options = PlanOptions::new(size, BlockSize::new(block).unwrap())
            .unwrap()
            .max_copy(max)
            .unwrap()
            .max_zero(max)
            .unwrap()
            .join_gaps(join_gaps)
            .access(access);
        let steps: Vec<PlanStep> =
            Plan::new(from_iter(disk.clone()), options).collect::<Result<_, _>>().unwrap();

        let mut cuts: Vec<u64> = disk.iter().flat_map(|extent| [extent.start(), extent.end()]).collect();
        cuts.extend(steps.iter().flat_map(|step| [step.start(), step.end()]));
        cuts.sort_unstable();
        cuts.dedup();
        let (mut extents, mut ahead) = (disk.iter().peekable(), steps.iter().peekable());
        for &at in &cuts[..cuts.len() - 1] {
            while extents.peek().is_some_and(|extent| extent.end() <= at) {
                extents.next();
            }
            while ahead.peek().is_some_and(|step| step.end() <= at) {
                ahead.next();
            }
            let action = *extents.peek().unwrap().status();
            let step = ahead.peek().filter(|step| step.start() <= at);
            let right = match (action, step) {
                (Action::Copy, Some(PlanStep::Copy { .. }))
                | (Action::Zero { .. }, Some(PlanStep::Copy { .. })) => true,
                (Action::Zero { may_unmap: may }, Some(PlanStep::Zero { may_unmap, .. })) => {
                    *may_unmap <= may
                }
                (Action::Skip, Some(PlanStep::Copy { .. })) => access == Access::All,
                (Action::Skip | Action::Absent, None) => true,
                _ => false,
            };
            prop_assert!(right, "at {at}: {action:?} but {step:?}");
        }
        for step in &steps {
            prop_assert!(step.length() <= max && step.end() <= size);
            let beside = |at: u64| {
                disk.iter().any(|extent| {
                    let untouchable = matches!(
                        (*extent.status(), access),
                        (Action::Absent, _) | (Action::Skip, Access::DirtyOnly)
                    );
                    untouchable && (extent.start() == at || extent.end() == at)
                })
            };
            prop_assert!(step.start() % block == 0 || beside(step.start()), "{step} in blocks of {block}");
            prop_assert!(
                step.end() % block == 0 || step.end() == size || beside(step.end()),
                "{step} in blocks of {block}"
            );
        }
    }
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    for bytes in [1, 512, 1 << 62] {
        let block = BlockSize::new(bytes).unwrap();
        for (action, access) in
            ACTIONS.into_iter().flat_map(|action| [(action, Access::All), (action, Access::DirtyOnly)])
        {
            let options = PlanOptions::new(MAX_END, block).unwrap().access(access).join_gaps(u64::MAX);
            let options = options.max_copy(u64::MAX).unwrap().max_zero(u64::MAX).unwrap();
            let list = [
                Extent::from_range(0..1, Action::Copy).unwrap(),
                Extent::from_range(1..MAX_END - 1, action).unwrap(),
                Extent::from_range(MAX_END - 1..MAX_END, Action::Copy).unwrap(),
            ];
            let totals = Plan::new(from_iter(list), options).measure().unwrap();
            assert_eq!(totals.bytes.sum(), MAX_END);
            assert!((1..=3).contains(&totals.requests()));
        }
    }
}

/// Counts the extents read.
struct Counted<'a, S>(S, &'a Cell<usize>);

impl<S: ExtentStream> ExtentSource for Counted<'_, S> {
    type Status = S::Status;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        self.1.set(self.1.get() + 1);
        self.0.next_extent()
    }
}

#[test]
fn a_plan_reads_a_few_extents_ahead_and_holds_no_more() {
    let read = Cell::new(0);
    let alternating = (0..1_000_000_u64).map(|n| {
        let action = if n % 2 == 0 { Action::Copy } else { Action::Skip };
        Extent::new(n * 4096, 4096, action).unwrap()
    });
    let options = PlanOptions::new(4096 * 1_000_000, BlockSize::new(4096).unwrap()).unwrap();
    let mut plan = Plan::new(Counted(from_iter(alternating), &read), options);
    assert_eq!(read.get(), 0, "nothing is read before it is asked for");
    for nth in 1..1000 {
        plan.next_step().unwrap().unwrap();
        assert!(read.get() <= 2 * nth + 2, "{} extents read for {nth} steps", read.get());
    }
    assert!(size_of_val(&plan) < 1024, "{} bytes", size_of_val(&plan));
}

/// The disk of a fragmented guest with two dirty blocks: five rows, and two requests.
#[test]
fn five_rows_and_two_requests() {
    let status = |n: u64| {
        let allocation = Allocation::from_flags(if n.is_multiple_of(2) { 3 } else { 0 });
        let dirty = Dirtiness::from_flags(u64::from(n == 1001 || n == 200_001));
        Status::UNKNOWN.with_allocation(allocation).with_bitmap(BitmapIndex::FIRST, dirty)
    };
    let disk = (0..300_000).map(|n| Extent::new(n * 4096, 4096, status(n)).unwrap());
    let size = 300_000 * 4096;
    let policy = Incremental::new(Baseline::new(size, Bitmaps::FIRST), size).unwrap();
    let actions = from_iter(disk).decide(policy);
    assert_eq!(actions.clone().collect_vec().unwrap().len(), 5);
    let options = PlanOptions::new(size, BlockSize::new(65536).unwrap()).unwrap();
    let totals = Plan::new(actions, options).measure().unwrap();
    assert_eq!((totals.requests(), totals.bytes.copy), (2, 2 * 65536));
}

/// Gaps: read through up to the stated length, unless the request would end in them.
#[test]
fn gaps_at_the_edge() {
    let extent = |start, end, action| Extent::from_range(start..end, action).unwrap();
    let list =
        [extent(0, 512, Action::Copy), extent(512, 1536, Action::Skip), extent(1536, 4096, Action::Copy)];
    let steps = |join, max| -> Result<Vec<_>, StreamError> {
        let options =
            PlanOptions::new(4096, BlockSize::SECTOR).unwrap().join_gaps(join).max_copy(max).unwrap();
        Plan::new(from_iter(list), options).map(|step| step.map(|step| (step.start(), step.end()))).collect()
    };
    assert_eq!(steps(1023, 8192).unwrap(), [(0, 512), (1536, 4096)]);
    assert_eq!(steps(1024, 8192).unwrap(), [(0, 4096)]);
    assert_eq!(steps(1024, 1536).unwrap(), [(0, 512), (1536, 3072), (3072, 4096)]);
    assert_eq!(steps(1024, 2048).unwrap(), [(0, 2048), (2048, 4096)]);
}

/// A gap is read through whatever the number of its extents, if equal neighbours join to at most 8
/// pieces. With more the plan holds no more of them: the gap is not joined.
#[test]
fn gaps_of_many_pieces() {
    let requests = |gap: &[Action]| {
        let actions = [&[Action::Copy], gap, &[Action::Copy]].concat();
        let list = actions.iter().zip(0..).map(|(action, at)| Extent::new(at * 512, 512, *action).unwrap());
        let options =
            PlanOptions::new(actions.len() as u64 * 512, BlockSize::SECTOR).unwrap().join_gaps(1 << 20);
        Plan::new(from_iter(list), options).measure().unwrap().requests()
    };
    let zero = Action::Zero { may_unmap: true };
    assert_eq!(requests(&[Action::Skip; 1000]), 1);
    assert_eq!(requests(&[zero, Action::Skip].repeat(4)), 1);
    // ten pieces: two copies and five zeroes
    assert_eq!(requests(&[zero, Action::Skip].repeat(5)), 2 + 5);
}
