//! The one byte budget of a survey. Every payload that is held (in flight, being read, or kept for comparison) is counted once, from
//! when it is taken until the last that reads it is gone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of payload held, and how many may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: Arc<AtomicUsize>,
    peak: usize,
}

/// A payload that counts against its budget as long as it exists.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    /// Where it counts.
    used: Option<Arc<AtomicUsize>>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::default(), peak: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Whether so many bytes more would stay within `limit`, which is the budget's own or a part of it.
    pub(super) fn has_room_for(&self, bytes: u64, limit: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed) as u64;
        used.checked_add(bytes).is_some_and(|used| used <= limit as u64)
    }

    /// How many bytes more would fit.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Counts a payload in.
    pub(super) fn hold(&mut self, bytes: Vec<u8>) -> Payload {
        let used = self.used.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        self.peak = self.peak.max(used);
        Payload { bytes, used: Some(Arc::clone(&self.used)) }
    }
}

impl Payload {
    /// A few bytes of our own making, which no budget counts.
    pub(super) fn uncounted(bytes: Vec<u8>) -> Self {
        Self { bytes, used: None }
    }

    pub(super) fn is_counted(&self) -> bool {
        self.used.is_some()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(used) = &self.used {
            used.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}
