//! The entrance for extents from anywhere: a list, a parser, another library. It checks the order,
//! which such a source cannot promise.

use core::iter::Fuse;

use super::ExtentSource;
#[cfg(doc)]
use super::ExtentStream;
use crate::error::StreamError;
use crate::extent::Extent;

/// A checked stream over an iterator of extents: see [`from_iter`].
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct FromIter<I> {
    iter: Fuse<I>,
    /// The end of the last extent.
    position: u64,
}

/// A checked stream over an iterator of `Result`s: see [`try_from_iter`].
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct TryFromIter<I> {
    iter: Fuse<I>,
    /// The end of the last extent.
    position: u64,
}

/// Makes a stream of an iterator of extents. Reading fails with [`StreamError::Overlap`] at the
/// first extent out of order.
///
/// The iterator need not be fused, and its size hint is ignored. Extents may leave gaps; add
/// [`covering`](ExtentStream::covering) where none is allowed.
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

/// Makes a stream of an iterator of `Result<Extent<T>, E>`: a parser or another program's list,
/// which can fail by itself.
///
/// Reading ends at the first `Err`. As for [`from_iter`], an extent out of order is a
/// [`StreamError::Overlap`], so `E` must be able to carry a [`StreamError`].
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::stream::{ExtentStream, try_from_iter};
///
/// type AnyError = Box<dyn std::error::Error>;
///
/// let rows = "0 512\n512 4096".lines().map(|row| -> Result<_, AnyError> {
///     let (start, length) = row.split_once(' ').ok_or("a row without a length")?;
///     Ok(Extent::new(start.parse()?, length.parse()?, ())?)
/// });
/// assert_eq!(try_from_iter(rows).collect_vec()?[1].range(), 512..4608);
/// # Ok::<(), AnyError>(())
/// ```
pub fn try_from_iter<T, E, I>(iter: I) -> TryFromIter<I::IntoIter>
where
    I: IntoIterator<Item = Result<Extent<T>, E>>,
{
    TryFromIter { iter: iter.into_iter().fuse(), position: 0 }
}

/// Checks that the next extent starts at `position` or beyond, and moves `position` to its end.
#[inline]
fn advance<T>(position: &mut u64, next: Option<Extent<T>>) -> Result<Option<Extent<T>>, StreamError> {
    if let Some(extent) = &next {
        if extent.start() < *position {
            return Err(StreamError::Overlap { start: extent.start(), expected: *position });
        }
        *position = extent.end();
    }
    Ok(next)
}

impl<T, I: Iterator<Item = Extent<T>>> ExtentSource for FromIter<I> {
    type Status = T;
    type Error = StreamError;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<T>>, StreamError> {
        advance(&mut self.position, self.iter.next())
    }
}

impl<T, E: From<StreamError>, I: Iterator<Item = Result<Extent<T>, E>>> ExtentSource for TryFromIter<I> {
    type Status = T;
    type Error = E;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<T>>, E> {
        Ok(advance(&mut self.position, self.iter.next().transpose()?)?)
    }
}
