//! Ending a job from another thread.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::net::Shutdown;
use std::sync::{Mutex, PoisonError};

/// Ends the connections it was given to, from any thread.
///
/// A blocked read or write wakes up, and every later one fails with an [`io::Error`] that holds
/// [`Cancelled`]. Clones are the same canceller. It cannot be undone, and keeps no
/// connection open.
///
/// ```
/// use nbd_client::transport::Canceller;
///
/// let canceller = Canceller::new();
/// let other = canceller.clone();
/// std::thread::spawn(move || other.cancel()).join().ok();
/// assert!(canceller.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<CancellerState>);

#[derive(Debug, Default)]
struct CancellerState {
    cancelled: AtomicBool,
    sockets: Mutex<Vec<Weak<socket2::Socket>>>,
}

/// The call was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Canceller {
    /// A canceller for [`Options::canceller`](crate::Options::canceller).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends all connections of this canceller, and those that will be made with it.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            // It fails only where there is no connection any more.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// True after [`Self::cancel`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// An error if it was cancelled.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.is_cancelled() { Err(io::Error::other(Cancelled)) } else { Ok(()) }
    }

    /// Ends this socket as well when the time comes; an error if it has come.
    pub(super) fn attach(&self, socket: &Arc<socket2::Socket>) -> io::Result<()> {
        let mut sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(socket));
        // Under the lock: a cancellation from now on finds the socket in the list.
        self.check()
    }
}

impl Cancelled {
    /// True if an I/O error is a cancellation.
    #[must_use]
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}
