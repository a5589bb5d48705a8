//! The way back from a stream to the ordinary iterators of Rust.

use core::iter::FusedIterator;

use super::ExtentStream;
use crate::extent::Extent;

/// An iterator over a stream: see [`ExtentStream::into_iter`]. After an error it is over.
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, IntoIter, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let iter: IntoIter<_> = from_iter(list).into_iter();
/// assert_eq!(iter.map(|extent| *extent.unwrap().status()).collect::<String>(), "ab");
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless they are read"]
pub struct IntoIter<S> {
    /// `None` once the stream has ended or failed.
    pub(super) stream: Option<S>,
}

impl<S: ExtentStream> Iterator for IntoIter<S> {
    type Item = Result<Extent<S::Status>, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.stream.as_mut()?.next_extent().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.stream = None;
        }
        next
    }
}

impl<S: ExtentStream> FusedIterator for IntoIter<S> {}
