//! Replaces the status of each extent; the ranges stay.

use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;
use crate::kernel::{Blocks, Lists};

/// A stream with each status replaced: see [`ExtentStream::map_status`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, MapStatus, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let mapped: MapStatus<_, _> = from_iter(list).map_status(|status| status == 'b');
/// assert_eq!(mapped.collect_vec()?[1], Extent::new(512, 512, true)?);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct MapStatus<S, F> {
    pub(super) stream: S,
    pub(super) f: F,
}

impl<S: ExtentStream, U, F: Fn(S::Status) -> U> ExtentSource for MapStatus<S, F> {
    type Status = U;
    type Error = S::Error;

    #[inline(always)]
    fn pull(&mut self) -> Result<Option<Extent<U>>, S::Error> {
        Ok(self.stream.next_extent()?.map(|extent| extent.map(&self.f)))
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<U>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { stream, f: map } = self;
        stream.try_fold(init, |acc, extent| f(acc, extent.map(&map)))
    }

    fn lists(&mut self) -> Option<&mut dyn Lists> {
        self.stream.lists()
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        self.stream.blocks()
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<U> {
        self.stream.status_of(code).map(&self.f)
    }
}
