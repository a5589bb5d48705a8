//! The distinct statuses of a map. A disk has millions of extents and few statuses; the map stores
//! each status once and an index per run.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// The number of statuses that are searched one by one: for a few, nothing is faster.
const HANDFUL: usize = 8;

/// The statuses of a map, in the order of their first occurrence; `None` is that of a gap.
#[derive(Clone, Debug)]
pub(super) struct Palette<T> {
    statuses: Vec<Option<T>>,
    /// The places of the statuses after the first [`HANDFUL`], by hash. The tree is ordered, so
    /// that a server gains nothing by making hashes collide. Only building a map needs it: it is
    /// freed when the map is finished, and made again when the map is appended to.
    places: BTreeMap<u64, usize>,
}

impl<T> Palette<T> {
    pub(super) const fn new() -> Self {
        Self { statuses: Vec::new(), places: BTreeMap::new() }
    }

    pub(super) fn statuses(&self) -> &[Option<T>] {
        &self.statuses
    }

    /// Frees the memory that only building needs.
    pub(super) fn shrink_to_fit(&mut self) {
        self.statuses.shrink_to_fit();
        self.places = BTreeMap::new();
    }

    /// The memory that it occupies, in bytes: the statuses, and an estimate of the tree (nodes are
    /// at least half full).
    pub(super) fn memory_usage(&self) -> usize {
        let entry = 2 * size_of::<(u64, usize)>();
        self.statuses.capacity() * size_of::<Option<T>>() + self.places.len() * entry
    }
}

impl<T: Copy + Eq + Hash> Palette<T> {
    /// The place of a status; adds a status that is new.
    #[inline]
    pub(super) fn place(&mut self, status: Option<T>) -> usize {
        match self.statuses.iter().take(HANDFUL).position(|known| *known == status) {
            Some(place) => place,
            None => self.search(status),
        }
    }

    #[inline(never)]
    fn search(&mut self, status: Option<T>) -> usize {
        let new = self.statuses.len();
        for place in HANDFUL + self.places.len()..new {
            let known = self.statuses.get(place).copied().flatten();
            self.find_or_insert(known, place);
        }
        if new >= HANDFUL {
            let place = self.find_or_insert(status, new);
            if place != new {
                return place;
            }
        }
        self.statuses.push(status);
        new
    }

    /// The place of a status after the first handful. A new status gets `place`.
    fn find_or_insert(&mut self, status: Option<T>, place: usize) -> usize {
        let mut key = hash(&status);
        while let Some(&place) = self.places.get(&key) {
            if self.statuses.get(place) == Some(&status) {
                return place;
            }
            key = key.wrapping_add(1);
        }
        self.places.insert(key, place);
        place
    }
}

/// All 64 bits count, and many statuses with one SipHash value cannot be constructed: the search
/// above ends at once.
fn hash<T: Hash>(status: &T) -> u64 {
    #[allow(deprecated, reason = "the only strong hasher that core has; a fixed key is meant here")]
    let mut hasher = core::hash::SipHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status whose hash is always the same: the worst case.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Colliding(u16);

    impl Hash for Colliding {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    #[test]
    fn each_status_has_one_place() {
        let mut palette = Palette::new();
        for round in 0..2 {
            for status in 0..1000_u16 {
                assert_eq!(palette.place(Some(status)), usize::from(status), "round {round}");
            }
        }
        assert_eq!(palette.place(None), 1000);
        assert_eq!(palette.statuses().len(), 1001);
    }

    #[test]
    fn collisions_are_told_apart() {
        let mut palette = Palette::new();
        for _ in 0..2 {
            for status in 0..100 {
                assert_eq!(palette.place(Some(Colliding(status))), usize::from(status));
            }
            palette.shrink_to_fit();
        }
    }

    /// The tree is freed when a map is finished, and made again with every status in its old place.
    #[test]
    fn a_palette_that_was_given_back_is_added_to() {
        let mut palette = Palette::new();
        for last in [3, 8, 9, 100, 101, 250] {
            (0..last).for_each(|status: u16| assert_eq!(palette.place(Some(status)), usize::from(status)));
            palette.shrink_to_fit();
            assert_eq!(palette.memory_usage(), usize::from(last) * size_of::<Option<u16>>());
        }
        assert_eq!(palette.place(None), 250);
        (0..250).for_each(|status| assert_eq!(palette.place(Some(status)), usize::from(status)));
    }
}
