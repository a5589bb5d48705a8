//! One side of a merge: what is left of the descriptor that was begun, and the list that follows.

use super::decode::decode;
use super::key::{CODE_BITS, FLAGS, LAST, LONGEST};
use super::tile::SLOTS;
use super::{Input, Wire};
use crate::extent::MAX_END;
use crate::wire::RawDescriptor;

/// One side, from the position of the merge on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a, R> {
    /// What has not been read.
    pub(super) list: &'a [R],
    /// Where the merge stands.
    pub(super) start: u64,
    /// Where the list starts; behind `start` when a descriptor has been begun.
    pub(super) end: u64,
    /// The flags of the descriptor that has been begun.
    pub(super) flags: u64,
}

/// How much of one side a tile has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// So many descriptors of the list.
    pub(crate) count: usize,
    /// Where the last of them ends, or the one that had been begun before.
    pub(crate) end: u64,
    /// Its flags.
    pub(crate) flags: u64,
}

impl<'a, R: RawDescriptor> Side<'a, R> {
    /// The input of which this is a side, moved to where the side stands.
    pub(super) fn input(&self, input: Input<'a>) -> Input<'a> {
        let Self { list, start, end, flags } = *self;
        Input { start, wire: Wire { list: R::raw_list(list), position: end, flags, ..input.wire } }
    }

    /// Whether a descriptor has been begun: it is the first key.
    pub(super) fn is_begun(&self) -> bool {
        self.start < self.end
    }

    /// What is left of the descriptor that has been begun, or 0. `None` where it does not fit a key.
    pub(super) fn begun(&self) -> Option<u64> {
        self.end.checked_sub(self.start).filter(|&left| left < LONGEST)
    }

    /// The descriptor in which the merge stands, taken. `None` where it does not fit a key.
    pub(super) fn current(&self) -> Option<Taken> {
        let current = if self.is_begun() {
            Taken { count: 0, end: self.end, flags: self.flags }
        } else {
            let first = self.list.first()?.read();
            Taken { count: 1, end: self.end.checked_add(first.length)?, flags: first.flags }
        };
        (current.end <= MAX_END && current.flags < FLAGS).then_some(current)
    }

    /// Goes on to `position`, behind what has been used.
    pub(super) fn pass(&mut self, taken: Taken, position: u64) {
        self.list = self.list.get(taken.count..).unwrap_or_default();
        self.start = position;
        self.end = taken.end;
        self.flags = taken.flags;
    }

    /// So many whole descriptors, taken; none was begun. `None` where they end too high.
    pub(super) fn taken(&self, count: usize, end: u64) -> Option<Taken> {
        let last = self.list.get(count.checked_sub(1)?)?;
        (end <= MAX_END).then_some(Taken { count, end, flags: last.read().flags })
    }

    /// Decodes at most `count` keys into the first slots, and a guard behind them. Returns how many, and all bits of their flags; `None` where there are none, or one needs the plain way: for
    /// its error, or because it does not fit.
    #[inline(always)]
    pub(super) fn decode<const SHIFT: u32>(
        &self,
        count: usize,
        keys: &mut [u64; SLOTS],
    ) -> Option<(usize, u64)> {
        let left = self.begun()?;
        let begun = usize::from(self.is_begun());
        if self.is_begun() {
            if self.flags >= FLAGS {
                return None;
            }
            *keys.first_mut()? = left << CODE_BITS | self.flags << SHIFT;
        }
        let list = self.list.get(..count - begun).unwrap_or(self.list);
        let len = begun + list.len();
        let block = decode::<R, SHIFT>(list, left, 0, keys.get_mut(begun..len)?)?;
        *keys.get_mut(len)? = LAST;
        let flags = block.flags | if self.is_begun() { self.flags } else { 0 };
        (len > 0 && self.start + block.end <= MAX_END).then_some((len, flags))
    }

    /// What has been used once the merge stands `end` bytes further, behind the first `used` keys.
    pub(super) fn used(&self, used: usize, end: u64, shift: u32, keys: &[u64; SLOTS]) -> Option<Taken> {
        let begun = usize::from(self.is_begun());
        let last =
            used.checked_sub(1).and_then(|last| keys.get(last)).filter(|&last| last >> CODE_BITS == end);
        let (count, key) = match last {
            Some(last) => (used - begun, last),
            None => (used + 1 - begun, keys.get(used)?),
        };
        Some(Taken { count, end: self.start + (key >> CODE_BITS), flags: key >> shift & (FLAGS - 1) })
    }
}
