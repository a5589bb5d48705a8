#![doc = include_str!("README.md")]

mod decode;
mod dispatch;
mod kept;
mod key;
mod lanes;
mod runs;
mod side;
mod tile;

pub(crate) use dispatch::dispatch;
pub(crate) use kept::Kept;
pub(crate) use side::Taken;
pub(crate) use tile::{Segment, Tile};

use key::{CODE_BITS, FLAGS, LEFT, RIGHT, SIDE_BITS};
use side::Side;
use tile::{NARROW, SLOTS, WIDE};

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
pub(crate) const fn flags_of(code: u64) -> (u64, u64) {
    (code >> SIDE_BITS, code & (FLAGS - 1))
}

/// Merges a stretch from where both inputs stand into `tile`. `None` where the plain way must go on: at the end, at what is an error, and where
/// something does not fit a key.
///
/// A filter says which codes are wanted; what it does not want may be left out of the tile, which is then empty.
pub(crate) fn merge(
    left: &Input<'_>,
    right: &Input<'_>,
    tile: &mut Tile,
    filter: Option<&dyn Fn(u64) -> bool>,
) -> Option<Progress> {
    match (left.wire.list, right.wire.list) {
        (RawList::Compact(a), RawList::Compact(b)) => fill(&side(left, a), &side(right, b), tile, filter),
        (RawList::Extended(a), RawList::Extended(b)) => fill(&side(left, a), &side(right, b), tile, filter),
        (RawList::Pair32(a), RawList::Pair32(b)) => fill(&side(left, a), &side(right, b), tile, filter),
        (RawList::Pair64(a), RawList::Pair64(b)) => fill(&side(left, a), &side(right, b), tile, filter),
        _ => None,
    }
}

fn side<'a, R>(input: &Input<'a>, list: &'a [R]) -> Side<'a, R> {
    Side { list, start: input.start, end: input.wire.position, flags: input.wire.flags }
}

fn fill<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    tile: &mut Tile,
    filter: Option<&dyn Fn(u64) -> bool>,
) -> Option<Progress> {
    if left.start != right.start {
        return None;
    }
    tile.start = left.start;
    let run = dispatch(|| runs::any(left, right, tile, filter));
    let width = tile.width;
    tile.width = if run.is_some() { NARROW } else { WIDE.min(2 * width) };
    run.or_else(|| mixed(left, right, width, tile))
}

/// Merges up to `width` keys of each side, whatever their shape.
fn mixed<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    width: usize,
    tile: &mut Tile,
) -> Option<Progress> {
    let a = left.decode::<LEFT>(width, &mut tile.left)?;
    let b = right.decode::<RIGHT>(width, &mut tile.right)?;
    // up to the end of the side that ends first, all is known of both
    let last_of = |keys: &[u64; SLOTS], len: usize| Some(keys.get(len - 1)? >> CODE_BITS);
    let end = last_of(&tile.left, a)?.min(last_of(&tile.right, b)?);
    let upto = |keys: &[u64; SLOTS], len: usize| {
        Some(keys.get(..len)?.partition_point(|key| key >> CODE_BITS <= end))
    };
    let used = (upto(&tile.left, a)?, upto(&tile.right, b)?);
    lanes::merge(&tile.left, &tile.right, used, &mut tile.cuts);
    tile.len = lanes::drop_ties(&mut tile.cuts, used.0 + used.1);
    Some(Progress {
        position: tile.start + end,
        left: left.used(used.0, end, LEFT, &tile.left)?,
        right: right.used(used.1, end, RIGHT, &tile.right)?,
    })
}
