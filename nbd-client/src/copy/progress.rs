//! How far a copy is, for whoever watches it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A copy as it stands at one moment, in bytes.
///
/// ```
/// use nbd_client::copy::CopyProgress;
///
/// let mut now = CopyProgress::default();
/// (now.size, now.planned_to, now.to_copy, now.copied) = (1 << 30, 1 << 29, 1000, 500);
/// // half of the disk is planned, and half of that is done
/// assert_eq!(now.estimated_to_copy(), 2000);
/// // a plan that has just counted a piece does not make the copy larger than the disk
/// (now.planned_to, now.to_copy) = (4096, 8192);
/// assert_eq!(now.estimated_to_copy(), 1 << 30);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyProgress {
    /// The size of the source.
    pub size: u64,
    /// The plan is known up to this byte of the source.
    pub planned_to: u64,
    /// Bytes that the plan copies.
    pub to_copy: u64,
    /// Bytes that the plan makes zero.
    pub to_zero: u64,
    /// Bytes that are on the target.
    pub copied: u64,
    /// Bytes that were made zero, or read as zero already.
    pub zeroed: u64,
    /// Bytes of those that the target's block status showed as zero: nothing was written.
    pub zero_already: u64,
    /// Bytes that were read back and compared.
    pub verified: u64,
    /// A write has been started: the target is no longer as it was.
    pub has_written: bool,
}

impl CopyProgress {
    /// The bytes that the whole copy will move, if the rest of the disk is like its planned part.
    #[must_use]
    pub fn estimated_to_copy(&self) -> u64 {
        let Some(rest) = self.size.checked_sub(self.planned_to).filter(|_| self.planned_to > 0) else {
            return self.to_copy;
        };
        let more = u128::from(self.to_copy) * u128::from(rest) / u128::from(self.planned_to);
        let all = self.to_copy.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        // the two counters are not read at one moment; a chain may restore a byte more than once
        all.min(self.size.max(self.to_copy))
    }
}

/// Watches a copy from any thread. Clones watch the same one. A program with a loop of its own
/// counts here what it moves.
///
/// ```
/// use nbd_client::copy::CopyMonitor;
///
/// let monitor = CopyMonitor::new(1 << 30);
/// let watched = monitor.clone();
/// monitor.plan_copy(4096);
/// monitor.add_copied(1024);
/// assert_eq!((watched.progress().to_copy, watched.progress().copied), (4096, 1024));
/// ```
#[derive(Clone, Debug, Default)]
pub struct CopyMonitor(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    size: AtomicU64,
    planned_to: AtomicU64,
    to_copy: AtomicU64,
    to_zero: AtomicU64,
    copied: AtomicU64,
    zeroed: AtomicU64,
    zero_already: AtomicU64,
    verified: AtomicU64,
    has_written: AtomicBool,
}

impl CopyMonitor {
    /// Nothing is planned of a disk of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self(Arc::new(Counters { size: AtomicU64::new(size), ..Counters::default() }))
    }

    /// The copy as it stands now.
    #[must_use]
    pub fn progress(&self) -> CopyProgress {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters {
            size,
            planned_to,
            to_copy,
            to_zero,
            copied,
            zeroed,
            zero_already,
            verified,
            has_written,
        } = &*self.0;
        CopyProgress {
            size: load(size),
            planned_to: load(planned_to),
            to_copy: load(to_copy),
            to_zero: load(to_zero),
            copied: load(copied),
            zeroed: load(zeroed),
            zero_already: load(zero_already),
            verified: load(verified),
            has_written: has_written.load(Ordering::Relaxed),
        }
    }

    /// Counts bytes that will be copied.
    pub fn plan_copy(&self, bytes: u64) {
        self.0.to_copy.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn plan_zero(&self, bytes: u64) {
        self.0.to_zero.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Everything before this byte is planned.
    pub fn plan_to(&self, offset: u64) {
        self.0.planned_to.store(offset, Ordering::Relaxed);
    }

    /// Counts bytes that were copied.
    pub fn add_copied(&self, bytes: u64) {
        self.0.copied.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that are zero now.
    pub fn add_zeroed(&self, bytes: u64) {
        self.0.zeroed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_zero_already(&self, bytes: u64) {
        self.0.zero_already.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_verified(&self, bytes: u64) {
        self.0.verified.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that a write is started: the target is no longer as it was.
    pub fn begin_to_write(&self) {
        self.0.has_written.store(true, Ordering::Relaxed);
    }
}
