//! What a filter leaves of a tile. Whether a pair of statuses is wanted is asked once; picking the wanted segments is then a shift and an addition
//! for each, without a branch, because which ones are wanted cannot be foretold.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use core::cell::Cell;

use super::key::{CODE, CODE_BITS};
use super::tile::{CUTS, Segment, Tile};

/// The segments of a tile that a filter lets through.
#[derive(Debug)]
pub(crate) struct Kept {
    starts: [u64; CUTS],
    len: usize,
    /// Bit by bit, the codes that have been judged, and of those the ones that are wanted.
    judged: Cell<u64>,
    wanted: Cell<u64>,
}

impl Kept {
    pub(crate) const fn new() -> Self {
        Self { starts: [0; CUTS], len: 0, judged: Cell::new(0), wanted: Cell::new(0) }
    }

    /// Whether a code is wanted: `judge` is asked once.
    #[inline]
    pub(crate) fn wants(&self, code: u64, judge: impl Fn(u64) -> bool) -> bool {
        let bit = 1 << (code & CODE);
        if self.judged.get() & bit == 0 {
            self.judged.set(self.judged.get() | bit);
            self.wanted.set(self.wanted.get() | if judge(code) { bit } else { 0 });
        }
        self.wanted.get() & bit != 0
    }

    /// Keeps what is wanted of the tile's segments.
    #[inline]
    pub(crate) fn keep(&mut self, tile: &mut Tile, judge: impl Fn(u64) -> bool) {
        let (mut kept, mut start) = (0, 0);
        for read in 0..tile.len {
            let cut = tile.cuts[read % CUTS];
            tile.cuts[kept % CUTS] = cut;
            self.starts[kept % CUTS] = start;
            kept += usize::from(self.wants(cut & CODE, &judge));
            start = cut >> CODE_BITS;
        }
        self.len = kept;
    }

    /// The segments of the tile that were kept.
    #[inline]
    pub(crate) fn segments(&self, tile: &Tile) -> impl Iterator<Item = Segment> {
        let base = tile.start;
        let pairs = self.starts.iter().zip(&tile.cuts).take(self.len);
        pairs.map(move |(start, cut)| Segment {
            start: base + start,
            end: base + (cut >> CODE_BITS),
            code: cut & CODE,
        })
    }
}
