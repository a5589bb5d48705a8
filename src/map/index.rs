//! Samples of the ends of a map's runs, and samples of the samples, for look-ups. A binary search
//! in a hundred million ends misses the cache at nearly every step; with samples a look-up reads a
//! few neighbouring cache lines of each level. They cost an eighth of a byte per run.

use alloc::vec::Vec;
use core::ops::Range;

/// The number of entries of the level below that one sample stands for.
pub(super) const FANOUT: usize = 64;
/// The coarsest level of a map of a hundred million runs has 381 samples.
const LEVELS: usize = 3;

/// The samples, from the finest level to the coarsest.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Entry `n` is the last end of group `n` of the level below, `FANOUT` entries each. The last
    /// entry of a level is never sampled, since it may still grow. Entries without a sample are
    /// found as well, only more slowly.
    levels: [Vec<u64>; LEVELS],
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { levels: [const { Vec::new() }; LEVELS] }
    }

    /// Samples the entries added to `ends` since the last call.
    pub(super) fn extend(&mut self, ends: &[u64]) {
        let mut below = ends;
        for level in &mut self.levels {
            let whole_groups = below.len().saturating_sub(1) / FANOUT;
            let groups = below.chunks_exact(FANOUT).take(whole_groups).skip(level.len());
            level.extend(groups.filter_map(|group| group.last()));
            below = level;
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.levels.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// The memory that the index occupies, in bytes.
    pub(super) fn memory_usage(&self) -> usize {
        self.levels.iter().map(|level| level.capacity() * size_of::<u64>()).sum()
    }

    /// A range of runs that contains the run over byte `offset`. It may reach beyond the last run.
    #[inline]
    pub(super) fn runs_around(&self, offset: u64) -> Range<usize> {
        let mut around = 0..usize::MAX;
        for level in self.levels.iter().rev() {
            let last = around.end.min(level.len());
            // a group without samples yet is empty, and the search goes on in the level below
            let samples = level.get(around.start..last).unwrap_or_default();
            let group = around.start + samples.partition_point(|&end| end <= offset);
            // beyond the last sample the group has no known end
            let end = if group < level.len() { (group + 1) * FANOUT } else { usize::MAX };
            around = group * FANOUT..end;
        }
        around
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every list of ends finds each byte in the same group as a search of the whole list, whatever
    /// part of it has been sampled.
    #[test]
    fn the_run_is_always_around() {
        for runs in [0_u64, 1, 63, 64, 65, 66, 128, 129, 4096, 4097, 4160, 4161, 10_000, 300_000] {
            let ends: Vec<u64> = (1..=runs).map(|n| n * 3).collect();
            for sampled in [0, runs / 3, runs.saturating_sub(1), runs] {
                let mut index = Index::new();
                index.extend(&ends[..usize::try_from(sampled).unwrap()]);
                let step = usize::try_from(1 + runs / 500).unwrap();
                for offset in (0..runs * 3 + 2).step_by(step) {
                    let run = ends.partition_point(|&end| end <= offset);
                    let around = index.runs_around(offset);
                    assert!(around.start <= run && run <= around.end, "{offset} of {runs}: {around:?}");
                }
            }
        }
    }

    #[test]
    fn samples_added_in_steps_are_those_added_at_once() {
        let ends: Vec<u64> = (0..20_000).collect();
        let (mut once, mut steps) = (Index::new(), Index::new());
        once.extend(&ends);
        for length in (0..ends.len()).step_by(37).chain([ends.len()]) {
            steps.extend(&ends[..length]);
        }
        assert_eq!(once.levels, steps.levels);
        let samples: usize = once.levels.iter().map(Vec::len).sum();
        assert!(samples <= ends.len() / (FANOUT - 1), "{samples}");
        once.shrink_to_fit();
        assert_eq!(once.memory_usage(), samples * 8);
        assert!(once.runs_around(9_999).len() == FANOUT);
    }
}
