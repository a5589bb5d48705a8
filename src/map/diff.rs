//! The changes from one map to another. Not a merge: bytes that only one map describes are a change
//! here, and an error there.

use core::iter::FusedIterator;

use super::iter::{Run, Runs};
use super::slice::MapSlice;
use crate::extent::Extent;

/// The statuses of a range in two maps; `None` where a map has a gap.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::map::{Change, ExtentMap};
/// use nbd_extents::stream::from_iter;
///
/// let before = ExtentMap::covering(from_iter(Extent::new(0, 1024, "data")), 0..1024)?;
/// let after = ExtentMap::covering(from_iter(Extent::new(0, 512, "data")), 0..512)?;
/// let shrunk = before.diff(&after).next().unwrap();
/// assert_eq!(
///     shrunk,
///     Extent::from_range(512..1024, Change { before: Some("data"), after: None })?
/// );
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change<T> {
    /// The status in the first map.
    pub before: Option<T>,
    /// The status in the second map.
    pub after: Option<T>,
}

/// An iterator over the ranges where two maps differ, ascending: see [`MapSlice::diff`].
///
/// It is lazy: one pass over both maps, and no memory.
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless they are read"]
pub struct Diff<'a, 'b, T: Copy> {
    before: Side<'a, T>,
    after: Side<'b, T>,
    /// The end of the bytes that have been compared.
    position: u64,
    /// The change that may still grow.
    growing: Option<Extent<Change<T>>>,
}

impl<'a, 'b, T: Copy + PartialEq> Diff<'a, 'b, T> {
    pub(super) fn new(before: MapSlice<'a, T>, after: MapSlice<'b, T>) -> Self {
        Self { before: Side::new(before), after: Side::new(after), position: 0, growing: None }
    }

    /// Returns the next piece in which neither side changes: its change, or `None` if both sides
    /// are equal there.
    fn piece(&mut self) -> Option<Option<Extent<Change<T>>>> {
        let (before, until_before) = self.before.at(self.position);
        let (after, until_after) = self.after.at(self.position);
        let end = until_before.into_iter().chain(until_after).min()?;
        let start = core::mem::replace(&mut self.position, end);
        let differs = before != after && start < end;
        Some(differs.then(|| Extent::trusted(start, end, Change { before, after })))
    }
}

impl<T: Copy + PartialEq> Iterator for Diff<'_, '_, T> {
    type Item = Extent<Change<T>>;

    fn next(&mut self) -> Option<Extent<Change<T>>> {
        while let Some(piece) = self.piece() {
            let Some(change) = piece else { continue };
            let Some(growing) = &mut self.growing else {
                self.growing = Some(change);
                continue;
            };
            if let Some(other) = growing.absorb(change) {
                return self.growing.replace(other);
            }
        }
        self.growing.take()
    }
}

impl<T: Copy + PartialEq> FusedIterator for Diff<'_, '_, T> {}

/// One of the maps, being read.
#[derive(Clone, Debug)]
struct Side<'a, T: Copy> {
    runs: Runs<'a, T>,
    head: Option<Run<T>>,
}

impl<'a, T: Copy> Side<'a, T> {
    fn new(slice: MapSlice<'a, T>) -> Self {
        let mut runs = Runs::new(slice);
        Self { head: runs.next(), runs }
    }

    /// The status at byte `position`, and the end of its run; no end beyond the map.
    fn at(&mut self, position: u64) -> (Option<T>, Option<u64>) {
        if self.head.is_some_and(|run| run.end <= position) {
            self.head = self.runs.next();
        }
        match self.head {
            None => (None, None),
            Some(run) if position < run.start => (None, Some(run.start)),
            Some(run) => (run.status, Some(run.end)),
        }
    }
}
