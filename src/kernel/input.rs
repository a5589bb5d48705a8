//! One side of a merge: the rest of the descriptor in which the merge stands, and the list that
//! follows.
//!
//! ```text
//!            start    list_start
//!              |           |
//! |----flags----------------|----list[0]----|--list[1]--| ...
//!              ^ the merge  ^ the list starts
//! ```
//!
//! A block decodes the rest as its first key (`decode`), and knows by the keys afterwards how many
//! descriptors it has consumed (`consumed`).

use super::block::SLOTS;
use super::decode::{Decoded, decode};
use super::key::{CODE_BITS, FLAGS, LAST, LONGEST, join};
use crate::extent::MAX_END;
use crate::wire::RawDescriptor;

/// One side, from the position of the merge on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a, R> {
    /// The descriptors that have not been read.
    pub(super) list: &'a [R],
    /// The position of the merge.
    pub(super) start: u64,
    /// The start of the list; beyond `start` where the merge stands in a descriptor.
    pub(super) list_start: u64,
    /// The flags of that descriptor.
    pub(super) flags: u64,
}

/// The descriptors of one side that a block has consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The number of descriptors of the list.
    pub(crate) count: usize,
    /// The end of the last of them, or of the one in which the merge stood.
    pub(crate) end: u64,
    /// Its flags.
    pub(crate) flags: u64,
}

impl<R: RawDescriptor> Input<'_, R> {
    /// Whether the merge stands in a descriptor, whose rest is the first key.
    pub(super) fn is_begun(&self) -> bool {
        self.start < self.list_start
    }

    /// The end of that rest, and its flags; zeroes if there is none. `None` where a number does not
    /// fit a key.
    pub(super) fn rest(&self) -> Option<Decoded> {
        let end = self.list_start.checked_sub(self.start)?;
        let flags = if self.is_begun() { self.flags } else { 0 };
        (end < LONGEST && flags < FLAGS).then_some(Decoded { end, flags })
    }

    /// The descriptor that covers the next byte, consumed: the one in which the merge stands, or
    /// the first of the list. `None` where there is none, or it does not fit a key.
    pub(super) fn current(&self) -> Option<Consumed> {
        let current = if self.is_begun() {
            Consumed { count: 0, end: self.list_start, flags: self.flags }
        } else {
            let first = self.list.first()?.read();
            Consumed { count: 1, end: self.list_start.checked_add(first.length)?, flags: first.flags }
        };
        (current.end <= MAX_END && current.flags < FLAGS).then_some(current)
    }

    /// The first `count` descriptors of the list, consumed; the last ends at `end`. `None` where
    /// that is too high.
    pub(super) fn whole(&self, count: usize, end: u64) -> Option<Consumed> {
        let last = self.list.get(count.checked_sub(1)?)?;
        (end <= MAX_END).then_some(Consumed { count, end, flags: last.read().flags })
    }

    /// Decodes at most `count` keys (at least 1) into the first slots, and a guard after them.
    /// Returns their number, and the OR of their flags; `None` where the scalar merge must go on.
    #[inline(always)]
    pub(super) fn decode<const SHIFT: u32>(
        &self,
        count: usize,
        keys: &mut [u64; SLOTS],
    ) -> Option<(usize, u64)> {
        let rest = self.rest()?;
        let first = usize::from(self.is_begun());
        // overwritten if there is no rest
        *keys.first_mut()? = join(rest.end << CODE_BITS, rest.flags << SHIFT);
        // all of the list, if it is shorter
        let list = self.list.get(..count - first).unwrap_or(self.list);
        let len = first + list.len();
        let decoded = decode::<R, SHIFT>(list, rest.end, 0, keys.get_mut(first..len)?)?;
        *keys.get_mut(len)? = LAST;
        (len > 0 && self.start + decoded.end <= MAX_END).then_some((len, rest.flags | decoded.flags))
    }

    /// The consumed descriptors, after a block that moved the merge by `end` bytes. The first
    /// `used` keys end there or before.
    pub(super) fn consumed(
        &self,
        used: usize,
        end: u64,
        shift: u32,
        keys: &[u64; SLOTS],
    ) -> Option<Consumed> {
        let first = usize::from(self.is_begun());
        let last = used.checked_sub(1).and_then(|last| keys.get(last));
        let (count, key) = match last.filter(|&last| last >> CODE_BITS == end) {
            Some(last) => (used - first, last),
            // The merge stands in the next descriptor, whose rest will be the first key of the next
            // block.
            None => (used + 1 - first, keys.get(used)?),
        };
        Some(Consumed { count, end: self.start + (key >> CODE_BITS), flags: key >> shift & (FLAGS - 1) })
    }
}
