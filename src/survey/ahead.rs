//! Many extents of a window at once: the usual case, in which each context speaks of its own part of the status and nothing is disputed. Then there is
//! nothing to weigh, and to combine what all say is to combine bits.
//!
//! Which context says something else next cannot be foretold, and a wrong guess costs a processor more than all the rest. So descriptors are decoded in
//! small blocks, and going on in a block is an addition, not a branch.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays, or compared with it right before"
)]

use core::array;
use core::mem;
use core::ops::Range;

use smallvec::SmallVec;

use super::contexts::ContextKind;
use super::layer::{Answer, List, Place};
use super::output_queue::OutputQueue;
use super::window::{At, Part};
use crate::status::Status;

/// The descriptors of a block.
const BLOCK: usize = 16;

/// A [`Status`] as [`Status::pack`] makes it.
type Packed = [u64; 2];

/// One context's part, being read.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    list: List<'a>,
    meaning: ContextKind,
    /// What the flags mean that nearly all descriptors have.
    usual: [Packed; 4],
    /// What holds behind the end.
    elsewhere: Packed,
    /// Up to where the list is decoded.
    decoded: Place,
    /// Where the descriptors of the block end, and what they say.
    ends: [u64; BLOCK],
    said: [Packed; BLOCK],
    /// The current one.
    current: usize,
    /// Where the list went on behind the first of them.
    first: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn new((layer, elsewhere): &'a Part, at: &At) -> Self {
        let At { place, answer: Answer { status: said, .. } } = *at;
        let meaning = layer.meaning();
        Self {
            list: layer.list(),
            meaning,
            usual: [0, 1, 2, 3].map(|flags| meaning.status(flags).pack()),
            elsewhere: elsewhere.pack(),
            decoded: place,
            ends: [place.position; BLOCK],
            said: [said.pack(); BLOCK],
            current: 0,
            first: place.next,
        }
    }

    /// Where it stands.
    fn stands(&self) -> At {
        let mut place = self.decoded;
        place.next = self.first + self.current;
        place.position = self.ends[self.current % BLOCK];
        At { place, answer: Answer::new(Status::unpack(self.said[self.current % BLOCK])) }
    }

    /// Decodes what follows into the places from `from` on.
    #[inline(never)]
    fn decode(&mut self, from: usize) {
        let (usual, meaning) = (&self.usual, self.meaning);
        let say = |flags| {
            let usual = usize::try_from(flags).ok().and_then(|flags| usual.get(flags));
            usual.copied().unwrap_or_else(|| meaning.status(flags).pack())
        };
        let count = self.decoded.go_over(&self.list, &mut self.ends[from..], &mut self.said[from..], say);
        if from + count < BLOCK {
            self.ends[from + count] = u64::MAX;
            self.said[from + count] = self.elsewhere;
        }
    }

    /// The block behind this one.
    #[inline(never)]
    fn turn(&mut self) {
        self.first = self.decoded.next + 1;
        self.decode(0);
    }

    /// Goes on to the next where the current one ends at `position` or before it.
    #[inline]
    fn go_past(&mut self, position: u64, current: &mut usize) {
        *current += usize::from(self.ends[*current % BLOCK] <= position);
        if *current == BLOCK {
            *current = 0;
            self.turn();
        }
    }
}

/// Merges what all parts and `known` say of a range, while there is room. Returns up to where. The range starts where the window stands in the parts.
pub(super) fn merge(
    parts: &[Part],
    at: &mut [At],
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

/// The same, compiled for so many, so that what changes with each extent is in registers.
fn merge_some<const N: usize>(
    parts: &[Part],
    all: &mut [At],
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    let (Ok(parts), Ok(at)) = (<&[_; N]>::try_from(parts), <&mut [_; N]>::try_from(&mut *all)) else {
        return merge_any(parts, all, range, known, ready);
    };
    let mut cursors: [_; N] = array::from_fn(|nth| Cursor::new(&parts[nth], &at[nth]));
    let end = merge_each(&mut cursors, [0; N], range, known, ready);
    cursors.iter().zip(at).for_each(|(cursor, at)| *at = cursor.stands());
    end
}

fn merge_any(
    parts: &[Part],
    at: &mut [At],
    range: Range<u64>,
    known: Status,
    ready: &mut OutputQueue,
) -> u64 {
    let cursors = parts.iter().zip(&*at).map(|(part, at)| Cursor::new(part, at));
    let mut cursors: SmallVec<[_; 8]> = cursors.collect();
    let current = SmallVec::<[usize; 8]>::from_elem(0, cursors.len());
    let end = merge_each(cursors.as_mut_slice(), current, range, known, ready);
    cursors.iter().zip(at).for_each(|(cursor, at)| *at = cursor.stands());
    end
}

/// The same, with the places of all in their blocks, which are 0 when this begins.
#[inline(never)]
fn merge_each<'a>(
    mut cursors: impl AsMut<[Cursor<'a>]>,
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
