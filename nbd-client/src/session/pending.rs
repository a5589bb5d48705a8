//! Book-keeping of requests: those in flight, and those that failed and may still get chunks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use std::collections::HashMap;

use super::{Cookie, RequestError};

/// A request in flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) offset: u64,
    /// The contexts that it asks for.
    pub(super) contexts: Arc<[u32]>,
    /// The contexts of which a chunk came.
    seen: Vec<u32>,
    /// The first error; the rest of the reply is drained.
    pub(super) error: Option<RequestError>,
    /// Chunks so far, and their payload.
    pub(super) chunks: u32,
    pub(super) bytes: u64,
}

impl Pending {
    pub(super) fn new(offset: u64, contexts: Arc<[u32]>) -> Self {
        Self { offset, contexts, seen: Vec::new(), error: None, chunks: 0, bytes: 0 }
    }

    /// The first error of a reply is the one that counts.
    pub(super) fn fail(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
    }

    /// Notes a chunk of this context.
    pub(super) fn see(&mut self, context: u32) -> Seen {
        if !self.contexts.contains(&context) {
            Seen::Unknown
        } else if self.seen.contains(&context) {
            Seen::Again
        } else {
            self.seen.push(context);
            Seen::First
        }
    }
}

/// What a status chunk's context is to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    First,
    Again,
    Unknown,
}

/// Requests that failed lately: a server may send the other contexts' chunks behind the error that ended the reply (qemu does).
#[derive(Debug, Default)]
struct Late(VecDeque<Failed>);

/// How many chunks a failed request may still get.
#[derive(Debug)]
struct Failed {
    cookie: u64,
    chunks: usize,
}

/// More than a caller has in flight at one time; a server that is later than that is not borne.
const LATE_REQUESTS: usize = 1024;

impl Late {
    fn add(&mut self, cookie: u64, chunks: usize) {
        if chunks == 0 {
            return;
        }
        if self.0.len() >= LATE_REQUESTS {
            self.0.pop_front();
        }
        self.0.push_back(Failed { cookie, chunks });
    }

    /// Uses up one chunk of this request; false if it has none.
    fn take(&mut self, cookie: u64) -> bool {
        let Some(index) = self.0.iter().position(|failed| failed.cookie == cookie) else { return false };
        let Some(failed) = self.0.get_mut(index) else { return false };
        failed.chunks -= 1;
        if failed.chunks == 0 {
            self.0.remove(index);
        }
        true
    }
}

/// All requests that a chunk may belong to.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: HashMap<u64, Pending>,
    late: Late,
    last: u64,
}

impl Requests {
    /// Enters a request under a number of its own.
    pub(super) fn enter(&mut self, pending: Pending) -> Cookie {
        self.last += 1;
        self.pending.insert(self.last, pending);
        Cookie(self.last)
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn get_mut(&mut self, cookie: u64) -> Option<&mut Pending> {
        self.pending.get_mut(&cookie)
    }

    /// Ends a request; `Some(Err)` if it failed, `None` if it was not in flight.
    pub(super) fn finish(&mut self, cookie: u64) -> Option<Result<(), RequestError>> {
        let pending = self.pending.remove(&cookie)?;
        let missing = pending.contexts.iter().find(|context| !pending.seen.contains(context));
        let missing =
            missing.map(|&context| RequestError::MissingContext { cookie: Cookie(cookie), context });
        Some(match pending.error.or(missing) {
            None => Ok(()),
            Some(error) => {
                self.late.add(cookie, pending.contexts.len().saturating_sub(1));
                Err(error)
            }
        })
    }

    /// True if a chunk of a request that has failed may be drained.
    pub(super) fn take_late(&mut self, cookie: u64) -> bool {
        self.late.take(cookie)
    }

    /// True if the number was given to a request of this session.
    pub(super) fn was_used(&self, cookie: u64) -> bool {
        (1..=self.last).contains(&cookie)
    }
}
