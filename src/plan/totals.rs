//! What a plan costs.

use super::PlanStep;
use crate::action::Totals;

/// The bytes and requests of a plan, or of the part of it that has been read: see [`Plan::measure`](super::Plan::measure) and
/// [`Plan::totals`](super::Plan::totals).
///
/// The bytes of a whole plan add up to the size of the disk. Clean bytes that a copy takes along count as copied.
///
/// ```
/// use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Action, Extent};
///
/// let actions = [Extent::new(0, 2048, Action::Zero { may_unmap: true })?, Extent::new(2048, 2048, Action::Copy)?];
/// let options = PlanOptions::new(4096, BlockSize::SECTOR)?.max_copy(1024)?;
/// let totals = Plan::new(from_iter(actions), options).measure()?;
/// assert_eq!((totals.copies, totals.zeroes, totals.bytes.sum()), (2, 1, 4096));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlanTotals {
    /// Bytes to copy and to zero, and bytes that are passed over.
    pub bytes: Totals,
    /// Requests that copy.
    pub copies: u64,
    /// Requests that zero.
    pub zeroes: u64,
}

impl PlanTotals {
    /// All requests together.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.copies.saturating_add(self.zeroes)
    }

    /// Counts one step more. For callers who keep count of the steps that are done.
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
