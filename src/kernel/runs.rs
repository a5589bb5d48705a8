//! The two easy shapes, which most disks have: both sides cut at the same bytes, and many extents
//! of one side within one of the other. They need no merge.
//!
//! ```text
//! ties     left   |---|---|---|---|       decode both lists at once:
//!          right  |---|---|---|---|       cut = end, flags of both
//!
//! within   finer  |-|--|-|-|---|-|        decode the finer side alone:
//!          coarser|---------------|       cut = end, its flags, those of the coarser extent
//!
//! any:     16 (ties) or 64 (within) have the shape?      otherwise there is no run
//!          read 128 at a time while they have it, then 16 at a time
//! ```
//!
//! A block is decoded as if it had the shape, and given up when it turns out not to: the check
//! costs nothing then.
//!
//! Within a coarse extent that the reader rejects whatever the finer side says (`Keep::rejects`),
//! the lengths are summed and nothing else: on the disk of a daily incremental, nearly everything
//! is clean.

use super::Progress;
use super::block::{CUTS, Merged};
use super::decode::{Decoded, decode, decode_ties, measure};
use super::input::Input;
use super::keep::Keep;
use super::key::{CODE, CODE_BITS, LEFT, RIGHT, join};
use crate::wire::RawDescriptor;

/// The cuts of a run that one block takes. Of ties, two lists are read: a page of each, so that the
/// processor reads ahead while the segments are yielded (of half a page it does not: a third
/// slower). Otherwise two pages of one list.
const TIES_AT_ONCE: usize = 512;
const WITHIN_AT_ONCE: usize = 1008;
/// Descriptors that are decoded before they are judged.
const LARGE: usize = 128;
/// Descriptors that are decoded before they are judged at the end of a run.
const SMALL: usize = 16;
/// The shortest run within a coarser extent. Shorter ones are merged faster than they are found:
/// with 16, lists of uneven lengths took a seventh longer.
const PROBE: usize = 64;

/// Reads a run of either shape into `cuts`, if there is one. A rejected one has no cuts.
#[inline(never)]
pub(super) fn any<R: RawDescriptor>(
    left: &Input<'_, R>,
    right: &Input<'_, R>,
    cuts: &mut [u64; CUTS],
    keep: Option<&Keep>,
) -> Option<Merged> {
    ties(left, right, cuts)
        .or_else(|| within::<R, LEFT, RIGHT>(left, right, cuts, keep))
        .or_else(|| within::<R, RIGHT, LEFT>(right, left, cuts, keep))
}

/// Reads cuts that both sides have. Neither may stand in a descriptor.
#[inline(always)]
fn ties<R: RawDescriptor>(
    left: &Input<'_, R>,
    right: &Input<'_, R>,
    cuts: &mut [u64; CUTS],
) -> Option<Merged> {
    let probe = left.list.get(..SMALL)?.iter().zip(right.list.get(..SMALL)?);
    if left.is_begun()
        || right.is_begun()
        || probe.into_iter().any(|(a, b)| a.read().length != b.read().length)
    {
        return None;
    }
    let (mut count, mut end, mut flags) = (0, 0, [0; 2]);
    for size in [LARGE, SMALL] {
        while count + size <= TIES_AT_ONCE
            && let Some(one) = left.list.get(count..count + size)
            && let Some(other) = right.list.get(count..count + size)
            && let Some((a, b)) = decode_ties(one, other, end, cuts.get_mut(count..count + size)?)
        {
            count += size;
            end = a.end;
            flags = [flags[0] | a.flags, flags[1] | b.flags];
        }
    }
    let position = left.start + end;
    let (left, right) = (left.whole(count, position)?, right.whole(count, position)?);
    Some(Merged { progress: Progress { position, left, right }, len: count, flags })
}

/// Reads extents of the finer side within the extent in which the coarser side stands, up to its
/// end if they reach it.
#[inline(always)]
fn within<R: RawDescriptor, const FINER: u32, const COARSER: u32>(
    finer: &Input<'_, R>,
    coarser: &Input<'_, R>,
    cuts: &mut [u64; CUTS],
    keep: Option<&Keep>,
) -> Option<Merged> {
    let current = coarser.current()?;
    let room = current.end - coarser.start;
    let begun = finer.rest()?.end;
    let probe = finer.list.get(..PROBE)?.iter().fold(begun, |sum, raw| sum.saturating_add(raw.read().length));
    if probe >= room {
        return None;
    }
    let rejected = keep.and_then(|keep| pass(finer, room, |bits| keep.rejects(FINER, bits, current.flags)));
    let run = match rejected {
        Some(rejected) => rejected,
        None => read::<R, FINER>(finer, room, current.flags << COARSER, cuts)?,
    };
    let position = finer.start + run.decoded.end.min(room);
    let finer = finer.whole(run.count, finer.start + run.decoded.end)?;
    let (mut sides, mut flags) = ([finer, current], [run.decoded.flags, current.flags]);
    if FINER == RIGHT {
        sides.reverse();
        flags.reverse();
    }
    let [left, right] = sides;
    Some(Merged { progress: Progress { position, left, right }, len: run.len, flags })
}

/// A run of the finer side.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The number of its descriptors.
    count: usize,
    /// The number of its cuts.
    len: usize,
    /// Its end and its flags. Only the last descriptor may reach the end of the coarser extent.
    decoded: Decoded,
}

/// Decodes a run into cuts. The last is made at the end of the coarser extent, after `room`
/// bytes, if a descriptor reaches it; the rest of that descriptor begins the next block.
#[inline(always)]
fn read<R: RawDescriptor, const FINER: u32>(
    finer: &Input<'_, R>,
    room: u64,
    code: u64,
    cuts: &mut [u64; CUTS],
) -> Option<Run> {
    let mut all = finer.rest()?;
    let first = usize::from(finer.is_begun());
    let (head, cuts) = cuts.split_at_mut_checked(first)?;
    head.fill(join(all.end << CODE_BITS, join(all.flags << FINER, code)));
    let mut count = 0;
    for size in [LARGE, SMALL] {
        while count + size <= WITHIN_AT_ONCE
            && let Some(block) = finer.list.get(count..count + size)
            && let Some(keys) = cuts.get_mut(count..count + size)
            && let Some(next) = decode::<R, FINER>(block, all.end, code, keys)
        {
            all.flags |= next.flags;
            if next.end >= room {
                let before = keys.partition_point(|key| key >> CODE_BITS < room);
                let last = keys.get_mut(before)?;
                all.end = *last >> CODE_BITS;
                *last = join(room << CODE_BITS, *last & CODE);
                count += before + 1;
                return Some(Run { count, len: first + count, decoded: all });
            }
            all.end = next.end;
            count += size;
        }
    }
    // where it has no descriptor the caller finds no last one
    Some(Run { count, len: first + count, decoded: all })
}

/// Passes over descriptors as long as the reader rejects them, without a cut. `rejects` gets the OR
/// of their flags.
///
/// Many at once must end before the coarser extent does, within `room`. The one descriptor that
/// reaches its end or goes on after it is passed alone, so that it is the last of the run.
#[inline(always)]
fn pass<R: RawDescriptor>(finer: &Input<'_, R>, room: u64, rejects: impl Fn(u64) -> bool) -> Option<Run> {
    let (mut all, mut count) = (finer.rest()?, 0);
    for size in [LARGE, SMALL, 1] {
        while all.end < room
            && let Some(block) = finer.list.get(count..count + size)
            && let Some(next) = measure(block, all)
            && (next.end < room || size == 1)
            && rejects(next.flags)
        {
            count += size;
            all = next;
        }
    }
    (count > 0).then_some(Run { count, len: 0, decoded: all })
}
