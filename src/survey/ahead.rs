//! Merges many extents of a window at once, in the usual case: each context describes its own part
//! of the status and nothing is disputed. Then the answers combine by an OR of bits.
//!
//! A branch on which context changes next cannot be predicted, and a misprediction costs more than
//! the rest of the step. So descriptors are decoded in small blocks, and the step within a block is
//! an addition, not a branch.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays, or compared with it right before"
)]

use core::array;
use core::mem;
use core::ops::Range;

use smallvec::SmallVec;

use super::contexts::ContextKind;
use super::layer::{Answer, LayerCursor, List};
use super::output_queue::OutputQueue;
use super::window::{ContextLayer, LayerState};
use crate::status::Status;

/// The number of descriptors in a block.
const BLOCK: usize = 16;

/// A [`Status`] as [`Status::pack`] returns it.
type Packed = [u64; 2];

/// A cursor that decodes one context's layer block by block.
#[derive(Clone, Copy)]
struct BlockCursor<'a> {
    list: List<'a>,
    meaning: ContextKind,
    /// The statuses of the flags that nearly all descriptors have: 0 to 3.
    usual: [Packed; 4],
    /// The status beyond the end of the list.
    elsewhere: Packed,
    /// The position after the last decoded descriptor.
    decoded: LayerCursor,
    /// The ends of the descriptors in the block, and their statuses.
    ends: [u64; BLOCK],
    said: [Packed; BLOCK],
    /// The index of the current descriptor in the block.
    current: usize,
    /// The index in the list of the descriptor after the first of the block.
    first: usize,
}

impl<'a> BlockCursor<'a> {
    #[inline]
    fn new((layer, elsewhere): &'a ContextLayer, at: &LayerState) -> Self {
        let LayerState { cursor, answer: Answer { status: said, .. } } = *at;
        let meaning = layer.meaning();
        Self {
            list: layer.list(),
            meaning,
            usual: [0, 1, 2, 3].map(|flags| meaning.status(flags).pack()),
            elsewhere: elsewhere.pack(),
            decoded: cursor,
            ends: [cursor.position; BLOCK],
            said: [said.pack(); BLOCK],
            current: 0,
            first: cursor.index,
        }
    }

    /// The position of the window in this layer.
    fn stands(&self) -> LayerState {
        let mut cursor = self.decoded;
        cursor.index = self.first + self.current;
        cursor.position = self.ends[self.current % BLOCK];
        LayerState { cursor, answer: Answer::new(Status::unpack(self.said[self.current % BLOCK])) }
    }

    /// Decodes descriptors into the block, starting at index `from`.
    #[inline(never)]
    fn decode(&mut self, from: usize) {
        let (usual, meaning) = (&self.usual, self.meaning);
        let say = |flags| {
            let usual = usize::try_from(flags).ok().and_then(|flags| usual.get(flags));
            usual.copied().unwrap_or_else(|| meaning.status(flags).pack())
        };
        let count = self.decoded.next_block(&self.list, &mut self.ends[from..], &mut self.said[from..], say);
        if from + count < BLOCK {
            self.ends[from + count] = u64::MAX;
            self.said[from + count] = self.elsewhere;
        }
    }

    /// Decodes the next block.
    #[inline(never)]
    fn turn(&mut self) {
        self.first = self.decoded.index + 1;
        self.decode(0);
    }

    /// Advances by one descriptor if the current one ends at or before `position`.
    #[inline]
    fn go_past(&mut self, position: u64, current: &mut usize) {
        *current += usize::from(self.ends[*current % BLOCK] <= position);
        if *current == BLOCK {
            *current = 0;
            self.turn();
        }
    }
}

/// Merges all layers and `known` over a range, while there is room. Returns the end of the merged
/// part.
///
/// The range must start at the window's position in the layers.
pub(super) fn merge(
    parts: &[ContextLayer],
    at: &mut [LayerState],
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    match at.len() {
        1 => merge_some::<1>(parts, at, range, known, ready),
        2 => merge_some::<2>(parts, at, range, known, ready),
        3 => merge_some::<3>(parts, at, range, known, ready),
        4 => merge_some::<4>(parts, at, range, known, ready),
        _ => merge_any(parts, at, range, known, ready),
    }
}

/// The merge compiled for `N` layers, which keeps the changing values in registers.
fn merge_some<const N: usize>(
    parts: &[ContextLayer],
    all: &mut [LayerState],
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    let (Ok(parts), Ok(at)) = (<&[_; N]>::try_from(parts), <&mut [_; N]>::try_from(&mut *all)) else {
        return merge_any(parts, all, range, known, ready);
    };
    let mut cursors: [_; N] = array::from_fn(|nth| BlockCursor::new(&parts[nth], &at[nth]));
    let end = merge_each(&mut cursors, [0; N], range, known, ready);
    cursors.iter().zip(at).for_each(|(cursor, at)| *at = cursor.stands());
    end
}

fn merge_any(
    parts: &[ContextLayer],
    at: &mut [LayerState],
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    let cursors = parts.iter().zip(&*at).map(|(part, at)| BlockCursor::new(part, at));
    let mut cursors: SmallVec<[_; 8]> = cursors.collect();
    let current = SmallVec::<[usize; 8]>::from_elem(0, cursors.len());
    let end = merge_each(cursors.as_mut_slice(), current, range, known, ready);
    cursors.iter().zip(at).for_each(|(cursor, at)| *at = cursor.stands());
    end
}

/// The merge itself. `current` holds the index of each cursor in its block, initially 0.
#[inline(never)]
fn merge_each<'a>(
    mut cursors: impl AsMut<[BlockCursor<'a>]>,
    mut current: impl AsMut<[usize]>,
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    let Range { mut start, end } = range;
    let known = known.pack();
    let (cursors, current) = (cursors.as_mut(), current.as_mut());
    for (cursor, current) in cursors.iter_mut().zip(&mut *current) {
        cursor.decode(1);
        while cursor.ends[*current % BLOCK] <= start {
            cursor.go_past(start, current);
        }
    }
    ready.read(|| {
        if start >= end {
            return None;
        }
        let (mut next, mut all) = (end, known);
        for (cursor, current) in cursors.iter().zip(&*current) {
            let said = cursor.said[current % BLOCK];
            next = next.min(cursor.ends[current % BLOCK]);
            all = [all[0] | said[0], all[1] | said[1]];
        }
        for (cursor, current) in cursors.iter_mut().zip(&mut *current) {
            cursor.go_past(next, current);
        }
        Some((mem::replace(&mut start, next), next, all))
    });
    for (cursor, current) in cursors.iter_mut().zip(current) {
        cursor.current = *current;
    }
    start
}
