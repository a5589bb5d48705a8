//! Any number of streams into one: the merge of a whole survey.

use smallvec::SmallVec;

use super::cursor::{Cursor, beyond_gap, one_goes_on};
use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;

/// Several merged streams of one kind: see [`merge_all`].
#[derive(Clone)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct MergeAll<S: ExtentStream, F> {
    pub(super) streams: SmallVec<[Cursor<S, S::Status>; 4]>,
    combine: F,
    /// The end of the last extent that was yielded.
    pub(super) position: u64,
    /// Ends where the shortest stream ends, instead of failing there.
    shortest: bool,
}

/// Merges any number of streams: each byte gets its statuses joined by `combine`, cut wherever any
/// stream is cut.
///
/// As for two ([`ExtentStream::merge`]), all must describe the same bytes. `combine` must be pure,
/// and is applied from the first stream to the last. The cost of an extent is proportional to the
/// number of streams, which for the contexts of a disk is small.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, from_iter, merge_all};
/// use nbd_extents::{Allocation, BitmapIndex, Dirtiness, Extent, Status};
///
/// let zero = Status::UNKNOWN.with_allocation(Allocation::from_flags(2));
/// let dirty = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::DIRTY);
/// let contexts = [zero, dirty].map(|status| from_iter(Extent::new(0, 4096, status)));
/// let merged = merge_all(contexts, |a, b| a.combine(*b)).collect_vec()?;
/// assert_eq!(merged[0].to_string(), "0..4096 dirty,zero");
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub fn merge_all<S, F>(streams: impl IntoIterator<Item = S>, combine: F) -> MergeAll<S, F>
where
    S: ExtentStream,
    F: Fn(S::Status, &S::Status) -> S::Status,
{
    MergeAll {
        streams: streams.into_iter().map(Cursor::new).collect(),
        combine,
        position: 0,
        shortest: false,
    }
}

/// Like [`merge_all`], but ends where the shortest stream ends; [`MergeAll::position`] says where
/// that is.
///
/// The contexts of one reply may rightly end at different offsets. Bytes that a stream leaves out
/// before its end are still an error.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents::stream::{ExtentStream, from_iter, merge_all_shortest};
///
/// let context = |length, flag| from_iter(Extent::new(0, length, flag));
/// let contexts = [context(4096, 1), context(512, 2), context(8192, 4)];
/// let mut merged = merge_all_shortest(contexts, |a, b| a | b);
/// assert_eq!(merged.next_extent()?, Some(Extent::new(0, 512, 7)?));
/// assert_eq!(merged.next_extent()?, None);
/// assert_eq!(merged.position(), 512, "ask the server on from here");
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub fn merge_all_shortest<S, F>(streams: impl IntoIterator<Item = S>, combine: F) -> MergeAll<S, F>
where
    S: ExtentStream,
    F: Fn(S::Status, &S::Status) -> S::Status,
{
    MergeAll { shortest: true, ..merge_all(streams, combine) }
}

impl<S: ExtentStream, F> MergeAll<S, F> {
    /// The end of the last extent that was yielded, in bytes; 0 before the first.
    ///
    /// At the end of [`merge_all_shortest`] this is where to request the rest from.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl<S, F> ExtentSource for MergeAll<S, F>
where
    S: ExtentStream,
    S::Status: Clone,
    F: Fn(S::Status, &S::Status) -> S::Status,
{
    type Status = S::Status;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        let position = self.position;
        let mut gap = false;
        for cursor in &mut self.streams {
            cursor.fill(position)?;
            gap |= cursor.start() > position;
        }
        let rests = || self.streams.iter().map(|cursor| cursor.rest(position));
        // a stream that has ended has no gap: the merge ends there too
        let may_end = || self.shortest && self.streams.iter().any(|cursor| cursor.status().is_none());
        let start = if gap && !may_end() { beyond_gap(position, rests())? } else { position };
        let (mut end, mut merged) = (u64::MAX, None::<S::Status>);
        for cursor in &self.streams {
            let Some(status) = cursor.status() else {
                let longer = one_goes_on(rests()).filter(|_| !self.shortest);
                return longer.map_or(Ok(None), |error| Err(error.into()));
            };
            end = end.min(cursor.end());
            merged = Some(match merged {
                None => status.clone(),
                Some(merged) => (self.combine)(merged, status),
            });
        }
        self.position = end;
        Ok(merged.map(|merged| Extent::trusted(start, end, merged)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StreamError;
    use crate::stream::{FromIter, from_iter};
    use alloc::vec::Vec;

    fn merge(lists: &[&[(u64, u64, u8)]]) -> Result<Vec<(u64, u64, u8)>, StreamError> {
        let streams = lists.iter().map(|list| {
            from_iter(
                list.iter().map(|&(start, end, status)| Extent::from_range(start..end, status).unwrap()),
            )
        });
        let merged = merge_all(streams, |a, b| a + b).collect_vec()?;
        Ok(merged.iter().map(|e| (e.start(), e.end(), *e.status())).collect())
    }

    #[test]
    fn none_one_and_three() {
        assert_eq!(merge(&[]), Ok(alloc::vec![]));
        assert_eq!(merge(&[&[(0, 4, 1), (6, 8, 2)]]).unwrap(), [(0, 4, 1), (6, 8, 2)]);
        let three = merge(&[&[(0, 10, 1)], &[(0, 3, 10), (3, 10, 20)], &[(0, 7, 100), (7, 10, 200)]]);
        assert_eq!(three.unwrap(), [(0, 3, 111), (3, 7, 121), (7, 10, 221)]);
    }

    #[test]
    fn shortest_ends_early_but_forgives_no_gap() {
        let stream = |list: &[(u64, u64)]| {
            from_iter(
                list.iter()
                    .map(|&(start, end)| Extent::from_range(start..end, 1).unwrap())
                    .collect::<Vec<_>>(),
            )
        };
        let whole = || stream(&[(0, 10), (10, 20)]);
        for nth in 0..3 {
            let mut streams = [whole(), whole(), whole()];
            streams[nth] = stream(&[(0, 12)]);
            let mut merged = merge_all_shortest(streams, |a, b| a + b);
            assert_eq!((&mut merged).collect_vec().unwrap().len(), 2);
            assert_eq!((merged.position(), merged.next_extent()), (12, Ok(None)));
            let mut streams = [whole(), whole(), whole()];
            streams[nth] = stream(&[(0, 4), (6, 12)]);
            let error = merge_all_shortest(streams, |a, b| a + b).collect_vec().unwrap_err();
            let StreamError::Uneven { range, silent } = error else { panic!("{error}") };
            assert_eq!((range, silent), (4..6, nth), "the stream with the gap is silent there");
        }
        // where one has ended, a gap of another is no fault
        let mut merged = merge_all_shortest([stream(&[(0, 4)]), stream(&[(0, 4), (6, 9)])], |a, b| a + b);
        assert_eq!((&mut merged).collect_vec().unwrap().len(), 1);
        assert_eq!((merged.position(), merged.next_extent()), (4, Ok(None)));
        let none: [FromIter<core::iter::Empty<Extent<u8>>>; 0] = [];
        assert_eq!(merge_all_shortest(none, |a, b| a + b).next_extent(), Ok(None));
    }

    #[test]
    fn the_silent_stream_is_named() {
        let error = |range, silent| Err(StreamError::Uneven { range, silent });
        assert_eq!(merge(&[&[(0, 9, 1)], &[(0, 9, 1)], &[(0, 5, 1)]]), error(5..9, 2));
        assert_eq!(merge(&[&[(0, 5, 1)], &[(0, 9, 1)], &[(0, 9, 1)]]), error(5..9, 0));
        assert_eq!(merge(&[&[(0, 9, 1)], &[(3, 9, 1)]]), error(0..3, 1));
        assert_eq!(merge(&[&[(3, 9, 1)], &[(0, 9, 1)]]), error(0..3, 0));
        assert_eq!(merge(&[&[], &[(0, 9, 1)]]), error(0..9, 0));
        assert_eq!(merge(&[&[(0, 9, 1)], &[]]), error(0..9, 1));
    }
}
