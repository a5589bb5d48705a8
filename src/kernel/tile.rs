//! The working memory of a kernel: a block of each side as keys, and the cuts that come out. It lies on the stack of one `fold`, and stays in the
//! nearest cache.

use super::key::{CODE, CODE_BITS};

/// The keys of one side, the guard behind the last included.
pub(super) const SLOTS: usize = 512;
/// The cuts of a tile: no more than both sides have keys.
pub(super) const CUTS: usize = 2 * SLOTS;

/// The keys of one side that are merged behind a run.
pub(super) const NARROW: usize = 32;
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
    pub(crate) const fn new() -> Self {
        Self { left: [0; SLOTS], right: [0; SLOTS], cuts: [0; CUTS], len: 0, start: 0, width: NARROW }
    }

    /// The merged segments, one behind the other.
    #[inline]
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        let cuts = self.cuts.get(..self.len).unwrap_or_default();
        let base = self.start;
        let mut start = base;
        cuts.iter().map(move |cut| {
            let end = base + (cut >> CODE_BITS);
            let segment = Segment { start, end, code: cut & CODE };
            start = end;
            segment
        })
    }
}
