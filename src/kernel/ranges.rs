//! What the reader wants of a stretch of the disk.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::key::{CODE, CODE_BITS};
use super::overlaps::LANES;
use super::tile::{CUTS, Segment};

/// The segments that are wanted: each has a start of its own, since others are missing.
#[derive(Debug)]
pub(crate) struct Ranges {
    pub(super) starts: [u64; CUTS],
    pub(super) cuts: [u64; CUTS],
    /// Which of them are there, in order.
    pub(super) parts: [(usize, usize); LANES],
    /// Where the stretch starts.
    pub(super) base: u64,
    /// The code of them all, where the cuts have none.
    pub(super) code: u64,
}

impl Ranges {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self { starts: [0; CUTS], cuts: [0; CUTS], parts: [(0, 0); LANES], base: 0, code: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.parts = [(0, 0); LANES];
    }

    /// Keeps what is wanted of the first `len` cuts, which follow each other from the base on. Without a branch, because which ones are wanted cannot be foretold.
    #[inline(always)]
    pub(super) fn keep(&mut self, len: usize, wanted: u64) {
        let (mut kept, mut start) = (0, 0);
        for read in 0..len {
            let cut = self.cuts[read % CUTS];
            self.cuts[kept % CUTS] = cut;
            self.starts[kept % CUTS] = start;
            kept += usize::from(wanted >> (cut & CODE) & 1 == 1);
            start = cut;
        }
        self.clear();
        self.code = 0;
        self.parts[0] = (0, kept);
    }

    /// The segments, in order.
    #[inline]
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        self.parts.iter().flat_map(|&(from, upto)| {
            let pairs = self
                .starts
                .get(from..upto)
                .unwrap_or_default()
                .iter()
                .zip(self.cuts.get(from..upto).unwrap_or_default());
            pairs.map(|(start, cut)| Segment {
                start: self.base + (start >> CODE_BITS),
                end: self.base + (cut >> CODE_BITS),
                code: cut & CODE | self.code,
            })
        })
    }
}
