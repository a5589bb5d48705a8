//! The distinct statuses of a map. A disk has millions of extents and a handful of statuses; the map keeps each status once and an index a run.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// So many statuses are searched one by one, which for a handful is faster than anything clever.
const HANDFUL: usize = 8;

/// The statuses of a map, in the order in which they first came; `None` is that of a gap.
#[derive(Clone, Debug)]
pub(super) struct Palette<T> {
    statuses: Vec<Option<T>>,
    /// Where the statuses behind the first [`HANDFUL`] are, by hash. Ordered, so that a server that makes statuses collide gains nothing. Only
    /// building a map needs it: it is given back when the map is whole, and made again when the map is added to.
    places: BTreeMap<u64, usize>,
}

impl<T> Palette<T> {
    pub(super) const fn new() -> Self {
        Self { statuses: Vec::new(), places: BTreeMap::new() }
    }

    pub(super) fn statuses(&self) -> &[Option<T>] {
        &self.statuses
    }

    /// Gives back what only building needs.
    pub(super) fn shrink_to_fit(&mut self) {
        self.statuses.shrink_to_fit();
        self.places = BTreeMap::new();
    }

    /// The bytes that it holds in memory: the statuses, and an estimate of the tree (nodes are at least half full).
    pub(super) fn memory_usage(&self) -> usize {
        let entry = 2 * size_of::<(u64, usize)>();
        self.statuses.capacity() * size_of::<Option<T>>() + self.places.len() * entry
    }
}

impl<T: Copy + Eq + Hash> Palette<T> {
    /// The place of a status, which is added when it is new.
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

    /// The place of a status behind the first handful. One that has none gets `place`.
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

/// All 64 bits count, and many statuses with one SipHash cannot be found: the search above ends at once.
fn hash<T: Hash>(status: &T) -> u64 {
    #[allow(deprecated, reason = "the only strong hasher that core has; a fixed key is meant here")]
    let mut hasher = core::hash::SipHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status whose hash is always the same: the worst that can come.
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

    /// What finds the statuses is gone when a map is whole, and is made again with every status in its old place.
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
