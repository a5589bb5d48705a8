//! Streams of extents: sorted, disjoint, lazy. One adapter, one file.
//!
//! An [`ExtentStream`] hands out extents in ascending order, none overlapping the one before.
//! Everything else builds on that promise: [`place`] puts the descriptors of a reply at their
//! offsets, [`from_iter`] takes extents from anywhere and checks them, and the adapters cut, fill,
//! map, join and merge them.
//!
//! ```
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::pairs;
//! use nbd_extents::{Allocation, Dirtiness, Extent};
//!
//! let zero = place(pairs(&[4096, 3, 8192, 0])?, 0).map_status(Allocation::from_flags);
//! let dirty = place(pairs(&[8192, 1, 4096, 0])?, 0).map_status(Dirtiness::from_flags);
//! let merged = zero.merge(dirty, |zero, dirty| (dirty.is_dirty(), zero.is_zero())).collect_vec()?;
//! assert_eq!(
//!     merged,
//!     [
//!         Extent::new(0, 4096, (true, true))?,
//!         Extent::new(4096, 4096, (true, false))?,
//!         Extent::new(8192, 4096, (false, false))?,
//!     ]
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is a trait of its own, not an extension of [`Iterator`]: `next_extent` returns a `Result`, so
//! that a broken stream cannot be taken for one that ended, and a merge reads the bytes of both
//! sides' descriptors in blocks when the whole stream is asked for (`fold`, `for_each`,
//! `collect_vec`), which `Iterator` has no way to say.

mod blocks;
mod check;
mod clip;
mod coalesce;
mod cursor;
mod fill;
mod filter;
mod from_iter;
mod inspect;
mod into_iter;
mod map_err;
mod map_status;
mod merge;
#[cfg(feature = "alloc")]
mod merge_all;
mod place;
mod source;
mod stop;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeBounds;

pub(crate) use blocks::NUMBERS;
#[cfg(feature = "alloc")]
pub(crate) use blocks::{UNNUMBERED, try_fold_numbered};
pub use check::Check;
#[cfg(feature = "alloc")]
pub(crate) use check::check;
pub use clip::Clip;
pub use coalesce::Coalesce;
pub use fill::Fill;
pub use filter::Filter;
pub use from_iter::{FromIter, TryFromIter, from_iter, try_from_iter};
pub use inspect::Inspect;
pub use into_iter::IntoIter;
pub use map_err::MapErr;
pub use map_status::MapStatus;
pub use merge::Merge;
#[cfg(feature = "alloc")]
pub use merge_all::{MergeAll, merge_all, merge_all_shortest};
pub use place::{Place, PlaceIter, place, place_all, place_iter};
pub use source::ExtentSource;
pub(crate) use stop::Stop;

use crate::error::StreamError;
use crate::extent::{Extent, MAX_END, half_open};

/// A stream of extents in ascending order that do not overlap: the methods to read, change and merge
/// it.
///
/// Every [`ExtentSource`] is one; a stream of your own implements that trait, which promises the
/// order. Once `next_extent` has returned an error or `None` the stream is over, and what further
/// calls return is unspecified: take the first as the answer.
#[must_use = "streams are lazy and do nothing unless they are read"]
pub trait ExtentStream: ExtentSource {
    /// The next extent, or `None` at the end.
    ///
    /// # Errors
    ///
    /// When the source fails, or breaks the promise of the stream.
    #[inline(always)]
    fn next_extent(&mut self) -> Result<Option<Extent<Self::Status>>, Self::Error> {
        self.pull()
    }

    /// Reads all that is left, and gives each extent to `f` with what `f` returned before.
    ///
    /// # Errors
    ///
    /// The stream's first error; what `f` had built is dropped then.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let bytes = from_iter(list).fold(0, |bytes, extent| bytes + extent.length())?;
    /// assert_eq!(bytes, 1536);
    /// # Ok::<(), StreamError>(())
    /// ```
    #[inline]
    fn fold<A>(self, init: A, mut f: impl FnMut(A, Extent<Self::Status>) -> A) -> Result<A, Self::Error>
    where
        Self: Sized,
    {
        self.try_pull_all(init, |acc, extent| Ok(f(acc, extent)))
    }

    /// Like [`fold`](Self::fold), but ends at the first error, `f`'s or the stream's.
    ///
    /// Like `fold` it consumes the stream, which may be read in blocks. To read on after an error of
    /// `f`, call it on `&mut stream`: a borrowed stream is read extent by extent, and stands after the
    /// last extent that `f` got.
    ///
    /// # Errors
    ///
    /// The first error of `f`, or the stream's error as an `E`.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let at_most = |limit: u64| {
    ///     from_iter(list).try_fold(0, |bytes, extent| -> Result<u64, Box<dyn std::error::Error>> {
    ///         let bytes = bytes + extent.length();
    ///         if bytes <= limit { Ok(bytes) } else { Err("too many bytes".into()) }
    ///     })
    /// };
    /// assert_eq!(at_most(2048).unwrap(), 1536);
    /// assert!(at_most(1024).is_err());
    /// # Ok::<(), StreamError>(())
    /// ```
    #[inline]
    fn try_fold<A, E: From<Self::Error>>(
        self,
        init: A,
        f: impl FnMut(A, Extent<Self::Status>) -> Result<A, E>,
    ) -> Result<A, E>
    where
        Self: Sized,
    {
        self.try_pull_all(init, f)
    }

    /// Reads all that is left, and gives each extent to `f`.
    ///
    /// # Errors
    ///
    /// The stream's first error. `f` has seen all extents before it.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// from_iter(list).for_each(|extent| println!("{extent}"))?;
    /// # Ok::<(), StreamError>(())
    /// ```
    fn for_each(self, mut f: impl FnMut(Extent<Self::Status>)) -> Result<(), Self::Error>
    where
        Self: Sized,
    {
        self.fold((), |(), extent| f(extent))
    }

    /// Reads all that is left, gives each extent to `f`, and ends at the first error, `f`'s or the
    /// stream's.
    ///
    /// # Errors
    ///
    /// The first error of `f`, or the stream's error as an `E`.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::Extent;
    /// use std::io::Write;
    ///
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
    /// let mut out = Vec::new();
    /// from_iter(list).try_for_each(|extent| -> Result<(), Box<dyn std::error::Error>> {
    ///     Ok(writeln!(out, "{extent}")?)
    /// })?;
    /// assert_eq!(out, b"0..512 a\n512..1024 b\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    fn try_for_each<E: From<Self::Error>>(
        self,
        mut f: impl FnMut(Extent<Self::Status>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        Self: Sized,
    {
        self.try_fold((), |(), extent| f(extent))
    }

    /// Reads all that is left into a `Vec`.
    ///
    /// # Errors
    ///
    /// The stream's first error.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(256, 512, 'b')?];
    /// let error = from_iter(list).collect_vec().unwrap_err();
    /// assert_eq!(error, StreamError::Overlap { start: 256, expected: 512 });
    /// # Ok::<(), StreamError>(())
    /// ```
    #[cfg(feature = "alloc")]
    fn collect_vec(self) -> Result<Vec<Extent<Self::Status>>, Self::Error>
    where
        Self: Sized,
    {
        self.fold(Vec::new(), |mut all, extent| {
            all.push(extent);
            all
        })
    }

    /// Turns the stream into an ordinary iterator of `Result`s.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let lengths = from_iter(list).into_iter().map(|extent| Ok(extent?.length()));
    /// assert_eq!(lengths.collect::<Result<Vec<_>, StreamError>>()?, [512, 512, 512]);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn into_iter(self) -> IntoIter<Self>
    where
        Self: Sized,
    {
        IntoIter { stream: Some(self) }
    }

    /// Replaces the stream's error by the result of `f`, so that streams of different sources can
    /// be merged.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter, try_from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// #[derive(Debug, PartialEq)]
    /// enum Error {
    ///     Stream(StreamError),
    ///     Row(usize),
    /// }
    /// # impl From<StreamError> for Error {
    /// #     fn from(error: StreamError) -> Self {
    /// #         Self::Stream(error)
    /// #     }
    /// # }
    ///
    /// let parsed = try_from_iter([Ok(Extent::new(0, 512, 'a')?), Err(Error::Row(2))]);
    /// let known = from_iter(Extent::new(0, 1024, 1)).map_err(Error::Stream);
    /// let merged = parsed.merge(known, |&a, &b| (a, b));
    /// assert_eq!(merged.collect_vec(), Err(Error::Row(2)));
    /// # Ok::<(), StreamError>(())
    /// ```
    fn map_err<E, F>(self, f: F) -> MapErr<Self, F>
    where
        Self: Sized,
        E: From<StreamError>,
        F: Fn(Self::Error) -> E,
    {
        MapErr { stream: self, f }
    }

    /// Converts the stream's error by [`From`]: [`map_err`](Self::map_err) for an error type that
    /// has the conversion.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::Extent;
    /// type AnyError = Box<dyn std::error::Error>;
    ///
    /// let stream = from_iter(Extent::new(0, 512, 'a')).err_into::<AnyError>();
    /// assert_eq!(stream.collect_vec()?.len(), 1);
    /// # Ok::<(), AnyError>(())
    /// ```
    fn err_into<E>(self) -> MapErr<Self, fn(Self::Error) -> E>
    where
        Self: Sized,
        E: From<Self::Error> + From<StreamError>,
    {
        MapErr { stream: self, f: E::from }
    }

    /// Shows each extent to `f` when it is read, for progress or a log, and hands it on unchanged.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let mut bytes = 0;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
    /// from_iter(list).inspect(|extent| bytes += extent.length()).collect_vec()?;
    /// assert_eq!(bytes, 1024);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn inspect<F: FnMut(&Extent<Self::Status>)>(self, f: F) -> Inspect<Self, F>
    where
        Self: Sized,
    {
        Inspect { stream: self, f }
    }

    /// Replaces each status by what `f` makes of it, which must be pure and may be asked about
    /// statuses that do not occur. Neighbours that become equal stay apart;
    /// [`coalesce`](Self::coalesce) joins them.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let known = from_iter(list).map_status(|status| status == 'a').coalesce().collect_vec()?;
    /// assert_eq!(known[0], Extent::new(0, 512, true)?);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn map_status<U, F: Fn(Self::Status) -> U>(self, f: F) -> MapStatus<Self, F>
    where
        Self: Sized,
    {
        MapStatus { stream: self, f }
    }

    /// Keeps the extents whose status satisfies `f`, which must be pure and may be asked about
    /// statuses that do not occur; the others leave gaps.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let only_b = from_iter(list).filter(|&status| status == 'b').collect_vec()?;
    /// assert_eq!(only_b[0].range(), 512..1024);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn filter<F: Fn(&Self::Status) -> bool>(self, f: F) -> Filter<Self, F>
    where
        Self: Sized,
    {
        Filter { stream: self, keep: f }
    }

    /// Cuts the stream to `range` (bytes); extents outside of it are dropped. Reading stops at the
    /// first extent that reaches the range's end.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let part = from_iter(list).clip(256..600).collect_vec()?;
    /// assert_eq!(part, [Extent::from_range(256..512, 'a')?, Extent::from_range(512..600, 'b')?]);
    /// let end = from_iter(list).clip(1000..).collect_vec()?;
    /// assert_eq!(end, [Extent::from_range(1000..1024, 'b')?, Extent::new(4096, 512, 'b')?]);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn clip(self, range: impl RangeBounds<u64>) -> Clip<Self>
    where
        Self: Sized,
    {
        Clip::new(self, half_open(&range, 0..MAX_END))
    }

    /// Gives every byte of `range` (bytes) that the stream leaves out the status `status`. Extents
    /// outside of `range` are handed on unchanged. An open end of the range is [`MAX_END`].
    ///
    /// There is no default: the safe status depends on the context (data for an allocation, dirty
    /// for a bitmap).
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let whole = from_iter(list).fill(0..4608, '?').collect_vec()?;
    /// assert_eq!(whole[2], Extent::from_range(1024..4096, '?')?);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn fill(self, range: impl RangeBounds<u64>, status: Self::Status) -> Fill<Self>
    where
        Self: Sized,
        Self::Status: Clone,
    {
        Fill::new(self, half_open(&range, 0..MAX_END), status)
    }

    /// Demands that the stream stays within `range` (bytes). Gaps are allowed.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'b')?,
    ///     Extent::new(4096, 512, 'b')?,
    /// ];
    /// let error = from_iter(list).within(0..4096).collect_vec().unwrap_err();
    /// assert_eq!(error.to_string(), "an extent over bytes 4096..4608 leaves the range 0..4096");
    /// # Ok::<(), StreamError>(())
    /// ```
    fn within(self, range: impl RangeBounds<u64>) -> Check<Self>
    where
        Self: Sized,
    {
        Check::within(self, half_open(&range, 0..MAX_END))
    }

    /// Demands that the stream covers every byte of `range` exactly once, and nothing else. The
    /// error names the first gap or overlap.
    ///
    /// ```
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Extent, StreamError};
    ///
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let checked = from_iter(list).covering(0..1536).collect_vec();
    /// assert_eq!(checked, Err(StreamError::Gap { range: 512..1024 }));
    /// # Ok::<(), StreamError>(())
    /// ```
    fn covering(self, range: impl RangeBounds<u64>) -> Check<Self>
    where
        Self: Sized,
    {
        Check::covering(self, half_open(&range, 0..MAX_END))
    }

    /// Joins neighbours that touch and have equal statuses. Of statuses that are equal and yet can
    /// be told apart, any may be the one that stays.
    ///
    /// Equal is what the status shown says: map a [`Status`](crate::Status) to what the reader
    /// shows first (dirty and zero, say), then coalesce, and holes make no cut.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let list = [
    ///     Extent::new(0, 512, 'a')?,
    ///     Extent::new(512, 512, 'a')?,
    ///     Extent::new(4096, 512, 'a')?,
    /// ];
    /// let joined = from_iter(list).coalesce().collect_vec()?;
    /// assert_eq!(joined, [Extent::new(0, 1024, 'a')?, Extent::new(4096, 512, 'a')?]);
    /// # Ok::<(), StreamError>(())
    /// ```
    fn coalesce(self) -> Coalesce<Self>
    where
        Self: Sized,
        Self::Status: PartialEq,
    {
        Coalesce::new(self)
    }

    /// Merges two streams: each byte gets what `combine` makes of its two statuses, cut where
    /// either stream is cut.
    ///
    /// Both streams must describe the same bytes. Where one describes bytes that the other leaves
    /// out, in the middle or at the end, the merge fails with [`StreamError::Uneven`], because
    /// dropping them silently is how backups lose data. A server's replies for several contexts may
    /// rightly end at different offsets: merge those with [`merge_shortest`](Self::merge_shortest)
    /// and request the rest from its end. Make other streams even with [`clip`](Self::clip) and
    /// [`fill`](Self::fill).
    ///
    /// `combine` must be pure: it may be called once for many extents with the same pair of
    /// statuses, and for statuses and pairs that no byte of the disk has.
    ///
    /// ```
    /// # use nbd_extents::stream::{ExtentStream, from_iter};
    /// # use nbd_extents::{Extent, StreamError};
    /// let zero = from_iter([Extent::new(0, 512, true)?, Extent::new(512, 512, false)?]);
    /// let dirty = from_iter([Extent::new(0, 512, true)?]);
    /// let error = zero.merge(dirty, |&zero, &dirty| (dirty, zero)).collect_vec().unwrap_err();
    /// // Nobody knows whether the rest is dirty.
    /// assert_eq!(error, StreamError::Uneven { range: 512..1024, silent: 1 });
    /// # Ok::<(), StreamError>(())
    /// ```
    fn merge<B, V, F>(self, other: B, combine: F) -> Merge<Self, B, F>
    where
        Self: Sized,
        B: ExtentStream<Error = Self::Error>,
        F: Fn(&Self::Status, &B::Status) -> V,
    {
        Merge::even(self, other, combine)
    }

    /// Like [`merge`](Self::merge), but ends where the shorter stream ends; [`Merge::position`]
    /// says where that is.
    ///
    /// ```
    /// use nbd_extents::Extent;
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    ///
    /// let long = from_iter([Extent::new(0, 4096, 'l')?]);
    /// let short = from_iter([Extent::new(0, 512, 's')?]);
    /// let mut merged = long.merge_shortest(short, |&a, &b| (a, b));
    /// assert_eq!(merged.next_extent()?, Some(Extent::new(0, 512, ('l', 's'))?));
    /// assert_eq!(merged.next_extent()?, None);
    /// assert_eq!(merged.position(), 512, "request the rest from here");
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    fn merge_shortest<B, V, F>(self, other: B, combine: F) -> Merge<Self, B, F>
    where
        Self: Sized,
        B: ExtentStream<Error = Self::Error>,
        F: Fn(&Self::Status, &B::Status) -> V,
    {
        Merge::shortest(self, other, combine)
    }
}

impl<S: ExtentSource + ?Sized> ExtentStream for S {}

/// Streams that hold a function show all else that they hold.
macro_rules! debug_without_function {
    ($($stream:ident<$($below:ident)*>: $($field:ident)*;)*) => {$(
        impl<$($below,)* F> fmt::Debug for $stream<$($below,)* F>
        where
            $($below: ExtentStream<Status: fmt::Debug> + fmt::Debug,)*
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut fields = f.debug_struct(stringify!($stream));
                $(fields.field(stringify!($field), &self.$field);)*
                fields.finish_non_exhaustive()
            }
        }
    )*};
}

debug_without_function! {
    Filter<S>: stream;
    Inspect<S>: stream;
    MapErr<S>: stream;
    MapStatus<S>: stream;
    Merge<A B>: left right position;
}

#[cfg(feature = "alloc")]
debug_without_function! { MergeAll<S>: streams position; }

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn two() -> impl ExtentStream<Status = char, Error = StreamError> + fmt::Debug {
        from_iter(
            [(0, 10, 'a'), (10, 20, 'b')].map(|(start, end, s)| Extent::from_range(start..end, s).unwrap()),
        )
    }

    #[test]
    fn a_borrowed_stream_is_one_and_goes_on_where_it_was_left() {
        let mut stream = two();
        let first = (&mut stream).clip(0..10).collect_vec().unwrap();
        assert_eq!(first.len(), 1);
        assert_eq!(stream.next_extent().unwrap().map(|extent| extent.into_status()), Some('b'));
    }

    #[test]
    fn streams_show_their_source_whatever_functions_they_hold() {
        assert!(format!("{:?}", two().filter(|_| true)).contains("Filter { stream: FromIter"));
        assert!(format!("{:?}", two().map_status(|s| s)).contains("MapStatus { stream: FromIter"));
        assert!(format!("{:?}", two().merge(two(), |a, _| *a)).contains("right: Cursor"));
        assert!(format!("{:?}", merge_all([two()], |a, _| a)).contains("streams: [Cursor"));
    }
}
