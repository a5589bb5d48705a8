//! Maps whose keys are numbers that this crate counts up itself, such as cookies.
//!
//! A peer only looks such a number up, and cannot choose which ones are in the map, so no hash has
//! to withstand it. The hash of std took a third of the instructions of a request.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

/// A map of such numbers, or of types that hold nothing else.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads a number over all bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // An odd factor: numbers that follow each other differ in their low bits, which choose the
        // place in the table, and in their high bits, which tell entries of one place apart.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_in_a_row_share_no_place() {
        let hash = |number: u64| {
            let mut hasher = NumberHasher::default();
            hasher.write_u64(number);
            hasher.finish()
        };
        for first in [0, 1, 1_000_000_007, u64::MAX - 1023] {
            let numbers = (0..1024).map(|nth| first + nth);
            let places: HashSet<u64> = numbers.map(|number| hash(number) % 1024).collect();
            assert_eq!(places.len(), 1024, "from {first}");
        }
    }
}
