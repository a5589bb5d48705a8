//! A borrowed part of a map. It implements every query, for the whole map and for any part of it.

use alloc::vec::Vec;
use core::fmt;
use core::ops::{Range, RangeBounds};

use super::diff::Diff;
use super::index::Index;
use super::indices::IndexSlice;
use super::iter::{MapExtents, Runs};
use super::totals::{Total, totals};
use crate::error::StreamError;
use crate::extent::{Extent, half_open};
use crate::stream::{ExtentStream, FromIter, from_iter};

/// A part of an [`ExtentMap`](super::ExtentMap), without a copy: two borrowed lists and a range.
///
/// It is `Copy`, and can be sent to other threads if the status can.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::stream::from_iter;
///
/// let list = [Extent::new(0, 4096, 'a')?, Extent::new(4096, 4096, 'b')?];
/// let map = ExtentMap::covering(from_iter(list), 0..8192)?;
/// let part = map.slice(1024..5120);
/// assert_eq!(part.range(), 1024..5120);
/// assert_eq!(
///     part.get(1024),
///     Some(Extent::from_range(1024..4096, 'a')?),
///     "cut to the slice"
/// );
/// assert_eq!(part.get(5120), None, "outside");
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub struct MapSlice<'a, T> {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The index of the slice's first run in the whole map.
    pub(super) first: usize,
    /// The ends of the runs. The last may reach beyond `end`.
    pub(super) ends: &'a [u64],
    /// The index of the whole map.
    pub(super) index: &'a Index,
    pub(super) indices: IndexSlice<'a>,
    pub(super) palette: &'a [Option<T>],
}

impl<T> Clone for MapSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MapSlice<'_, T> {}

impl<'a, T> MapSlice<'a, T> {
    /// The bytes that the slice covers.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// True if the slice covers no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The number of its extents and gaps.
    #[must_use]
    pub const fn run_count(&self) -> usize {
        self.ends.len()
    }

    /// The part that lies in `range` (bytes). Bytes outside of this slice are left out.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<u64>) -> Self {
        let Range { start, end } = half_open(&range, self.range());
        let start = start.clamp(self.start, self.end);
        let end = end.clamp(start, self.end);
        let first = self.run_at(start);
        let last = if start == end { first } else { self.run_at(end - 1) + 1 };
        debug_assert!(first <= last && last <= self.ends.len(), "runs {first}..{last} are not in the slice");
        Self {
            start,
            end,
            first: self.first + first,
            index: self.index,
            ends: self.ends.get(first..last).unwrap_or_default(),
            indices: self.indices.part(first, last),
            palette: self.palette,
        }
    }

    /// Splits the slice at byte `offset`. An extent over `offset` is cut.
    ///
    /// [`ExtentMap::join`](super::ExtentMap::join) makes one map of the parts again, without the
    /// cut.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let map = ExtentMap::covering(from_iter(Extent::new(0, 4096, 'a')), 0..4096)?;
    /// let (left, right) = map.as_slice().split_at(1000);
    /// assert_eq!((left.range(), right.range()), (0..1000, 1000..4096));
    /// assert_eq!(ExtentMap::join([left, right])?.run_count(), 1);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn split_at(&self, offset: u64) -> (Self, Self) {
        (self.slice(self.start..offset), self.slice(offset..self.end))
    }

    /// Splits the slice into up to `count` parts with about the same number of runs.
    ///
    /// For as many threads or machines. No extent is cut. There is at least one part, unless the
    /// slice is empty.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list =
    ///     (0..10).map(|n| Extent::new(n * 512, 512, n % 3)).collect::<Result<Vec<_>, _>>()?;
    /// let map = ExtentMap::covering(from_iter(list), 0..5120)?;
    /// let ranges: Vec<_> = map.as_slice().parts(4).map(|part| part.range()).collect();
    /// assert_eq!(ranges, [0..1024, 1024..2048, 2048..3584, 3584..5120]);
    /// assert_eq!(ExtentMap::join(map.as_slice().parts(4))?, map);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn parts(&self, count: usize) -> impl Iterator<Item = Self> + use<'a, T> {
        let mut rest = *self;
        (1..=count.min(rest.run_count()).max(1)).rev().filter_map(move |left| {
            let runs = rest.run_count() / left;
            let cut = match runs.checked_sub(1).and_then(|last| rest.ends.get(last)) {
                Some(&end) if left > 1 => end,
                None if left > 1 => rest.start,
                _ => rest.end,
            };
            let (part, behind) = rest.split_at(cut);
            rest = behind;
            (!part.is_empty()).then_some(part)
        })
    }

    /// The run that covers `offset`, which must not lie before the slice.
    #[inline]
    fn run_at(&self, offset: u64) -> usize {
        let around = self.index.runs_around(offset);
        let last = around.end.saturating_sub(self.first).min(self.ends.len());
        let first = around.start.saturating_sub(self.first).min(last);
        // the index may know fewer runs than there are: the search within the group decides
        first + self.ends.get(first..last).unwrap_or_default().partition_point(|&end| end <= offset)
    }
}

impl<'a, T: Copy> MapSlice<'a, T> {
    /// The extent over byte `offset`, cut to this slice; `None` in a gap and outside. Takes O(log
    /// n).
    #[must_use]
    pub fn get(&self, offset: u64) -> Option<Extent<T>> {
        if !self.range().contains(&offset) {
            return None;
        }
        self.extent(self.run_at(offset))
    }

    /// A run as an extent.
    pub(super) fn extent(&self, run: usize) -> Option<Extent<T>> {
        let status = self.status_of(run)?;
        let start = match run.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => self.start,
        };
        let end = (*self.ends.get(run)?).min(self.end);
        Some(Extent::trusted(start, end, status))
    }

    /// The status of a run; `None` for a gap.
    #[inline]
    pub(super) fn status_of(&self, run: usize) -> Option<T> {
        *self.palette.get(self.indices.get(run)?)?
    }

    /// Iterates over the extents, ascending. To start elsewhere, take a [`slice`](Self::slice)
    /// first.
    pub fn extents(&self) -> MapExtents<'a, T> {
        MapExtents::new(*self)
    }

    /// The extents as a stream, for all its adapters.
    pub fn stream(&self) -> FromIter<MapExtents<'a, T>> {
        from_iter(self.extents())
    }

    /// The extents and gaps.
    pub(super) fn all_runs(&self) -> Runs<'a, T> {
        Runs::new(*self)
    }

    /// Checks that the slice describes every byte of `range` exactly once, and no other byte.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`] names the first bytes without a status, [`StreamError::OutOfRange`] an
    /// extent that leaves `range`.
    ///
    /// ```
    /// # use nbd_extents::{Extent, StreamError};
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let map = ExtentMap::within(from_iter([Extent::new(512, 512, ())?]), 0..2048)?;
    /// assert_eq!(map.covers(0..2048), Err(StreamError::Gap { range: 0..512 }));
    /// assert_eq!(map.slice(512..1024).covers(512..1024), Ok(()));
    /// # Ok::<(), StreamError>(())
    /// ```
    pub fn covers(&self, range: impl RangeBounds<u64>) -> Result<(), StreamError> {
        self.stream().covering(range).for_each(drop)
    }

    /// The number of bytes and extents of each status, in the order of the first occurrence.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [
    ///     Extent::new(0, 512, "zero")?,
    ///     Extent::new(512, 100, "data")?,
    ///     Extent::new(612, 412, "zero")?,
    /// ];
    /// let map = ExtentMap::covering(from_iter(list), 0..1024)?;
    /// let rows: Vec<_> = map.totals().iter().map(|t| (t.status, t.bytes, t.extents)).collect();
    /// assert_eq!(rows, [("zero", 924, 2), ("data", 100, 1)]);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn totals(&self) -> Vec<Total<T>> {
        totals(self)
    }

    /// The ranges where two slices differ, and their statuses.
    ///
    /// Bytes that only one of them describes differ too: the disk has grown or shrunk.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::{Change, ExtentMap};
    /// # use nbd_extents::stream::from_iter;
    /// let before = ExtentMap::covering(from_iter([Extent::new(0, 1024, 'a')?]), 0..1024)?;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 1024, 'b')?];
    /// let after = ExtentMap::covering(from_iter(list), 0..1536)?;
    /// let changes: Vec<_> = before.diff(&after).collect();
    /// assert_eq!(
    ///     changes,
    ///     [
    ///         Extent::from_range(512..1024, Change { before: Some('a'), after: Some('b') })?,
    ///         Extent::from_range(1024..1536, Change { before: None, after: Some('b') })?,
    ///     ]
    /// );
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn diff<'b>(&self, after: MapSlice<'b, T>) -> Diff<'a, 'b, T>
    where
        T: PartialEq,
    {
        Diff::new(*self, after)
    }
}

/// Two slices are equal if they cover the same bytes and give each byte the same status.
impl<T: Copy + PartialEq> PartialEq<MapSlice<'_, T>> for MapSlice<'_, T> {
    fn eq(&self, other: &MapSlice<'_, T>) -> bool {
        self.range() == other.range()
            && self.run_count() == other.run_count()
            && self.all_runs().eq(other.all_runs())
    }
}

impl<T: Copy + Eq> Eq for MapSlice<'_, T> {}

/// The number of extents that `Debug` shows; a map may have millions.
const SHOWN: usize = 16;

impl<T: Copy + fmt::Debug> fmt::Debug for MapSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.extents().take(SHOWN).collect();
        f.debug_struct("MapSlice")
            .field("range", &self.range())
            .field("runs", &self.run_count())
            .field("first", &shown)
            .finish_non_exhaustive()
    }
}
