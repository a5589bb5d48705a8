//! Checks a stream against a range, which it must stay in, or cover exactly.

use core::ops::Range;

use super::{ExtentSource, ExtentStream, NUMBERS, blocks};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::kernel::{Block, Blocks, NextBlock};

/// A stream that is checked against a range while it is read: see [`ExtentStream::within`] and
/// [`ExtentStream::covering`].
///
/// ```
/// # use nbd_extents::stream::{Check, ExtentStream, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let checked: Check<_> = from_iter(list).covering(0..2048);
/// assert_eq!(checked.collect_vec(), Err(StreamError::Gap { range: 1024..2048 }));
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Check<S> {
    stream: S,
    range: Range<u64>,
    /// Up to where the stream has been checked.
    position: u64,
    gaps: bool,
    /// Whether the stream has a status for every code, once that is known.
    whole: Option<bool>,
}

impl<S> Check<S> {
    pub(super) fn within(stream: S, range: Range<u64>) -> Self {
        Self { stream, position: range.start, range, gaps: true, whole: None }
    }

    pub(super) fn covering(stream: S, range: Range<u64>) -> Self {
        Self { stream, position: range.start, range, gaps: false, whole: None }
    }

    /// Checks one step: the next extent, or the end of the range once the stream has ended.
    fn step(&mut self, next: Range<u64>) -> Result<(), StreamError> {
        check(&next, self.position, &self.range, self.gaps)?;
        self.position = next.end;
        Ok(())
    }
}

/// Finds the fault of the next extent of a stream that has described its range up to `position`. The
/// lowest byte with a fault is named: an extent beyond a gap that leaves the range as well is a gap first.
pub(crate) fn check(
    next: &Range<u64>,
    position: u64,
    range: &Range<u64>,
    may_have_gaps: bool,
) -> Result<(), StreamError> {
    let outside = || StreamError::OutOfRange { extent: next.clone(), range: range.clone() };
    if next.start < range.start {
        return Err(outside());
    }
    if next.start < position {
        return Err(StreamError::Overlap { start: next.start, expected: position });
    }
    let missing = position..next.start.min(range.end);
    if !may_have_gaps && !missing.is_empty() {
        return Err(StreamError::Gap { range: missing });
    }
    if next.end > range.end.max(range.start) {
        return Err(outside());
    }
    Ok(())
}

impl<S: ExtentStream> ExtentSource for Check<S> {
    type Status = S::Status;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        let next = self.stream.next_extent()?;
        let end = self.range.end.max(self.range.start);
        self.step(next.as_ref().map_or(end..end, Extent::range))?;
        Ok(next)
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { stream, range, mut position, gaps, .. } = self;
        let acc = stream.try_fold(init, |acc, extent| {
            // An extent that starts where the last one ended, and stays within the range, has no
            // fault.
            if extent.start() != position || extent.end() > range.end {
                check(&extent.range(), position, &range, gaps).map_err(S::Error::from)?;
            }
            position = extent.end();
            f(acc, extent)
        })?;
        let end = range.end.max(range.start);
        check(&(end..end), position, &range, gaps).map_err(S::Error::from)?;
        Ok(acc)
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        self.stream.blocks()?;
        // The gaps that a filter leaves in a block are seen by its reader alone.
        let has_status = |code| self.stream.status_of(code).is_some();
        let whole = *self.whole.get_or_insert_with(|| (0..).take(NUMBERS).all(has_status));
        (whole || self.gaps).then_some(self)
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<S::Status> {
        self.stream.status_of(code)
    }
}

/// A merge of lists leaves no gap, so a block is checked by where it starts and ends.
impl<S: ExtentStream> Blocks for Check<S> {
    fn is_long(&mut self) -> bool {
        blocks::is_long(&mut self.stream)
    }

    fn next_block(&mut self, block: &mut Block, until: u64) -> NextBlock {
        // Where the merge starts is seen by its first extent.
        if self.position == self.range.start {
            return NextBlock::Scalar;
        }
        let (blocks, until) = (self.stream.blocks(), until.min(self.range.end));
        let next = blocks.map_or(NextBlock::Scalar, |blocks| blocks.next_block(block, until));
        if next == NextBlock::Merged {
            self.position = block.end();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::place;
    use crate::wire::Descriptors;
    use alloc::vec::Vec;

    /// A stream that breaks its promise, as only a faulty implementation does.
    struct Raw<'a>(core::slice::Iter<'a, (u64, u64)>);

    impl ExtentSource for Raw<'_> {
        type Status = ();
        type Error = StreamError;

        fn pull(&mut self) -> Result<Option<Extent<()>>, StreamError> {
            Ok(self.0.next().map(|&(start, end)| Extent::from_range(start..end, ()).unwrap()))
        }
    }

    fn raw(list: &[(u64, u64)]) -> Raw<'_> {
        Raw(list.iter())
    }

    #[test]
    fn covering_names_the_first_fault() {
        let fault = |list: &[(u64, u64)]| raw(list).covering(10..40).collect_vec().unwrap_err();
        assert_eq!(fault(&[]), StreamError::Gap { range: 10..40 });
        assert_eq!(fault(&[(20, 40)]), StreamError::Gap { range: 10..20 });
        assert_eq!(fault(&[(10, 20), (30, 40)]), StreamError::Gap { range: 20..30 });
        assert_eq!(fault(&[(10, 20)]), StreamError::Gap { range: 20..40 });
        assert_eq!(fault(&[(10, 20), (19, 40)]), StreamError::Overlap { start: 19, expected: 20 });
        assert_eq!(fault(&[(9, 40)]), StreamError::OutOfRange { extent: 9..40, range: 10..40 });
        assert_eq!(fault(&[(20, 41)]), StreamError::Gap { range: 10..20 });
        assert_eq!(fault(&[(10, 20), (50, 60)]), StreamError::Gap { range: 20..40 });
        assert_eq!(fault(&[(10, 40), (50, 60)]), StreamError::OutOfRange { extent: 50..60, range: 10..40 });
        assert_eq!(fault(&[(10, 20), (19, 41)]), StreamError::Overlap { start: 19, expected: 20 });
        assert_eq!(fault(&[(10, 41)]), StreamError::OutOfRange { extent: 10..41, range: 10..40 });
        assert_eq!(raw(&[(10, 20), (20, 40)]).covering(10..40).collect_vec().unwrap().len(), 2);
        assert_eq!(raw(&[]).covering(10..10).collect_vec(), Ok(alloc::vec![]));
    }

    /// A merge of long lists that is under way hands out blocks at once. Where they start is still
    /// looked at.
    #[test]
    fn blocks_that_start_late_leave_a_gap() {
        let list: Vec<(u64, u64)> = (0..2000).map(|nth| (512, nth & 1)).collect();
        let side = || place(Descriptors::new(&list), 0);
        let end = 512 * 2000;
        let rest = |start| {
            let mut merge = side().merge(side(), |a, b| a | b);
            merge.next_extent().unwrap();
            let mut covering = merge.covering(start..end);
            assert!(blocks::is_long(&mut covering), "it is not read in blocks");
            // an adapter that reads blocks of the check itself
            covering.coalesce().try_fold(0, |sum, extent| Ok::<_, StreamError>(sum + extent.length()))
        };
        assert_eq!(rest(512), Ok(end - 512));
        assert_eq!(rest(0), Err(StreamError::Gap { range: 0..512 }));
        assert_eq!(rest(1024), Err(StreamError::OutOfRange { extent: 512..1024, range: 1024..end }));
    }

    #[test]
    fn within_allows_gaps_only() {
        assert_eq!(raw(&[(20, 30)]).within(10..40).collect_vec().unwrap().len(), 1);
        let overlap = raw(&[(20, 30), (10, 20)]).within(10..40).collect_vec();
        assert_eq!(overlap, Err(StreamError::Overlap { start: 10, expected: 30 }));
        let outside = raw(&[(30, 50)]).within(10..40).collect_vec();
        assert_eq!(outside, Err(StreamError::OutOfRange { extent: 30..50, range: 10..40 }));
    }
}
