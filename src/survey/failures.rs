//! How often the request for a range has failed, so that one which always fails ends the survey.

use alloc::vec::Vec;

/// The ranges that have failed, by where their requests start, and how often.
///
/// The first range that is not answered is always asked next. So it either is answered, and its count is
/// forgotten, or reaches the bound; the list stays as short as the number of requests in flight allows.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<(u64, u32)>);

impl Failures {
    /// Counts a failure of the request that starts at `start`. Returns the new count.
    pub(super) fn count(&mut self, start: u64) -> u32 {
        match self.0.iter_mut().find(|(other, _)| *other == start) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                self.0.push((start, 1));
                1
            }
        }
    }

    /// How often the request that starts at `start` has failed.
    pub(super) fn of(&self, start: u64) -> u32 {
        self.0.iter().find(|(other, _)| *other == start).map_or(0, |(_, count)| *count)
    }

    /// Forgets the request that starts at `start`: it has been answered, or is given up.
    pub(super) fn forget(&mut self, start: u64) {
        self.0.retain(|(other, _)| *other != start);
    }
}
