//! Which bytes of a read have come: chunks may arrive in any order, but each byte once, and all of
//! them in the end.

use core::ops::Range;

/// More than an honest answer has: every second block of 4 KiB of the longest read, which is 32
/// MiB.
const MOST_RANGES: usize = 8192;

/// Positions in a read, as sorted ranges that neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Coverage(Vec<Range<u64>>);

/// Why a range cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Some of it has come before.
    Overlap,
    /// It would be one range too many to remember.
    Scattered,
}

impl Coverage {
    /// Notes that the bytes from `start` to `end`, which is beyond it, have come.
    pub(super) fn add(&mut self, start: u64, end: u64) -> Result<(), Misfit> {
        // the ranges that it overlaps or touches
        let first = self.0.partition_point(|range| range.end < start);
        let last = self.0.partition_point(|range| range.start <= end);
        let near = self.0.get(first..last).unwrap_or_default();
        if near.iter().any(|range| range.start < end && start < range.end) {
            return Err(Misfit::Overlap);
        }
        if near.is_empty() && self.0.len() >= MOST_RANGES {
            return Err(Misfit::Scattered);
        }
        let whole_start = near.first().map_or(start, |range| range.start.min(start));
        let whole_end = near.last().map_or(end, |range| range.end.max(end));
        self.0.splice(first..last, core::iter::once(whole_start..whole_end));
        Ok(())
    }

    /// The first byte of a read of `length` bytes that has not come.
    pub(super) fn first_gap(&self, length: u64) -> Option<u64> {
        let gap = self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end);
        (gap < length).then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_range_that_is_remembered() {
        let mut coverage = Coverage::default();
        for nth in 0..MOST_RANGES as u64 {
            coverage.add(nth * 2, nth * 2 + 1).unwrap();
        }
        assert_eq!(coverage.add(1 << 30, (1 << 30) + 1), Err(Misfit::Scattered));
        // what joins two makes room
        coverage.add(1, 2).unwrap();
        coverage.add(1 << 30, (1 << 30) + 1).unwrap();
    }

    proptest! {
        /// Against one flag a byte.
        #[test]
        fn as_a_dense_model(ranges in prop::collection::vec((0..40_usize, 1..9_usize), 0..30)) {
            let mut coverage = Coverage::default();
            let mut model = [false; 48];
            for (start, length) in ranges {
                let bytes = start..start + length;
                let fits = !model[bytes.clone()].iter().any(|&seen| seen);
                prop_assert_eq!(coverage.add(start as u64, (start + length) as u64).is_ok(), fits);
                if fits {
                    model[bytes].fill(true);
                }
                for end in [1, 20, 48] {
                    let gap = model[..end].iter().position(|&seen| !seen).map(|gap| gap as u64);
                    prop_assert_eq!(coverage.first_gap(end as u64), gap);
                }
            }
        }
    }
}
