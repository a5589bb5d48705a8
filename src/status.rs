//! The status of an extent: a type for the flags of each context, and [`Status`], the meaning of all
//! contexts together. Only this module converts the first into the second, so that raw flags of two
//! contexts never mix.

mod bitmaps;
mod flags;

use core::fmt;

pub use bitmaps::{BitmapIndex, BitmapIndexError, Bitmaps, MAX_BITMAPS};
pub use flags::{Allocation, Depth, Dirtiness};

/// The combined status of a range of bytes in all contexts.
///
/// Each part is `None` if its context was not requested or has no answer.
///
/// A `Status` starts from [`Status::UNKNOWN`] and gains the answer of each context; two statuses
/// are joined by [`combine`](Status::combine). It is small (16 bytes) and `Copy`.
///
/// ```
/// use nbd_extents::{Allocation, BitmapIndex, Dirtiness, Status};
///
/// let status = Status::UNKNOWN
///     .with_allocation(Allocation::from_flags(3))
///     .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(1));
/// assert_eq!(status.zero(), Some(true));
/// assert_eq!(status.dirty(), Some(true));
/// assert_eq!(status.depth(), None);
/// assert_eq!(status.to_string(), "dirty,zero,hole");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status {
    /// Bit `i`: bitmap `i` has answered.
    tracked: u32,
    /// Bit `i`: bitmap `i` marks the bytes as changed. No bit outside `tracked`.
    dirty: u32,
    /// The layer; 0 unless `KNOWS_DEPTH`.
    depth: u32,
    /// The bits below.
    bits: u32,
}

const ZERO: u32 = 1;
const HOLE: u32 = 1 << 1;
const KNOWS_ALLOCATION: u32 = 1 << 2;
const KNOWS_DEPTH: u32 = 1 << 3;
/// Two answers named different layers: the depth is in doubt and stays so.
const DOUBTS_DEPTH: u32 = 1 << 4;

impl Status {
    /// No part is known. Combined with another status, it changes nothing.
    pub const UNKNOWN: Self = Self { tracked: 0, dirty: 0, depth: 0, bits: 0 };

    /// Adds the answer of `base:allocation`.
    #[inline]
    #[must_use]
    pub const fn with_allocation(mut self, allocation: Allocation) -> Self {
        self.bits &= !(ZERO | HOLE);
        self.bits |= KNOWS_ALLOCATION;
        if allocation.is_zero() {
            self.bits |= ZERO;
        }
        if allocation.is_hole() {
            self.bits |= HOLE;
        }
        self
    }

    /// Adds the answer of the dirty bitmap with this index.
    #[inline]
    #[must_use]
    pub const fn with_bitmap(mut self, index: BitmapIndex, dirtiness: Dirtiness) -> Self {
        let bit = index.bit();
        self.tracked |= bit;
        self.dirty = if dirtiness.is_dirty() { self.dirty | bit } else { self.dirty & !bit };
        self
    }

    /// Adds the answer of `qemu:allocation-depth`.
    ///
    /// A number beyond 32 bits leaves the depth in doubt, which reads as `None`.
    #[must_use]
    pub fn with_depth(mut self, depth: Depth) -> Self {
        self.bits &= !(KNOWS_DEPTH | DOUBTS_DEPTH);
        self.bits |= if depth.layer().is_some() { KNOWS_DEPTH } else { DOUBTS_DEPTH };
        self.depth = depth.layer().unwrap_or(0);
        self
    }

    /// `true` if every byte reads as zero, or `None` without `base:allocation`.
    #[inline]
    #[must_use]
    pub const fn zero(self) -> Option<bool> {
        if self.bits & KNOWS_ALLOCATION == 0 { None } else { Some(self.bits & ZERO != 0) }
    }

    /// `true` if the bytes are a hole, or `None` without `base:allocation`.
    ///
    /// A hole need not read as zero.
    #[inline]
    #[must_use]
    pub const fn hole(self) -> Option<bool> {
        if self.bits & KNOWS_ALLOCATION == 0 { None } else { Some(self.bits & HOLE != 0) }
    }

    /// `true` if any bitmap marks the bytes as changed, or `None` if none was requested.
    #[inline]
    #[must_use]
    pub const fn dirty(self) -> Option<bool> {
        if self.tracked == 0 { None } else { Some(self.dirty != 0) }
    }

    /// `true` if this bitmap marks the bytes as changed, or `None` if it was not requested.
    #[must_use]
    pub const fn dirty_in(self, index: BitmapIndex) -> Option<bool> {
        if self.tracked & index.bit() == 0 { None } else { Some(self.dirty & index.bit() != 0) }
    }

    /// The layer that holds the bytes (0 for none), or `None` if it is unknown.
    ///
    /// It is unknown without `qemu:allocation-depth`, and if the answer is in doubt.
    #[inline]
    #[must_use]
    pub const fn depth(self) -> Option<u32> {
        if self.bits & KNOWS_DEPTH == 0 { None } else { Some(self.depth) }
    }

    /// True if the depth is unknown because its answer is in doubt, which
    /// [`combine`](Self::combine) preserves.
    #[cfg(feature = "serde")]
    pub(crate) const fn depth_in_doubt(self) -> bool {
        self.bits & DOUBTS_DEPTH != 0
    }

    /// Joins two statuses of the same bytes.
    ///
    /// Parts known to only one are taken over. If both know a part and differ, the safer answer
    /// holds: not zero, not a hole, dirty, depth in doubt.
    ///
    /// Neither order nor grouping matters; combining a status with itself or with
    /// [`Status::UNKNOWN`] changes nothing.
    ///
    /// ```
    /// # use nbd_extents::{Allocation, Status};
    /// let zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(2));
    /// let data = Status::UNKNOWN.with_allocation(Allocation::DATA);
    /// assert_eq!(zero.combine(data), data);
    /// assert_eq!(zero.combine(Status::UNKNOWN), zero);
    /// ```
    #[inline]
    #[must_use]
    pub const fn combine(self, other: Self) -> Self {
        let either = self.bits | other.bits;
        let both = self.bits & other.bits;
        let mut bits = either & (KNOWS_ALLOCATION | DOUBTS_DEPTH);
        // zero and hole need both answers, or that of the only one that knows
        bits |= (ZERO | HOLE) & if both & KNOWS_ALLOCATION != 0 { both } else { either };
        let one_depth = both & KNOWS_DEPTH == 0 || self.depth == other.depth;
        let mut depth = 0;
        if either & KNOWS_DEPTH != 0 {
            if one_depth && either & DOUBTS_DEPTH == 0 {
                bits |= KNOWS_DEPTH;
                depth = self.depth | other.depth;
            } else {
                bits |= DOUBTS_DEPTH;
            }
        }
        Self { tracked: self.tracked | other.tracked, dirty: self.dirty | other.dirty, depth, bits }
    }

    /// Combines two statuses with disjoint known parts. `None` if both know, or doubt, the same
    /// part.
    #[cfg(feature = "alloc")]
    pub(crate) const fn beside(self, other: Self) -> Option<Self> {
        let depth = KNOWS_DEPTH | DOUBTS_DEPTH;
        let allocation = self.bits & other.bits & KNOWS_ALLOCATION == 0;
        let depth = self.bits & depth == 0 || other.bits & depth == 0;
        let bitmaps = self.tracked & other.tracked == 0;
        let ([a, b], [c, d]) = (self.pack(), other.pack());
        if allocation && depth && bitmaps { Some(Self::unpack([a | c, b | d])) } else { None }
    }

    /// The status as two numbers. Statuses that are [`beside`](Self::beside) each other combine by
    /// an OR of these bits.
    #[cfg(feature = "alloc")]
    #[inline]
    pub(crate) const fn pack(self) -> [u64; 2] {
        [self.tracked as u64 | (self.dirty as u64) << 32, self.depth as u64 | (self.bits as u64) << 32]
    }

    /// The status of packed numbers.
    #[cfg(feature = "alloc")]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the numbers")]
    pub(crate) const fn unpack([bitmaps, rest]: [u64; 2]) -> Self {
        Self {
            tracked: bitmaps as u32,
            dirty: (bitmaps >> 32) as u32,
            depth: rest as u32,
            bits: (rest >> 32) as u32,
        }
    }

    /// True if two statuses of the same bytes contradict each other in a part that both know.
    #[must_use]
    pub const fn contradicts(self, other: Self) -> bool {
        let both = self.bits & other.bits;
        let allocation = both & KNOWS_ALLOCATION != 0 && (self.bits ^ other.bits) & (ZERO | HOLE) != 0;
        let depth = both & KNOWS_DEPTH != 0 && self.depth != other.depth;
        let bitmaps = (self.dirty ^ other.dirty) & self.tracked & other.tracked != 0;
        allocation || depth || bitmaps
    }
}

/// A status of `base:allocation` alone.
///
/// ```
/// use nbd_extents::{Allocation, Depth, Dirtiness, Status};
///
/// let status = Status::from(Dirtiness::DIRTY).combine(Allocation::from_flags(3).into());
/// assert_eq!(status.to_string(), "dirty,zero,hole");
/// assert_eq!(status.combine(Depth::from_flags(1).into()).depth(), Some(1));
/// ```
impl From<Allocation> for Status {
    fn from(allocation: Allocation) -> Self {
        Self::UNKNOWN.with_allocation(allocation)
    }
}

/// A status of the [first](BitmapIndex::FIRST) bitmap alone.
impl From<Dirtiness> for Status {
    fn from(dirtiness: Dirtiness) -> Self {
        Self::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirtiness)
    }
}

/// A status of `qemu:allocation-depth` alone.
impl From<Depth> for Status {
    fn from(depth: Depth) -> Self {
        Self::UNKNOWN.with_depth(depth)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Words { f, any: false };
        match self.dirty() {
            Some(true) if self.tracked.count_ones() > 1 => words.bitmaps(*self)?,
            Some(true) => words.say(format_args!("dirty"))?,
            Some(false) => words.say(format_args!("clean"))?,
            None => {}
        }
        match (self.zero(), self.hole()) {
            (Some(true), Some(true)) => words.say(format_args!("zero,hole"))?,
            (Some(true), _) => words.say(format_args!("zero"))?,
            (_, Some(true)) => words.say(format_args!("hole"))?,
            (Some(false), _) => words.say(format_args!("data"))?,
            (None, _) => {}
        }
        match self.depth() {
            Some(0) => words.say(format_args!("absent"))?,
            Some(depth) => words.say(format_args!("depth {depth}"))?,
            None => {}
        }
        if words.any { Ok(()) } else { f.write_str("unknown") }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

/// Writes words with commas between them.
struct Words<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    any: bool,
}

impl Words<'_, '_> {
    fn say(&mut self, word: fmt::Arguments<'_>) -> fmt::Result {
        if self.any {
            self.f.write_str(",")?;
        }
        self.any = true;
        self.f.write_fmt(word)
    }

    fn bitmaps(&mut self, status: Status) -> fmt::Result {
        self.say(format_args!("dirty in "))?;
        for (nth, index) in status.dirty_set().indices().enumerate() {
            write!(self.f, "{}{index}", if nth == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    /// All statuses of one bitmap, allocation and three depths, including missing parts.
    fn all() -> Vec<Status> {
        let mut all = Vec::new();
        for allocation in [None, Some(0), Some(1), Some(2), Some(3)] {
            for dirty in [None, Some(0), Some(1)] {
                for depth in [None, Some(0), Some(1), Some(u64::MAX)] {
                    let mut status = Status::UNKNOWN;
                    if let Some(flags) = allocation {
                        status = status.with_allocation(Allocation::from_flags(flags));
                    }
                    if let Some(flags) = dirty {
                        status = status.with_bitmap(BitmapIndex::of::<1>(), Dirtiness::from_flags(flags));
                    }
                    if let Some(flags) = depth {
                        status = status.with_depth(Depth::from_flags(flags));
                    }
                    all.push(status);
                }
            }
        }
        all
    }

    #[test]
    fn combining_is_commutative_associative_and_idempotent() {
        let all = all();
        for &a in &all {
            assert_eq!(a.combine(a), a);
            assert_eq!(a.combine(Status::UNKNOWN), a);
            for &b in &all {
                assert_eq!(a.combine(b), b.combine(a));
                for &c in &all {
                    assert_eq!(a.combine(b).combine(c), a.combine(b.combine(c)));
                }
            }
        }
    }

    #[test]
    fn what_knows_different_parts_is_combined_without_looking() {
        let parts = |status: Status| {
            [
                status.zero().is_some(),
                status.dirty().is_some(),
                status.bits & (KNOWS_DEPTH | DOUBTS_DEPTH) != 0,
            ]
        };
        for &a in &all() {
            for &b in &all() {
                let shared = parts(a).iter().zip(parts(b)).any(|(&a, b)| a && b);
                assert_eq!(a.beside(b), if shared { None } else { Some(a.combine(b)) });
                assert!(shared || !a.contradicts(b));
            }
            assert_eq!(Status::unpack(a.pack()), a);
        }
    }

    #[test]
    fn combining_never_makes_anything_less_safe() {
        for &a in &all() {
            for &b in &all() {
                let both = a.combine(b);
                if a.dirty() == Some(true) {
                    assert_eq!(both.dirty(), Some(true));
                }
                if a.zero() == Some(false) {
                    assert_eq!(both.zero(), Some(false));
                }
                if both.depth() == Some(0) {
                    assert!(a.depth() == Some(0) || b.depth() == Some(0));
                    assert!(a.depth().unwrap_or(0) == 0 && b.depth().unwrap_or(0) == 0);
                }
                assert_eq!(a.contradicts(b), b.contradicts(a));
                assert!(!a.contradicts(a));
            }
        }
    }

    #[test]
    fn hole_dirty_and_depth_one_are_the_same_number_and_stay_apart() {
        assert_eq!(Allocation::from_flags(1).to_string(), "hole");
        assert_eq!(Dirtiness::from_flags(1).to_string(), "dirty");
        assert_eq!(Depth::from_flags(1).to_string(), "depth 1");
        assert_eq!(Status::UNKNOWN.with_depth(Depth::from_flags(1)).dirty(), None);
    }

    #[test]
    fn undefined_bits_are_ignored() {
        let status = Status::UNKNOWN
            .with_allocation(Allocation::from_flags(0xffff_ffff_ffff_fffc))
            .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0xfe));
        assert_eq!(status.to_string(), "clean,data");
    }

    #[test]
    fn a_depth_beyond_32_bits_is_in_doubt_not_absent() {
        let status = Status::UNKNOWN.with_depth(Depth::from_flags(1 << 32));
        assert_eq!(status.depth(), None);
        assert_eq!(status.combine(Status::UNKNOWN.with_depth(Depth::from_flags(0))).depth(), None);
    }

    #[test]
    fn bitmaps_up_to_the_stated_maximum() {
        let last = BitmapIndex::of::<{ MAX_BITMAPS - 1 }>();
        let status = Status::UNKNOWN
            .with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY)
            .with_bitmap(last, Dirtiness::DIRTY);
        assert!(status.dirty_set().indices().eq([BitmapIndex::FIRST, last]));
        assert_eq!(status.to_string(), "dirty in 0+31");
        let clean = status.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0));
        assert_eq!(clean.dirty_in(BitmapIndex::FIRST), Some(false));
    }

    #[test]
    fn words() {
        assert_eq!(Status::UNKNOWN.to_string(), "unknown");
        let zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(2));
        assert_eq!(zero.with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY).to_string(), "dirty,zero");
        assert_eq!(zero.with_depth(Depth::from_flags(0)).to_string(), "zero,absent");
        assert_eq!(zero.with_allocation(Allocation::DATA).to_string(), "data");
    }

    #[test]
    fn a_status_is_small() {
        assert!(size_of::<Status>() <= 16);
    }
}
