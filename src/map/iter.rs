//! Iterators over a slice of a map.

use core::iter::FusedIterator;

use super::ExtentMap;
use super::slice::MapSlice;
use crate::extent::Extent;

/// The runs of a slice: extents, and gaps as `None`.
#[derive(Clone, Debug)]
pub(super) struct Runs<'a, T: Copy> {
    slice: MapSlice<'a, T>,
    /// The index of the next run.
    next: usize,
    /// The start of the next run.
    position: u64,
}

impl<'a, T: Copy> Runs<'a, T> {
    pub(super) fn new(slice: MapSlice<'a, T>) -> Self {
        Self { position: slice.start, slice, next: 0 }
    }
}

/// A run of a map: its start, its end and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<T> {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) status: Option<T>,
}

impl<T: Copy> Iterator for Runs<'_, T> {
    type Item = Run<T>;

    #[inline]
    fn next(&mut self) -> Option<Run<T>> {
        let end = (*self.slice.ends.get(self.next)?).min(self.slice.end);
        let status = self.slice.status_of(self.next);
        self.next += 1;
        let start = core::mem::replace(&mut self.position, end);
        Some(Run { start, end, status })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slice.ends.len() - self.next;
        (left, Some(left))
    }
}

/// An iterator over the extents of a map, ascending: see [`MapSlice::extents`].
///
/// ```
/// # use nbd_extents::Extent;
/// # use nbd_extents::map::ExtentMap;
/// # use nbd_extents::stream::from_iter;
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
/// let map = ExtentMap::within(from_iter(list), 0..2048)?;
/// let mut extents = map.extents();
/// assert_eq!(extents.next().map(|extent| extent.range()), Some(0..512));
/// assert_eq!(extents.last().map(|extent| extent.range()), Some(1024..1536));
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless they are read"]
pub struct MapExtents<'a, T: Copy> {
    runs: Runs<'a, T>,
}

impl<'a, T: Copy> MapExtents<'a, T> {
    pub(super) fn new(slice: MapSlice<'a, T>) -> Self {
        Self { runs: Runs::new(slice) }
    }
}

impl<T: Copy> Iterator for MapExtents<'_, T> {
    type Item = Extent<T>;

    #[inline]
    fn next(&mut self) -> Option<Extent<T>> {
        loop {
            let run = self.runs.next()?;
            if let Some(status) = run.status {
                return Some(Extent::trusted(run.start, run.end, status));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.runs.size_hint().1)
    }
}

impl<T: Copy> FusedIterator for MapExtents<'_, T> {}

/// Iterates over the extents, ascending.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::stream::from_iter;
///
/// let map = ExtentMap::within(from_iter(Extent::new(512, 512, 'a')), 0..4096)?;
/// for extent in &map {
///     assert_eq!(extent.to_string(), "512..1024 a");
/// }
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
impl<'a, T: Copy> IntoIterator for &'a ExtentMap<T> {
    type Item = Extent<T>;
    type IntoIter = MapExtents<'a, T>;

    fn into_iter(self) -> MapExtents<'a, T> {
        self.extents()
    }
}

impl<'a, T: Copy> IntoIterator for MapSlice<'a, T> {
    type Item = Extent<T>;
    type IntoIter = MapExtents<'a, T>;

    fn into_iter(self) -> MapExtents<'a, T> {
        self.extents()
    }
}
