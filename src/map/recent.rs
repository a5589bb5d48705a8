//! A cache of the places of recent statuses in the palette. The next status cannot be predicted, so
//! a search through even a few of them costs more in mispredicted branches than all else in
//! building a map. A cached slot is right nearly always and costs no such branch.

use core::hash::{Hash, Hasher};

use super::palette::Palette;

/// The number of slots, a power of two.
const SLOTS: usize = 256;

/// For each slot, the place of the status that last used it. Only a cache: the palette decides.
#[derive(Clone)]
pub(super) struct Recent([usize; SLOTS]);

impl Recent {
    pub(super) const fn new() -> Self {
        Self([usize::MAX; SLOTS])
    }

    /// The place of a status in the palette, which adds a new one.
    #[inline]
    pub(super) fn place<T: Copy + Eq + Hash>(
        &mut self,
        palette: &mut Palette<T>,
        status: Option<T>,
    ) -> usize {
        let slot = slot(&status);
        let place = self.0.get(slot).copied().unwrap_or(usize::MAX);
        if palette.statuses().get(place) == Some(&status) {
            return place;
        }
        let place = palette.place(status);
        if let Some(slot) = self.0.get_mut(slot) {
            *slot = place;
        }
        place
    }
}

#[inline]
fn slot<T: Hash>(status: &T) -> usize {
    let mut hasher = Quick(0);
    status.hash(&mut hasher);
    // the high bits of a product are the best mixed
    usize::from((hasher.0 >> 56) as u8) % SLOTS
}

/// A hasher of a few instructions. It need not resist attacks: statuses that share a slot only cost
/// a search.
struct Quick(u64);

impl Quick {
    #[inline]
    const fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.add(u64::from(byte));
        }
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.add(u64::from(word));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.add(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palette_decides() {
        let (mut recent, mut palette) = (Recent::new(), Palette::new());
        for _ in 0..2 {
            // far more statuses than slots: they evict each other all the time
            for status in 0..2000_u64 {
                assert_eq!(recent.place(&mut palette, Some(status)), usize::try_from(status).unwrap());
            }
        }
        assert_eq!(recent.place(&mut palette, None), 2000);
        assert_eq!(recent.place(&mut palette, None), 2000);
    }

    #[test]
    fn statuses_spread_over_the_slots() {
        let used: alloc::collections::BTreeSet<_> = (0..64_u32).map(|status| slot(&Some(status))).collect();
        assert!(used.len() > 40, "{} of 64", used.len());
    }
}
