//! The two easy shapes, which most disks have: both sides cut at the same bytes, and many extents of one side within one of the other. They
//! need no merge. A block is read as if it had the shape, and given up when it turns out not to.

use super::Progress;
use super::decode::{decode, decode_ties, measure};
use super::key::{FLAGS, LEFT, RIGHT};
use super::side::{Side, Taken};
use super::tile::Tile;
use crate::wire::RawDescriptor;

/// The cuts of a run that a tile takes at once. Few, so that memory is read ahead by the processor while they are handed out.
const RUN: usize = 512;
/// The blocks of a run.
const LARGE: usize = 128;
/// The blocks at its end. A run has at least one, so that where there is none little is lost.
const SMALL: usize = 16;

/// A run of either shape, if there is one.
#[inline(always)]
pub(super) fn any<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    tile: &mut Tile,
    filter: Option<&dyn Fn(u64) -> bool>,
) -> Option<Progress> {
    if let Some(progress) = ties(left, right, tile) {
        return Some(progress);
    }
    if let Some((position, left, right)) = within::<R, LEFT, RIGHT>(left, right, tile, filter) {
        return Some(Progress { position, left, right });
    }
    let (position, right, left) = within::<R, RIGHT, LEFT>(right, left, tile, filter)?;
    Some(Progress { position, left, right })
}

/// Reads blocks from the front of `list` as long as `read` takes them: it gets how many came before, the block and where it starts, and says where
/// it ends. Returns how many were read and where the last ends.
#[inline(always)]
fn blocks<R>(
    list: &[R],
    most: usize,
    mut read: impl FnMut(usize, &[R], u64) -> Option<u64>,
) -> Option<(usize, u64)> {
    let (mut count, mut end) = (0, 0);
    for size in [LARGE, SMALL] {
        while count + size <= most {
            let Some(block) = list.get(count..count + size) else {
                break;
            };
            let Some(next) = read(count, block, end) else {
                break;
            };
            count += size;
            end = next;
        }
    }
    (count > 0).then_some((count, end))
}

/// Cuts that both sides have, from where neither is within a descriptor.
#[inline(always)]
fn ties<R: RawDescriptor>(left: &Side<'_, R>, right: &Side<'_, R>, tile: &mut Tile) -> Option<Progress> {
    let probe = left.list.get(..SMALL)?.iter().zip(right.list.get(..SMALL)?);
    if left.is_begun()
        || right.is_begun()
        || probe.into_iter().any(|(a, b)| a.read().length != b.read().length)
    {
        return None;
    }
    let (count, end) = blocks(left.list, RUN, |count, block, end| {
        let twins = right.list.get(count..count + block.len())?;
        decode_ties(block, twins, end, tile.cuts.get_mut(count..count + block.len())?)
    })?;
    tile.len = count;
    let position = left.start + end;
    Some(Progress { position, left: left.taken(count, position)?, right: right.taken(count, position)? })
}

/// Extents of the side with many within the extent in which the side with few stands. Returns the new position, and what of both has been used.
#[inline(always)]
fn within<R: RawDescriptor, const MANY: u32, const FEW: u32>(
    many: &Side<'_, R>,
    few: &Side<'_, R>,
    tile: &mut Tile,
    filter: Option<&dyn Fn(u64) -> bool>,
) -> Option<(u64, Taken, Taken)> {
    let current = few.current()?;
    let rest = current.end - few.start;
    let probe: u64 = many.list.get(..SMALL)?.iter().fold(0, |sum, raw| sum.saturating_add(raw.read().length));
    if many.is_begun() || probe >= rest {
        return None;
    }
    let code = current.flags << FEW;
    let mut passed = None;
    if let Some(wants) = filter {
        passed = blocks(many.list, usize::MAX, |_, block, end| {
            let (next, seen) = measure(block, end)?;
            let wanted = (0..FLAGS).any(|flags| seen >> flags & 1 == 1 && wants(flags << MANY | code));
            if next < rest && !wanted { Some(next) } else { None }
        });
    }
    tile.len = 0;
    let (count, end) = if let Some(passed) = passed {
        passed
    } else {
        let run = blocks(many.list, RUN, |count, block, end| {
            let next = decode::<R, MANY>(block, end, code, tile.cuts.get_mut(count..count + block.len())?)?;
            if next < rest { Some(next) } else { None }
        })?;
        tile.len = run.0;
        run
    };
    let position = many.start + end;
    Some((position, many.taken(count, position)?, current))
}
