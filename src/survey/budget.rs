//! The one byte budget of a survey: every payload that is held, in flight, being read or kept as a rest, is counted here.

/// Bytes of payload held, and how many may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: usize,
    used: usize,
    peak: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0, peak: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Whether so many bytes more would fit.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used.checked_add(bytes).is_some_and(|used| used <= self.limit)
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
        self.peak = self.peak.max(self.used);
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}
