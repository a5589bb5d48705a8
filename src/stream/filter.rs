//! Drops extents by their status; they leave gaps.

use super::{ExtentSource, ExtentStream, blocks};
use crate::extent::Extent;
use crate::kernel::Blocks;

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
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Filter<S, F> {
    pub(super) stream: S,
    pub(super) keep: F,
}

impl<S: ExtentStream, F: Fn(&S::Status) -> bool> ExtentSource for Filter<S, F> {
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        loop {
            match self.stream.next_extent()? {
                Some(extent) if !(self.keep)(extent.status()) => {}
                kept_or_end => return Ok(kept_or_end),
            }
        }
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        mut self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        if self.blocks().is_some() {
            return blocks::try_fold(self, Some(|_, _| false), init, |acc, extent, _| f(acc, extent));
        }
        let Self { stream, keep } = self;
        stream.try_fold(init, |acc, extent| if keep(extent.status()) { f(acc, extent) } else { Ok(acc) })
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        self.stream.blocks()
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<S::Status> {
        self.stream.status_of(code).filter(&self.keep)
    }
}
