//! The cost of a plan.

use super::PlanStep;
use crate::action::Totals;

/// The bytes and requests of a plan, or of the part of it already read.
///
/// See [`Plan::measure`](super::Plan::measure) and [`Plan::totals`](super::Plan::totals).
///
/// The bytes of a whole plan add up to the size of the disk. Clean bytes within a copy count as
/// copied.
///
/// ```
/// use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Action, Extent};
///
/// let actions = [
///     Extent::new(0, 2048, Action::Zero { may_unmap: true })?,
///     Extent::new(2048, 2048, Action::Copy)?,
/// ];
/// let options = PlanOptions::new(4096, BlockSize::SECTOR)?.max_copy(1024)?;
/// let totals = Plan::new(from_iter(actions), options).measure()?;
/// assert_eq!((totals.copies, totals.zeroes, totals.bytes.sum()), (2, 1, 4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlanTotals {
    /// Bytes to copy, to zero and to pass over.
    pub bytes: Totals,
    /// The number of requests that copy.
    pub copies: u64,
    /// The number of requests that zero.
    pub zeroes: u64,
}

impl PlanTotals {
    /// The number of all requests.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.copies.saturating_add(self.zeroes)
    }

    /// Counts one more step, for callers that count completed steps.
    ///
    /// ```
    /// use nbd_extents::plan::{PlanStep, PlanTotals};
    ///
    /// let mut done = PlanTotals::default();
    /// done.add(&PlanStep::Copy { range: 0..4096 });
    /// assert_eq!((done.bytes.copy, done.requests()), (4096, 1));
    /// ```
    pub fn add(&mut self, step: &PlanStep) {
        let (bytes, requests) = match step {
            PlanStep::Copy { .. } => (&mut self.bytes.copy, &mut self.copies),
            PlanStep::Zero { .. } => (&mut self.bytes.zero, &mut self.zeroes),
        };
        *bytes = bytes.saturating_add(step.length());
        *requests = requests.saturating_add(1);
    }
}
