//! A map of a whole disk in memory: compact, fast to build and to query.
//!
//! A stream can be read once. A daemon that serves a backup, a window that draws a disk and a tool
//! that restores single files query again and again, anywhere on the disk; for them there is
//! [`ExtentMap`]. It needs 9.1 bytes per extent (a list of `Extent<Status>` needs 32), so that a
//! hundred million extents fit in 913 MB:
//!
//! ```text
//! disk     0        4096                65536     69632            1048576
//!          |--data--|-------zero--------|--data---|------hole------|
//! ends     [         4096,               65536,    69632,           1048576]  8 bytes per run
//! indices  [ 0,      1,                  0,        2 ]                        1 byte per run
//! palette  [ data, zero, hole ]                                               each status once
//! index    [ every 64th end ]                                                  1/8 byte per run
//! ```
//!
//! An index needs 2 bytes from 257 statuses on, and 4 from 65,537 on. A map stays below 16 bytes
//! per extent if it has at least six extents for each distinct status; a map with a new status for
//! each extent (random depths, say) needs about as much memory as the plain list. To make a map
//! smaller, remove the depth or bitmaps that you do not need first
//! ([`map_status`](ExtentStream::map_status)).
//!
//! Touching neighbours with equal statuses are always joined, so that maps with the same statuses
//! are equal, however their extents were cut. Every query of a map is also a query of a
//! [`MapSlice`], a part of it that costs no copy: [`ExtentMap::as_slice`], [`ExtentMap::slice`].
//!
//! ```
//! use nbd_extents::Allocation;
//! use nbd_extents::map::ExtentMap;
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::pairs;
//!
//! let reply =
//!     place(pairs(&[4096, 0, 61440, 3, 4096, 0])?, 0).map_status(Allocation::from_flags);
//! let map = ExtentMap::covering(reply, 0..69632)?;
//!
//! assert_eq!(map.get(5000).map(|e| e.range()), Some(4096..65536));
//! assert!(map.get(5000).is_some_and(|e| e.status().is_zero()));
//! assert_eq!(map.slice(60000..).extents().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Under a byte cap
//!
//! A map of actions can be limited to a number of bytes, whatever the disk looks like:
//! [`ExtentMap::capped`] copies the shortest ranges that need no copy, and counts their bytes.

mod build;
mod cap;
mod diff;
mod index;
mod indices;
mod iter;
mod merge;
mod palette;
#[cfg(feature = "rayon")]
mod parallel;
mod recent;
mod slice;
mod totals;

use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::ops::{Range, RangeBounds};

pub use build::MapBuilder;
pub use cap::{Cap, CapError, Capped};
pub use diff::{Change, Diff};
pub use iter::MapExtents;
pub use slice::MapSlice;
pub use totals::Total;

use crate::error::StreamError;
use crate::extent::{Extent, MAX_END, half_open};
use crate::stream::{ExtentStream, FromIter};
use index::Index;
use indices::Indices;
use palette::Palette;

/// A map of a disk's bytes to their status, in memory.
///
/// The [module](self) states its cost.
///
/// `T` is any small status: [`Status`](crate::Status), [`Action`](crate::Action), `bool`, the
/// number of a layer.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::stream::from_iter;
///
/// let list = [
///     Extent::new(0, 512, true)?,
///     Extent::new(512, 512, true)?,
///     Extent::new(1024, 512, false)?,
/// ];
/// let map = ExtentMap::covering(from_iter(list), 0..1536)?;
/// assert_eq!(map.run_count(), 2);
/// assert_eq!(map.get(600), Some(Extent::new(0, 1024, true)?));
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone)]
pub struct ExtentMap<T> {
    start: u64,
    /// The ends of the runs, ascending. The first run starts at `start`, each other one at the end
    /// of the one before it.
    ends: Vec<u64>,
    /// The index of each run's status in the palette. No two neighbours are equal.
    indices: Indices,
    palette: Palette<T>,
    /// Finds a run among `ends`.
    index: Index,
}

impl<T> ExtentMap<T> {
    const fn starting_at(start: u64) -> Self {
        Self {
            start,
            ends: Vec::new(),
            indices: Indices::new(),
            palette: Palette::new(),
            index: Index::new(),
        }
    }

    /// The bytes that the map covers.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.range(), 0..2048, "the gap at its end is part of it");
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.start..self.end()
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(self.start)
    }

    /// The number of extents and gaps in the map.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.run_count(), 4, "two extents and two gaps");
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.ends.len()
    }

    /// The memory that the map occupies, in bytes.
    ///
    /// It is a little more than 9 bytes per run (10 or 12 with more than 256 or 65,536 distinct
    /// statuses), and each distinct status once.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = (0..1000)
    ///     .map(|n| Extent::new(n * 512, 512, n % 2 == 0))
    ///     .collect::<Result<Vec<_>, _>>()?;
    /// let map = ExtentMap::covering(from_iter(list), 0..512_000)?;
    /// assert!((9000..9200).contains(&map.memory_usage()));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn memory_usage(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<u64>();
        ends + self.indices.memory_usage() + self.palette.memory_usage() + self.index.memory_usage()
    }

    /// The whole map as a slice.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.as_slice(), map.slice(..));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn as_slice(&self) -> MapSlice<'_, T> {
        MapSlice {
            start: self.start,
            end: self.end(),
            first: 0,
            ends: &self.ends,
            index: &self.index,
            indices: self.indices.as_slice(),
            palette: self.palette.statuses(),
        }
    }

    /// The part of the map that lies in `range` (bytes), without a copy.
    ///
    /// Bytes outside of the map are left out.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.slice(..1200).range(), 0..1200);
    /// assert!(
    ///     map.slice(256..).extents().map(|extent| extent.range()).eq([256..512, 1024..1536]),
    ///     "cut at its edge"
    /// );
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn slice(&self, range: impl RangeBounds<u64>) -> MapSlice<'_, T> {
        self.as_slice().slice(range)
    }
}

impl<T: Copy> ExtentMap<T> {
    /// The extent over byte `offset`; `None` in a gap and outside of the map. Takes O(log n).
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.get(100), Some(Extent::new(0, 512, 'a')?));
    /// assert_eq!(map.get(600), None, "a gap");
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn get(&self, offset: u64) -> Option<Extent<T>> {
        self.as_slice().get(offset)
    }

    /// Iterates over the extents, ascending.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert!(map.extents().map(|extent| extent.start()).eq([0, 1024]));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn extents(&self) -> MapExtents<'_, T> {
        self.as_slice().extents()
    }

    /// The extents as a stream: see [`MapSlice::stream`].
    pub fn stream(&self) -> FromIter<MapExtents<'_, T>> {
        self.as_slice().stream()
    }

    /// The bytes and extents of each status: see [`MapSlice::totals`].
    #[must_use]
    pub fn totals(&self) -> Vec<Total<T>> {
        self.as_slice().totals()
    }

    /// Checks that the map describes every byte of `range` and no other: see [`MapSlice::covers`].
    ///
    /// # Errors
    ///
    /// As [`MapSlice::covers`].
    pub fn covers(&self, range: impl RangeBounds<u64>) -> Result<(), StreamError> {
        self.as_slice().covers(range)
    }

    /// The ranges where a later map differs from this one: see [`MapSlice::diff`].
    pub fn diff<'b>(&self, after: &'b Self) -> Diff<'_, 'b, T>
    where
        T: PartialEq,
    {
        self.as_slice().diff(after.as_slice())
    }

    /// Merges two maps of the same bytes: see [`MapSlice::merge`].
    ///
    /// # Errors
    ///
    /// As [`MapSlice::merge`].
    pub fn merge<U, V, F>(&self, other: &ExtentMap<U>, combine: F) -> Result<ExtentMap<V>, StreamError>
    where
        U: Copy,
        V: Copy + Eq + Hash,
        F: Fn(&T, &U) -> V,
    {
        self.as_slice().merge(other.as_slice(), combine)
    }

    /// Like [`merge`](Self::merge), on the threads of rayon's current pool.
    ///
    /// # Errors
    ///
    /// As [`MapSlice::merge`].
    #[cfg(feature = "rayon")]
    pub fn merge_parallel<U, V, F>(
        &self,
        other: &ExtentMap<U>,
        combine: F,
    ) -> Result<ExtentMap<V>, StreamError>
    where
        T: Sync,
        U: Copy + Sync,
        V: Copy + Eq + Hash + Send,
        F: Fn(&T, &U) -> V + Sync,
    {
        self.as_slice().merge_parallel(other.as_slice(), combine)
    }
}

impl<T: Copy + Eq + Hash> ExtentMap<T> {
    /// Builds a map from a stream that must cover every byte of `range` exactly once.
    ///
    /// # Errors
    ///
    /// The stream's first error; [`StreamError::Gap`], [`StreamError::Overlap`] and
    /// [`StreamError::OutOfRange`] name the first fault.
    ///
    /// ```
    /// use nbd_extents::map::ExtentMap;
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Extent, StreamError};
    ///
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let refused = ExtentMap::covering(from_iter(list), 0..1536);
    /// assert_eq!(refused, Err(StreamError::Gap { range: 512..1024 }));
    /// # Ok::<(), StreamError>(())
    /// ```
    pub fn covering<S>(stream: S, range: impl RangeBounds<u64>) -> Result<Self, S::Error>
    where
        S: ExtentStream<Status = T>,
    {
        build::read(stream, half_open(&range, 0..MAX_END), false)
    }

    /// Builds a map from a stream that must stay within `range` and may leave gaps.
    ///
    /// Bytes in gaps have no status.
    ///
    /// # Errors
    ///
    /// The stream's first error; [`StreamError::Overlap`] and [`StreamError::OutOfRange`] name the
    /// first fault.
    ///
    /// ```
    /// use nbd_extents::Extent;
    /// use nbd_extents::map::ExtentMap;
    /// use nbd_extents::stream::from_iter;
    ///
    /// let map = ExtentMap::within(from_iter(Extent::new(512, 512, 'a')), 0..4096)?;
    /// assert_eq!((map.get(0), map.get(600).map(|e| e.range())), (None, Some(512..1024)));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn within<S>(stream: S, range: impl RangeBounds<u64>) -> Result<Self, S::Error>
    where
        S: ExtentStream<Status = T>,
    {
        build::read(stream, half_open(&range, 0..MAX_END), true)
    }

    /// Adds a run from the end of the map to `end`, or grows the last one.
    #[inline]
    fn push(&mut self, end: u64, status: Option<T>) {
        if self.last_status() == Some(status)
            && let Some(last) = self.ends.last_mut()
        {
            *last = end;
            return;
        }
        let place = self.palette.place(status);
        self.ends.push(end);
        self.indices.push(place);
    }

    #[inline]
    fn last_status(&self) -> Option<Option<T>> {
        let place = self.indices.as_slice().get(self.ends.len().checked_sub(1)?)?;
        self.palette.statuses().get(place).copied()
    }

    /// Gives each extent of a map without gaps a new status, by its length. Joins neighbours that
    /// become equal; needs no memory. Only for maps being built, whose index is empty until they
    /// are finished.
    fn rewrite(&mut self, mut f: impl FnMut(u64, T) -> T) {
        let (mut kept, mut start) = (0, self.start);
        let mut last = None;
        for run in 0..self.ends.len() {
            let (Some(&end), Some(old)) = (self.ends.get(run), self.as_slice().status_of(run)) else {
                continue;
            };
            let status = Some(f(end - start, old));
            start = end;
            if last == status {
                kept -= 1;
            }
            last = status;
            let place = self.palette.place(status);
            if let Some(slot) = self.ends.get_mut(kept) {
                *slot = end;
            }
            self.indices.replace(kept, place);
            kept += 1;
        }
        self.ends.truncate(kept);
        self.indices.truncate(kept);
    }

    /// Creates a map from ends and places in a palette. No two neighbours may be equal.
    fn of_parts(start: u64, ends: Vec<u64>, places: Vec<u8>, palette: Palette<T>) -> Self {
        let mut map = Self { start, ends, indices: Indices::One(places), palette, index: Index::new() };
        map.finish();
        map
    }

    /// Frees the memory that only building needs, and makes the index.
    fn finish(&mut self) {
        self.ends.shrink_to_fit();
        self.indices.shrink_to_fit();
        self.palette.shrink_to_fit();
        self.index.extend(&self.ends);
        self.index.shrink_to_fit();
    }

    /// Appends a part that starts where the map ends, made by another thread or machine.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`] or [`StreamError::Overlap`] when the part starts elsewhere. The map is
    /// then unchanged.
    ///
    /// ```
    /// # use nbd_extents::{Extent, StreamError};
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let mut map = ExtentMap::covering(from_iter([Extent::new(0, 512, 'a')?]), 0..512)?;
    /// let next = ExtentMap::covering(from_iter([Extent::new(512, 512, 'a')?]), 512..1024)?;
    /// map.append(next.as_slice())?;
    /// assert_eq!(map.run_count(), 1, "equal neighbours are joined across the seam");
    /// assert_eq!(
    ///     map.append(next.as_slice()),
    ///     Err(StreamError::Overlap { start: 512, expected: 1024 })
    /// );
    /// # Ok::<(), StreamError>(())
    /// ```
    pub fn append(&mut self, part: MapSlice<'_, T>) -> Result<(), StreamError> {
        let (start, expected) = (part.range().start, self.end());
        if start < expected {
            return Err(StreamError::Overlap { start, expected });
        }
        if start > expected {
            return Err(StreamError::Gap { range: expected..start });
        }
        for run in part.all_runs() {
            self.push(run.end, run.status);
        }
        self.index.extend(&self.ends);
        Ok(())
    }

    /// Joins consecutive parts into one map.
    ///
    /// Each part is appended as by [`append`](Self::append). Without any part the result is the
    /// empty map at byte 0.
    ///
    /// A split anywhere and a join give an equal map: equal neighbours are joined across the seams.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`] or [`StreamError::Overlap`] at the first part that does not start where
    /// the one before it ends.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(ExtentMap::join([map.slice(..100), map.slice(100..)])?, map);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn join<'a>(parts: impl IntoIterator<Item = MapSlice<'a, T>>) -> Result<Self, StreamError>
    where
        T: 'a,
    {
        let mut parts = parts.into_iter().peekable();
        let mut map = Self::starting_at(parts.peek().map_or(0, |part| part.range().start));
        for part in parts {
            map.append(part)?;
        }
        map.finish();
        Ok(map)
    }
}

impl<T: Copy + Eq + Hash> MapSlice<'_, T> {
    /// Copies this part into a map of its own, to be kept or sent elsewhere.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// let part = map.slice(..300).to_map();
    /// assert_eq!((part.range(), part.run_count()), (0..300, 1));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn to_map(&self) -> ExtentMap<T> {
        let mut map = ExtentMap::starting_at(self.start);
        for run in self.all_runs() {
            map.push(run.end, run.status);
        }
        map.finish();
        map
    }
}

/// Two maps are equal if they cover the same bytes and give each byte the same status.
impl<T: Copy + PartialEq> PartialEq for ExtentMap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Copy + Eq> Eq for ExtentMap<T> {}

impl<T: Copy + fmt::Debug> fmt::Debug for ExtentMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}
