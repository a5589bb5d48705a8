//! The entrance for extents from anywhere: a list, a parser, another library. It checks what the source cannot promise.

use core::iter::Fuse;

use super::ExtentStream;
use crate::error::StreamError;
use crate::extent::Extent;

/// A checked stream over an iterator of extents: see [`from_iter`].
#[derive(Clone, Debug)]
pub struct FromIter<I> {
    iter: Fuse<I>,
    /// Where the last extent ended.
    position: u64,
}

/// Makes a stream of an iterator of extents. Reading fails with [`StreamError::Overlap`] at the first extent that is not in order.
///
/// The iterator need not be fused and its size hint is not looked at. Extents may leave gaps; ask [`ExtentStream::covering`] where none is
/// allowed.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, from_iter};
/// use nbd_extents::{Extent, StreamError};
///
/// let unsorted = [Extent::new(512, 512, ())?, Extent::new(0, 512, ())?];
/// let error = from_iter(unsorted).collect_vec().unwrap_err();
/// assert_eq!(error, StreamError::Overlap { start: 0, expected: 1024 });
/// # Ok::<(), StreamError>(())
/// ```
pub fn from_iter<T, I: IntoIterator<Item = Extent<T>>>(iter: I) -> FromIter<I::IntoIter> {
    FromIter { iter: iter.into_iter().fuse(), position: 0 }
}

impl<T, I: Iterator<Item = Extent<T>>> ExtentStream for FromIter<I> {
    type Status = T;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<T>>, StreamError> {
        let Some(extent) = self.iter.next() else {
            return Ok(None);
        };
        if extent.start() < self.position {
            return Err(StreamError::Overlap { start: extent.start(), expected: self.position });
        }
        self.position = extent.end();
        Ok(Some(extent))
    }
}
