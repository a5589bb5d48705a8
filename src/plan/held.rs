//! The few extents that a plan reads ahead to decide whether to copy across a gap.

use crate::action::Action;
use crate::extent::Extent;

/// A short ring buffer without allocation. It joins equal neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    cells: [Option<Extent<Action>>; Self::ROOM],
    /// The place of the first cell.
    first: usize,
    len: usize,
}

impl Held {
    /// Room for a gap of 8 pieces and the copy after it. The plan copies across no gap of more.
    pub(super) const ROOM: usize = 9;

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, nth: usize) -> Option<Extent<Action>> {
        if nth < self.len { self.cells.get(self.place(nth)).copied().flatten() } else { None }
    }

    /// Adds a cell at the end, or joins it to the last. The caller must check `len`: there must be
    /// room.
    pub(super) fn push(&mut self, cell: Extent<Action>) {
        debug_assert!(self.len < Self::ROOM, "no room for {cell:?}");
        let last = self.len.checked_sub(1).map(|last| self.place(last));
        let unjoined = match last.and_then(|last| self.cells.get_mut(last)?.as_mut()) {
            Some(last) => last.absorb(cell),
            None => Some(cell),
        };
        let place = self.place(self.len);
        if let (Some(cell), Some(place)) = (unjoined, self.cells.get_mut(place)) {
            *place = Some(cell);
            self.len += 1;
        }
    }

    /// Takes the first cell.
    pub(super) fn pop(&mut self) -> Option<Extent<Action>> {
        self.take(0)
    }

    /// Takes cell `nth`, and drops those before it.
    pub(super) fn take(&mut self, nth: usize) -> Option<Extent<Action>> {
        let taken = self.get(nth)?;
        self.first = self.place(nth + 1);
        self.len -= nth + 1;
        Some(taken)
    }

    const fn place(&self, nth: usize) -> usize {
        (self.first + nth) % Self::ROOM
    }
}
