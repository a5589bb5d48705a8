//! The byte budget of a survey. Every payload held (in flight, being read, or retained for
//! comparison) counts once, from its arrival until its last reader is gone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of payload held, and their limit.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limit: usize,
    used: Arc<AtomicUsize>,
    /// The most bytes that were held at one time.
    pub(super) peak: usize,
}

/// A payload that counts against its budget as long as it exists.
#[derive(Debug)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    /// The counter that includes this payload.
    used: Option<Arc<AtomicUsize>>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: Arc::default(), peak: 0 }
    }

    /// True if `bytes` more would stay within `limit`, which is the budget's own or a part of it.
    pub(super) fn has_room_for(&self, bytes: u64, limit: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed) as u64;
        used.checked_add(bytes).is_some_and(|used| used <= limit as u64)
    }

    /// The number of bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Adds a payload to the budget, by the memory that it occupies.
    ///
    /// A caller may hand over a large buffer of which little is used. Room was requested by the
    /// length, so the rest goes back to the allocator first.
    pub(super) fn hold(&mut self, mut bytes: Vec<u8>) -> Payload {
        bytes.shrink_to_fit();
        let held = bytes.capacity();
        let used = self.used.fetch_add(held, Ordering::Relaxed) + held;
        self.peak = self.peak.max(used);
        Payload { bytes, used: Some(Arc::clone(&self.used)) }
    }
}

impl Payload {
    /// A few bytes made by the library, which no budget counts.
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
            used.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers of 1 MiB that hold a few bytes must not occupy a thousand times the counted memory.
    #[test]
    fn what_is_counted_is_what_is_held() {
        let mut budget = Budget::new(1 << 20);
        let mut buffer = Vec::with_capacity(1 << 20);
        buffer.extend([0; 100]);
        let payload = budget.hold(buffer);
        assert_eq!((payload.bytes.capacity(), budget.peak), (100, 100));
        assert_eq!(budget.room(), (1 << 20) - 100);
        drop(payload);
        assert_eq!(budget.room(), 1 << 20);
    }
}
