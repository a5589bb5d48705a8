//! `plans`: the input is a saved position from an unknown source, options, and actions that need
//! not cover the disk. Asserts that exactly the positions on the disk are accepted, that exactly
//! the actions that cover the rest of the disk make a plan, and that its requests, applied to the
//! old target, give the new disk from the position on and touch no forbidden byte.
//!
//! ```text
//! disk      size:2 (modulo 500)
//! options   block:1 (2^0 to 2^7) max copy:1 max zero:1 (blocks, plus 1) join:1
//!           dirty only:1 (bit 0)
//! position  offset:8 size:8 (xor the disk's size)
//! again     step:1 (after which the plan resumes)
//! actions   {gap and length - 1:1 (4 bits each) action:1 (modulo 5)}*
//! ```

use super::bytes::Bytes;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions, PlanPosition, PlanStep, PlanTotals};
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Extent};

pub fn plans(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let size = bytes.below(500) as u64;
    let rules = PlanRules::read(&mut bytes);
    let saved = PlanPosition { offset: bytes.u64(), size: bytes.u64() ^ size };
    let again = usize::from(bytes.u8());
    let actions = actions(&mut bytes);

    let resumed = rules.options(size).resume(saved);
    assert_eq!(resumed.is_ok(), saved.size == size && saved.offset <= size, "{saved:?}: {resumed:?}");
    let (options, start) = match resumed {
        Ok(options) => (options, saved.offset),
        Err(_) => (rules.options(size), 0),
    };

    let mut plan = Plan::new(from_iter(actions.clone()), options);
    let before = plan.clone().measure();
    let mut steps = Vec::new();
    let end = loop {
        match plan.next_step() {
            Ok(Some(step)) => steps.push(step),
            end => break end,
        }
    };
    assert_eq!(end.is_ok(), covers(&actions, start..size), "{end:?}");
    assert_eq!(plan.next_step(), Ok(None), "it is over");
    if let Err(error) = end {
        assert_eq!(before, Err(error));
        assert_eq!(plan.position().offset, steps.last().map_or(start, PlanStep::end));
        return;
    }
    assert!(plan.position().is_end());
    assert_eq!(before, Ok(plan.totals()));
    totals(&plan.totals(), &steps, size - start);
    apply(&actions, &steps, &rules, start..size);

    let done = again.min(steps.len());
    let offset = done.checked_sub(1).map_or(start, |last| steps[last].end());
    let options = rules.options(size).resume(PlanPosition { offset, size }).unwrap();
    let rest: Vec<_> = Plan::new(from_iter(actions), options).map(Result::unwrap).collect();
    assert_eq!(rest, steps[done..]);
}

/// The requested options.
#[derive(Clone, Copy, Debug)]
struct PlanRules {
    block: u64,
    max_copy: u64,
    max_zero: u64,
    join: u64,
    access: Access,
}

impl PlanRules {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let block = 1 << (bytes.u8() % 8);
        let max = |blocks: u8| block * (u64::from(blocks) + 1) + u64::from(blocks % 3);
        let (max_copy, max_zero) = (max(bytes.u8()), max(bytes.u8()));
        let join = u64::from(bytes.u8());
        let access = if bytes.u8() & 1 == 1 { Access::DirtyOnly } else { Access::All };
        Self { block, max_copy, max_zero, join, access }
    }

    fn options(&self, size: u64) -> PlanOptions {
        let options = PlanOptions::new(size, BlockSize::new(self.block).unwrap()).unwrap();
        let options = options.max_copy(self.max_copy).unwrap().max_zero(self.max_zero).unwrap();
        options.join_gaps(self.join).access(self.access)
    }

    fn may_touch(&self, action: Action) -> bool {
        match action {
            Action::Copy | Action::Zero { .. } => true,
            Action::Skip => self.access == Access::All,
            Action::Absent => false,
        }
    }
}

fn actions(bytes: &mut Bytes<'_>) -> Vec<Extent<Action>> {
    const ACTIONS: [Action; 5] = [
        Action::Copy,
        Action::Zero { may_unmap: true },
        Action::Zero { may_unmap: false },
        Action::Skip,
        Action::Absent,
    ];
    let (mut list, mut at) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let shape = u64::from(bytes.u8());
        let start = at + (shape >> 4);
        at = start + (shape & 15) + 1;
        list.push(Extent::from_range(start..at, ACTIONS[usize::from(bytes.u8() % 5)]).unwrap());
    }
    list
}

/// True if they cover the rest of the disk and do not exceed its end. Actions before the rest do
/// not matter.
fn covers(actions: &[Extent<Action>], rest: core::ops::Range<u64>) -> bool {
    let covered: u64 =
        actions.iter().filter_map(|extent| extent.clip(&rest)).map(|extent| extent.length()).sum();
    covered == rest.end - rest.start && actions.iter().all(|extent| extent.end() <= rest.end)
}

fn totals(totals: &PlanTotals, steps: &[PlanStep], bytes: u64) {
    let mut sum = PlanTotals::default();
    steps.iter().for_each(|step| sum.add(step));
    assert_eq!((totals.copies, totals.zeroes), (sum.copies, sum.zeroes));
    assert_eq!((totals.bytes.copy, totals.bytes.zero), (sum.bytes.copy, sum.bytes.zero));
    assert_eq!(totals.bytes.sum(), bytes);
}

/// Executes the steps on the old target, byte by byte.
fn apply(actions: &[Extent<Action>], steps: &[PlanStep], rules: &PlanRules, rest: core::ops::Range<u64>) {
    let mut disk = vec![Action::Skip; rest.end as usize];
    for extent in actions {
        disk[extent.start() as usize..extent.end() as usize].fill(*extent.status());
    }
    // old bytes are 1; new ones are 2, or 0 where they are zero
    let new = |at: u64| match disk[at as usize] {
        Action::Copy => 2,
        Action::Zero { .. } => 0,
        Action::Skip | Action::Absent => 1,
    };
    let mut target = vec![1; disk.len()];
    let mut last = rest.start;
    for step in steps {
        assert!(last <= step.start() && step.start() < step.end() && step.end() <= rest.end, "{step}");
        last = step.end();
        let max = if matches!(step, PlanStep::Copy { .. }) { rules.max_copy } else { rules.max_zero };
        assert!(step.length() <= max, "{step} is longer than {max}");
        // whole blocks, except at the ends of the remaining range and, for copies, beside bytes
        // that must not be touched
        let beside = |at: Option<u64>| {
            let copies = matches!(step, PlanStep::Copy { .. });
            copies && at.is_some_and(|at| !rules.may_touch(disk[at as usize]))
        };
        let from_start = step.start() == rest.start && matches!(step, PlanStep::Copy { .. });
        let starts = step.start() % rules.block == 0 || from_start || beside(step.start().checked_sub(1));
        let ends = step.end() % rules.block == 0 || step.end() == rest.end || beside(Some(step.end()));
        assert!(starts && ends, "{step} in blocks of {}", rules.block);
        for at in step.range().clone() {
            assert!(rules.may_touch(disk[at as usize]), "{step} touches byte {at}");
            target[at as usize] = match step {
                PlanStep::Copy { .. } => new(at),
                PlanStep::Zero { may_unmap, .. } => {
                    assert!(!may_unmap || disk[at as usize] == Action::Zero { may_unmap: true }, "{step}");
                    0
                }
            };
        }
    }
    for at in rest {
        assert_eq!(target[at as usize], new(at), "byte {at}");
    }
}
