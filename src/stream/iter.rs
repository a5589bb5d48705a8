//! The way back from a stream to the ordinary iterators of Rust.

use core::iter::FusedIterator;

use super::ExtentStream;
use crate::extent::Extent;

/// An iterator over a stream: see [`ExtentStream::iter`]. After an error it is over.
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, Iter, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let iter: Iter<_> = from_iter(list).iter();
/// assert_eq!(iter.map(|extent| *extent.unwrap().status()).collect::<String>(), "ab");
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless they are read"]
pub struct Iter<S> {
    /// `None` once the stream has ended or failed.
    stream: Option<S>,
}

impl<S> Iter<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: Some(stream) }
    }
}

impl<S: ExtentStream> Iterator for Iter<S> {
    type Item = Result<Extent<S::Status>, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.stream.as_mut()?.next_extent().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.stream = None;
        }
        next
    }
}

impl<S: ExtentStream> FusedIterator for Iter<S> {}
