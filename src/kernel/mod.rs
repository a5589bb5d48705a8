#![doc = include_str!("README.md")]

mod block;
mod decode;
mod input;
mod keep;
mod key;
mod merge;
mod runs;
mod simd;

pub(crate) use block::{Block, Segment};
pub(crate) use input::Consumed;
pub(crate) use keep::Questions;
pub(crate) use key::{CODES, sides_of};
pub use simd::Processor;
pub(crate) use simd::dispatch;

use input::Input;

use crate::extent::MAX_END;
use crate::wire::RawList;

/// A list of descriptors in memory, and the place from which it is read on.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    /// The descriptors that have not been read.
    pub(crate) list: RawList<'a>,
    /// Whether another list may follow.
    pub(crate) goes_on: bool,
    /// The start of the first descriptor of the list, and the end of the one that was read last.
    pub(crate) position: u64,
    /// The flags of the descriptor that was read last.
    pub(crate) flags: u64,
}

/// A stream over lists of descriptors in memory.
pub trait Lists {
    /// The list that is read now. It is empty only at the end of the stream.
    fn wire(&self) -> Wire<'_>;

    /// Skips descriptors of the list.
    fn skip(&mut self, consumed: Consumed);
}

/// A merge that can be read in blocks.
pub trait Blocks {
    /// Whether enough descriptors are left for blocks to pay.
    fn is_long(&mut self) -> bool;

    /// Merges the next descriptors into `block`, and consumes them. Whatever ends beyond `until` is
    /// left to the scalar merge.
    fn next_block(&mut self, block: &mut Block, until: u64) -> NextBlock;
}

/// The outcome of [`Blocks::next_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextBlock {
    /// The block holds segments, perhaps none of which is wanted.
    Merged,
    /// The block needs answers about flags that were not seen before: [`Block::answer`] them, then
    /// ask again.
    NewFlags,
    /// The scalar merge must go on: at the end, at an error, and at numbers that do not fit a key.
    Scalar,
}

/// A side of a merge: a list, and the position of the merge, which is the start of the list, or
/// lies in the descriptor that was read last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) wire: Wire<'a>,
    pub(crate) start: u64,
}

/// The descriptors that a block has consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The new position of the merge.
    pub(crate) position: u64,
    pub(crate) left: Consumed,
    pub(crate) right: Consumed,
}

/// Merges from the start of both sides into `block`, up to byte `until`.
pub(crate) fn merge(
    left: &Side<'_>,
    right: &Side<'_>,
    block: &mut Block,
    until: u64,
) -> Result<Progress, NextBlock> {
    // Beyond MAX_END there is an error to report, and no sum of it fits a key.
    if left.start != right.start || left.start > MAX_END {
        return Err(NextBlock::Scalar);
    }
    match (left.wire.list, right.wire.list) {
        (RawList::Compact(a), RawList::Compact(b)) => block.fill(&input(left, a), &input(right, b), until),
        (RawList::Extended(a), RawList::Extended(b)) => block.fill(&input(left, a), &input(right, b), until),
        (RawList::Pair32(a), RawList::Pair32(b)) => block.fill(&input(left, a), &input(right, b), until),
        (RawList::Pair64(a), RawList::Pair64(b)) => block.fill(&input(left, a), &input(right, b), until),
        _ => Err(NextBlock::Scalar),
    }
}

fn input<'a, R>(side: &Side<'a>, list: &'a [R]) -> Input<'a, R> {
    Input { list, start: side.start, list_start: side.wire.position, flags: side.wire.flags }
}

#[cfg(test)]
mod tests;
