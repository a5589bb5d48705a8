//! The working memory of a kernel: a block of each side as keys, and the cuts that come out. It
//! lies on the stack of one `fold`, and stays in the nearest cache.
//!
//! ```text
//! fill:
//!     a run (runs.rs)?              decode it straight into cuts
//!     otherwise (mixed):            keys of both sides, merged up to the end that comes first
//!     a reader with wishes (keep.rs)? drop the cuts that it does not want
//!     drop ties                     the second of two cuts at one byte
//! ```
//!
//! The kernel reports no error. Everything unusual (a length of 0, an end above `MAX_END`, flags of
//! more than three bits, the end of a list) makes it give up the block before anything is consumed;
//! the scalar merge then reads the same descriptors, and finds the error, if there is one.

use core::ops::Range;

use super::input::Input;
use super::keep::{Keep, Questions};
use super::key::{CODE, CODE_BITS, LAST, LEFT, RIGHT, differ};
use super::{NextBlock, Progress, merge, runs, simd};
use crate::wire::RawDescriptor;

/// The keys of one side, with the guard after the last.
pub(super) const SLOTS: usize = 512;
/// The cuts of a block: both sides together have no more keys.
pub(super) const CUTS: usize = 2 * SLOTS;

/// The keys of one side that are merged after a run: another run may follow.
const NARROW: usize = 16;
/// The keys of one side that are merged in the first block.
const FIRST: usize = 256;
/// The keys of one side that are merged where there are no runs.
const WIDE: usize = SLOTS - 1;

/// The keys of both sides, and the cuts that are made of them. Together, so that a loop over all
/// three needs one register to find them.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) left: [u64; SLOTS],
    pub(super) right: [u64; SLOTS],
    pub(super) cuts: [u64; CUTS],
}

/// A stretch of the disk, merged.
#[derive(Debug)]
pub struct Block {
    keys: Keys,
    /// The number of cuts.
    len: usize,
    /// Whether no two neighbours of a kept block are to be joined any more.
    is_joined: bool,
    /// The start of the first segment, from which the keys count, and the end of the last.
    start: u64,
    end: u64,
    /// The number of keys of each side that are merged next.
    width: usize,
    /// The wishes of the reader; `None` where it wants every segment as it is.
    keep: Option<Keep>,
    /// The OR of the flags of the left and of the right side.
    flags: [u64; 2],
    /// The byte up to which the statuses of the codes hold.
    statuses_hold_until: u64,
}

/// A merged segment: its range, and the code of the flags of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) code: u64,
}

impl Block {
    /// Creates a block for a reader that wants every segment as it is.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            keys: Keys { left: [0; SLOTS], right: [0; SLOTS], cuts: [0; CUTS] },
            len: 0,
            is_joined: false,
            start: 0,
            end: 0,
            width: FIRST,
            keep: None,
            flags: [0; 2],
            statuses_hold_until: u64::MAX,
        }
    }

    /// Creates a block for a reader that rejects some pairs of flags and joins others. The caller
    /// answers the questions about them ([`answer`](Self::answer)).
    #[inline(always)]
    pub(crate) const fn keeping() -> Self {
        let mut block = Self::new();
        block.keep = Some(Keep::new());
        block
    }

    /// Answers the questions of [`NextBlock::NewFlags`].
    pub(crate) fn answer(&mut self, questions: &Questions<'_>) {
        if let Some(keep) = &mut self.keep {
            keep.ask(self.flags, questions);
        }
    }

    /// Leaves to the scalar merge whatever ends beyond this byte, where codes get other statuses.
    /// The reader will be asked for its wishes anew if it is another byte than before.
    pub(crate) fn hold_until(&mut self, end: u64) {
        if self.statuses_hold_until != end {
            self.statuses_hold_until = end;
            self.keep = self.keep.as_ref().map(|_| Keep::new());
        }
    }

    /// The end of the stretch, also where its last segments are not wanted.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// Merges the next stretch, if that ends at `until` or before.
    pub(super) fn fill<R: RawDescriptor>(
        &mut self,
        left: &Input<'_, R>,
        right: &Input<'_, R>,
        until: u64,
    ) -> Result<Progress, NextBlock> {
        self.start = left.start;
        let run = runs::any(left, right, &mut self.keys.cuts, self.keep.as_ref());
        // after a run another may follow, so the block that finds none is short; then they grow again
        let width = self.width;
        self.width = if run.is_some() { NARROW } else { WIDE.min(2 * width) };
        let may_have_ties = run.is_none();
        let merged = run.or_else(|| self.mixed(left, right, width)).ok_or(NextBlock::Scalar)?;
        if merged.progress.position > self.statuses_hold_until.min(until) {
            return Err(NextBlock::Scalar);
        }
        if self.keep.as_ref().is_some_and(|keep| !keep.knows(merged.flags)) {
            self.flags = merged.flags;
            return Err(NextBlock::NewFlags);
        }
        (self.len, self.is_joined) =
            drop_cuts(self.keep.as_ref(), &mut self.keys.cuts, merged.len, may_have_ties);
        if let Some(guard) = self.keys.cuts.get_mut(self.len) {
            *guard = LAST;
        }
        self.end = merged.progress.position;
        Ok(merged.progress)
    }

    /// Merges up to `width` keys of each side, whatever their shape.
    fn mixed<R: RawDescriptor>(
        &mut self,
        left: &Input<'_, R>,
        right: &Input<'_, R>,
        width: usize,
    ) -> Option<Merged> {
        let (a, left_flags) = left.decode::<LEFT>(width, &mut self.keys.left)?;
        let (b, right_flags) = right.decode::<RIGHT>(width, &mut self.keys.right)?;
        // Up to the end of the side that ends first, both sides are known, so the number of outputs
        // is as well.
        let last_of = |keys: &[u64; SLOTS], len: usize| Some(keys.get(len - 1)? >> CODE_BITS);
        let end = last_of(&self.keys.left, a)?.min(last_of(&self.keys.right, b)?);
        let up_to = |keys: &[u64; SLOTS], len: usize| {
            Some(keys.get(..len)?.partition_point(|key| key >> CODE_BITS <= end))
        };
        let used = (up_to(&self.keys.left, a)?, up_to(&self.keys.right, b)?);
        merge::merge(&mut self.keys, used);
        let progress = Progress {
            position: self.start + end,
            left: left.consumed(used.0, end, LEFT, &self.keys.left)?,
            right: right.consumed(used.1, end, RIGHT, &self.keys.right)?,
        };
        Some(Merged { progress, len: used.0 + used.1, flags: [left_flags, right_flags] })
    }

    /// The places of all segments.
    pub(crate) const fn all(&self) -> Range<usize> {
        0..self.len
    }

    /// The places of segments of a kept block that are complete once the block is: they can be
    /// joined with no other segment, and a wanted one follows (of two neighbours, one is wanted).
    pub(crate) fn inner(&self) -> Range<usize> {
        if self.is_joined && self.len > 2 { 1..self.len - 2 } else { self.len..self.len }
    }

    /// The merged segments in these places. A loop over them ends after their number if `COUNTED`,
    /// otherwise at the guard after the last of all cuts. A compiler vectorizes only the counted loop.
    #[inline]
    pub(crate) fn segments<const COUNTED: bool>(
        &self,
        places: Range<usize>,
    ) -> impl Iterator<Item = Segment> {
        let base = self.start;
        let before = places.start.checked_sub(1).and_then(|last| self.keys.cuts.get(last));
        let mut start = base + before.map_or(0, |cut| cut >> CODE_BITS);
        let cuts = self.keys.cuts.get(places.start..if COUNTED { places.end } else { CUTS });
        let cuts = cuts.unwrap_or_default();
        cuts.iter().take_while(|&&cut| COUNTED || cut < LAST).map(move |cut| {
            let end = base + (cut >> CODE_BITS);
            let segment = Segment { start, end, code: cut & CODE };
            start = end;
            segment
        })
    }
}

/// Descriptors that were merged into the cuts of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged {
    pub(super) progress: Progress,
    /// The number of cuts.
    pub(super) len: usize,
    /// The OR of the flags of the left and of the right side, or more bits than that.
    pub(super) flags: [u64; 2],
}

/// Drops the cuts that the reader does not want, and ties. Returns the number that is left, and
/// whether no two neighbours are to be joined any more.
#[inline(always)]
fn drop_cuts(keep: Option<&Keep>, cuts: &mut [u64; CUTS], len: usize, may_have_ties: bool) -> (usize, bool) {
    if len == 0 || keep.is_none() && !may_have_ties {
        return (len, false);
    }
    if let Some(len) = simd::drop_cuts(keep, cuts, len, may_have_ties) {
        return (len, true);
    }
    let kept = keep.map_or(len, |keep| keep.compact(cuts, len));
    // Last, because fewer cuts are left then. A tie that is dropped here may leave equal
    // neighbours apart.
    let len = if may_have_ties { drop_ties(cuts, kept) } else { kept };
    (len, len == kept)
}

/// Drops the second of two cuts at one byte: the first has the flags of the segment, the second
/// would be one of length 0. Returns the number that is left.
#[inline(always)]
#[allow(clippy::indexing_slicing, reason = "indices are masked to the length of the array")]
fn drop_ties(cuts: &mut [u64; CUTS], len: usize) -> usize {
    let (mut kept, mut before) = (0, 0);
    for read in 0..len {
        let cut = cuts[read % CUTS];
        cuts[kept % CUTS] = cut;
        kept += usize::from(differ(cut, before));
        before = cut;
    }
    kept
}
