//! Many lists as one: what a server said in reply after reply, read from where the payloads lie.

use core::iter::{Fuse, FusedIterator};

use super::descriptor::{Descriptor, Descriptors, RawDescriptor};
use super::source::{DescriptorSource, RawList};

/// The descriptors of many lists, list after list: see [`chain`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct ChainedLists<'a, R: RawDescriptor, L> {
    /// Never empty while there is something left to read.
    list: Descriptors<'a, R>,
    rest: Fuse<L>,
}

/// Reads lists one behind the other, each of which goes on where the one before it ends, as the payloads of replies do that were asked one after the
/// other. Nothing is copied. [`place`](crate::stream::place) reads such a chain as fast as a single list.
///
/// The first list is asked for at once, each other one when the one before it has been read. Lists may be empty.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place};
/// use nbd_extents::wire::{chain, parse_compact};
///
/// let replies = [[0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 3], [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0]];
/// let replies = replies.iter().map(|payload| parse_compact(payload)).collect::<Result<Vec<_>, _>>()?;
/// let context = place(chain(replies.iter().map(|reply| reply.descriptors())), 0);
/// let ranges: Vec<_> = context.collect_vec()?.iter().map(|extent| extent.range()).collect();
/// assert_eq!(ranges, [0..65536, 65536..196608]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn chain<'a, R, L>(lists: L) -> ChainedLists<'a, R, L::IntoIter>
where
    R: RawDescriptor + 'a,
    L: IntoIterator<Item = Descriptors<'a, R>>,
{
    let mut chain = ChainedLists { list: Descriptors::new(&[]), rest: lists.into_iter().fuse() };
    chain.refill();
    chain
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> ChainedLists<'a, R, L> {
    /// Goes on to the next list with anything in it when the current one has been read.
    #[inline]
    fn refill(&mut self) {
        if self.list.len() == 0 {
            self.next_list();
        }
    }

    #[cold]
    fn next_list(&mut self) {
        if let Some(list) = self.rest.find(|list| list.len() > 0) {
            self.list = list;
        }
    }
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> Iterator for ChainedLists<'a, R, L> {
    type Item = Descriptor;

    #[inline]
    fn next(&mut self) -> Option<Descriptor> {
        let next = self.list.next();
        self.refill();
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.list.len(), if self.may_go_on() { None } else { Some(self.list.len()) })
    }

    fn fold<B, F: FnMut(B, Descriptor) -> B>(self, init: B, mut f: F) -> B {
        let acc = self.list.fold(init, &mut f);
        self.rest.fold(acc, |acc, list| list.fold(acc, &mut f))
    }
}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> FusedIterator for ChainedLists<'a, R, L> {}

impl<'a, R: RawDescriptor, L: Iterator<Item = Descriptors<'a, R>>> DescriptorSource
    for ChainedLists<'a, R, L>
{
    fn raw(&self) -> Option<RawList<'_>> {
        self.list.raw()
    }

    fn pass(&mut self, count: usize) {
        self.list.pass(count);
        self.refill();
    }

    fn may_go_on(&self) -> bool {
        self.rest.size_hint().1 != Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Pair64;
    use alloc::vec::Vec;
    use core::cell::Cell;

    const LISTS: [&[Pair64]; 6] = [&[], &[(1, 0), (2, 1)], &[], &[(3, 0)], &[], &[]];

    fn chained() -> impl DescriptorSource + Clone {
        chain(LISTS.into_iter().map(Descriptors::new))
    }

    #[test]
    fn empty_lists_are_passed_over() {
        let lengths: Vec<_> = chained().map(|descriptor| descriptor.length).collect();
        assert_eq!(lengths, [1, 2, 3]);
        assert_eq!(chained().fold(0, |sum, descriptor| sum * 10 + descriptor.length), 123);
        let mut by_hand = chained();
        assert_eq!(by_hand.size_hint(), (2, None), "what is in the first list, at least");
        assert_eq!((by_hand.next().map(|d| d.length), by_hand.size_hint()), (Some(1), (1, None)));
        assert_eq!(by_hand.by_ref().count(), 2);
        assert_eq!(by_hand.next(), None);
        assert_eq!(chain::<Pair64, _>([]).next(), None);
    }

    #[test]
    fn the_raw_list_is_empty_only_at_the_end() {
        let mut chain = chained();
        assert!(matches!(chain.raw(), Some(RawList::Pair64([(1, 0), (2, 1)]))));
        chain.pass(1);
        assert!(matches!(chain.raw(), Some(RawList::Pair64([(2, 1)]))));
        chain.pass(1);
        assert!(matches!(chain.raw(), Some(RawList::Pair64([(3, 0)]))));
        assert!(chain.may_go_on());
        chain.pass(1);
        assert!(matches!(chain.raw(), Some(RawList::Pair64([]))));
        assert!(!chain.may_go_on());
    }

    #[test]
    fn a_list_is_asked_for_when_the_one_before_it_has_been_read() {
        let asked = Cell::new(0);
        let lists = LISTS.into_iter().inspect(|_| asked.set(asked.get() + 1)).map(Descriptors::new);
        let mut chain = chain(lists);
        assert_eq!(asked.get(), 2);
        chain.next();
        assert_eq!(asked.get(), 2);
        chain.next();
        assert_eq!(asked.get(), 4);
    }
}
