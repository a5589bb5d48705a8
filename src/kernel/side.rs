//! One side of a merge: what is left of the descriptor that was begun, and the list that follows. Decoding turns them into keys.

use super::key::{CODE_BITS, FLAGS, LONGEST};
use super::tile::SLOTS;
use crate::extent::MAX_END;
use crate::wire::{Descriptor, RawDescriptor};

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

impl<R: RawDescriptor> Side<'_, R> {
    /// Whether a descriptor has been begun: it is the first key.
    fn begun(&self) -> bool {
        self.start < self.end
    }

    /// Decodes at most `count` keys into the first slots. Returns how many; `None` where a descriptor needs the plain way, for its error or
    /// because it does not fit a key.
    pub(super) fn decode(&self, shift: u32, count: usize, keys: &mut [u64; SLOTS]) -> Option<usize> {
        let begun = self.end.checked_sub(self.start)?;
        let mut slots = keys.iter_mut().take(count);
        if self.begun() {
            if begun >= LONGEST || self.flags >= FLAGS {
                return None;
            }
            *slots.next()? = begun << CODE_BITS | self.flags << shift;
        }
        let room = slots.len();
        let list = self.list.get(..room).unwrap_or(self.list);
        let end = decode(list, begun, shift, slots)?;
        (self.start.checked_add(end)? <= MAX_END).then_some(usize::from(self.begun()) + list.len())
    }

    /// What has been used once the merge stands at `position`, behind the first `used` keys.
    pub(super) fn taken(&self, used: usize, position: u64, shift: u32, keys: &[u64; SLOTS]) -> Option<Taken> {
        let flags_of = |key: u64| key >> shift & (FLAGS - 1);
        let end_of = |key: u64| self.start + (key >> CODE_BITS);
        let before = used.checked_sub(1).and_then(|last| keys.get(last));
        if let Some(&last) = before.filter(|&&last| end_of(last) == position) {
            let count = used - usize::from(self.begun());
            return Some(Taken { count, end: position, flags: flags_of(last) });
        }
        let next = *keys.get(used)?;
        Some(Taken { count: used + 1 - usize::from(self.begun()), end: end_of(next), flags: flags_of(next) })
    }
}

/// Decodes a list that starts `end` bytes behind the tile's start. Returns its end; `None` where a length is 0, or anything does not fit a key.
#[inline(always)]
pub(super) fn decode<'k, R: RawDescriptor>(
    list: &[R],
    end: u64,
    shift: u32,
    keys: impl Iterator<Item = &'k mut u64>,
) -> Option<u64> {
    let (mut empty, mut lengths, mut all_flags) = (0, 0, 0);
    let mut end = end << CODE_BITS;
    for (raw, key) in list.iter().zip(keys) {
        let Descriptor { length, flags } = raw.read();
        // the highest bit of the difference is set where the length is 0, or far too long
        empty |= length.wrapping_sub(1);
        lengths |= length;
        all_flags |= flags;
        end = end.wrapping_add(length << CODE_BITS);
        *key = end | flags << shift;
    }
    (empty >> 63 == 0 && lengths < LONGEST && all_flags < FLAGS).then_some(end >> CODE_BITS)
}
