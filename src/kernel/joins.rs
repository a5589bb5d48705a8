//! Equal neighbours of a tile joined, for a reader that wants everything, but not equal neighbours apart.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::key::{CODE, LEFT, RIGHT};
use super::tile::{CUTS, Tile};
use super::verdicts::flags_of;

const CODES: usize = CODE as usize + 1;

/// Which codes are the same to the reader.
#[derive(Debug)]
pub(crate) struct Joins {
    /// All bits that were seen in the flags of the left side and of the right: the classes hold for every combination of them.
    seen: Option<[u64; 2]>,
    /// By code: the lowest code that is the same.
    classes: [u64; CODES],
    /// Whether each code is the same as itself; NaN would not be.
    reflexive: bool,
}

impl Joins {
    pub(crate) const fn new() -> Self {
        Self { seen: None, classes: [0; CODES], reflexive: true }
    }

    /// Joins the segments of a tile; `same` says whether touching segments with two codes may be one.
    #[inline]
    pub(crate) fn join(&mut self, tile: &mut Tile, same: impl Fn(u64, u64) -> bool) {
        let [left, right] = tile.flags;
        let [a, b] = self.seen.unwrap_or_default();
        if self.seen.is_none() || (left & !a) | (right & !b) != 0 {
            self.ask([a | left, b | right], &same);
        }
        if self.reflexive {
            let kept = self.keep(&mut tile.cuts, tile.len);
            tile.close(kept);
        }
    }

    /// Keeps the last cut of each class in a row. Without a branch: which neighbours are equal cannot be foretold. Returns how many are left.
    fn keep(&self, cuts: &mut [u64; CUTS], len: usize) -> usize {
        let (mut kept, mut before) = (0_usize, u64::MAX);
        for read in 0..len {
            let cut = cuts[read % CUTS];
            let class = self.classes[(cut & CODE) as usize];
            kept += usize::from(class != before);
            cuts[kept.wrapping_sub(1) % CUTS] = cut;
            before = class;
        }
        kept
    }

    #[cold]
    fn ask(&mut self, seen: [u64; 2], same: &dyn Fn(u64, u64) -> bool) {
        self.seen = Some(seen);
        let [left, right] = seen;
        let all = || flags_of(left).flat_map(move |a| flags_of(right).map(move |b| a << LEFT | b << RIGHT));
        self.reflexive = all().all(|code| same(code, code));
        for code in all() {
            let lowest = all().find(|&lower| same(lower, code));
            self.classes[code as usize] = lowest.unwrap_or(code);
        }
    }
}
