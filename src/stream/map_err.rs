//! Another error for a stream: how streams of different sources come together in one merge.

use super::{ExtentSource, ExtentStream, Stop};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::kernel::{Blocks, Lists};

/// A stream with its error replaced: see [`ExtentStream::map_err`] and [`ExtentStream::err_into`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, MapErr, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(256, 512, 'b')?];
/// let boxed = |error| Box::<dyn std::error::Error>::from(error);
/// let mapped: MapErr<_, _> = from_iter(list).map_err(boxed);
/// assert!(mapped.collect_vec().is_err());
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct MapErr<S, F> {
    pub(super) stream: S,
    pub(super) f: F,
}

impl<S, E, F> ExtentSource for MapErr<S, F>
where
    S: ExtentStream,
    E: From<StreamError>,
    F: Fn(S::Error) -> E,
{
    type Status = S::Status;
    type Error = E;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, E> {
        self.stream.next_extent().map_err(&self.f)
    }

    #[inline]
    fn try_pull_all<A, E2: From<E>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E2>,
    ) -> Result<A, E2> {
        let Self { stream, f: map } = self;
        let folded = stream.try_fold(init, |acc, extent| f(acc, extent).map_err(Stop::Adapter));
        folded.map_err(|stop| match stop {
            Stop::Stream(error) => map(error).into(),
            Stop::Adapter(error) => error,
        })
    }

    fn lists(&mut self) -> Option<&mut dyn Lists> {
        self.stream.lists()
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        self.stream.blocks()
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<S::Status> {
        self.stream.status_of(code)
    }
}
