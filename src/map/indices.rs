//! The status of each run of a map, as an index into its palette: one byte per run for up to 256
//! statuses, wider if necessary.

use alloc::vec::Vec;

/// A list of indices, as narrow as the largest of them allows.
#[derive(Clone, Debug)]
pub(super) enum Indices {
    /// Up to 256 statuses: enough for all but contrived disks.
    One(Vec<u8>),
    /// Up to 65,536 statuses.
    Two(Vec<u16>),
    /// Up to 4,294,967,296 statuses.
    Four(Vec<u32>),
    /// Any number of statuses.
    Word(Vec<usize>),
}

impl Indices {
    pub(super) const fn new() -> Self {
        Self::One(Vec::new())
    }

    /// Adds an index, and widens the list if it does not fit.
    #[inline]
    pub(super) fn push(&mut self, index: usize) {
        if !self.try_push(index) {
            self.widen();
            self.push(index);
        }
    }

    /// Adds several indices.
    #[expect(clippy::cast_possible_truncation, reason = "none is above `highest`")]
    pub(super) fn extend(&mut self, indices: &[usize]) {
        let highest = indices.iter().fold(0, |all, index| all | index);
        match self {
            Self::One(list) if highest <= usize::from(u8::MAX) => {
                list.extend(indices.iter().map(|&index| index as u8));
            }
            _ => indices.iter().for_each(|&index| self.push(index)),
        }
    }

    #[inline]
    fn try_push(&mut self, index: usize) -> bool {
        match self {
            Self::One(list) => u8::try_from(index).map(|index| list.push(index)).is_ok(),
            Self::Two(list) => u16::try_from(index).map(|index| list.push(index)).is_ok(),
            Self::Four(list) => u32::try_from(index).map(|index| list.push(index)).is_ok(),
            Self::Word(list) => {
                list.push(index);
                true
            }
        }
    }

    #[cold]
    fn widen(&mut self) {
        *self = match self {
            Self::One(list) => Self::Two(list.iter().map(|&index| u16::from(index)).collect()),
            Self::Two(list) => Self::Four(list.iter().map(|&index| u32::from(index)).collect()),
            Self::Four(list) => Self::Word(list.iter().map(|&index| index as usize).collect()),
            Self::Word(list) => Self::Word(core::mem::take(list)),
        };
    }

    /// Replaces the index at `place` by one that the list has held before, which therefore fits.
    pub(super) fn replace(&mut self, place: usize, index: usize) {
        match self {
            Self::One(list) => replace(list, place, index),
            Self::Two(list) => replace(list, place, index),
            Self::Four(list) => replace(list, place, index),
            Self::Word(list) => replace(list, place, index),
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        match self {
            Self::One(list) => list.truncate(length),
            Self::Two(list) => list.truncate(length),
            Self::Four(list) => list.truncate(length),
            Self::Word(list) => list.truncate(length),
        }
    }

    /// Makes room for exactly `more` indices.
    pub(super) fn reserve_exact(&mut self, more: usize) {
        match self {
            Self::One(list) => list.reserve_exact(more),
            Self::Two(list) => list.reserve_exact(more),
            Self::Four(list) => list.reserve_exact(more),
            Self::Word(list) => list.reserve_exact(more),
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        match self {
            Self::One(list) => list.shrink_to_fit(),
            Self::Two(list) => list.shrink_to_fit(),
            Self::Four(list) => list.shrink_to_fit(),
            Self::Word(list) => list.shrink_to_fit(),
        }
    }

    /// The memory that the list occupies, in bytes.
    pub(super) fn memory_usage(&self) -> usize {
        match self {
            Self::One(list) => list.capacity(),
            Self::Two(list) => list.capacity().saturating_mul(size_of::<u16>()),
            Self::Four(list) => list.capacity().saturating_mul(size_of::<u32>()),
            Self::Word(list) => list.capacity().saturating_mul(size_of::<usize>()),
        }
    }

    pub(super) fn as_slice(&self) -> IndexSlice<'_> {
        match self {
            Self::One(list) => IndexSlice::One(list),
            Self::Two(list) => IndexSlice::Two(list),
            Self::Four(list) => IndexSlice::Four(list),
            Self::Word(list) => IndexSlice::Word(list),
        }
    }
}

fn replace<N: TryFrom<usize>>(list: &mut [N], place: usize, index: usize) {
    if let (Some(slot), Ok(index)) = (list.get_mut(place), N::try_from(index)) {
        *slot = index;
    } else {
        debug_assert!(false, "index {index} does not fit place {place}");
    }
}

/// A part of a list of indices.
#[derive(Clone, Copy, Debug)]
pub(super) enum IndexSlice<'a> {
    One(&'a [u8]),
    Two(&'a [u16]),
    Four(&'a [u32]),
    Word(&'a [usize]),
}

impl IndexSlice<'_> {
    #[inline]
    pub(super) fn get(self, place: usize) -> Option<usize> {
        match self {
            Self::One(list) => list.get(place).map(|&index| usize::from(index)),
            Self::Two(list) => list.get(place).map(|&index| usize::from(index)),
            Self::Four(list) => list.get(place).map(|&index| index as usize),
            Self::Word(list) => list.get(place).copied(),
        }
    }

    /// The part from `first` up to but without `last`; empty if there is no such part.
    pub(super) fn part(self, first: usize, last: usize) -> Self {
        match self {
            Self::One(list) => Self::One(list.get(first..last).unwrap_or_default()),
            Self::Two(list) => Self::Two(list.get(first..last).unwrap_or_default()),
            Self::Four(list) => Self::Four(list.get(first..last).unwrap_or_default()),
            Self::Word(list) => Self::Word(list.get(first..last).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_by_itself_and_keeps_what_it_has() {
        let mut indices = Indices::new();
        for index in [0, 255, 256, 65535, 65536] {
            indices.push(index);
        }
        assert!(matches!(indices, Indices::Four(_)));
        indices.push(usize::MAX);
        assert!(matches!(indices, Indices::Word(_)));
        let slice = indices.as_slice();
        let all: Vec<_> = (0..7).map_while(|place| slice.get(place)).collect();
        assert_eq!(all, [0, 255, 256, 65535, 65536, usize::MAX]);
        assert_eq!(slice.part(2, 4).get(1), Some(65535));
        assert_eq!(slice.part(4, 9).get(0), None);
    }

    #[test]
    fn many_at_once_are_added_as_one_by_one() {
        for last in [255, 256, 65536] {
            let (mut one_by_one, mut at_once) = (Indices::new(), Indices::new());
            for _ in 0..2 {
                [0, 7, last, 255].into_iter().for_each(|index| one_by_one.push(index));
                at_once.extend(&[0, 7, last, 255]);
            }
            at_once.extend(&[]);
            let all = |indices: &Indices| -> Vec<_> {
                (0..9).map_while(|place| indices.as_slice().get(place)).collect()
            };
            assert_eq!(all(&at_once), all(&one_by_one));
            assert_eq!(matches!(at_once, Indices::One(_)), last == 255);
        }
    }

    #[test]
    fn stays_narrow_while_it_can() {
        let mut indices = Indices::new();
        indices.push(255);
        assert!(matches!(indices, Indices::One(_)));
        indices.push(256);
        assert!(matches!(indices, Indices::Two(_)));
        indices.replace(0, 256);
        assert_eq!(indices.as_slice().get(0), Some(256));
    }
}
