//! The failures of each range, so that a range that always fails ends the survey.

use alloc::vec::Vec;

/// The start of each failed range, and its number of failures.
///
/// The survey always requests the first unanswered range next. So that range either is answered,
/// and its count is forgotten, or reaches the bound; the list is never longer than the number of
/// requests in flight allows.
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

    /// The number of failures of the request that starts at `start`.
    pub(super) fn of(&self, start: u64) -> u32 {
        self.0.iter().find(|(other, _)| *other == start).map_or(0, |(_, count)| *count)
    }

    /// Forgets the request that starts at `start`, once it is answered or given up.
    pub(super) fn forget(&mut self, start: u64) {
        self.0.retain(|(other, _)| *other != start);
    }
}
