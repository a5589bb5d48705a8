//! Ending a wait of another thread.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// Ends a wait of the thread that drives a transport.
///
/// The thread says when it is about to wait and then looks for work once more; only a call between
/// the two and the end of the wait costs a system call. Clones are the same waker.
///
/// ```
/// use nbd_client::transport::Waker;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
///
/// let calls = Arc::new(AtomicU32::new(0));
/// let seen = Arc::clone(&calls);
/// let waker = Waker::new(move || {
///     seen.fetch_add(1, Ordering::SeqCst);
/// });
/// waker.wake();
/// assert_eq!(calls.load(Ordering::SeqCst), 0, "nobody waits");
/// waker.will_wait();
/// waker.wake();
/// waker.wake();
/// assert_eq!(calls.load(Ordering::SeqCst), 1);
/// ```
#[derive(Clone)]
pub struct Waker(Arc<WakerState>);

struct WakerState {
    waits: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("waits", &self.0.waits).finish_non_exhaustive()
    }
}

impl Waker {
    /// A waker that ends a wait by calling `wake`, from any thread.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(WakerState { waits: AtomicBool::new(false), wake: Box::new(wake) }))
    }

    /// Says that a wait begins. Work that was handed over before this is seen by a look after it.
    pub fn will_wait(&self) {
        self.0.waits.store(true, Ordering::SeqCst);
    }

    /// Ends the wait, if there is one. The work must have been handed over before.
    pub fn wake(&self) {
        if self.0.waits.swap(false, Ordering::SeqCst) {
            (self.0.wake)();
        }
    }
}
