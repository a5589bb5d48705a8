//! Another error for a stream: how streams of different sources come together in one merge.

use core::fmt;

use super::ExtentStream;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::kernel::Wire;

/// A stream with its error replaced: see [`ExtentStream::map_err`] and [`ExtentStream::err_into`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, MapErr, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(256, 512, 'b')?];
/// let mapped: MapErr<_, _> = from_iter(list).map_err(|error| Box::<dyn std::error::Error>::from(error));
/// assert!(mapped.collect_vec().is_err());
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
pub struct MapErr<S, F> {
    stream: S,
    f: F,
}

impl<S, F> MapErr<S, F> {
    pub(super) fn new(stream: S, f: F) -> Self {
        Self { stream, f }
    }
}

impl<S, E, F> ExtentStream for MapErr<S, F>
where
    S: ExtentStream,
    E: From<StreamError>,
    F: Fn(S::Error) -> E,
{
    type Status = S::Status;
    type Error = E;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<S::Status>>, E> {
        self.stream.next_extent().map_err(&self.f)
    }

    #[inline]
    fn fold<A>(self, init: A, f: impl FnMut(A, Extent<S::Status>) -> A) -> Result<A, E> {
        self.stream.fold(init, f).map_err(self.f)
    }

    fn wire(&self) -> Option<Wire<'_>> {
        self.stream.wire()
    }

    fn pass(&mut self, count: usize, position: u64, flags: u64) {
        self.stream.pass(count, position, flags);
    }

    #[inline]
    fn status_of(&self, flags: u64) -> Option<S::Status> {
        self.stream.status_of(flags)
    }
}

impl<S: fmt::Debug, F> fmt::Debug for MapErr<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapErr").field("stream", &self.stream).finish_non_exhaustive()
    }
}
