//! The two easy shapes, which most disks have: both sides cut at the same bytes, and many extents of one side within one of the other. They
//! need no merge. A block is read as if it had the shape, and given up when it turns out not to.

use super::Progress;
use super::decode::{decode, decode_ties, measure};
use super::key::{LEFT, RIGHT};
use super::side::Side;
use super::tile::Tile;
use crate::wire::RawDescriptor;

/// The blocks of a run.
const LARGE: usize = 128;
/// The blocks at its end. A run has at least one, so that where there is none little is lost.
const SMALL: usize = 16;

/// Reads blocks from the front of `list` as long as `read` takes them: it gets how many came before, the block and where it starts, and says where
/// it ends. Returns how many were read and where the last ends.
#[inline(always)]
fn blocks<R>(list: &[R], mut read: impl FnMut(usize, &[R], u64) -> Option<u64>) -> Option<(usize, u64)> {
    let (mut count, mut end) = (0, 0);
    for size in [LARGE, SMALL] {
        while let Some(next) = list.get(count..count + size).and_then(|block| read(count, block, end)) {
            count += size;
            end = next;
        }
    }
    (count > 0).then_some((count, end))
}

/// Cuts that both sides have, from where neither is within a descriptor.
#[inline(always)]
pub(super) fn ties<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    tile: &mut Tile,
) -> Option<Progress> {
    let probe = left.list.get(..SMALL)?.iter().zip(right.list.get(..SMALL)?);
    if left.is_begun()
        || right.is_begun()
        || probe.into_iter().any(|(a, b)| a.read().length != b.read().length)
    {
        return None;
    }
    let (count, end) = blocks(left.list, |count, block, end| {
        let twins = right.list.get(count..count + block.len())?;
        decode_ties(block, twins, end, tile.cuts.get_mut(count..count + block.len())?)
    })?;
    tile.len = count;
    let position = left.start + end;
    Some(Progress { position, left: left.taken(count, position)?, right: right.taken(count, position)? })
}

/// Which side has the many short extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    Left,
    Right,
}

/// Extents of one side within the extent in which the other stands.
#[inline(always)]
pub(super) fn within<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    short: Short,
    tile: &mut Tile,
    wanted: Option<&dyn Fn(u64) -> bool>,
) -> Option<Progress> {
    let (few, many, shift, few_shift) = match short {
        Short::Left => (right, left, LEFT, RIGHT),
        Short::Right => (left, right, RIGHT, LEFT),
    };
    let current = few.current()?;
    let rest = current.end - few.start;
    let probe: u64 = many.list.get(..SMALL)?.iter().fold(0, |sum, raw| sum.saturating_add(raw.read().length));
    if many.is_begun() || probe >= rest {
        return None;
    }
    let code = current.flags << few_shift;
    let skipped = wanted.and_then(|wanted| {
        blocks(many.list, |_, block, end| {
            let (next, mut flags) = measure(block, end)?;
            (next < rest && !flags.any(|flags| wanted(flags << shift | code))).then_some(next)
        })
    });
    tile.len = 0;
    let (count, end) = skipped.or_else(|| {
        let run = blocks(many.list, |count, block, end| {
            let cuts = tile.cuts.get_mut(count..count + block.len())?;
            decode(block, end, shift, code, cuts).filter(|&next| next < rest)
        })?;
        tile.len = run.0;
        Some(run)
    })?;
    let position = many.start + end;
    let many = many.taken(count, position)?;
    Some(match short {
        Short::Left => Progress { position, left: many, right: current },
        Short::Right => Progress { position, left: current, right: many },
    })
}
