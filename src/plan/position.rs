//! Taking up an interrupted plan where it ended.

/// Where an interrupted plan can be taken up: see [`Plan::position`](super::Plan::position) and
/// [`PlanOptions::resume`](super::PlanOptions::resume). Two plain numbers, to be saved in whatever form.
///
/// ```
/// use nbd_extents::plan::PlanPosition;
///
/// assert!(!PlanPosition { offset: 4096, size: 8192 }.is_end());
/// assert!(PlanPosition { offset: 8192, size: 8192 }.is_end());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanPosition {
    /// The first byte that has not been dealt with.
    pub offset: u64,
    /// The size of the disk, in bytes.
    pub size: u64,
}

impl PlanPosition {
    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.offset >= self.size
    }
}
