//! Extents read but not yet yielded: a short queue, so that a window is read for many extents at
//! once.

use alloc::vec::Vec;

use crate::extent::Extent;
use crate::status::Status;

/// The number of extents read ahead. They occupy 4 KiB, whatever the disk, and are no payload: the
/// budget does not count them.
const MOST: usize = 128;

/// Consecutive extents, equal neighbours joined. The last may still grow.
#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    list: Vec<Extent<Status>>,
    /// The number of extents of the list that have been yielded.
    taken: usize,
}

impl OutputQueue {
    /// The first extent that has not been yielded.
    pub(super) fn first(&self) -> Option<&Extent<Status>> {
        self.list.get(self.taken)
    }

    /// Takes the first extent that can no longer grow.
    #[inline]
    pub(super) fn take_whole(&mut self) -> Option<Extent<Status>> {
        let whole = *self.list.get(self.taken).filter(|_| self.taken + 1 < self.list.len())?;
        self.taken += 1;
        Some(whole)
    }

    /// Takes the last extent. The caller knows that nothing follows.
    pub(super) fn take_last(&mut self) -> Option<Extent<Status>> {
        self.make_room();
        self.list.pop()
    }

    /// Drops the extents that have been yielded.
    pub(super) fn make_room(&mut self) {
        self.list.drain(..self.taken);
        self.list.reserve_exact(MOST);
        self.taken = 0;
    }

    /// Adds an extent that follows the last. Returns whether there is room for another one.
    #[inline(always)]
    pub(super) fn push(&mut self, next: Extent<Status>) -> bool {
        let next = match self.list.last_mut() {
            Some(last) => last.absorb(next),
            None => Some(next),
        };
        if let Some(next) = next {
            self.list.push(next);
        }
        self.list.len() < MOST
    }
}
