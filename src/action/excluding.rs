//! Bytes that a backup leaves out on purpose: the only loss that this crate permits, and it is
//! explicit.

use core::ops::Range;

use super::{Base, Decision, Policy, PolicyError};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;

/// A policy that leaves out ranges of the disk: see [`Policy::excluding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excluding<'r, P> {
    policy: P,
    /// Ascending, disjoint, none empty.
    ranges: &'r [Range<u64>],
}

impl<'r, P: Policy> Excluding<'r, P> {
    /// Checks the ranges, so that a look-up is a binary search.
    pub(super) fn new(policy: P, ranges: &'r [Range<u64>]) -> Result<Self, StreamError> {
        let mut end = 0;
        for range in ranges {
            let extent = Extent::from_range(range.clone(), ())?;
            if extent.start() < end {
                return Err(StreamError::Overlap { start: extent.start(), expected: end });
            }
            end = extent.end();
        }
        Ok(Self { policy, ranges })
    }

    /// The first range that ends beyond `offset`.
    fn range_at(&self, offset: u64) -> Option<&Range<u64>> {
        self.ranges.get(self.ranges.partition_point(|range| range.end <= offset))
    }
}

impl<P: Policy> Policy for Excluding<'_, P> {
    fn base(&self) -> Base {
        self.policy.base()
    }

    fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
        self.policy.decide(extent)
    }

    fn next_cut(&self, offset: u64) -> Option<u64> {
        let edge =
            self.range_at(offset).map(|range| if range.start > offset { range.start } else { range.end });
        // ignore a cut that is not ahead: it must not hide one that is
        let inner = self.policy.next_cut(offset).filter(|&cut| cut > offset);
        edge.into_iter().chain(inner).min()
    }

    fn leaves_out(&self, extent: &Extent<Status>) -> bool {
        let excluded = |range: &Range<u64>| range.start <= extent.start() && extent.end() <= range.end;
        self.range_at(extent.start()).is_some_and(excluded) || self.policy.leaves_out(extent)
    }
}
