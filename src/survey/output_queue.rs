//! Extents read but not yet yielded: a short queue, so that work for each extent can be done for
//! many extents at once.

use alloc::vec::Vec;

use crate::extent::Extent;
use crate::status::Status;

/// The number of extents read ahead. They occupy 4 KiB, whatever the disk, and are no payload: the
/// budget does not count them.
const MOST: usize = 128;

/// Consecutive extents, equal neighbours joined. The last may still grow.
#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    /// [`MOST`] places, once something has been read.
    places: Vec<Extent<Status>>,
    /// The number of places in use.
    len: usize,
    /// The number of these that have been yielded.
    taken: usize,
}

impl OutputQueue {
    /// Creates a queue with this number of places, at least one.
    #[cfg(test)]
    pub(super) fn of(places: usize) -> Self {
        Self { places: alloc::vec![Extent::trusted(0, 1, Status::UNKNOWN); places], len: 0, taken: 0 }
    }

    /// The first extent that has not been yielded.
    pub(super) fn first(&self) -> Option<&Extent<Status>> {
        self.places.get(self.taken).filter(|_| self.taken < self.len)
    }

    /// Takes the first extent that can no longer grow.
    #[inline]
    pub(super) fn take_whole(&mut self) -> Option<Extent<Status>> {
        if self.taken + 1 >= self.len {
            return None;
        }
        let whole = *self.places.get(self.taken)?;
        self.taken += 1;
        Some(whole)
    }

    /// Takes the last extent. The caller knows that nothing follows.
    pub(super) fn take_last(&mut self) -> Option<Extent<Status>> {
        let last = self.first().copied();
        (self.len, self.taken) = (0, 0);
        last
    }

    /// Makes room after the last extent, which must be the only one not yielded.
    pub(super) fn make_room(&mut self) {
        let last = self.first().copied();
        self.taken = 0;
        self.len = usize::from(last.is_some());
        match (last, self.places.first_mut()) {
            (Some(last), Some(place)) => *place = last,
            _ => self.places.resize(MOST, Extent::trusted(0, 1, Status::UNKNOWN)),
        }
    }

    /// Adds an extent that follows the last. There must be room for it.
    pub(super) fn push(&mut self, next: Extent<Status>) {
        let mut next = Some((next.start(), next.end(), next.status().pack()));
        self.read(|| next.take());
        debug_assert!(next.is_none(), "there was no room for an extent");
    }

    /// Adds extents while there is room for another one.
    #[inline]
    pub(super) fn read(&mut self, mut next: impl FnMut() -> Option<(u64, u64, [u64; 2])>) {
        let mut len = self.len;
        let last = len.checked_sub(1).and_then(|last| self.places.get(last));
        // no status packs into these numbers, so the first extent never joins
        let mut before = last.map_or([u64::MAX; 2], |last| last.status().pack());
        while let Some(place) = self.places.get_mut(len) {
            let Some((start, end, status)) = next() else { break };
            if status != before {
                *place = Extent::trusted(start, end, Status::unpack(status));
                len += 1;
                before = status;
            } else if let Some(last) = len.checked_sub(1).and_then(|last| self.places.get_mut(last)) {
                *last = Extent::trusted(last.start(), end, *last.status());
            }
        }
        self.len = len;
    }
}
