#![doc = include_str!("README.md")]

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
mod decode;
mod dispatch;
mod intervals;
mod joins;
mod key;
mod lanes;
mod overlaps;
mod picker;
mod prefetch;
mod ranges;
mod runs;
mod side;
mod tile;
mod verdicts;
mod wide;

pub use dispatch::Processor;
pub(crate) use dispatch::dispatch;
pub(crate) use joins::Joins;
pub(crate) use picker::Picker;
pub(crate) use side::Taken;
pub(crate) use tile::{Segment, Tile};
pub(crate) use verdicts::Picks;

use key::{FLAGS, SIDE_BITS};
use side::Side;

use crate::wire::{RawDescriptor, RawList};

/// The descriptors behind a stream.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    /// Those that are still to be read.
    pub(crate) list: RawList<'a>,
    /// Another list may follow.
    pub(crate) goes_on: bool,
    /// Where the first of them starts.
    pub(crate) position: u64,
    /// The flags of the one that was read last.
    pub(crate) flags: u64,
}

/// A side of a merge: its descriptors, and where the merge stands, which is behind [`Wire::position`] or in the descriptor that was read last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) wire: Wire<'a>,
    pub(crate) start: u64,
}

/// What a tile has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Where the merge stands.
    pub(crate) position: u64,
    pub(crate) left: Taken,
    pub(crate) right: Taken,
}

/// The flags of both sides.
#[inline]
pub(crate) const fn sides_of(code: u64) -> (u64, u64) {
    (code >> SIDE_BITS, code & (FLAGS - 1))
}

/// Merges a stretch from where both inputs stand into `tile`. `None` where the plain way must go on: at the end, at what is an error, and where
/// something does not fit a key.
pub(crate) fn merge(left: &Input<'_>, right: &Input<'_>, tile: &mut Tile) -> Option<Progress> {
    match (left.wire.list, right.wire.list) {
        (RawList::Compact(a), RawList::Compact(b)) => tile.fill(&side(left, a), &side(right, b)),
        (RawList::Extended(a), RawList::Extended(b)) => tile.fill(&side(left, a), &side(right, b)),
        (RawList::Pair32(a), RawList::Pair32(b)) => tile.fill(&side(left, a), &side(right, b)),
        (RawList::Pair64(a), RawList::Pair64(b)) => tile.fill(&side(left, a), &side(right, b)),
        _ => None,
    }
}

/// A merge of what is wanted, from where both inputs stand as far as the kernel comes.
#[derive(Debug)]
pub(crate) struct Picking<'a> {
    left: Input<'a>,
    right: Input<'a>,
    /// Where it started, and how long the lists were there.
    start: u64,
    lens: (usize, usize),
}

impl<'a> Picking<'a> {
    pub(crate) fn new(left: Input<'a>, right: Input<'a>) -> Self {
        Self { left, right, start: left.start, lens: (left.wire.list.len(), right.wire.list.len()) }
    }

    /// Merges the next stretch into `picker`, which is to be the same until this ends. `false` where the plain way must go on.
    pub(crate) fn next(&mut self, picker: &mut Picker, picks: &Picks<'_>) -> bool {
        match (self.left.wire.list, self.right.wire.list) {
            (RawList::Compact(a), RawList::Compact(b)) => self.pick(a, b, picker, picks),
            (RawList::Extended(a), RawList::Extended(b)) => self.pick(a, b, picker, picks),
            (RawList::Pair32(a), RawList::Pair32(b)) => self.pick(a, b, picker, picks),
            (RawList::Pair64(a), RawList::Pair64(b)) => self.pick(a, b, picker, picks),
            _ => false,
        }
    }

    fn pick<R: RawDescriptor>(
        &mut self,
        a: &'a [R],
        b: &'a [R],
        picker: &mut Picker,
        picks: &Picks<'_>,
    ) -> bool {
        let (mut left, mut right) = (side(&self.left, a), side(&self.right, b));
        let merged = picker.next(&mut left, &mut right, picks);
        self.left = left.input(self.left);
        self.right = right.input(self.right);
        merged
    }

    /// What has been used, once there is no next stretch; `None` if there was none at all.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let taken = |input: &Input<'_>, len: usize| {
            let Wire { list, position, flags, .. } = input.wire;
            Taken { count: len - list.len(), end: position, flags }
        };
        let position = self.left.start;
        (position > self.start).then(|| Progress {
            position,
            left: taken(&self.left, self.lens.0),
            right: taken(&self.right, self.lens.1),
        })
    }
}

fn side<'a, R>(input: &Input<'a>, list: &'a [R]) -> Side<'a, R> {
    Side { list, start: input.start, end: input.wire.position, flags: input.wire.flags }
}
