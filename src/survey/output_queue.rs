//! What has been read and not handed out: a few extents ahead, so that what must be done for every extent can be done for many at once.

use alloc::vec::Vec;

use crate::extent::Extent;
use crate::status::Status;

/// So many extents are read ahead at most. They are 4 KiB, whatever the disk, and no payload: the budget does not count them.
const MOST: usize = 128;

/// Extents one behind the other, equal neighbours joined. The last may still grow.
#[derive(Debug, Default)]
pub(super) struct OutputQueue {
    /// [`MOST`] places, once something has been read.
    places: Vec<Extent<Status>>,
    /// So many places are in use.
    len: usize,
    /// So many of these have been handed out.
    taken: usize,
}

impl OutputQueue {
    /// With so many places, at least one.
    #[cfg(test)]
    pub(super) fn of(places: usize) -> Self {
        Self { places: alloc::vec![Extent::trusted(0, 1, Status::UNKNOWN); places], len: 0, taken: 0 }
    }

    /// The first that has not been handed out.
    pub(super) fn first(&self) -> Option<&Extent<Status>> {
        self.places.get(self.taken).filter(|_| self.taken < self.len)
    }

    /// Takes the first that cannot grow any more.
    #[inline]
    pub(super) fn take_whole(&mut self) -> Option<Extent<Status>> {
        if self.taken + 1 >= self.len {
            return None;
        }
        let whole = *self.places.get(self.taken)?;
        self.taken += 1;
        Some(whole)
    }

    /// Takes the last: it is known that nothing follows.
    pub(super) fn take_last(&mut self) -> Option<Extent<Status>> {
        let last = self.first().copied();
        (self.len, self.taken) = (0, 0);
        last
    }

    /// Makes room behind the last, when it is all that has not been handed out.
    pub(super) fn make_room(&mut self) {
        let last = self.first().copied();
        self.taken = 0;
        self.len = usize::from(last.is_some());
        match (last, self.places.first_mut()) {
            (Some(last), Some(place)) => *place = last,
            _ => self.places.resize(MOST, Extent::trusted(0, 1, Status::UNKNOWN)),
        }
    }

    /// Adds an extent, which follows on the last. There must be room for it.
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
        // no status is packed into these numbers
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
