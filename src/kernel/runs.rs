//! The two easy shapes, which most disks have: both sides cut at the same bytes, and many extents of one side within one of the other. They
//! need no merge. A block is read as if it had the shape, and given up when it turns out not to.

use super::Progress;
use super::decode::{Block, decode, decode_ties, measure};
use super::key::{CODE, CODE_BITS, FLAGS, LEFT, RIGHT};
use super::side::{Side, Taken};
use super::tile::CUTS;
use crate::wire::RawDescriptor;

/// The cuts of a run that a tile takes at once: with both sides to be read a page of each, so that the processor reads ahead while they are handed out
/// (of half a page it does not: a third slower), and with one side to be read two pages.
const TIES_AT_ONCE: usize = 512;
const MANY_AT_ONCE: usize = 1008;
/// The blocks of a run.
const LARGE: usize = 128;
/// The blocks at its end. A run has at least one, so that where there is none little is lost.
const SMALL: usize = 16;

/// A run that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) progress: Progress,
    /// So many cuts are there.
    pub(super) len: usize,
    /// All bits of the flags of the left side and of the right.
    pub(super) flags: [u64; 2],
}

/// Whether nothing is wanted of an extent of one side with certain flags, over extents of the other whose flags are made of certain bits. The number
/// is how far the flags of that other side are shifted.
pub(super) type Unwanted<'a> = &'a mut dyn FnMut(u32, u64, u64) -> bool;

/// A run of either shape, if there is one, into `cuts`. One that is unwanted has no cuts.
#[inline(always)]
pub(super) fn any<R: RawDescriptor>(
    left: &Side<'_, R>,
    right: &Side<'_, R>,
    cuts: &mut [u64; CUTS],
    mut unwanted: Option<Unwanted<'_>>,
) -> Option<Run> {
    if let Some(run) = ties(left, right, cuts) {
        return Some(run);
    }
    if let Some(run) = within::<R, LEFT, RIGHT>(left, right, cuts, &mut unwanted) {
        let Within { position, many, few, len, flags } = run;
        let progress = Progress { position, left: many, right: few };
        return Some(Run { progress, len, flags: [flags, few.flags] });
    }
    let run = within::<R, RIGHT, LEFT>(right, left, cuts, &mut unwanted)?;
    let Within { position, many, few, len, flags } = run;
    Some(Run { progress: Progress { position, left: few, right: many }, len, flags: [few.flags, flags] })
}

/// Reads blocks from the front of `list` as long as `read` takes them: it gets how many came before, the block and where it starts. Returns how
/// many were read, where the last ends, and all bits of their flags.
#[inline(always)]
fn blocks<R>(
    list: &[R],
    most: usize,
    mut read: impl FnMut(usize, &[R], u64) -> Option<Block>,
) -> Option<(usize, Block)> {
    let (mut count, mut all) = (0, Block::default());
    for size in [LARGE, SMALL] {
        while count + size <= most {
            let Some(block) = list.get(count..count + size) else {
                break;
            };
            let Some(next) = read(count, block, all.end) else {
                break;
            };
            count += size;
            all = Block { end: next.end, flags: all.flags | next.flags };
        }
    }
    (count > 0).then_some((count, all))
}

/// Cuts that both sides have, from where neither is within a descriptor.
#[inline(always)]
fn ties<R: RawDescriptor>(left: &Side<'_, R>, right: &Side<'_, R>, cuts: &mut [u64; CUTS]) -> Option<Run> {
    let probe = left.list.get(..SMALL)?.iter().zip(right.list.get(..SMALL)?);
    if left.is_begun()
        || right.is_begun()
        || probe.into_iter().any(|(a, b)| a.read().length != b.read().length)
    {
        return None;
    }
    let mut others = 0;
    let (len, block) = blocks(left.list, TIES_AT_ONCE, |count, block, end| {
        let twins = right.list.get(count..count + block.len())?;
        let (one, other) = decode_ties(block, twins, end, cuts.get_mut(count..count + block.len())?)?;
        others |= other.flags;
        Some(one)
    })?;
    let position = left.start + block.end;
    let progress =
        Progress { position, left: left.taken(len, position)?, right: right.taken(len, position)? };
    Some(Run { progress, len, flags: [block.flags, others] })
}

/// What was read of a side with many extents within one of the other.
#[derive(Clone, Copy, Debug)]
struct Within {
    position: u64,
    many: Taken,
    few: Taken,
    len: usize,
    /// All bits of the flags of the many.
    flags: u64,
}

/// Extents of the side with many within the extent in which the side with few stands, up to its end if they reach it.
#[inline(always)]
fn within<R: RawDescriptor, const MANY: u32, const FEW: u32>(
    many: &Side<'_, R>,
    few: &Side<'_, R>,
    cuts: &mut [u64; CUTS],
    unwanted: &mut Option<Unwanted<'_>>,
) -> Option<Within> {
    let current = few.current()?;
    let rest = current.end - few.start;
    let begun = many.begun()?;
    let probe = many.list.get(..SMALL)?.iter().fold(begun, |sum, raw| sum.saturating_add(raw.read().length));
    if probe >= rest || begun > 0 && many.flags >= FLAGS {
        return None;
    }
    let passed =
        unwanted.as_mut().and_then(|unwanted| pass(many, rest, |flags| unwanted(MANY, flags, current.flags)));
    let run = match passed {
        Some(passed) => passed,
        None => read::<R, MANY>(many, rest, current.flags << FEW, cuts)?,
    };
    let position = many.start + run.block.end.min(rest);
    let many = many.taken(run.count, many.start + run.block.end)?;
    Some(Within { position, many, few: current, len: run.len, flags: run.block.flags })
}

/// Descriptors of the side with many: so many, their cuts, where they end and all bits of their flags. Only the last may reach the end of the extent
/// in which they are.
#[derive(Clone, Copy, Debug)]
struct Many {
    count: usize,
    len: usize,
    block: Block,
}

/// Reads their cuts.
#[inline(always)]
fn read<R: RawDescriptor, const MANY: u32>(
    many: &Side<'_, R>,
    rest: u64,
    code: u64,
    cuts: &mut [u64; CUTS],
) -> Option<Many> {
    let begun = many.begun()?;
    let first = usize::from(begun > 0);
    let (head, cuts) = cuts.split_at_mut_checked(first)?;
    head.fill(begun << CODE_BITS | many.flags << MANY | code);
    let mut all = Block { end: begun, flags: if begun > 0 { many.flags } else { 0 } };
    let mut count = 0;
    for size in [LARGE, SMALL] {
        while count + size <= MANY_AT_ONCE
            && let Some(block) = many.list.get(count..count + size)
            && let Some(keys) = cuts.get_mut(count..count + size)
            && let Some(next) = decode::<R, MANY>(block, all.end, code, keys)
        {
            all.flags |= next.flags;
            if next.end >= rest {
                let before = keys.partition_point(|key| key >> CODE_BITS < rest);
                let last = keys.get_mut(before)?;
                all.end = *last >> CODE_BITS;
                *last = rest << CODE_BITS | *last & CODE;
                count += before + 1;
                return Some(Many { count, len: first + count, block: all });
            }
            all.end = next.end;
            count += size;
        }
    }
    (count > 0).then_some(Many { count, len: first + count, block: all })
}

/// Passes over them, as long as they are unwanted.
#[inline(always)]
fn pass<R: RawDescriptor>(
    many: &Side<'_, R>,
    rest: u64,
    mut unwanted: impl FnMut(u64) -> bool,
) -> Option<Many> {
    let begun = many.begun()?;
    let mut all = Block { end: begun, flags: if begun > 0 { many.flags } else { 0 } };
    let mut count = 0;
    for size in [LARGE, SMALL, 1] {
        while all.end < rest
            && let Some(block) = many.list.get(count..count + size)
            && let Some(next) = measure(block, all.end)
            && (next.end < rest || size == 1)
            && unwanted(all.flags | next.flags)
        {
            count += size;
            all = Block { end: next.end, flags: all.flags | next.flags };
        }
    }
    (count > 0).then_some(Many { count, len: 0, block: all })
}
