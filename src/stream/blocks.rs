//! Reading a merge of two lists in memory block by block (`kernel/`), and everything else one by
//! one.
//!
//! ```text
//! while enough is left of both lists:
//!     next block merged?      yield its segments, each with status_of(its code)
//!     new flags in it?        ask the reader which codes it wants and joins, and try again
//!     otherwise               yield 512 extents of next_extent, which finds the error or the end
//! yield the rest by next_extent
//! ```
//!
//! Adapters that look at the status alone (`map_status`, `filter`, `map_err`, `decide`) and
//! `covering` hand the merge's blocks on, and answer for the status of a code. After each block the
//! merge stands exactly where `next_extent` would, so the two ways can take turns.

use super::{ExtentSource, ExtentStream, Merge};
use crate::extent::Extent;
use crate::kernel::{self, Block, Blocks, NextBlock, Processor, Progress, Questions, Segment};

/// Fewest descriptors of both lists for which blocks pay. The memory of a block is 16 KiB that are
/// filled with zeroes first, and of a short list a processor foretells nearly every cut.
const LONG: usize = 1024;
/// The number of extents that are read one by one where a block cannot be merged, before the next
/// attempt.
const SCALAR: usize = 512;

/// Upper bound on the numbers of extents: the codes of a block.
pub(crate) const NUMBERS: usize = kernel::CODES;
/// The number of an extent of which it is not known which others have the same status.
pub(crate) const UNNUMBERED: u64 = u64::MAX;

/// Whether `stream` is a merge that is worth reading in blocks.
pub(super) fn is_long<S: ExtentStream>(stream: &mut S) -> bool {
    stream.blocks().is_some_and(Blocks::is_long)
}

/// Whether a reader takes touching extents with these statuses as one. A filter joins none, and has
/// blocks drop the extents without a status all the same.
pub(super) type Joins<T> = fn(&T, &T) -> bool;

/// Reads all of a stream until the first error, and gives each extent to `f` with the value that `f`
/// returned before, and with the extent's code, or [`UNNUMBERED`].
///
/// With `joins` blocks drop the extents without a status (`status_of`), and may join others.
#[inline]
pub(super) fn try_fold<S: ExtentStream, A, E: From<S::Error>>(
    stream: S,
    joins: Option<Joins<S::Status>>,
    acc: A,
    f: impl FnMut(A, Extent<S::Status>, u64) -> Result<A, E>,
) -> Result<A, E> {
    read_all(
        stream,
        joins,
        acc,
        f,
        |acc, extent, f| f(acc, extent, UNNUMBERED),
        |stream, block, acc, f| {
            // of a block for a filter few segments are yielded, between dead ones: vectors lose there
            if joins.is_none() && gains_by_vectors(size_of::<A>(), Processor::found()) {
                kernel::dispatch(|| fold_segments(stream, block.segments::<true>(block.all()), acc, f))
            } else {
                fold_segments(stream, block.segments::<false>(block.all()), acc, f)
            }
        },
    )
}

/// Like [`try_fold`], for a reader of any stream: there may be a merge deeper down, which the
/// stream's own way reads in blocks.
#[cfg(feature = "alloc")]
#[inline]
pub(crate) fn try_fold_numbered<S: ExtentStream, A, E: From<S::Error>>(
    mut stream: S,
    init: A,
    mut f: impl FnMut(A, Extent<S::Status>, u64) -> Result<A, E>,
) -> Result<A, E> {
    if stream.blocks().is_some() {
        try_fold(stream, None, init, f)
    } else {
        stream.try_fold(init, |acc, extent| f(acc, extent, UNNUMBERED))
    }
}

/// Calls `f` in a function of its own. A fold's state is in registers there, and does not compete for
/// them with the scalar merge of short lists. A state that `f` only borrows (`for_each`) would go
/// through memory for each extent, so such a reader has its blocks inlined.
#[inline(never)]
fn apart<T>(f: impl FnOnce() -> T) -> T {
    f()
}

/// Reads all of a stream, in blocks while they pay. `take` adds an extent to the state, `take_block`
/// the segments of a block; both get `f`, the reader's function, or what they need in its place.
///
/// Where the blocks stop (an error, the end, numbers that fit no key), the scalar merge yields
/// [`SCALAR`] extents before a block is tried again. Once too little is left for blocks, it reads
/// the rest.
#[inline(always)]
pub(super) fn read_all<S: ExtentStream, A, F, E: From<S::Error>>(
    mut stream: S,
    joins: Option<Joins<S::Status>>,
    mut acc: A,
    mut f: F,
    take: impl Fn(A, Extent<S::Status>, &mut F) -> Result<A, E>,
    take_block: impl Fn(&S, &Block, A, &mut F) -> Result<A, E>,
) -> Result<A, E> {
    if is_long(&mut stream) {
        let blocks = || -> Result<A, E> {
            let mut block = if joins.is_some() { Block::keeping() } else { Block::new() };
            while is_long(&mut stream) {
                if read(&mut stream, &mut block, joins) {
                    acc = take_block(&stream, &block, acc, &mut f)?;
                    continue;
                }
                for _ in 0..SCALAR {
                    // at the end the stream is no longer long, which ends the outer loop
                    let Some(extent) = stream.next_extent()? else { break };
                    acc = take(acc, extent, &mut f)?;
                }
            }
            Ok(acc)
        };
        acc = if size_of::<A>() == 0 { blocks() } else { apart(blocks) }?;
    }
    // Moved: no other function has seen its new place, so a compiler keeps its fields in registers.
    let mut stream = stream;
    while let Some(extent) = stream.next_extent()? {
        acc = take(acc, extent, &mut f)?;
    }
    Ok(acc)
}

/// Whether a fold with a state of this size gains by vectors.
///
/// One that carries its state along is compiled for wider registers, in which a compiler does
/// several extents at once. One whose state is elsewhere (`for_each`) loses by that: it cannot keep
/// that state in registers across the call. In the narrow registers that every processor has, all
/// lose.
#[inline(always)]
pub(super) fn gains_by_vectors(state: usize, processor: Processor) -> bool {
    state > 0 && processor > Processor::Any
}

/// Merges the next block. Returns `false` where the scalar merge must go on.
fn read<S: ExtentStream>(stream: &mut S, block: &mut Block, joins: Option<Joins<S::Status>>) -> bool {
    while let Some(blocks) = stream.blocks() {
        match blocks.next_block(block, u64::MAX) {
            NextBlock::Merged => return true,
            NextBlock::Scalar => return false,
            NextBlock::NewFlags => {
                let status = |code| stream.status_of(code);
                block.answer(&Questions {
                    wants: &|code| status(code).is_some(),
                    joins: &|one, other| match (joins, status(one), status(other)) {
                        (Some(joins), Some(one), Some(other)) => joins(&one, &other),
                        _ => false,
                    },
                });
            }
        }
    }
    false
}

/// Gives segments to `f`, with their statuses; those that have none are not wanted.
#[inline(always)]
pub(super) fn fold_segments<S: ExtentStream, A, E>(
    stream: &S,
    segments: impl Iterator<Item = Segment>,
    mut acc: A,
    f: &mut impl FnMut(A, Extent<S::Status>, u64) -> Result<A, E>,
) -> Result<A, E> {
    for Segment { start, end, code } in segments {
        if let Some(status) = stream.status_of(code) {
            acc = f(acc, Extent::trusted(start, end, status), code)?;
        }
    }
    Ok(acc)
}

impl<A: ExtentStream, B: ExtentStream, F> Blocks for Merge<A, B, F> {
    fn is_long(&mut self) -> bool {
        let (Some(left), Some(right)) = (self.left.side(self.position), self.right.side(self.position))
        else {
            return false;
        };
        let (left, right) = (left.wire, right.wire);
        // The length of a stream of many lists shows only at its end.
        left.list.len() + right.list.len() >= LONG || left.goes_on || right.goes_on
    }

    fn next_block(&mut self, block: &mut Block, until: u64) -> NextBlock {
        let (Some(left), Some(right)) = (self.left.side(self.position), self.right.side(self.position))
        else {
            return NextBlock::Scalar;
        };
        match kernel::merge(&left, &right, block, until) {
            Ok(Progress { position, left, right }) => {
                self.position = position;
                self.left.skip(left, position);
                self.right.skip(right, position);
                NextBlock::Merged
            }
            Err(refused) => refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StreamError;
    use crate::stream::{place, place_all};
    use crate::wire::Descriptors;
    use alloc::vec::Vec;

    fn list(count: u64) -> Vec<(u64, u64)> {
        (0..count).map(|nth| (512, nth & 3)).collect()
    }

    fn side(list: &[(u64, u64)]) -> impl ExtentStream<Status = u64, Error = StreamError> {
        place(Descriptors::new(list), 0).map_status(|flags| flags & 1)
    }

    /// Both ways give the same (`tests/kernel.rs`); this is that the fast one is taken, and not
    /// below the length from which it pays.
    #[test]
    fn long_lists_are_read_in_blocks() {
        for (left, right, long) in
            [(512, 512, true), (1023, 1, true), (512, 511, false), (0, 1024, true), (0, 1023, false)]
        {
            let (left, right) = (list(left), list(right));
            let mut merge = side(&left).merge(side(&right), |a, b| a | b);
            assert_eq!(is_long(&mut merge), long, "{} and {}", left.len(), right.len());
        }
        let pieces = list(2);
        let pieces = || {
            place_all((0..2).map(|_| Descriptors::new(&pieces)), 0)
                .map_status(|flags| flags & 1)
                .err_into::<StreamError>()
        };
        let short = list(2);
        assert!(is_long(&mut pieces().merge(side(&short), |a, b| a | b)));
        assert!(is_long(&mut side(&short).merge(pieces(), |a, b| a | b)));
        assert!(!is_long(&mut side(&short)) && !is_long(&mut pieces().coalesce()));
    }

    #[test]
    fn vectors_are_for_folds_that_carry_their_state_along() {
        for (state, processor, gains) in [
            (8, Processor::Avx512, true),
            (1, Processor::Avx2, true),
            (8, Processor::Any, false),
            (0, Processor::Avx512, false),
        ] {
            assert_eq!(gains_by_vectors(state, processor), gains, "{state} {processor:?}");
        }
    }

    /// Equal neighbours are one segment of the block already: the reader sees few.
    #[test]
    fn blocks_join_what_the_reader_joins() {
        let (left, right) = (list(1000), alloc::vec![(512_000, 0)]);
        let stream = || side(&left).merge(side(&right), |a, b| a | b);
        let segments = |joins: Joins<u64>| {
            let (mut merge, mut block) = (stream(), Block::keeping());
            assert!(read(&mut merge, &mut block, Some(joins)));
            (block.segments::<true>(block.all()).count(), block.inner())
        };
        let (count, inner) = segments(|_, _| true);
        assert_eq!((count, inner.len()), (1, 0));
        let (count, inner) = segments(|a, b| a == b);
        assert!(count > 100);
        assert_eq!(inner, 1..count - 2, "all but the first and the last two are complete");
    }

    /// Whatever adapters only look at the status, the merge is read in blocks, but for one that is
    /// borrowed.
    #[test]
    fn adapters_and_boxes_hand_blocks_on() {
        let (left, right) = (list(1000), list(1000));
        let merge = side(&left).merge(side(&right), |a, b| a | b);
        let mut adapted = merge.map_status(|status| status > 0).filter(|_| true).err_into::<StreamError>();
        assert!(is_long(&mut adapted));
        assert!(!is_long(&mut &mut adapted), "it may be read on after a reader that stopped in a block");
        let covering = |dirty: bool| {
            let merge = side(&left).merge(side(&right), |a, b| a | b);
            merge.filter(move |&status| !dirty || status > 0).covering(0..512_000)
        };
        assert!(is_long(&mut covering(false)) && !is_long(&mut covering(true)), "a filter leaves gaps");
        let mut boxed = alloc::boxed::Box::new(adapted);
        let mut block = Block::new();
        assert!(read(&mut boxed, &mut block, None));
        assert!(block.segments::<false>(block.all()).count() > 0);
        let next = boxed.next_extent().unwrap().unwrap();
        assert_eq!(
            block.segments::<false>(block.all()).last().unwrap().end,
            next.start(),
            "it goes on after the block"
        );
    }
}
