//! The kernel of a reader that does not want everything, or everything apart: what the two lists have in common, of what is wanted.

use super::intervals::{INTERVALS, Intervals};
use super::key::FLAGS;
use super::ranges::Ranges;
use super::side::Side;
use super::tile::{NARROW, Segment};
use super::verdicts::{Joining, Picks, Verdicts};
use super::{Progress, dispatch, overlaps, runs};
use crate::wire::RawDescriptor;

/// The descriptors of one side that are read at once where there are no runs.
const WIDE: usize = 2 * INTERVALS;
/// The same at the start, where nothing is known of the lists.
const FIRST: usize = 128;
/// So often they are read before runs are looked for again.
const ROUNDS: usize = 8;

/// The working memory of this kernel. It lies on the stack of one `fold`, and stays in the nearest cache.
#[derive(Debug)]
pub(crate) struct Picker {
    left: Intervals,
    right: Intervals,
    ranges: Ranges,
    verdicts: Verdicts,
    /// Where the merge stands.
    position: u64,
    /// So many descriptors of a side are read at once: few where there was a run a moment ago.
    width: usize,
    /// So many rounds are left of a stretch of any shape, of which the intervals are there.
    rounds: usize,
}

impl Picker {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            left: Intervals::new(),
            right: Intervals::new(),
            ranges: Ranges::new(),
            verdicts: Verdicts::default(),
            position: 0,
            width: FIRST,
            rounds: 0,
        }
    }

    /// What is wanted of the stretch that was merged last.
    #[inline]
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        self.ranges.segments()
    }

    /// Merges the next stretch from where both sides stand, which may move only with a later one. `false` where the plain way must go on: then they stand there.
    pub(super) fn next<R: RawDescriptor>(
        &mut self,
        left: &mut Side<'_, R>,
        right: &mut Side<'_, R>,
        picks: &Picks<'_>,
    ) -> bool {
        if left.start != right.start {
            return false;
        }
        loop {
            if self.rounds == 0 {
                if self.run(left, right, picks) {
                    return true;
                }
                if !self.begin(left, right, picks) {
                    return false;
                }
            }
            let read = self.read(left.list, right.list);
            let held = read.is_none_or(|(a, b)| self.verdicts.hold_for(a, b, picks));
            let merged = read.is_some() && held;
            if merged {
                self.overlaps();
                self.rounds -= 1;
                self.width = WIDE.min(2 * self.width);
            }
            // what was judged by less than is known now is read again
            if !merged || self.rounds == 0 {
                self.leave(left, right);
            }
            if merged || held {
                return merged;
            }
        }
    }

    /// A run, if there is one.
    fn run<R: RawDescriptor>(
        &mut self,
        left: &mut Side<'_, R>,
        right: &mut Side<'_, R>,
        picks: &Picks<'_>,
    ) -> bool {
        let Self { ranges, verdicts, .. } = self;
        let mut unwanted = |shift, bits, other| verdicts.unwanted(shift, bits, other, picks);
        let Some(run) = dispatch(|| runs::any(left, right, &mut ranges.cuts, Some(&mut unwanted))) else {
            return false;
        };
        let [a, b] = run.flags;
        verdicts.hold_for(a, b, picks);
        ranges.base = left.start;
        ranges.keep(run.len, verdicts.wanted);
        let Progress { position, left: a, right: b } = run.progress;
        left.pass(a, position);
        right.pass(b, position);
        self.width = NARROW;
        true
    }

    /// Begins a stretch of any shape. `false` where the plain way must go on.
    fn begin<R: RawDescriptor>(
        &mut self,
        left: &Side<'_, R>,
        right: &Side<'_, R>,
        picks: &Picks<'_>,
    ) -> bool {
        let first = |side: &Side<'_, R>| {
            let front = side.list.get(..NARROW).unwrap_or(side.list);
            R::measure(front).flags | side.flags
        };
        // a look ahead, so that less has to be read again
        self.verdicts.hold_for(first(left) % FLAGS, first(right) % FLAGS, picks);
        let [classes, others] = &self.verdicts.classes;
        let fits = self.left.restart(left, classes) && self.right.restart(right, others);
        self.position = left.start;
        self.rounds = if self.width == NARROW { 1 } else { ROUNDS };
        if !fits {
            self.rounds = 0;
        }
        fits
    }

    /// Ends it: both sides stand where the merge stands.
    fn leave<R: RawDescriptor>(&mut self, left: &mut Side<'_, R>, right: &mut Side<'_, R>) {
        left.pass(self.left.used(left, self.position), self.position);
        right.pass(self.right.used(right, self.position), self.position);
        self.rounds = 0;
    }

    /// Reads on the side that is behind, or both. Returns the bits of their flags; `None` where the plain way must go on.
    fn read<R: RawDescriptor>(&mut self, left: &[R], right: &[R]) -> Option<(u64, u64)> {
        let Verdicts { classes: [classes, others], joining, .. } = &self.verdicts;
        let (left_end, right_end) = (self.left.end(), self.right.end());
        let mut flags = (0, 0);
        if left_end <= right_end {
            flags.0 = self.left.read(left, self.width, self.position, classes, *joining)?;
        }
        if right_end <= left_end {
            flags.1 = self.right.read(right, self.width, self.position, others, *joining)?;
        }
        Some(flags)
    }

    /// What is wanted up to where the side ends that is behind: until there, all is known of both.
    fn overlaps(&mut self) {
        let Self { left, right, ranges, verdicts, .. } = self;
        let end = left.end().min(right.end());
        let lens = (left.upto(end), right.upto(end));
        ranges.base = self.position;
        ranges.code = verdicts.code;
        match (verdicts.joining, verdicts.exact) {
            (Joining::All, _) => overlaps::find::<false, true>(left, right, lens, verdicts.wanted, ranges),
            (_, true) => overlaps::find::<true, true>(left, right, lens, verdicts.wanted, ranges),
            (_, false) => overlaps::find::<true, false>(left, right, lens, verdicts.wanted, ranges),
        }
        left.pass(lens.0, end);
        right.pass(lens.1, end);
        self.position += end;
    }
}
