//! Two streams into one: each byte gets what a function makes of its two statuses.

use core::ops::Range;

use super::cursor::{Cursor, beyond_gap, one_goes_on};
use super::{ExtentSource, ExtentStream};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::kernel::{Blocks, sides_of};

/// Two merged streams: see [`ExtentStream::merge`] and [`ExtentStream::merge_shortest`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, Merge, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let other = from_iter([Extent::new(0, 1024, 1)?]);
/// let merged: Merge<_, _, _> = from_iter(list).merge(other, |&a, &b| (a, b));
/// assert_eq!(merged.collect_vec()?[1], Extent::new(512, 512, ('b', 1))?);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Merge<A: ExtentStream, B: ExtentStream, F> {
    pub(super) left: Cursor<A, A::Status>,
    pub(super) right: Cursor<B, B::Status>,
    combine: F,
    /// The end of the last extent that was yielded.
    pub(super) position: u64,
    /// Ends where the shorter stream ends, instead of failing there.
    shortest: bool,
}

impl<A: ExtentStream, B: ExtentStream, F> Merge<A, B, F> {
    pub(super) fn even(left: A, right: B, combine: F) -> Self {
        Self { left: Cursor::new(left), right: Cursor::new(right), combine, position: 0, shortest: false }
    }

    pub(super) fn shortest(left: A, right: B, combine: F) -> Self {
        Self { shortest: true, ..Self::even(left, right, combine) }
    }

    /// The end of the last extent that was yielded, in bytes; 0 before the first.
    ///
    /// A gap that both streams have is yielded by no extent, so the position stays before it. At the
    /// end of [`merge_shortest`](ExtentStream::merge_shortest) this is where to request the
    /// rest from.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl<A, B, V, F> ExtentSource for Merge<A, B, F>
where
    A: ExtentStream,
    B: ExtentStream<Error = A::Error>,
    F: Fn(&A::Status, &B::Status) -> V,
{
    type Status = V;
    type Error = A::Error;

    #[inline(always)]
    fn pull(&mut self) -> Result<Option<Extent<V>>, A::Error> {
        let position = self.position;
        self.left.fill(position)?;
        self.right.fill(position)?;
        let mut start = position;
        if self.left.start() > position || self.right.start() > position {
            start = both_beyond_gap(position, self.left.rest(position), self.right.rest(position))?;
        }
        let (Some(left), Some(right)) = (self.left.status(), self.right.status()) else {
            let longer = longer(self.left.rest(position), self.right.rest(position));
            return longer.filter(|_| !self.shortest).map_or(Ok(None), |error| Err(error.into()));
        };
        let end = self.left.end().min(self.right.end());
        self.position = end;
        Ok(Some(Extent::trusted(start, end, (self.combine)(left, right))))
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        Some(self)
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<V> {
        let (left, right) = sides_of(code);
        Some((self.combine)(&self.left.status_of(left)?, &self.right.status_of(right)?))
    }
}

// The cold paths take copies: a merge whose address no function has seen stays in registers.

#[cold]
fn both_beyond_gap(
    position: u64,
    left: Option<Range<u64>>,
    right: Option<Range<u64>>,
) -> Result<u64, StreamError> {
    beyond_gap(position, [left, right].into_iter())
}

#[cold]
fn longer(left: Option<Range<u64>>, right: Option<Range<u64>>) -> Option<StreamError> {
    one_goes_on([left, right].into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::from_iter;
    use alloc::vec::Vec;

    fn extents(list: &[(u64, u64, u8)]) -> Vec<Extent<u8>> {
        list.iter().map(|&(start, end, status)| Extent::from_range(start..end, status).unwrap()).collect()
    }

    fn merge(a: &[(u64, u64, u8)], b: &[(u64, u64, u8)]) -> Result<Vec<Extent<u8>>, StreamError> {
        from_iter(extents(a)).merge(from_iter(extents(b)), |a, b| a + b).collect_vec()
    }

    #[test]
    fn cuts_wherever_either_side_is_cut() {
        let merged = merge(&[(0, 10, 1), (10, 30, 2)], &[(0, 20, 10), (20, 30, 20)]).unwrap();
        assert_eq!(merged, extents(&[(0, 10, 11), (10, 20, 12), (20, 30, 22)]));
    }

    #[test]
    fn a_gap_that_both_have_stays_a_gap() {
        let merged = merge(&[(0, 10, 1), (20, 30, 1)], &[(0, 10, 2), (20, 30, 2)]).unwrap();
        assert_eq!(merged, extents(&[(0, 10, 3), (20, 30, 3)]));
    }

    #[test]
    fn bytes_that_only_one_side_describes_are_an_error() {
        let error = |range, silent| Err(StreamError::Uneven { range, silent });
        assert_eq!(merge(&[(0, 10, 1)], &[(0, 8, 1)]), error(8..10, 1));
        assert_eq!(merge(&[(0, 8, 1)], &[(0, 10, 1)]), error(8..10, 0));
        assert_eq!(merge(&[(0, 10, 1)], &[(4, 10, 1)]), error(0..4, 1));
        assert_eq!(merge(&[(4, 10, 1)], &[(0, 10, 1)]), error(0..4, 0));
        assert_eq!(merge(&[(0, 2, 1)], &[(4, 10, 1)]), error(0..2, 1));
        assert_eq!(merge(&[], &[(4, 10, 1)]), error(4..10, 0));
        let gap = merge(&[(0, 10, 1)], &[(0, 4, 1), (6, 10, 1)]);
        assert_eq!(gap, error(4..6, 1));
    }

    #[test]
    fn shortest_ends_early_but_forgives_no_gap() {
        let a = from_iter(extents(&[(0, 10, 1), (10, 20, 1)]));
        let mut merged = a.clone().merge_shortest(from_iter(extents(&[(0, 12, 1)])), |a, b| a + b);
        assert_eq!(merged.position(), 0);
        while merged.next_extent().unwrap().is_some() {}
        assert_eq!(merged.position(), 12);
        let gap = from_iter(extents(&[(0, 4, 1), (6, 12, 1)]));
        let error = a.merge_shortest(gap, |a, b| a + b).collect_vec().unwrap_err();
        assert_eq!(error, StreamError::Uneven { range: 4..6, silent: 1 });
    }
}
