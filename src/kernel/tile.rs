//! The working memory of a kernel: a block of each side as keys, and the cuts that come out. It lies on the stack of one `fold`, and stays in the
//! nearest cache.

use super::key::{CODE, CODE_BITS, LAST, LEFT, RIGHT};
use super::side::Side;
use super::{Progress, dispatch, lanes, runs};
use crate::wire::RawDescriptor;

/// The keys of one side, the guard behind the last included.
pub(super) const SLOTS: usize = 512;
/// The cuts of a tile: no more than both sides have keys.
pub(super) const CUTS: usize = 2 * SLOTS;

/// The keys of one side that are merged behind a run.
pub(super) const NARROW: usize = 16;
/// The keys of one side that are merged where there are no runs.
pub(super) const WIDE: usize = SLOTS - 1;

/// A stretch of the disk, merged.
#[derive(Debug)]
pub(crate) struct Tile {
    pub(super) left: [u64; SLOTS],
    pub(super) right: [u64; SLOTS],
    pub(super) cuts: [u64; CUTS],
    /// The cuts that are there.
    pub(super) len: usize,
    /// All bits of the flags of the left side and of the right, or more.
    pub(super) flags: [u64; 2],
    /// Where the first segment starts.
    pub(super) start: u64,
    /// So many keys of each side are merged next: few where there was a run a moment ago.
    pub(super) width: usize,
}

/// A merged segment: its range, and the flags of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) code: u64,
}

impl Tile {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            left: [0; SLOTS],
            right: [0; SLOTS],
            cuts: [0; CUTS],
            len: 0,
            flags: [0; 2],
            start: 0,
            width: NARROW,
        }
    }

    /// Merges the next stretch. `None` where the plain way must go on.
    pub(super) fn fill<R: RawDescriptor>(
        &mut self,
        left: &Side<'_, R>,
        right: &Side<'_, R>,
    ) -> Option<Progress> {
        if left.start != right.start {
            return None;
        }
        self.start = left.start;
        let run = dispatch(|| runs::any(left, right, &mut self.cuts, None));
        let width = self.width;
        self.width = if run.is_some() { NARROW } else { WIDE.min(2 * width) };
        let Some(run) = run else {
            return self.mixed(left, right, width);
        };
        self.flags = run.flags;
        self.close(run.len);
        Some(run.progress)
    }

    /// So many cuts are there.
    pub(super) fn close(&mut self, len: usize) {
        self.len = len;
        if let Some(guard) = self.cuts.get_mut(len) {
            *guard = LAST;
        }
    }

    /// Merges up to `width` keys of each side, whatever their shape.
    fn mixed<R: RawDescriptor>(
        &mut self,
        left: &Side<'_, R>,
        right: &Side<'_, R>,
        width: usize,
    ) -> Option<Progress> {
        let (a, left_flags) = left.decode::<LEFT>(width, &mut self.left)?;
        let (b, right_flags) = right.decode::<RIGHT>(width, &mut self.right)?;
        self.flags = [left_flags, right_flags];
        // up to the end of the side that ends first, all is known of both
        let last_of = |keys: &[u64; SLOTS], len: usize| Some(keys.get(len - 1)? >> CODE_BITS);
        let end = last_of(&self.left, a)?.min(last_of(&self.right, b)?);
        let upto = |keys: &[u64; SLOTS], len: usize| {
            Some(keys.get(..len)?.partition_point(|key| key >> CODE_BITS <= end))
        };
        let used = (upto(&self.left, a)?, upto(&self.right, b)?);
        lanes::merge(&self.left, &self.right, used, &mut self.cuts);
        let len = lanes::drop_ties(&mut self.cuts, used.0 + used.1);
        self.close(len);
        Some(Progress {
            position: self.start + end,
            left: left.used(used.0, end, LEFT, &self.left)?,
            right: right.used(used.1, end, RIGHT, &self.right)?,
        })
    }

    /// The merged segments, one behind the other. With `COUNTED` their number ends the loop, otherwise the guard behind the last: a compiler makes no vectors of that.
    #[inline]
    pub(crate) fn segments<const COUNTED: bool>(&self) -> impl Iterator<Item = Segment> {
        let base = self.start;
        let mut start = base;
        let cuts = if COUNTED { self.cuts.get(..self.len).unwrap_or_default() } else { &self.cuts };
        cuts.iter().take_while(|&&cut| COUNTED || cut < LAST).map(move |cut| {
            let end = base + (cut >> CODE_BITS);
            let segment = Segment { start, end, code: cut & CODE };
            start = end;
            segment
        })
    }
}
