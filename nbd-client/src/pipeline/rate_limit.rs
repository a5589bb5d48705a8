//! The limit on bytes a second.

use core::time::Duration;
use std::time::Instant;

/// Lets a number of bytes through each second: says how long the next ones have to wait.
///
/// ```
/// use nbd_client::pipeline::RateLimit;
/// use std::time::Duration;
///
/// let mut limit = RateLimit::new(1 << 20);
/// assert_eq!(limit.delay(2 << 20), Duration::ZERO, "the first bytes go at once");
/// // they take two seconds
/// assert!(limit.delay(1) > Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    rate: u64,
    next: Instant,
}

impl RateLimit {
    /// The time that a pipeline may catch up on, after it was slower than its limit.
    const BURST: Duration = Duration::from_millis(100);

    /// A limit of `rate` bytes a second, at least 1.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), next: Instant::now() }
    }

    /// The time until `bytes` bytes may go. They count as gone then.
    pub fn delay(&mut self, bytes: u64) -> Duration {
        let now = Instant::now();
        // a pipeline that was slower than its limit may catch up on one burst, not on all of its
        // delay
        self.next = self.next.max(now.checked_sub(Self::BURST).unwrap_or(now));
        let delay = self.next.saturating_duration_since(now);
        // longer than any run
        let longest = Duration::from_secs(1 << 30);
        let takes = Duration::try_from_secs_f64(bytes as f64 / self.rate as f64).unwrap_or(longest);
        self.next = self.next.checked_add(takes.min(longest)).unwrap_or(self.next);
        delay
    }
}
