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
        let next = self.0.partition_point(|range| range.start < start);
        let before = next.checked_sub(1).and_then(|index| self.0.get(index));
        let after = self.0.get(next);
        if before.is_some_and(|range| range.end > start) || after.is_some_and(|range| range.start < end) {
            return Err(Misfit::Overlap);
        }
        let joins_before = before.is_some_and(|range| range.end == start);
        let joins_after = after.is_some_and(|range| range.start == end);
        let whole_start = before.filter(|_| joins_before).map_or(start, |range| range.start);
        let whole_end = after.filter(|_| joins_after).map_or(end, |range| range.end);
        let first = next - usize::from(joins_before);
        let last = next + usize::from(joins_after);
        if first == last && self.0.len() >= MOST_RANGES {
            return Err(Misfit::Scattered);
        }
        self.0.splice(first..last, core::iter::once(whole_start..whole_end));
        Ok(())
    }

    /// The first byte of a read of `length` bytes that has not come.
    pub(super) fn first_gap(&self, length: u64) -> Option<u64> {
        let gap = match self.0.first() {
            Some(range) if range.start == 0 => range.end,
            _ => 0,
        };
        (gap < length).then_some(gap)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
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
        fn as_a_dense_model(ranges in prop::collection::vec((0..40_u64, 1..9_u64), 0..30)) {
            let mut coverage = Coverage::default();
            let mut model = [false; 48];
            for (start, length) in ranges {
                let bytes = start as usize..(start + length) as usize;
                let fits = !model[bytes.clone()].iter().any(|&seen| seen);
                prop_assert_eq!(coverage.add(start, start + length).is_ok(), fits);
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
