//! Filter and coalesce on a merged block: segments that the reader does not want, and cuts between
//! segments that are equal to it, are dropped before anything is yielded.
//!
//! ```text
//! the reader is asked once:  class of each code        dead: not wanted; equal: may be one segment
//!
//! cuts     [10.a][25.b][30.b][40.c][55.c][60.a]        a, b wanted and equal; c dead
//! classes    1     1     1    dead  dead   1
//! kept                 [30.b]     [55.c] [60.a]        the last cut of each run of equal classes
//! segments  0..30 b             (30..55)  55..60 a     the dead ones are not yielded
//!
//! for each cut:
//!     kept += its class differs from the class before
//!     cuts[kept] = cut                                 over one of the same class
//! ```
//!
//! Why after the merge, and by a table: there are 64 codes (three bits of flags a side), so that
//! `status_of` and `combine`, which are pure, can be asked about each code once, however long the
//! lists are. The loop has no branch that depends on the data, since no processor can foretell
//! which neighbours are equal.
//!
//! A status need not be equal to itself (a NaN is not). Such a segment must not be joined with a
//! neighbour of its own code, hence two tables: the class of a code seen from the segment before
//! it, and from the one after it.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::block::CUTS;
use super::key::{CODE, CODE_BITS, CODES, FLAGS, LEFT, RIGHT, code_of, subsets};

/// The answers of a reader about pairs of flags. Both closures are pure, and may be asked about
/// pairs that do not occur.
#[derive(Clone, Copy)]
pub(crate) struct Questions<'a> {
    /// Whether segments with this code are wanted.
    pub(crate) wants: &'a dyn Fn(u64) -> bool,
    /// Whether touching segments with these codes, both wanted, may be yielded as one.
    pub(crate) joins: &'a dyn Fn(u64, u64) -> bool,
}

/// The class of all codes that are not wanted.
const DEAD: u8 = u8::MAX;
/// The class before the first segment, and of a status that is not equal to itself, seen from the
/// segment after it.
const NONE: u8 = DEAD - 1;

/// The classes of all codes that were seen.
#[derive(Clone, Debug)]
pub(super) struct Keep {
    /// The OR of the flags of the left and of the right side for which the classes hold.
    seen: Option<[u64; 2]>,
    /// By code: its class, compared with the class of the segment before it, and its class, compared
    /// with the class of the segment after it.
    pub(super) classes: [[u8; 2]; CODES],
    /// `rejected[side][flags]`: bit `bits` is set if an extent of the coarser side with `flags` is
    /// dead over every extent of the finer side whose flags are within `bits`. `side` is 1 if the
    /// finer side is the left one.
    rejected: [[u8; FLAGS as usize]; 2],
}

impl Keep {
    pub(super) const fn new() -> Self {
        Self { seen: None, classes: [[0; 2]; CODES], rejected: [[0; FLAGS as usize]; 2] }
    }

    /// Whether the classes hold for these flags.
    #[inline]
    pub(super) fn knows(&self, [left, right]: [u64; 2]) -> bool {
        self.seen.is_some_and(|[a, b]| (left & !a) | (right & !b) == 0)
    }

    /// Whether an extent of the coarser side with `flags` is dead over every extent of the finer
    /// side whose flags are made of `bits`, which are shifted by `shift`. `false` where that is not
    /// known.
    #[inline]
    pub(super) fn rejects(&self, shift: u32, bits: u64, flags: u64) -> bool {
        let side = usize::from(shift == LEFT);
        self.rejected[side][(flags % FLAGS) as usize] >> (bits % FLAGS) & 1 == 1
    }

    /// Keeps, of each run of cuts with one class, only the last. Returns the number kept.
    ///
    /// A run of dead cuts keeps one, too: the segment after it starts there.
    #[inline(always)]
    pub(super) fn compact(&self, cuts: &mut [u64; CUTS], len: usize) -> usize {
        // The last cut that was kept; before the first, the place before place 0.
        let mut last = usize::MAX;
        let mut before = NONE;
        for read in 0..len {
            let cut = cuts[read % CUTS];
            let [class, class_before] = self.classes[(cut & CODE) as usize];
            // a cut of the same class stays at `last`, and so replaces the one kept before it
            last = last.wrapping_add(usize::from(class != before));
            before = class_before;
            cuts[last % CUTS] = cut;
        }
        last.wrapping_add(1)
    }

    /// Asks about all codes made of these flags and of those seen before, and fills the tables.
    ///
    /// The class of a code is the lowest code that it may be joined with, or else the code itself.
    #[cold]
    pub(super) fn ask(&mut self, flags: [u64; 2], questions: &Questions<'_>) {
        let [a, b] = self.seen.unwrap_or_default();
        let [left, right] = [a | flags[0], b | flags[1]];
        self.seen = Some([left, right]);
        let codes = || subsets(left).flat_map(move |a| subsets(right).map(move |b| code_of(a, b)));
        // a bit for each code that is not wanted
        let mut dead = 0_u64;
        for code in codes() {
            self.classes[code as usize] = if !(questions.wants)(code) {
                dead |= 1 << code;
                [DEAD; 2]
            } else if !(questions.joins)(code, code) {
                // not equal to itself: no neighbour has a class of `NONE`
                [code as u8, NONE]
            } else {
                let equal = |&lower: &u64| dead >> lower & 1 == 0 && (questions.joins)(lower, code);
                let class = codes().take_while(|&lower| lower < code).find(equal).unwrap_or(code);
                [class as u8; 2]
            };
        }
        // In the order of `rejected`, first with the right side as the finer one: the flags of the finer
        // side, those of the coarser one, and the code of one of each.
        let mirrored: fn(u64, u64) -> u64 = |finer, coarser| code_of(coarser, finer);
        let sides = [(right, left, mirrored), (left, right, code_of as fn(_, _) -> _)];
        for (rejected, (finer, coarser, code)) in self.rejected.iter_mut().zip(sides) {
            for flags in subsets(coarser) {
                let all_dead = |&bits: &u64| subsets(bits).all(|other| dead >> code(other, flags) & 1 == 1);
                rejected[flags as usize] = subsets(finer).filter(all_dead).map(|bits| 1 << bits).sum();
            }
        }
    }
}

const _: () =
    assert!(LEFT == CODE_BITS / 2 && RIGHT == 0 && (NONE as usize) >= CODES, "classes are told apart");

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn keep(flags: [u64; 2], wants: impl Fn(u64) -> bool, joins: impl Fn(u64, u64) -> bool) -> Keep {
        let mut keep = Keep::new();
        assert!(!keep.knows([0, 0]));
        keep.ask(flags, &Questions { wants: &wants, joins: &joins });
        assert!(keep.knows(flags));
        keep
    }

    /// (end, code) of the cuts that are left.
    fn kept(keep: &Keep, cuts: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut list = [0; CUTS];
        for (slot, (end, code)) in list.iter_mut().zip(cuts) {
            *slot = end << CODE_BITS | code;
        }
        let len = keep.compact(&mut list, cuts.len());
        list[..len].iter().map(|cut| (cut >> CODE_BITS, cut & CODE)).collect()
    }

    #[test]
    fn rows_of_one_class_are_one_cut() {
        // Wanted: dirty (bit 0 of the right side); equal: the same bit 0 of the left side.
        let keep = keep([3, 1], |code| code & 1 == 1, |a, b| (a ^ b) & 1 << LEFT == 0);
        let code = |left: u64, right: u64| left << LEFT | right;
        let cuts = [(10, code(0, 1)), (20, code(2, 1)), (30, code(1, 1)), (40, code(0, 0)), (50, code(3, 0))];
        assert_eq!(kept(&keep, &cuts), [(20, code(2, 1)), (30, code(1, 1)), (50, code(3, 0))]);
    }

    #[test]
    fn what_is_not_equal_to_itself_is_not_joined() {
        let equal = |a: u64, b: u64| a == b && a != 1;
        let keep = keep([0, 1], |_| true, equal);
        assert_eq!(kept(&keep, &[(10, 1), (20, 1), (30, 0), (40, 0)]), [(10, 1), (20, 1), (40, 0)]);
    }

    #[test]
    fn rejects_what_is_dead_whatever_the_finer_side_says() {
        // Wanted: zero (bit 1 of the left side) and dirty (bit 0 of the right side).
        let keep = keep([3, 1], |code| code >> LEFT & 2 == 2 && code & 1 == 1, |_, _| true);
        assert!(keep.rejects(LEFT, 3, 0), "many allocations over clean bytes");
        assert!(!keep.rejects(LEFT, 3, 1));
        assert!(keep.rejects(LEFT, 1, 1), "data over dirty bytes");
        assert!(keep.rejects(RIGHT, 1, 1) && !keep.rejects(RIGHT, 1, 2));
        assert!(!keep.rejects(LEFT, 4, 0) && !keep.rejects(RIGHT, 1, 4), "flags that were not asked about");
        assert!(!keep.knows([4, 0]) && !keep.knows([0, 2]) && keep.knows([1, 1]));
        assert!(!keep.knows([4, 4]), "the same new flag on both sides");
    }

    /// Flags that are seen again stay known, and unwanted codes are compared with none.
    #[test]
    fn later_questions_add_to_the_earlier_ones() {
        let wants = |code: u64| code & 1 == 1;
        let joins = |a: u64, b: u64| {
            assert!(wants(a) && wants(b), "{a} and {b}");
            a >> LEFT & 1 == b >> LEFT & 1
        };
        let mut keep = keep([3, 1], wants, joins);
        keep.ask([1, 3], &Questions { wants: &wants, joins: &joins });
        assert!(keep.knows([3, 3]));
    }
}
