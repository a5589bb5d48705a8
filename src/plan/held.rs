//! The few extents that a plan looks at before it knows whether a gap is worth reading through.

use crate::action::Action;
use crate::extent::Extent;

/// A short queue without allocation, equal neighbours joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// The first `len` are there.
    cells: [Option<Extent<Action>>; Self::ROOM],
    len: usize,
}

impl Held {
    /// The pieces of the longest gap, and the copy behind it.
    pub(super) const ROOM: usize = 9;

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, nth: usize) -> Option<Extent<Action>> {
        self.cells.get(nth).copied().flatten()
    }

    /// Adds one at the end, or joins it to the last. The caller has looked at `len`: there is room.
    pub(super) fn push(&mut self, cell: Extent<Action>) {
        debug_assert!(self.len < Self::ROOM, "no room for {cell:?}");
        let last = self.len.checked_sub(1).and_then(|last| self.cells.get_mut(last)?.as_mut());
        let apart = match last {
            Some(last) => last.absorb(cell),
            None => Some(cell),
        };
        if let (Some(cell), Some(place)) = (apart, self.cells.get_mut(self.len)) {
            *place = Some(cell);
            self.len += 1;
        }
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Extent<Action>> {
        self.take(0)
    }

    /// Takes the `nth`, and drops those before it.
    pub(super) fn take(&mut self, nth: usize) -> Option<Extent<Action>> {
        let taken = self.cells.get_mut(nth)?.take()?;
        self.cells.rotate_left(nth + 1);
        self.len -= nth + 1;
        // the dropped ones are behind the rest now
        self.cells.iter_mut().skip(self.len).for_each(|cell| *cell = None);
        Some(taken)
    }
}
