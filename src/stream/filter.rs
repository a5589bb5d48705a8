//! Only the extents of interest; the others leave gaps.

use core::fmt;

use super::ExtentStream;
use super::pick::{Kept, KeptOf, Pick};
use crate::extent::Extent;

/// A stream without some of its extents: see [`ExtentStream::filter`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, Filter, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let filtered: Filter<_, _> = from_iter(list).filter(|&status| status == 'b');
/// assert_eq!(filtered.collect_vec()?[0].range(), 512..1024);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
pub struct Filter<S, F> {
    stream: S,
    keep: F,
}

impl<S, F> Filter<S, F> {
    pub(super) fn new(stream: S, keep: F) -> Self {
        Self { stream, keep }
    }
}

impl<S: ExtentStream, F: Fn(&S::Status) -> bool> ExtentStream for Filter<S, F> {
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        loop {
            match self.stream.next_extent()? {
                Some(extent) if !(self.keep)(extent.status()) => {}
                kept_or_end => return Ok(kept_or_end),
            }
        }
    }

    #[inline]
    fn skips(&self) -> bool {
        true
    }

    #[inline]
    fn fold<A>(self, init: A, mut f: impl FnMut(A, Extent<S::Status>) -> A) -> Result<A, S::Error> {
        let Self { stream, keep } = self;
        let kept = |acc, extent: Extent<_>| if keep(extent.status()) { f(acc, extent) } else { acc };
        stream.fold_picked(Kept(&keep), init, kept)
    }

    #[inline]
    fn fold_picked<A, P: Pick<S::Status>>(
        self,
        pick: P,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> A,
    ) -> Result<A, S::Error> {
        let Self { stream, keep } = self;
        let kept = |acc, extent: Extent<_>| if keep(extent.status()) { f(acc, extent) } else { acc };
        stream.fold_picked(KeptOf(&keep, pick), init, kept)
    }

    #[inline]
    fn for_each_while(self, mut f: impl FnMut(Extent<S::Status>, u64) -> bool) -> Result<(), S::Error> {
        let Self { stream, keep } = self;
        stream.for_each_while(|extent, number| !keep(extent.status()) || f(extent, number))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Filter<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("stream", &self.stream).finish_non_exhaustive()
    }
}
