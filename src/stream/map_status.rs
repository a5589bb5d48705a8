//! Another status for each extent, the ranges untouched.

use core::fmt;

use super::ExtentStream;
use crate::extent::Extent;

/// A stream with each status replaced: see [`ExtentStream::map_status`].
#[derive(Clone)]
pub struct MapStatus<S, F> {
    stream: S,
    f: F,
}

impl<S, F> MapStatus<S, F> {
    pub(super) fn new(stream: S, f: F) -> Self {
        Self { stream, f }
    }
}

impl<S: ExtentStream, U, F: Fn(S::Status) -> U> ExtentStream for MapStatus<S, F> {
    type Status = U;
    type Error = S::Error;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<U>>, S::Error> {
        Ok(self.stream.next_extent()?.map(|extent| extent.map(&self.f)))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for MapStatus<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStatus").field("stream", &self.stream).finish_non_exhaustive()
    }
}
