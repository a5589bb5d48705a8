//! Resuming an interrupted plan.

/// The point from which a plan can resume: see [`Plan::position`](super::Plan::position).
///
/// [`PlanOptions::resume`](super::PlanOptions::resume) takes it. It is two plain numbers, to be
/// saved in any form.
///
/// ```
/// use nbd_extents::plan::PlanPosition;
///
/// assert!(!PlanPosition { offset: 4096, size: 8192 }.is_end());
/// assert!(PlanPosition { offset: 8192, size: 8192 }.is_end());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanPosition {
    /// The first byte that has not been handled.
    pub offset: u64,
    /// The size of the disk, in bytes.
    pub size: u64,
}

impl PlanPosition {
    /// True if nothing is left to do.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.offset >= self.size
    }
}
