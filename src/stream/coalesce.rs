//! Equal neighbours joined: the one place where extents grow.

use super::{ExtentSource, ExtentStream, blocks};
use crate::extent::Extent;
use crate::kernel::{self, Block, Processor};

/// A stream whose touching equal neighbours are joined: see [`ExtentStream::coalesce`].
///
/// ```
/// # use nbd_extents::stream::{Coalesce, ExtentStream, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let joined: Coalesce<_> = from_iter(list).map_status(|_| 'c').coalesce();
/// assert_eq!(joined.collect_vec()?, [Extent::new(0, 1024, 'c')?]);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Coalesce<S: ExtentStream> {
    stream: S,
    /// The extent that may still grow.
    growing: Option<Extent<S::Status>>,
    ended: bool,
}

impl<S: ExtentStream> Coalesce<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, growing: None, ended: false }
    }
}

impl<S: ExtentStream> ExtentSource for Coalesce<S>
where
    S::Status: PartialEq,
{
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        while !self.ended {
            match self.stream.next_extent()? {
                None => self.ended = true,
                Some(next) => {
                    if let Some(done) = absorb(&mut self.growing, next) {
                        return Ok(Some(done));
                    }
                }
            }
        }
        Ok(self.growing.take())
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { mut stream, growing, ended } = self;
        let state = (init, growing);
        let (acc, growing) = if ended {
            state
        } else if stream.blocks().is_some() {
            blocks::read_all(stream, Some(S::Status::eq), state, &mut f, grow, grow_by_block)?
        } else {
            stream.try_fold(state, |state, next| grow(state, next, &mut f))?
        };
        if let Some(last) = growing { f(acc, last) } else { Ok(acc) }
    }
}

/// Joins `next` to the growing extent. Otherwise `next` grows from now on, and the extent that is
/// complete is returned, if there is one.
#[inline(always)]
fn absorb<T: PartialEq>(growing: &mut Option<Extent<T>>, next: Extent<T>) -> Option<Extent<T>> {
    match growing {
        None => growing.replace(next),
        Some(last) => last.absorb(next).and_then(|next| growing.replace(next)),
    }
}

/// The state of a fold: the value that `f` returned, and the extent that may still grow.
type Growing<A, T> = (A, Option<Extent<T>>);

/// Takes the next extent in, and gives the one before it to `f` if that is complete.
#[inline(always)]
fn grow<A, T: PartialEq, E>(
    (acc, mut growing): Growing<A, T>,
    next: Extent<T>,
    f: &mut impl FnMut(A, Extent<T>) -> Result<A, E>,
) -> Result<Growing<A, T>, E> {
    let done = absorb(&mut growing, next);
    Ok((if let Some(done) = done { f(acc, done)? } else { acc }, growing))
}

/// Takes the segments of a block in, of which most are joined already. The inner ones are complete:
/// their loop does without the growing extent, and so a compiler can make vectors of it.
#[inline(always)]
fn grow_by_block<S: ExtentStream<Status: PartialEq>, A, E>(
    stream: &S,
    block: &Block,
    state: Growing<A, S::Status>,
    f: &mut impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
) -> Result<Growing<A, S::Status>, E> {
    let (all, inner) = (block.all(), block.inner());
    let first = block.segments::<true>(all.start..inner.start);
    let (acc, growing) =
        blocks::fold_segments(stream, first, state, &mut |state, next, _| grow(state, next, f))?;
    if inner.start == all.end {
        return Ok((acc, growing));
    }
    let acc = if let Some(done) = growing { f(acc, done)? } else { acc };
    let last = block.segments::<true>(inner.end..all.end);
    let inner = block.segments::<true>(inner);
    let fold = || blocks::fold_segments(stream, inner, acc, &mut |acc, next, _| f(acc, next));
    let by_vectors = blocks::gains_by_vectors(size_of::<A>(), Processor::found());
    let acc = if by_vectors { kernel::dispatch(fold) } else { fold() }?;
    blocks::fold_segments(stream, last, (acc, None), &mut |state, next, _| grow(state, next, f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{from_iter, place};
    use crate::wire::Descriptors;
    use alloc::vec::Vec;

    fn extent(start: u64, end: u64, status: char) -> Extent<char> {
        Extent::from_range(start..end, status).unwrap()
    }

    #[test]
    fn joins_what_touches_and_is_equal() {
        let list = [extent(0, 1, 'a'), extent(1, 2, 'a'), extent(2, 3, 'b'), extent(4, 5, 'b')];
        let joined = from_iter(list).coalesce().collect_vec().unwrap();
        assert_eq!(joined, [extent(0, 2, 'a'), extent(2, 3, 'b'), extent(4, 5, 'b')]);
    }

    #[test]
    fn runs_beyond_32_bits_grow_on() {
        let run = [(u64::from(u32::MAX), 0); 3];
        let joined = place(Descriptors::new(&run), 0).coalesce().collect_vec().unwrap();
        assert_eq!(joined, [Extent::new(0, 3 * u64::from(u32::MAX), 0).unwrap()]);
    }

    /// The last wanted extent before an error may grow as far as anyone knows: neither way shows it.
    #[test]
    fn an_error_after_unwanted_extents_ends_both_ways_at_one_place() {
        for wanted in 500..507 {
            let mut list: Vec<_> =
                (0..1100).map(|nth| (512, u64::from(nth < wanted && nth % 7 < 3))).collect();
            list.push((0, 0));
            let whole = [(512 * 1100, 1)];
            let side = |list| place(Descriptors::new(list), 0);
            let stream =
                || side(&list).merge(side(&whole), |a, b| a & b).filter(|&dirty| dirty == 1).coalesce();
            let mut seen = Vec::new();
            stream().for_each(|extent| seen.push(extent)).unwrap_err();
            let one_by_one: Vec<_> = stream().into_iter().map_while(Result::ok).collect();
            assert_eq!(seen, one_by_one, "{wanted}");
        }
    }

    /// A tie of another status can stand between equal neighbours, which touch when it is dropped.
    #[test]
    fn neighbours_of_a_dropped_tie_are_joined() {
        let list = |odd: [u64; 2]| -> Vec<_> {
            let lengths = [3, 3, 3, 3, 3, 3, odd[0], odd[1]];
            lengths.into_iter().cycle().zip(0..).map(|(length, nth)| (length, nth & 1)).take(1600).collect()
        };
        let (left, right) = (list([2, 4]), list([4, 2]));
        let side = |list| place(Descriptors::new(list), 0);
        let stream = || side(&left).merge(side(&right), |a, b| a ^ b).coalesce();
        let one_by_one: Vec<_> = stream().into_iter().map(Result::unwrap).collect();
        assert_eq!(one_by_one.len(), 401, "cut only where the lists differ");
        assert_eq!(stream().collect_vec().unwrap(), one_by_one);
    }
}
