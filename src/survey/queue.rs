//! Merged extents that were not yet yielded: a short queue, so that a window is read for many
//! extents at once.
//!
//! ```text
//! cuts     [4096 a][8192 b][9216 a][ ...        an extent starts where the one before it ends
//!          ^ taken          ^ the last may still grow
//! ```

use alloc::vec::Vec;

use super::layer::{Answer, DISPUTED, PackedAnswer};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;

/// The number of extents read ahead. They occupy 2 KB, whatever the disk, and are no payload: the
/// budget does not count them.
pub(super) const MOST: usize = 84;

/// The end of an extent, and its answer.
pub(super) type Cut = (u64, PackedAnswer);

/// Consecutive extents, equal neighbours joined. The last may still grow.
#[derive(Debug)]
pub(super) struct Queue {
    /// [`MOST`] cuts once anything was read.
    cuts: Vec<Cut>,
    /// The number of cuts that were taken, and of all.
    taken: usize,
    len: usize,
    /// The number that were taken before those.
    dropped: u64,
    /// The start of the first extent: the first byte that has not been taken.
    pub(super) start: u64,
    /// The end of the last one: all bytes before it have been read.
    pub(super) end: u64,
    /// The bits of answers that are shown. Where a dispute is not shown, it makes no cut.
    shown: u64,
    /// The number of extents about which replies disagreed.
    pub(super) disputed: u64,
}

impl Queue {
    /// A queue of extents from byte `start` on.
    pub(super) fn new(start: u64, shows_disputes: bool) -> Self {
        let shown = if shows_disputes { u64::MAX } else { !DISPUTED };
        Self { cuts: Vec::new(), taken: 0, len: 0, dropped: 0, start, end: start, shown, disputed: 0 }
    }

    /// The number of extents that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.dropped + self.taken as u64
    }

    /// Takes the first extent.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Extent<Answer>> {
        let (end, answer) = *self.cuts.get(self.taken..self.len)?.first()?;
        let extent = Extent::trusted(self.start, end, Answer::unpack(answer));
        self.taken += 1;
        self.start = end;
        Some(extent)
    }

    /// Takes the status of the first extent if it can no longer grow. Disputes must not be shown.
    #[inline]
    pub(super) fn pop_whole(&mut self) -> Option<Extent<Status>> {
        let next = self.taken + 1;
        let (end, answer) = *self.cuts.get(self.taken).filter(|_| next < self.len)?;
        let extent = Extent::trusted(self.start, end, Status::unpack(answer));
        (self.taken, self.start) = (next, end);
        Some(extent)
    }

    /// Drops the extents that were not taken.
    pub(super) fn clear(&mut self) {
        self.len = self.taken;
    }

    /// Begins to add extents, the first of which starts at byte `start`.
    ///
    /// Extents that were not taken move to the front. There is room until the queue has `most`, or
    /// as many as fit.
    ///
    /// # Errors
    ///
    /// A gap or an overlap before `start`. This is a second guard after the merge: either would
    /// lose data.
    #[inline]
    pub(super) fn fill_from(&mut self, start: u64, most: usize) -> Result<Filling<'_>, StreamError> {
        let expected = self.end;
        if start > expected {
            return Err(StreamError::Gap { range: expected..start });
        }
        if start < expected {
            return Err(StreamError::Overlap { start, expected });
        }
        if self.cuts.is_empty() {
            self.cuts = alloc::vec![(0, [0; 2]); MOST];
        }
        self.cuts.copy_within(self.taken..self.len, 0);
        self.len -= self.taken;
        self.dropped += self.taken as u64;
        self.taken = 0;
        let Self { cuts, len, end, shown, disputed, .. } = self;
        let last = len.checked_sub(1).and_then(|last| cuts.get(last));
        let last = last.map_or([u64::MAX; 2], |(_, answer)| *answer);
        Ok(Filling { room: most.min(MOST), last, count: *len, cuts, len, end, shown: *shown, disputed })
    }
}

/// Extents that are added to a queue.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    cuts: &'a mut [Cut],
    /// The number of cuts: `len`, in a register while they are added.
    count: usize,
    /// The answer of the last extent; no answer has all bits.
    last: PackedAnswer,
    room: usize,
    shown: u64,
    len: &'a mut usize,
    end: &'a mut u64,
    disputed: &'a mut u64,
}

impl Filling<'_> {
    /// Adds an extent that follows the last one, for which there must be room. No processor
    /// foretells which neighbours are equal, so an equal one is written over the last without a
    /// branch. Without `DISPUTES` the answer must not be disputed.
    #[inline(always)]
    pub(super) fn push<const DISPUTES: bool>(&mut self, end: u64, mut answer: PackedAnswer) {
        if DISPUTES {
            let [_, rest] = &mut answer;
            *self.disputed += u64::from(*rest & DISPUTED != 0);
            *rest &= self.shown;
        }
        let ([a, b], [c, d]) = (answer, self.last);
        self.count += usize::from((a ^ c) | (b ^ d) != 0);
        self.last = answer;
        let place = self.cuts.get_mut(self.count.wrapping_sub(1));
        debug_assert!(place.is_some(), "an extent without a place would be lost");
        if let Some(place) = place {
            *place = (end, answer);
        }
    }

    /// True if another extent has room.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.count < self.room
    }

    /// Ends the filling: the extents reach up to byte `end`.
    pub(super) fn finish(self, end: u64) {
        (*self.len, *self.end) = (self.count, end);
    }
}
