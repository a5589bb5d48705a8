//! `range-set-blaze`, the fastest general crate for sets of ranges. It knows sets, not statuses, so
//! it can answer only the filtered question: the set of dirty bytes without the set of zero bytes.
//! It does so lazily, from two sorted streams of ranges read off the wire, without building a set.

use core::iter::FusedIterator;
use core::ops::{Range, RangeInclusive};

use nbd_extents::wire::{Compact, Descriptors};
use range_set_blaze::{SortedDisjoint, SortedStarts};

use crate::answer::{Segment, add_range};
use crate::workloads::Workload;

pub(crate) fn filter(workload: &Workload, _: &mut [Segment]) -> u64 {
    wanted(workload).fold(0, |hash, range| add_range(hash, *range.start(), *range.end() + 1))
}

/// The ranges that [`filter`] reports, one by one.
pub(crate) fn wanted_ranges(workload: &Workload) -> impl Iterator<Item = Range<u64>> {
    wanted(workload).map(|range| *range.start()..*range.end() + 1)
}

fn wanted(workload: &Workload) -> impl SortedDisjoint<u64> {
    let dirty = Runs { descriptors: workload.bitmap::<Compact>(), position: 0, bit: 1 };
    let zero = Runs { descriptors: workload.allocation::<Compact>(), position: 0, bit: 2 };
    dirty.difference(zero)
}

/// The longest ranges in which every descriptor has `bit` set, sorted. No two touch, as
/// range-set-blaze demands.
struct Runs<'a> {
    descriptors: Descriptors<'a, Compact>,
    position: u64,
    bit: u64,
}

impl Iterator for Runs<'_> {
    type Item = RangeInclusive<u64>;

    #[inline]
    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        let mut run = None;
        for descriptor in self.descriptors.by_ref() {
            let start = self.position;
            self.position += descriptor.length;
            match run {
                None if descriptor.flags & self.bit != 0 => run = Some(start),
                Some(first) if descriptor.flags & self.bit == 0 => return Some(first..=start - 1),
                _ => {}
            }
        }
        run.map(|first| first..=self.position - 1)
    }
}

impl FusedIterator for Runs<'_> {}
impl SortedStarts<u64> for Runs<'_> {}
impl SortedDisjoint<u64> for Runs<'_> {}
