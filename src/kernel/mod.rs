//! Merging at the speed of memory, for the streams that allow it.

mod key;
mod lanes;
mod side;
mod tile;

pub(crate) use side::Taken;
pub(crate) use tile::{Segment, Tile};

use key::{CODE_BITS, FLAGS, LAST, LEFT, RIGHT, SIDE_BITS};
use side::Side;
use tile::SLOTS;

use crate::wire::{RawDescriptor, RawList};

/// The descriptors behind a stream.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    /// Those that are still to be read.
    pub(crate) list: RawList<'a>,
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
pub(crate) const fn flags_of(code: u64) -> (u64, u64) {
    (code >> SIDE_BITS, code & (FLAGS - 1))
}

/// Merges a stretch from where both inputs stand into `tile`. `None` where the plain way must go on: at the end, at what is an error, and where
/// something does not fit a key.
pub(crate) fn merge(left: &Input<'_>, right: &Input<'_>, tile: &mut Tile) -> Option<Progress> {
    match (left.wire.list, right.wire.list) {
        (RawList::Compact(a), RawList::Compact(b)) => fill(&side(left, a), &side(right, b), tile),
        (RawList::Extended(a), RawList::Extended(b)) => fill(&side(left, a), &side(right, b), tile),
        (RawList::Pair32(a), RawList::Pair32(b)) => fill(&side(left, a), &side(right, b), tile),
        (RawList::Pair64(a), RawList::Pair64(b)) => fill(&side(left, a), &side(right, b), tile),
        _ => None,
    }
}

fn side<'a, R>(input: &Input<'a>, list: &'a [R]) -> Side<'a, R> {
    Side { list, start: input.start, end: input.wire.position, flags: input.wire.flags }
}

fn fill<R: RawDescriptor>(left: &Side<'_, R>, right: &Side<'_, R>, tile: &mut Tile) -> Option<Progress> {
    if left.start != right.start {
        return None;
    }
    let a = left.decode(LEFT, SLOTS - 1, &mut tile.left)?;
    let b = right.decode(RIGHT, SLOTS - 1, &mut tile.right)?;
    *tile.left.get_mut(a)? = LAST;
    *tile.right.get_mut(b)? = LAST;
    let last_of = |keys: &[u64], len: usize| Some(*keys.get(len.checked_sub(1)?)? >> CODE_BITS);
    let end = last_of(&tile.left, a)?.min(last_of(&tile.right, b)?);
    let upto = |keys: &[u64], len| {
        keys.get(..len).unwrap_or_default().partition_point(|key| key >> CODE_BITS <= end)
    };
    let used = (upto(&tile.left, a), upto(&tile.right, b));
    lanes::merge(&tile.left, &tile.right, used, &mut tile.cuts);
    tile.len = lanes::drop_ties(&mut tile.cuts, used.0 + used.1);
    tile.start = left.start;
    let position = left.start + end;
    Some(Progress {
        position,
        left: left.taken(used.0, position, LEFT, &tile.left)?,
        right: right.taken(used.1, position, RIGHT, &tile.right)?,
    })
}
