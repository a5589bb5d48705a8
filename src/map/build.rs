//! Builds a map from a stream at the speed of memory: one comparison shows that an extent follows
//! the one before it.

use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::ops::Range;

use super::ExtentMap;
use super::recent::Recent;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::stream::{ExtentStream, NUMBERS, Stop, UNNUMBERED, check, from_iter, try_fold_numbered};

/// The place of a number that has not occurred yet.
const NOWHERE: usize = usize::MAX;
/// The number of runs in a block.
const BLOCK: usize = 64;

/// Reads a stream that must stay within `range` and, unless `gaps` allows holes, must cover it.
pub(super) fn read<S>(stream: S, range: Range<u64>, gaps: bool) -> Result<ExtentMap<S::Status>, S::Error>
where
    S: ExtentStream<Status: Copy + Eq + Hash>,
{
    let mut builder = RunCollector::new(range, gaps);
    let read = try_fold_numbered(stream, (), |(), extent, number| {
        if builder.push(&extent, number) { Ok(()) } else { Err(Stop::Adapter(())) }
    });
    if let Err(Stop::Stream(error)) = read {
        return Err(error);
    }
    // an extent that the builder refused is its error at the end
    Ok(builder.end()?)
}

/// Builds an [`ExtentMap`] from extents that arrive one at a time, without an intermediate list.
///
/// For sources that are no stream: a channel, an async survey, rows of a file. For a stream,
/// [`ExtentMap::covering`] and [`ExtentMap::within`] do the same faster.
///
/// ```
/// use nbd_extents::map::MapBuilder;
/// use nbd_extents::{Extent, StreamError};
///
/// let mut builder = MapBuilder::covering(0..1024);
/// builder.push(Extent::new(0, 512, 'a')?)?;
/// builder.push(Extent::new(512, 256, 'a')?)?;
/// let missing = builder.clone().finish();
/// assert_eq!(missing, Err(StreamError::Gap { range: 768..1024 }));
///
/// builder.push(Extent::new(768, 256, 'b')?)?;
/// assert_eq!(builder.finish()?.run_count(), 2);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
pub struct MapBuilder<T>(RunCollector<T>);

impl<T: Copy + Eq + Hash> MapBuilder<T> {
    /// Creates a builder whose extents must cover every byte of `range` exactly once.
    #[must_use]
    pub const fn covering(range: Range<u64>) -> Self {
        Self(RunCollector::new(range, false))
    }

    /// Creates a builder whose extents stay within `range` and may leave gaps.
    #[must_use]
    pub const fn within(range: Range<u64>) -> Self {
        Self(RunCollector::new(range, true))
    }

    /// Adds an extent, which must not start before the end of the last one.
    ///
    /// # Errors
    ///
    /// [`StreamError::Gap`], [`StreamError::Overlap`] and [`StreamError::OutOfRange`] name the
    /// fault. It is permanent: every later call returns it, too.
    pub fn push(&mut self, extent: Extent<T>) -> Result<(), StreamError> {
        if self.0.fault.is_none() {
            self.0.push(&extent, UNNUMBERED);
        }
        self.0.fault.clone().map_or(Ok(()), Err)
    }

    /// The memory that the map occupies at the moment, in bytes, for callers that limit it.
    #[must_use]
    pub fn memory_usage(&self) -> usize {
        self.0.map.memory_usage()
    }

    /// Finishes the map.
    ///
    /// # Errors
    ///
    /// The first fault of [`push`](Self::push), and [`StreamError::Gap`] when the extents do not
    /// reach the end of a range that they must cover.
    pub fn finish(self) -> Result<ExtentMap<T>, StreamError> {
        self.0.end()
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for MapBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapBuilder")
            .field("range", &self.0.range)
            .field("position", &self.0.position)
            .field("map", &self.0.map)
            .finish_non_exhaustive()
    }
}

/// A map being built. The path of the usual extent is short and without unpredictable branches, so
/// that the compiler can inline it into the loop over a tile; everything else is in functions of
/// its own.
#[derive(Clone)]
struct RunCollector<T> {
    range: Range<u64>,
    gaps: bool,
    /// The end of the part of the stream that has been read.
    position: u64,
    /// The place of each number's status in the palette.
    known: [usize; NUMBERS],
    /// The ends of the latest runs, and the places of their statuses.
    ends: [u64; BLOCK],
    places: [usize; BLOCK],
    /// The latest run in the block, which may still grow.
    run: usize,
    /// The first run in the block: 1 while there has been none.
    first: usize,
    map: ExtentMap<T>,
    recent: Recent,
    /// The first fault of the stream.
    fault: Option<StreamError>,
}

impl<T: Copy + Eq + Hash> RunCollector<T> {
    const fn new(range: Range<u64>, gaps: bool) -> Self {
        Self {
            gaps,
            position: range.start,
            known: [NOWHERE; NUMBERS],
            ends: [range.start; BLOCK],
            places: [NOWHERE; BLOCK],
            run: 0,
            first: 1,
            map: ExtentMap::starting_at(range.start),
            recent: Recent::new(),
            fault: None,
            range,
        }
    }

    /// Adds an extent; returns `false` if there is a fault.
    #[inline]
    fn push(&mut self, extent: &Extent<T>, number: u64) -> bool {
        let (leaps, leaves) = (extent.start() != self.position, extent.end() > self.range.end);
        if (leaps | leaves) && !self.leap(extent.range()) {
            return false;
        }
        self.position = extent.end();
        let known = usize::try_from(number).ok().and_then(|number| self.known.get(number).copied());
        let place = match known {
            Some(place) if place != NOWHERE => place,
            _ => self.learn(*extent.status(), number),
        };
        self.add(extent.end(), place);
        true
    }

    /// Adds the bytes from the last run to `end`.
    #[inline]
    fn add(&mut self, end: u64, place: usize) {
        let before = self.places.get(self.run % BLOCK).copied();
        self.run += usize::from(before != Some(place));
        if self.run == BLOCK {
            self.flush();
        }
        let run = self.run % BLOCK;
        if let (Some(its_end), Some(its_place)) = (self.ends.get_mut(run), self.places.get_mut(run)) {
            (*its_end, *its_place) = (end, place);
        } else {
            debug_assert!(false, "run {run} is not in the block");
        }
    }

    /// Moves a block of complete runs into the map.
    #[cold]
    fn flush(&mut self) {
        let runs = self.first..self.run;
        debug_assert!(runs.start <= runs.end && runs.end <= BLOCK, "runs {runs:?} are not in the block");
        self.map.ends.extend_from_slice(self.ends.get(runs.clone()).unwrap_or_default());
        self.map.indices.extend(self.places.get(runs).unwrap_or_default());
        (self.run, self.first) = (0, 0);
    }

    /// Finds the place of a status and assigns it to the number.
    #[inline(never)]
    fn learn(&mut self, status: T, number: u64) -> usize {
        let place = self.recent.place(&mut self.map.palette, Some(status));
        if let Ok(number) = usize::try_from(number)
            && let Some(known) = self.known.get_mut(number)
        {
            *known = place;
        }
        place
    }

    /// Adds the gap before an extent; returns `false` if gaps are not allowed.
    #[cold]
    fn leap(&mut self, extent: Range<u64>) -> bool {
        self.fault = check(&extent, self.position, &self.range, self.gaps).err();
        self.gap(extent.start);
        self.fault.is_none()
    }

    fn gap(&mut self, end: u64) {
        let place = self.map.palette.place(None);
        self.add(end, place);
    }

    fn end(mut self) -> Result<ExtentMap<T>, StreamError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.position < self.range.end {
            if !self.gaps {
                return Err(StreamError::Gap { range: self.position..self.range.end });
            }
            self.gap(self.range.end);
        }
        self.run += 1;
        self.flush();
        self.map.finish();
        Ok(self.map)
    }
}

/// Builds a map of a list without gaps, from the start of its first extent to the end of its last.
/// An empty list gives the empty map at byte 0.
///
/// The range follows from the list. If the size of the disk is known, use [`ExtentMap::covering`],
/// which also notices a missing end.
///
/// # Errors
///
/// [`StreamError::Gap`] and [`StreamError::Overlap`] name the first fault.
///
/// ```
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::{Extent, StreamError};
///
/// let map =
///     ExtentMap::try_from(vec![Extent::new(512, 512, 'a')?, Extent::new(1024, 512, 'b')?])?;
/// assert_eq!(map.range(), 512..1536);
///
/// let refused =
///     ExtentMap::try_from(vec![Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?]);
/// assert_eq!(refused, Err(StreamError::Gap { range: 512..1024 }));
/// # Ok::<(), StreamError>(())
/// ```
impl<T: Copy + Eq + Hash> TryFrom<Vec<Extent<T>>> for ExtentMap<T> {
    type Error = StreamError;

    fn try_from(list: Vec<Extent<T>>) -> Result<Self, StreamError> {
        let start = list.first().map_or(0, Extent::start);
        // in a list out of order this is not the end of the last extent, so the fault is found
        // where the order breaks
        let end = list.iter().map(Extent::end).max().unwrap_or(start);
        Self::covering(from_iter(list), start..end)
    }
}
