//! A status for the bytes that a stream leaves out.

use core::ops::Range;

use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;

/// A stream without gaps in a range: see [`ExtentStream::fill`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, Fill, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let filled: Fill<_> = from_iter(list).fill(0..2048, '?');
/// assert_eq!(filled.collect_vec()?[2], Extent::new(1024, 1024, '?')?);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Fill<S: ExtentStream> {
    stream: S,
    /// The part of the range to fill that has not been described yet.
    missing: Range<u64>,
    status: S::Status,
    /// The extent after the gap that is being filled.
    held: Option<Extent<S::Status>>,
    ended: bool,
}

impl<S: ExtentStream> Fill<S> {
    pub(super) fn new(stream: S, range: Range<u64>, status: S::Status) -> Self {
        Self { stream, missing: range, status, held: None, ended: false }
    }
}

impl<S: ExtentStream> ExtentSource for Fill<S>
where
    S::Status: Clone,
{
    type Status = S::Status;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        let next = match self.held.take() {
            Some(held) => Some(held),
            None if self.ended => None,
            None => self.stream.next_extent()?,
        };
        self.ended |= next.is_none();
        let gap_end = next.as_ref().map_or(self.missing.end, |extent| extent.start().min(self.missing.end));
        if self.missing.start < gap_end {
            let gap = Extent::from_range(self.missing.start..gap_end, self.status.clone());
            self.missing.start = gap_end;
            self.held = next;
            return Ok(Some(gap.map_err(crate::StreamError::from)?));
        }
        if let Some(extent) = &next {
            self.missing.start = self.missing.start.max(extent.end());
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::from_iter;
    use crate::{ExtentError, StreamError};
    use alloc::vec::Vec;

    fn fill(list: &[(u64, u64)], range: Range<u64>) -> Vec<(u64, u64, char)> {
        let list = list.iter().map(|&(start, end)| Extent::from_range(start..end, 'x').unwrap());
        let filled = from_iter(list).fill(range, '-').collect_vec().unwrap();
        filled.iter().map(|e| (e.start(), e.end(), *e.status())).collect()
    }

    #[test]
    fn gaps_before_between_and_after() {
        assert_eq!(
            fill(&[(10, 20), (30, 40)], 0..50),
            [(0, 10, '-'), (10, 20, 'x'), (20, 30, '-'), (30, 40, 'x'), (40, 50, '-')]
        );
        assert_eq!(fill(&[], 5..9), [(5, 9, '-')]);
    }

    #[test]
    fn what_lies_outside_stays_as_it_is() {
        assert_eq!(fill(&[(0, 5), (20, 25)], 7..9), [(0, 5, 'x'), (7, 9, '-'), (20, 25, 'x')]);
        assert_eq!(fill(&[(0, 8), (9, 25)], 7..12), [(0, 8, 'x'), (8, 9, '-'), (9, 25, 'x')]);
        assert_eq!(fill(&[(0, 5)], 5..5), [(0, 5, 'x')]);
    }

    #[test]
    fn a_range_that_no_extent_can_cover_is_an_error() {
        let empty: [Extent<char>; 0] = [];
        let error = from_iter(empty).fill(0..u64::MAX, '-').next_extent().unwrap_err();
        assert_eq!(error, StreamError::Extent(ExtentError::TooLarge { start: 0, length: u64::MAX }));
    }
}
