//! The side of a stream that its type implements. Readers use [`ExtentStream`], which every source
//! is.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use super::blocks;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::kernel::{Blocks, Lists};
#[cfg(doc)]
use crate::stream::{ExtentStream, from_iter};

/// A type that can be read as an [`ExtentStream`]: implement this one, and all methods of the
/// stream are there.
///
/// An implementation promises that each extent starts where the one before it ends, or beyond.
/// Sources that cannot promise it go through [`from_iter`], which checks.
///
/// ```
/// use nbd_extents::stream::{ExtentSource, ExtentStream};
/// use nbd_extents::{Extent, StreamError};
///
/// /// Blocks of 512 bytes, each with its number.
/// struct Blocks(u64);
///
/// impl ExtentSource for Blocks {
///     type Status = u64;
///     type Error = StreamError;
///
///     fn pull(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
///         let number = self.0;
///         self.0 += 1;
///         Ok(Some(Extent::new(number * 512, 512, number)?))
///     }
/// }
///
/// let odd = Blocks(0).clip(0..2048).filter(|number| number % 2 == 1).collect_vec()?;
/// assert_eq!(odd, [Extent::new(512, 512, 1)?, Extent::new(1536, 512, 3)?]);
/// # Ok::<(), StreamError>(())
/// ```
pub trait ExtentSource {
    /// The status of each range.
    type Status;
    /// How reading can fail. It must be able to carry a [`StreamError`], which the adapters report.
    type Error: From<StreamError>;

    /// The next extent, or `None` at the end: [`ExtentStream::next_extent`].
    ///
    /// # Errors
    ///
    /// When the source fails, or finds that it would break the promise.
    fn pull(&mut self) -> Result<Option<Extent<Self::Status>>, Self::Error>;

    /// Pulls all that is left, until the first error: [`ExtentStream::try_fold`]. An implementation may
    /// replace it by a faster way to the same result.
    ///
    /// # Errors
    ///
    /// The first error of `f`, or of [`pull`](Self::pull) as an `E`.
    #[inline]
    fn try_pull_all<A, E: From<Self::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<Self::Status>) -> Result<A, E>,
    ) -> Result<A, E>
    where
        Self: Sized,
    {
        // no `joins`: this reader wants every extent as it is
        blocks::try_fold(self, None, init, |acc, extent, _| f(acc, extent))
    }

    /// The lists in memory below this stream, if its status is made of a descriptor's flags alone.
    #[doc(hidden)]
    #[inline]
    fn lists(&mut self) -> Option<&mut dyn Lists> {
        None
    }

    /// The merge below this stream, if it can be read in blocks and the status is made of the
    /// flags of both sides alone.
    #[doc(hidden)]
    #[inline]
    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        None
    }

    /// The status of a descriptor's flags, or of the flags of both sides of a merge. `None` where a
    /// filter drops them, and for a stream that has neither lists nor blocks.
    #[doc(hidden)]
    #[inline]
    fn status_of(&self, code: u64) -> Option<Self::Status> {
        let _ = code;
        None
    }
}

/// A borrowed stream is one, and a boxed one, `Box<dyn ExtentStream>` among them: for a merge of
/// streams of different types.
macro_rules! forward {
    ($($(#[$when:meta])? $pointer:ty { $($blocks:tt)* })*) => {$(
        $(#[$when])?
        impl<S: ExtentSource + ?Sized> ExtentSource for $pointer {
            type Status = S::Status;
            type Error = S::Error;

            #[inline]
            fn pull(&mut self) -> Result<Option<Extent<Self::Status>>, Self::Error> {
                (**self).pull()
            }

            fn status_of(&self, code: u64) -> Option<S::Status> {
                (**self).status_of(code)
            }

            $($blocks)*
        }
    )*};
}

forward! {
    // A borrowed stream may be read on after a reader that stopped, of the stream itself or of a merge
    // above it, who would have consumed all of a block: it is read one by one.
    &mut S {}
    #[cfg(feature = "alloc")]
    Box<S> {
        fn lists(&mut self) -> Option<&mut dyn Lists> {
            (**self).lists()
        }

        fn blocks(&mut self) -> Option<&mut dyn Blocks> {
            (**self).blocks()
        }
    }
}

#[cfg(test)]
#[cfg(feature = "alloc")]
mod tests {
    use super::*;
    use crate::error::StreamError;
    use crate::stream::place;
    use crate::wire::Descriptors;

    fn is_list(mut stream: impl ExtentSource) -> bool {
        stream.lists().is_some()
    }

    fn is_merge(mut stream: impl ExtentSource) -> bool {
        stream.blocks().is_some()
    }

    fn status_of<S: ExtentSource>(stream: S, code: u64) -> Option<S::Status> {
        stream.status_of(code)
    }

    /// Otherwise a program that keeps its streams in boxes would be many times slower, unnoticed.
    #[test]
    fn boxed_streams_are_read_in_blocks_and_borrowed_ones_are_not() {
        use crate::stream::ExtentStream as _;

        let mut list = place(Descriptors::new(&[(512, 3)]), 0);
        assert!(!is_list(&mut list) && is_list(Box::new(list.clone())));
        assert_eq!((status_of(&mut list, 5), status_of(Box::new(list.clone()), 5)), (Some(5), Some(5)));
        let mut merge = list.clone().merge(list, |one, other| one + other);
        assert!(!is_merge(&mut merge) && is_merge(Box::new(merge)));
    }

    /// A reader of a long merge stops in what would be a block: nothing after that is lost.
    #[test]
    fn a_borrowed_merge_goes_on_after_the_reader_that_stopped() {
        use crate::stream::ExtentStream as _;

        let list = place(Descriptors::new(&[(8, 3); 4000]), 0);
        let mut merge = list.clone().merge(list, |one, other| one + other);
        let stop = |count, _| if count == 600 { Err(None::<StreamError>) } else { Ok(count + 1) };
        assert_eq!((&mut merge).map_err(Some).try_fold(0, stop), Err(None));
        assert_eq!(merge.next_extent().unwrap().map(|extent| extent.start()), Some(601 * 8));
    }

    /// Nor is it of the sides that a merge has borrowed.
    #[test]
    fn borrowed_sides_go_on_after_the_reader_that_stopped() {
        use crate::stream::ExtentStream as _;

        let mut list = place(Descriptors::new(&[(8, 3); 4000]), 0);
        let mut other = list.clone();
        let merge = (&mut list).merge(&mut other, |one, other| one + other).map_err(Some);
        let stop = |count, _| if count == 600 { Err(None::<StreamError>) } else { Ok(count + 1) };
        assert_eq!(merge.try_fold(0, stop), Err(None));
        assert_eq!([list.position(), other.position()], [601 * 8; 2]);
    }
}
