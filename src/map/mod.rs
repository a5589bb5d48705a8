//! A whole disk's map in memory: compact, quick to build and to ask.
//!
//! A stream is read once and is gone. A daemon that serves a backup, a window that draws a disk and a tool that restores single files ask again and
//! again, anywhere on the disk; for them there is [`ExtentMap`]. It needs 9.1 bytes an extent (where the list of `Extent<Status>` needs 32), so that
//! a hundred million extents fit 913 MB:
//!
//! ```text
//! disk     0        4096                65536     69632            1048576
//!          |--data--|-------zero--------|--data---|------hole------|
//! ends     [         4096,               65536,    69632,           1048576]   8 bytes a run
//! indices  [ 0,      1,                  0,        2 ]                         1 byte a run (2 from 257 statuses on, 4 from 65537 on)
//! palette  [ data, zero, hole ]                                                each distinct status once
//! index    [ every 64th end ]                                                  1/8 byte a run
//! ```
//!
//! The palette is what a disk has few of. A map stays below 16 bytes an extent while there are six extents or more for each distinct status, and even
//! one that a server has filled with a new status for each extent (random depths, say) needs about what the plain list would. Who does not
//! need the depth or some of the bitmaps should take them out first ([`map_status`](ExtentStream::map_status)), and the map is smaller by that.
//!
//! Touching neighbours with equal statuses are always joined, so that two maps that say the same are equal, however they were cut when they came.
//! Everything that can be asked of a map can be asked of a [`MapSlice`], a part of it that costs no copy: [`ExtentMap::as_slice`], [`ExtentMap::slice`].
//!
//! ```
//! use nbd_extents::map::ExtentMap;
//! use nbd_extents::stream::{ExtentStream, place};
//! use nbd_extents::wire::pairs;
//! use nbd_extents::Allocation;
//!
//! let reply = place(pairs(&[4096, 0, 61440, 3, 4096, 0])?, 0).map_status(Allocation::from_flags);
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
//! A map of actions can be held under a number of bytes, whatever the disk looks like: [`ExtentMap::capped`] turns the shortest ranges that need not be
//! copied into ranges that are, and says how many bytes that is.

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
use crate::extent::Extent;
use crate::stream::{ExtentStream, FromIter};
use index::Index;
use indices::Indices;
use palette::Palette;

/// What is known of every byte of a disk, in memory. See the [module](self) for what it costs.
///
/// `T` is any small status: [`Status`](crate::Status), [`Action`](crate::Action), `bool`, a number of a layer.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::stream::from_iter;
///
/// let list = [Extent::new(0, 512, true)?, Extent::new(512, 512, true)?, Extent::new(1024, 512, false)?];
/// let map = ExtentMap::covering(from_iter(list), 0..1536)?;
/// assert_eq!(map.run_count(), 2);
/// assert_eq!(map.get(600), Some(Extent::new(0, 1024, true)?));
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone)]
pub struct ExtentMap<T> {
    start: u64,
    /// Where the runs end, ascending. The first starts at `start`, each other one where the one before it ends.
    ends: Vec<u64>,
    /// The place of each run's status in the palette. No two neighbours are equal.
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

    /// The bytes that the map is about.
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

    /// How many extents and gaps the map is made of.
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

    /// The bytes that the map holds in memory: a little more than 9 a run (10 or 12 with more than 256 or 65536 distinct statuses), and each
    /// distinct status once.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = (0..1000).map(|n| Extent::new(n * 512, 512, n % 2 == 0)).collect::<Result<Vec<_>, _>>()?;
    /// let map = ExtentMap::covering(from_iter(list), 0..512_000)?;
    /// assert!((9000..9200).contains(&map.memory_usage()));
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    #[must_use]
    pub fn memory_usage(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<u64>();
        ends + self.indices.memory_usage() + self.palette.memory_usage() + self.index.memory_usage()
    }

    /// The whole map, to be asked.
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

    /// The part of the map that lies in `range` (bytes), without a copy. What lies outside of the map is left out.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
    /// let map = ExtentMap::within(from_iter(list), 0..2048)?;
    /// assert_eq!(map.slice(..1200).range(), 0..1200);
    /// assert!(map.slice(256..).extents().map(|extent| extent.range()).eq([256..512, 1024..1536]), "cut at its edge");
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

    /// The extents, ascending.
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
    #[must_use]
    pub fn stream(&self) -> FromIter<MapExtents<'_, T>> {
        self.as_slice().stream()
    }

    /// The bytes and extents of each status: see [`MapSlice::totals`].
    #[must_use]
    pub fn totals(&self) -> Vec<Total<T>> {
        self.as_slice().totals()
    }

    /// Checks that every byte of `range` is described, and nothing else: see [`MapSlice::covers`].
    ///
    /// # Errors
    ///
    /// As [`MapSlice::covers`].
    pub fn covers(&self, range: Range<u64>) -> Result<(), StreamError> {
        self.as_slice().covers(range)
    }

    /// Where a later map differs from this one: see [`MapSlice::diff`].
    pub fn diff<'b>(&self, after: &'b Self) -> Diff<'_, 'b, T>
    where
        T: PartialEq,
    {
        self.as_slice().diff(after.as_slice())
    }

    /// A map of what both say of the same bytes: see [`MapSlice::merge`].
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

    /// The same as [`merge`](Self::merge), on the threads of rayon's current pool.
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
    /// Reads a stream that must cover every byte of `range` exactly once.
    ///
    /// # Errors
    ///
    /// The stream's first error; [`StreamError::Gap`], [`StreamError::Overlap`] and [`StreamError::OutOfRange`] name the first fault.
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
    pub fn covering<S: ExtentStream<Status = T>>(stream: S, range: Range<u64>) -> Result<Self, S::Error> {
        build::read(stream, range, false)
    }

    /// Reads a stream that must stay within `range` and may leave gaps; of the bytes in gaps the map says `None`.
    ///
    /// # Errors
    ///
    /// The stream's first error; [`StreamError::Overlap`] and [`StreamError::OutOfRange`] name the first fault.
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
    pub fn within<S: ExtentStream<Status = T>>(stream: S, range: Range<u64>) -> Result<Self, S::Error> {
        build::read(stream, range, true)
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

    /// Gives each extent of a map without gaps another status, by its length. Neighbours that become equal are joined; no memory is needed. Only
    /// for maps that are being built: their index is empty until they are finished.
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

    /// A map of ends and of places in a palette, no two neighbours equal.
    fn of_parts(start: u64, ends: Vec<u64>, places: Vec<u8>, palette: Palette<T>) -> Self {
        let mut map = Self { start, ends, indices: Indices::One(places), palette, index: Index::new() };
        map.finish();
        map
    }

    /// Gives back what only building needs, and makes the index.
    fn finish(&mut self) {
        self.ends.shrink_to_fit();
        self.indices.shrink_to_fit();
        self.palette.shrink_to_fit();
        self.index.extend(&self.ends);
        self.index.shrink_to_fit();
    }

    /// Adds a part that starts where the map ends, as another thread or machine has made it.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`] or [`StreamError::Overlap`] when the part starts elsewhere. The map is unchanged then.
    ///
    /// ```
    /// # use nbd_extents::{Extent, StreamError};
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let mut map = ExtentMap::covering(from_iter([Extent::new(0, 512, 'a')?]), 0..512)?;
    /// let next = ExtentMap::covering(from_iter([Extent::new(512, 512, 'a')?]), 512..1024)?;
    /// map.append(next.as_slice())?;
    /// assert_eq!(map.run_count(), 1, "equal neighbours are joined across the seam");
    /// assert_eq!(map.append(next.as_slice()), Err(StreamError::Overlap { start: 512, expected: 1024 }));
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

    /// One map of parts that follow each other, each as [`append`](Self::append) takes it. Of no part at all it is the empty map at byte 0.
    ///
    /// Splitting anywhere and joining again gives an equal map: equal neighbours are joined across the seams.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`] or [`StreamError::Overlap`] at the first part that does not start where the one before it ends.
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
    /// A map of its own of this part: to be kept, or to be worked on elsewhere.
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

/// Equal are maps of the same bytes that say the same of each of them.
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
