//! A plan made the slow way, with the whole disk in memory: a label for each byte, and then one
//! request after the other.

use nbd_extents::Action;
use nbd_extents::plan::{Access, BlockSize, PlanOptions, PlanStep};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) block: u64,
    pub(crate) max_copy: u64,
    pub(crate) max_zero: u64,
    pub(crate) join_gaps: u64,
    pub(crate) access: Access,
}

impl Rules {
    pub(crate) fn options(&self, size: usize) -> PlanOptions {
        PlanOptions::new(size as u64, BlockSize::new(self.block).unwrap())
            .unwrap()
            .max_copy(self.max_copy)
            .unwrap()
            .max_zero(self.max_zero)
            .unwrap()
            .join_gaps(self.join_gaps)
            .access(self.access)
    }

    pub(crate) fn may_touch(&self, action: Action) -> bool {
        match action {
            Action::Copy | Action::Zero { .. } => true,
            Action::Skip => self.access == Access::All,
            Action::Absent => false,
        }
    }
}

/// The steps, directly from the rules in the documentation.
pub(crate) fn plan(disk: &[Action], rules: &Rules) -> Vec<PlanStep> {
    let labels = labels(disk, rules);
    let mut steps = Vec::new();
    let mut at = 0;
    while at < labels.len() {
        let end = match labels[at] {
            Action::Copy => copy_end(&labels, at, rules),
            Action::Zero { .. } => run_end(&labels, at).min(limit(at, rules.block, rules.max_zero)),
            _ => at + 1,
        };
        let range = at as u64..end as u64;
        match labels[at] {
            Action::Copy => steps.push(PlanStep::Copy { range }),
            Action::Zero { may_unmap } => steps.push(PlanStep::Zero { range, may_unmap }),
            _ => {}
        }
        at = end;
    }
    steps
}

/// Labels each byte with the action of its block, or of its part of the block if some bytes must
/// not be touched.
fn labels(disk: &[Action], rules: &Rules) -> Vec<Action> {
    let mut labels = Vec::new();
    for block in disk.chunks(usize::try_from(rules.block).unwrap()) {
        for piece in block.chunk_by(|a, b| rules.may_touch(*a) == rules.may_touch(*b)) {
            if rules.may_touch(piece[0]) {
                labels.extend(vec![label(piece, piece.len() == block.len()); piece.len()]);
            } else {
                labels.extend(piece);
            }
        }
    }
    labels
}

fn label(piece: &[Action], whole: bool) -> Action {
    let all = |wanted: fn(&Action) -> bool| piece.iter().all(wanted);
    if all(|action| *action == Action::Skip) {
        Action::Skip
    } else if whole && all(|action| matches!(action, Action::Zero { .. })) {
        Action::Zero { may_unmap: all(|action| *action == Action::Zero { may_unmap: true }) }
    } else {
        Action::Copy
    }
}

/// The end of the bytes from `at` on that have the same label.
fn run_end(labels: &[Action], at: usize) -> usize {
    at + labels[at..].iter().take_while(|label| **label == labels[at]).count()
}

fn limit(start: usize, block: u64, max: u64) -> usize {
    let end = start as u64 + max;
    usize::try_from(end - end % block).unwrap()
}

fn copy_end(labels: &[Action], start: usize, rules: &Rules) -> usize {
    let limit = limit(start, rules.block, rules.max_copy);
    let mut end = run_end(labels, start);
    while end < limit && end < labels.len() {
        let gap_length = labels[end..].iter().take_while(|label| **label != Action::Copy).count();
        let next = end + gap_length;
        let gap = &labels[end..next];
        let pieces = gap.chunk_by(PartialEq::eq).count();
        let readable = gap.iter().all(|label| rules.may_touch(*label));
        if next >= labels.len().min(limit) || gap_length as u64 > rules.join_gaps || pieces > 8 || !readable {
            break;
        }
        end = run_end(labels, next);
    }
    end.min(limit)
}
