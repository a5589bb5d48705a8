//! From lengths to offsets: the descriptors of replies, each placed at the end of the one before
//! it.

use core::iter::{Empty, Fuse, empty};

use super::ExtentSource;
#[cfg(doc)]
use super::ExtentStream;
use crate::error::{ExtentError, StreamError};
use crate::extent::{Extent, MAX_END};
use crate::kernel::{Consumed, Lists, Wire};
use crate::wire::{Descriptor, Descriptors, RawDescriptor};

/// Lists of descriptors at their offsets: see [`place`] and [`place_all`].
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Place<'a, R: RawDescriptor, L = Empty<Descriptors<'a, R>>> {
    /// Never empty while a later list has a descriptor: the kernel sees this list alone.
    list: Descriptors<'a, R>,
    rest: Fuse<L>,
    last: Last,
}

/// Any descriptors at their offsets: see [`place_iter`].
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct PlaceIter<I> {
    descriptors: Fuse<I>,
    last: Last,
}

/// Places the descriptors of a list one after the other, from byte `start` on. The status is the
/// raw flags.
///
/// The context decides what the flags mean, so the next step is
/// [`map_status`](ExtentStream::map_status) with
/// [`Allocation::from_flags`](crate::Allocation::from_flags) or one of its siblings. A
/// [`merge`](ExtentStream::merge) of two lists is read in blocks, which is several times as fast as
/// [`place_iter`].
///
/// Lengths are checked while they are read: reading fails with [`StreamError::Extent`] at a
/// descriptor of length 0 and where the sum of the lengths exceeds [`MAX_END`]. Rules that need
/// more than the list (the request's length, the size of the export) are
/// [`Survey`](crate::Survey)'s.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place};
/// use nbd_extents::wire::Descriptors;
///
/// let mut placed = place(Descriptors::new(&[(512, 0), (512, 3)]), 4096);
/// assert_eq!(placed.next_extent()?.map(|e| e.range()), Some(4096..4608));
/// assert_eq!(placed.next_extent()?.map(|e| e.range()), Some(4608..5120));
/// assert_eq!(placed.position(), 5120);
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub fn place<R: RawDescriptor>(list: Descriptors<'_, R>, start: u64) -> Place<'_, R> {
    Place { list, rest: empty().fuse(), last: Last::at(start) }
}

/// Like [`place`], for many lists, each of which goes on where the one before it ends.
///
/// So do the payloads of replies to one request after the other; nothing is copied, and they are
/// read as fast as one list. The first list is asked for at once, each other one when the one
/// before it has been read. Lists may be empty.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place_all};
/// use nbd_extents::wire::parse_compact;
///
/// let replies = [[0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3], [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0]];
/// let replies = replies.iter().map(|payload| parse_compact(payload));
/// let replies = replies.collect::<Result<Vec<_>, _>>()?;
/// let context = place_all(replies.iter().map(|reply| reply.descriptors()), 0);
/// let ranges: Vec<_> = context.collect_vec()?.iter().map(|extent| extent.range()).collect();
/// assert_eq!(ranges, [0..65536, 65536..196608]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn place_all<'a, R, L>(lists: L, start: u64) -> Place<'a, R, L::IntoIter>
where
    R: RawDescriptor + 'a,
    L: IntoIterator<Item = Descriptors<'a, R>>,
{
    let rest = lists.into_iter().fuse();
    let mut placed = Place { list: Descriptors::new(&[]), rest, last: Last::at(start) };
    placed.refill();
    placed
}

/// Like [`place`], for descriptors from any iterator. It need not be fused, and its size hint is
/// ignored.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place_iter};
/// use nbd_extents::wire::Descriptor;
///
/// let alternating = (0..3).map(|nth| Descriptor { length: 512, flags: nth % 2 });
/// assert_eq!(place_iter(alternating, 0).collect_vec()?.len(), 3);
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub fn place_iter<I: IntoIterator<Item = Descriptor>>(descriptors: I, start: u64) -> PlaceIter<I::IntoIter> {
    PlaceIter { descriptors: descriptors.into_iter().fuse(), last: Last::at(start) }
}

/// The descriptor that was read last.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// Its end, and the start of the next one.
    position: u64,
    flags: u64,
}

impl Last {
    const fn at(position: u64) -> Self {
        Self { position, flags: 0 }
    }

    /// Places the next descriptor.
    #[inline(always)]
    fn advance(&mut self, next: Descriptor) -> Result<Extent<u64>, StreamError> {
        let Descriptor { length, flags } = next;
        let start = self.position;
        // As signed numbers, `start` is not negative, and the sum exceeds it unless the length is 0
        // or the sum leaves MAX_END: then it is negative, or has wrapped round to a number below
        // `start`.
        let end = start.wrapping_add(length);
        if start > MAX_END || end.cast_signed() <= start.cast_signed() {
            return Err(refused(start, length));
        }
        *self = Self { position: end, flags };
        Ok(Extent::trusted(start, self.position, flags))
    }
}

#[cold]
fn refused(start: u64, length: u64) -> StreamError {
    StreamError::Extent(if length == 0 {
        ExtentError::Empty { start }
    } else {
        ExtentError::TooLarge { start, length }
    })
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> Place<'a, R, L> {
    /// The end of the last extent that was yielded, in bytes; the start before the first.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.last.position
    }

    /// Goes on to the next list with anything in it when the current one has been read.
    #[inline]
    fn refill(&mut self) {
        if self.list.len() == 0
            && let Some(list) = self.rest.find(|list| list.len() > 0)
        {
            self.list = list;
        }
    }
}

impl<I> PlaceIter<I> {
    /// The end of the last extent that was yielded, in bytes; the start before the first.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.last.position
    }
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> ExtentSource for Place<'a, R, L> {
    type Status = u64;
    type Error = StreamError;

    #[inline(always)]
    fn pull(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        let Some(next) = self.list.next() else {
            return Ok(None);
        };
        self.refill();
        self.last.advance(next).map(Some)
    }

    fn lists(&mut self) -> Option<&mut dyn Lists> {
        Some(self)
    }

    #[inline]
    fn status_of(&self, flags: u64) -> Option<u64> {
        Some(flags)
    }
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> Lists for Place<'a, R, L> {
    fn wire(&self) -> Wire<'_> {
        let Last { position, flags } = self.last;
        let goes_on = self.rest.size_hint().1 != Some(0);
        Wire { list: R::raw_list(self.list.as_slice()), goes_on, position, flags }
    }

    fn skip(&mut self, consumed: Consumed) {
        let Consumed { count, end, flags } = consumed;
        self.list = Descriptors::new(self.list.as_slice().get(count..).unwrap_or_default());
        self.refill();
        self.last = Last { position: end, flags };
    }
}

impl<I: Iterator<Item = Descriptor>> ExtentSource for PlaceIter<I> {
    type Status = u64;
    type Error = StreamError;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        self.descriptors.next().map(|next| self.last.advance(next)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::ExtentStream;
    use crate::wire::{Pair64, RawList};
    use alloc::vec::Vec;
    use core::cell::Cell;

    #[test]
    fn a_list_of_any_iterator_knows_its_end() {
        let mut placed = place_iter([512, 1024].map(|length| Descriptor { length, flags: 0 }), 4096);
        assert_eq!(placed.position(), 4096);
        placed.next_extent().unwrap();
        assert_eq!(placed.position(), 4608);
    }

    #[test]
    fn a_length_of_zero_is_refused_where_it_stands() {
        let mut placed = place(Descriptors::new(&[(512, 0), (0, 1)]), 0);
        assert!(placed.next_extent().unwrap().is_some());
        assert_eq!(placed.next_extent(), Err(ExtentError::Empty { start: 512 }.into()));
        assert_eq!(placed.position(), 512);
    }

    #[test]
    fn the_sum_may_reach_max_end_and_no_further() {
        let mut placed = place(Descriptors::new(&[(MAX_END - 1, 0), (1, 0), (1, 0)]), 0);
        assert_eq!(placed.next_extent().unwrap().unwrap().end(), MAX_END - 1);
        assert_eq!(placed.next_extent().unwrap().unwrap().end(), MAX_END);
        let refused = ExtentError::TooLarge { start: MAX_END, length: 1 };
        assert_eq!(placed.next_extent(), Err(refused.into()));
    }

    #[test]
    fn no_sum_overflows() {
        for start in [0, 1, MAX_END, MAX_END + 1, u64::MAX] {
            for length in [u64::MAX, u64::MAX - 1, MAX_END + 1] {
                let list = [(length, 0)];
                let mut placed = place(Descriptors::new(&list), start);
                assert_eq!(placed.next_extent(), Err(ExtentError::TooLarge { start, length }.into()));
            }
        }
    }

    const LISTS: [&[Pair64]; 6] = [&[], &[(1, 0), (2, 1)], &[], &[(3, 0)], &[], &[]];

    #[test]
    fn empty_lists_are_passed_over() {
        let placed = || place_all(LISTS.map(Descriptors::new), 0);
        let lengths: Vec<_> = placed().collect_vec().unwrap().iter().map(Extent::length).collect();
        assert_eq!(lengths, [1, 2, 3]);
        let mut by_hand = placed();
        assert_eq!(by_hand.next_extent().unwrap().map(|extent| extent.length()), Some(1));
        assert_eq!((&mut by_hand).collect_vec().unwrap().len(), 2);
        assert_eq!((by_hand.next_extent(), by_hand.position()), (Ok(None), 6));
        assert_eq!(place_all::<Pair64, _>([], 0).next_extent(), Ok(None));
    }

    #[test]
    fn the_raw_list_is_empty_only_at_the_end() {
        let mut placed = place_all(LISTS.into_iter().map(Descriptors::new), 0);
        let mut expect = |expected: &[Pair64], goes_on| {
            let wire = placed.wire();
            let RawList::Pair64(list) = wire.list else { panic!("{wire:?}") };
            assert_eq!(list, expected);
            assert_eq!(wire.goes_on, goes_on);
            let consumed = Consumed { count: 1.min(list.len()), end: 0, flags: 0 };
            placed.skip(consumed);
        };
        expect(&[(1, 0), (2, 1)], true);
        expect(&[(2, 1)], true);
        expect(&[(3, 0)], true);
        expect(&[], false);
    }

    #[test]
    fn a_list_is_asked_for_when_the_one_before_it_has_been_read() {
        let asked = Cell::new(0);
        let lists = LISTS.into_iter().inspect(|_| asked.set(asked.get() + 1)).map(Descriptors::new);
        let mut placed = place_all(lists, 0);
        assert_eq!(asked.get(), 2);
        placed.next_extent().unwrap();
        assert_eq!(asked.get(), 2);
        placed.next_extent().unwrap();
        assert_eq!(asked.get(), 4);
    }
}
