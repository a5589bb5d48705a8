//! The bytes of each action, known before the first byte moves.

use super::Action;
use crate::extent::Extent;
use crate::stream::ExtentStream;

/// The number of bytes that a stream of actions copies, zeroes, skips, and finds absent.
///
/// These are the bytes decided about. A plan may read more, since it works in whole blocks:
/// [`PlanTotals`](crate::plan::PlanTotals) counts that.
///
/// ```
/// use nbd_extents::action::Totals;
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Action, Extent};
///
/// let actions =
///     [Extent::new(0, 4096, Action::Copy)?, Extent::new(4096, 512, Action::Skip)?];
/// let totals = Totals::of(from_iter(actions))?;
/// assert_eq!((totals.copy, totals.skip, totals.sum()), (4096, 512, 4608));
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Totals {
    /// Bytes to read and store.
    pub copy: u64,
    /// Bytes to zero.
    pub zero: u64,
    /// Bytes to leave as they are.
    pub skip: u64,
    /// Bytes that the layer does not hold.
    pub absent: u64,
}

impl Totals {
    /// Counts a whole stream. To keep the stream, count a clone of it.
    ///
    /// # Errors
    ///
    /// The stream's first error.
    pub fn of<S: ExtentStream<Status = Action>>(stream: S) -> Result<Self, S::Error> {
        stream.fold(Self::default(), |mut totals, extent| {
            totals.add(&extent);
            totals
        })
    }

    /// Counts one more extent.
    ///
    /// ```
    /// use nbd_extents::action::Totals;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let mut totals = Totals::default();
    /// totals.add(&Extent::new(0, 512, Action::Zero { may_unmap: true })?);
    /// assert_eq!(totals.zero, 512);
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    pub fn add(&mut self, extent: &Extent<Action>) {
        let bytes = match extent.status() {
            Action::Copy => &mut self.copy,
            Action::Zero { .. } => &mut self.zero,
            Action::Skip => &mut self.skip,
            Action::Absent => &mut self.absent,
        };
        *bytes = bytes.saturating_add(extent.length());
    }

    /// The sum of all bytes: the size of the disk, if the stream covers it.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.copy.saturating_add(self.zero).saturating_add(self.skip).saturating_add(self.absent)
    }
}
