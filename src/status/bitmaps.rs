//! Several dirty bitmaps at once: those that mark a range, and the choice of those for one backup.

use core::fmt;

use thiserror::Error;

use super::Status;

/// The number of dirty bitmaps that one [`Status`] can hold.
pub const MAX_BITMAPS: usize = 32;

/// The index of a dirty bitmap: its place among the bitmaps of a survey, from 0.
///
/// An index out of range cannot be created, so that no mark is lost for lack of a place.
///
/// ```
/// use nbd_extents::{BitmapIndex, MAX_BITMAPS};
///
/// let third = BitmapIndex::of::<2>(); // a constant is checked by the compiler
/// assert_eq!(BitmapIndex::try_from(2), Ok(third));
/// assert_eq!(usize::from(third), 2);
///
/// let error = BitmapIndex::try_from(MAX_BITMAPS).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "bitmap index 32 is out of range: a status has room for 32 bitmaps, 0 to 31"
/// );
/// ```
///
/// ```compile_fail
/// let none = nbd_extents::BitmapIndex::of::<40>();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitmapIndex(u8);

/// An index outside the range of dirty bitmaps. See [`BitmapIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "bitmap index {got} is out of range: a status has room for {MAX_BITMAPS} bitmaps, 0 to {}",
    MAX_BITMAPS - 1
)]
pub struct BitmapIndexError {
    /// The requested index.
    pub got: usize,
}

impl BitmapIndex {
    /// The first bitmap.
    pub const FIRST: Self = Self(0);

    /// The index `INDEX`, checked by the compiler.
    #[must_use]
    pub const fn of<const INDEX: usize>() -> Self {
        const { assert!(INDEX < MAX_BITMAPS, "a status has room for 32 bitmaps") };
        #[expect(clippy::cast_possible_truncation, reason = "the line above checks it")]
        Self(INDEX as u8)
    }

    /// The bit of this bitmap in the masks of a status.
    pub(super) const fn bit(self) -> u32 {
        1 << self.0
    }
}

impl TryFrom<usize> for BitmapIndex {
    type Error = BitmapIndexError;

    fn try_from(index: usize) -> Result<Self, BitmapIndexError> {
        match u8::try_from(index) {
            Ok(small) if index < MAX_BITMAPS => Ok(Self(small)),
            _ => Err(BitmapIndexError { got: index }),
        }
    }
}

impl From<BitmapIndex> for usize {
    fn from(index: BitmapIndex) -> Self {
        Self::from(index.0)
    }
}

impl fmt::Display for BitmapIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of dirty bitmaps, by their [indices](BitmapIndex): their order in the survey.
///
/// One survey can request many bitmaps, so that one pass over the disk serves many backups: the
/// daily incremental uses one bitmap, the weekly another, and a backup that missed three
/// checkpoints the *union* of three.
///
/// ```
/// use nbd_extents::{BitmapIndex, Bitmaps, Dirtiness, Status};
///
/// let clean = Dirtiness::from_flags(0);
/// let status = Status::UNKNOWN
///     .with_bitmap(BitmapIndex::FIRST, clean)
///     .with_bitmap(BitmapIndex::of::<1>(), Dirtiness::DIRTY)
///     .with_bitmap(BitmapIndex::of::<2>(), clean);
///
/// assert_eq!(status.dirty_set(), Bitmaps::only(BitmapIndex::of::<1>()));
/// assert_eq!(
///     status.dirty_in_any(Bitmaps::FIRST.with(BitmapIndex::of::<2>())),
///     Some(false),
///     "asked, and clean"
/// );
/// assert_eq!(
///     status.dirty_in_any(Bitmaps::FIRST.with(BitmapIndex::of::<1>())),
///     Some(true),
///     "the union of two"
/// );
/// assert_eq!(
///     status.dirty_in_any(Bitmaps::FIRST.with(BitmapIndex::of::<7>())),
///     None,
///     "bitmap 7 was not asked, it may be dirty"
/// );
/// ```
///
/// # Two reads of one bitmap
///
/// There is a union and a choice, but no difference, on purpose. A recording dirty bitmap only
/// gains marks. A program that reads it at noon and again at night and subtracts the first answer
/// from the second, to find the changes in between, loses every block that was written before noon
/// *and again* after it: marked both times, it is subtracted, and the backup keeps its old bytes.
///
/// ```text
/// write block 1    read: {1}    write blocks 1 and 2    read: {1, 2}
/// {1, 2} without {1} = {2}      but block 1 has changed since the first read, too
/// ```
///
/// To find the changes since noon, start a new bitmap at noon (a checkpoint) and read that one.
/// (lxc/incus#3688 is about this mistake.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Bitmaps(u32);

impl Bitmaps {
    /// No bitmap.
    pub const NONE: Self = Self(0);
    /// The first bitmap alone.
    pub const FIRST: Self = Self::only(BitmapIndex::FIRST);
    /// All possible bitmaps.
    pub const ALL: Self = Self(u32::MAX);

    /// The set of one bitmap.
    #[must_use]
    pub const fn only(index: BitmapIndex) -> Self {
        Self(index.bit())
    }

    /// The same set with one more bitmap.
    #[must_use]
    pub const fn with(self, index: BitmapIndex) -> Self {
        self.union(Self::only(index))
    }

    /// The mask: bit `i` stands for bitmap `i`.
    #[cfg(feature = "serde")]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    #[cfg(feature = "serde")]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bitmaps in either set.
    ///
    /// ```
    /// # use nbd_extents::{BitmapIndex, Bitmaps};
    /// let third = BitmapIndex::of::<2>();
    /// assert_eq!(Bitmaps::FIRST.union(Bitmaps::only(third)), Bitmaps::FIRST.with(third));
    /// ```
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bitmaps in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns `true` if there is no bitmap in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns `true` if a bitmap is in the set.
    #[must_use]
    pub const fn contains(self, index: BitmapIndex) -> bool {
        !self.intersection(Self::only(index)).is_empty()
    }

    /// Returns `true` if all bitmaps of the other set are in this one.
    ///
    /// ```
    /// # use nbd_extents::{BitmapIndex, Bitmaps};
    /// let third = Bitmaps::only(BitmapIndex::of::<2>());
    /// assert!(Bitmaps::FIRST.union(third).contains_all(third));
    /// assert!(!Bitmaps::FIRST.contains_all(third));
    /// ```
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        self.intersection(other).0 == other.0
    }

    /// The indices of the bitmaps, ascending.
    ///
    /// ```
    /// # use nbd_extents::{BitmapIndex, Bitmaps};
    /// let set = Bitmaps::only(BitmapIndex::of::<5>()).with(BitmapIndex::FIRST);
    /// assert!(set.indices().map(usize::from).eq([0, 5]));
    /// ```
    pub fn indices(self) -> impl Iterator<Item = BitmapIndex> {
        (0..u32::BITS)
            .zip(0..)
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, index)| BitmapIndex(index))
    }
}

/// ```
/// # use nbd_extents::{BitmapIndex, Bitmaps};
/// assert_eq!(Bitmaps::only(BitmapIndex::of::<1>()).to_string(), "bitmap 1");
/// assert_eq!(
///     Bitmaps::only(BitmapIndex::of::<1>()).with(BitmapIndex::of::<4>()).to_string(),
///     "bitmaps 1, 4"
/// );
/// assert_eq!(Bitmaps::NONE.to_string(), "no bitmap");
/// ```
impl fmt::Display for Bitmaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = match self.0.count_ones() {
            0 => return f.write_str("no bitmap"),
            1 => "bitmap ",
            _ => "bitmaps ",
        };
        for index in self.indices() {
            write!(f, "{before}{index}")?;
            before = ", ";
        }
        Ok(())
    }
}

/// Collects indices into a set.
impl FromIterator<BitmapIndex> for Bitmaps {
    fn from_iter<I: IntoIterator<Item = BitmapIndex>>(indices: I) -> Self {
        indices.into_iter().fold(Self::NONE, Self::with)
    }
}

impl Status {
    /// The bitmaps that were requested.
    #[must_use]
    pub const fn asked_set(self) -> Bitmaps {
        Bitmaps(self.tracked)
    }

    /// The bitmaps that mark the bytes as changed. See [`Bitmaps`].
    #[must_use]
    pub const fn dirty_set(self) -> Bitmaps {
        Bitmaps(self.dirty)
    }

    /// `true` if any bitmap of the set marks the bytes as changed: the union of these bitmaps.
    ///
    /// `None` if no bitmap marks them and at least one was not requested, or if the set is empty:
    /// "clean" would then be a guess.
    #[must_use]
    pub const fn dirty_in_any(self, set: Bitmaps) -> Option<bool> {
        if !self.dirty_set().intersection(set).is_empty() {
            return Some(true);
        }
        if set.is_empty() || !self.asked_set().contains_all(set) { None } else { Some(false) }
    }

    /// The bitmaps of the set that have no answer.
    pub(crate) const fn unanswered(self, set: Bitmaps) -> Bitmaps {
        Bitmaps(set.0 & !self.tracked)
    }

    /// The status as if only these bitmaps had been requested.
    ///
    /// [`dirty`](Self::dirty) is then their union. `None` if one of them was not requested.
    /// Neighbours that differ only in other bitmaps become equal and can be joined.
    ///
    /// ```
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let (clean, dirty) = (Dirtiness::from_flags(0), Dirtiness::DIRTY);
    /// let list = [
    ///     Extent::new(
    ///         0,
    ///         512,
    ///         Status::UNKNOWN
    ///             .with_bitmap(BitmapIndex::FIRST, dirty)
    ///             .with_bitmap(BitmapIndex::of::<1>(), dirty),
    ///     )?,
    ///     Extent::new(
    ///         512,
    ///         512,
    ///         Status::UNKNOWN
    ///             .with_bitmap(BitmapIndex::FIRST, clean)
    ///             .with_bitmap(BitmapIndex::of::<1>(), dirty),
    ///     )?,
    /// ];
    /// let weekly = Bitmaps::only(BitmapIndex::of::<1>());
    /// let chosen = from_iter(list)
    ///     .map_status(|status| status.choose(weekly))
    ///     .coalesce()
    ///     .collect_vec()?;
    /// assert_eq!(
    ///     chosen,
    ///     [Extent::new(
    ///         0,
    ///         1024,
    ///         Some(Status::UNKNOWN.with_bitmap(BitmapIndex::of::<1>(), dirty))
    ///     )?]
    /// );
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub const fn choose(mut self, set: Bitmaps) -> Option<Self> {
        if !self.asked_set().contains_all(set) {
            return None;
        }
        self.tracked = set.0;
        self.dirty &= set.0;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allocation, Dirtiness};

    fn status(asked: u32, dirty: u32) -> Status {
        Bitmaps(asked).indices().fold(Status::UNKNOWN, |status, index| {
            status.with_bitmap(index, Dirtiness::from_flags(u64::from(dirty & index.bit() != 0)))
        })
    }

    /// All sets of three bitmaps requested, dirty and chosen: a bitmap that was not requested may
    /// be dirty.
    #[test]
    fn the_union_is_never_a_guess() {
        for asked in 0..8 {
            for dirty in (0..8).filter(|dirty| dirty & !asked == 0) {
                for set in 0..8 {
                    let surely = dirty & set != 0;
                    let perhaps = surely || set & !asked != 0 || set == 0;
                    let expected = if surely {
                        Some(true)
                    } else if perhaps {
                        None
                    } else {
                        Some(false)
                    };
                    assert_eq!(
                        status(asked, dirty).dirty_in_any(Bitmaps(set)),
                        expected,
                        "{asked} {dirty} {set}"
                    );
                }
            }
        }
    }

    #[test]
    fn choosing_keeps_all_else() {
        let zero = status(0b111, 0b101).with_allocation(Allocation::from_flags(2));
        let chosen = zero.choose(Bitmaps::only(BitmapIndex::of::<1>())).unwrap();
        assert_eq!(chosen.dirty(), Some(false));
        assert_eq!(chosen.zero(), Some(true));
        assert_eq!(chosen.asked_set(), Bitmaps::only(BitmapIndex::of::<1>()));
        assert_eq!(zero.choose(Bitmaps::only(BitmapIndex::of::<3>())), None);
        assert_eq!(zero.choose(Bitmaps::ALL), None);
        assert_eq!(zero.choose(Bitmaps::NONE).unwrap().dirty(), None);
    }

    /// A mark without a place is an error, never silence.
    #[test]
    fn an_index_is_in_range_or_an_error() {
        for index in (0..300).chain([usize::MAX - 1, usize::MAX]) {
            match BitmapIndex::try_from(index) {
                Ok(valid) => {
                    assert!(index < MAX_BITMAPS);
                    let marked = Status::UNKNOWN.with_bitmap(valid, Dirtiness::DIRTY);
                    assert_eq!((marked.dirty(), marked.dirty_in(valid)), (Some(true), Some(true)));
                    assert_eq!(usize::from(valid), index);
                }
                Err(error) => {
                    assert!(index >= MAX_BITMAPS);
                    assert_eq!(error, BitmapIndexError { got: index });
                }
            }
        }
    }

    #[test]
    fn sets() {
        let [third, last] = [BitmapIndex::of::<3>(), BitmapIndex::of::<31>()];
        let set = Bitmaps::FIRST.with(third).with(last);
        assert_eq!([BitmapIndex::FIRST, third, last].into_iter().collect::<Bitmaps>(), set);
        assert_eq!(set.indices().collect::<Bitmaps>(), set);
        assert_eq!(Bitmaps::ALL.indices().count(), MAX_BITMAPS);
        assert_eq!(status(0b110, 0b010).dirty_set(), Bitmaps::only(BitmapIndex::of::<1>()));
    }
}
