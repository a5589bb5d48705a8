//! Many dirty bitmaps at once: which of them mark a range, and the choice of those that matter for one backup.

use core::fmt;

use super::{MAX_BITMAPS, Status};

/// A set of dirty bitmaps, by their indices: the order in which they were asked for, from 0.
///
/// One survey can ask for many bitmaps, and one pass over the disk then serves many backups: the daily incremental goes by one bitmap, the
/// weekly by another, and a backup that missed three checkpoints by the *union* of three.
///
/// ```
/// use nbd_extents::{Bitmaps, Dirtiness, Status};
///
/// let clean = Dirtiness::from_flags(0);
/// let status = Status::UNKNOWN.with_bitmap(0, clean).with_bitmap(1, Dirtiness::DIRTY).with_bitmap(2, clean);
///
/// assert_eq!(status.dirty_set(), Bitmaps::only(1));
/// assert_eq!(status.dirty_in_any(Bitmaps::only(0).and(2)), Some(false), "asked, and clean");
/// assert_eq!(status.dirty_in_any(Bitmaps::only(0).and(1)), Some(true), "the union of two");
/// assert_eq!(status.dirty_in_any(Bitmaps::only(0).and(7)), None, "bitmap 7 was not asked, it may be dirty");
/// ```
///
/// # Two reads of one bitmap
///
/// There is union here and choice, but no difference, and that is on purpose. A dirty bitmap only ever gains marks while it records. Who reads it
/// at noon and again at night and subtracts the first answer from the second, to learn what changed in between, loses every block that was written
/// before noon *and again* after it: marked both times, it is subtracted, and the backup keeps its old bytes.
///
/// ```text
/// write block 1    read: {1}    write blocks 1 and 2    read: {1, 2}
/// {1, 2} without {1} = {2}      but block 1 has changed since the first read, too
/// ```
///
/// To know what changed since noon, start a new bitmap at noon (a checkpoint) and read that one. (lxc/incus#3688 is about this mistake.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Bitmaps(u32);

impl Bitmaps {
    /// No bitmap.
    pub const NONE: Self = Self(0);
    /// Every bitmap that there can be.
    pub const ALL: Self = Self(u32::MAX);

    /// The set of one bitmap. An index from [`MAX_BITMAPS`] on names no bitmap, and the set is empty.
    #[must_use]
    pub const fn only(index: usize) -> Self {
        Self(if index < MAX_BITMAPS { 1 << index } else { 0 })
    }

    /// The same set with one bitmap more.
    #[must_use]
    pub const fn and(self, index: usize) -> Self {
        self.union(Self::only(index))
    }

    /// The bitmaps of either set.
    ///
    /// ```
    /// # use nbd_extents::Bitmaps;
    /// assert_eq!(Bitmaps::only(0).union(Bitmaps::only(3)), Bitmaps::only(3).and(0));
    /// ```
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bitmaps that are in both sets.
    #[must_use]
    pub const fn in_both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is no bitmap in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a bitmap is in the set.
    #[must_use]
    pub const fn contains(self, index: usize) -> bool {
        !self.in_both(Self::only(index)).is_empty()
    }

    /// Whether all bitmaps of the other set are in this one.
    ///
    /// ```
    /// # use nbd_extents::Bitmaps;
    /// assert!(Bitmaps::only(0).and(3).contains_all(Bitmaps::only(3)));
    /// assert!(!Bitmaps::only(0).contains_all(Bitmaps::only(3)));
    /// ```
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        self.in_both(other).0 == other.0
    }

    /// The indices, ascending.
    ///
    /// ```
    /// # use nbd_extents::Bitmaps;
    /// assert!(Bitmaps::only(5).and(0).indices().eq([0, 5]));
    /// ```
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..MAX_BITMAPS).filter(move |&index| self.contains(index))
    }
}

/// ```
/// # use nbd_extents::Bitmaps;
/// assert_eq!(Bitmaps::only(1).to_string(), "bitmap 1");
/// assert_eq!(Bitmaps::only(1).and(4).to_string(), "bitmaps 1, 4");
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

/// The set of some indices. Those from [`MAX_BITMAPS`] on are left out.
impl FromIterator<usize> for Bitmaps {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        indices.into_iter().fold(Self::NONE, Self::and)
    }
}

impl Status {
    /// The bitmaps that were asked.
    #[must_use]
    pub const fn asked_set(self) -> Bitmaps {
        Bitmaps(self.tracked)
    }

    /// The bitmaps that mark the bytes as changed. See [`Bitmaps`].
    #[must_use]
    pub const fn dirty_set(self) -> Bitmaps {
        Bitmaps(self.dirty)
    }

    /// Whether any bitmap of the set marks the bytes as changed: the union of these bitmaps.
    ///
    /// `None` when none of them does but one of them was not asked, or the set is empty: then nobody knows, and "clean" would be a guess.
    #[must_use]
    pub const fn dirty_in_any(self, set: Bitmaps) -> Option<bool> {
        if !self.dirty_set().in_both(set).is_empty() {
            return Some(true);
        }
        if set.is_empty() || !self.asked_set().contains_all(set) { None } else { Some(false) }
    }

    /// The bitmaps of the set that have no answer.
    pub(crate) const fn unanswered(self, set: Bitmaps) -> Bitmaps {
        Bitmaps(set.0 & !self.tracked)
    }

    /// The same status as if only these bitmaps had been asked, so that [`dirty`](Self::dirty) is their union; `None` when one of them was not
    /// asked. Equal neighbours then join where only bitmaps that do not matter made a cut.
    ///
    /// ```
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let (clean, dirty) = (Dirtiness::from_flags(0), Dirtiness::DIRTY);
    /// let list = [
    ///     Extent::new(0, 512, Status::UNKNOWN.with_bitmap(0, dirty).with_bitmap(1, dirty))?,
    ///     Extent::new(512, 512, Status::UNKNOWN.with_bitmap(0, clean).with_bitmap(1, dirty))?,
    /// ];
    /// let weekly = Bitmaps::only(1);
    /// let chosen = from_iter(list).map_status(|status| status.choose(weekly)).coalesce().collect_vec()?;
    /// assert_eq!(chosen, [Extent::new(0, 1024, Some(Status::UNKNOWN.with_bitmap(1, dirty)))?]);
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
            status.with_bitmap(index, Dirtiness::from_flags(u64::from(dirty >> index & 1)))
        })
    }

    /// Every set of three bitmaps asked, dirty and chosen: a bitmap that was not asked may be dirty.
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
        let chosen = zero.choose(Bitmaps::only(1)).unwrap();
        assert_eq!(chosen.dirty(), Some(false));
        assert_eq!(chosen.zero(), Some(true));
        assert_eq!(chosen.asked_set(), Bitmaps::only(1));
        assert_eq!(zero.choose(Bitmaps::only(3)), None);
        assert_eq!(zero.choose(Bitmaps::ALL), None);
        assert_eq!(zero.choose(Bitmaps::NONE).unwrap().dirty(), None);
    }

    #[test]
    fn sets() {
        assert_eq!([0, 3, 31, 32].into_iter().collect::<Bitmaps>(), Bitmaps::only(0).and(3).and(31));
        assert!(Bitmaps::only(MAX_BITMAPS).is_empty());
        assert!(!Bitmaps::ALL.contains(MAX_BITMAPS));
        assert_eq!(status(0b110, 0b010).dirty_set(), Bitmaps::only(1));
    }
}
