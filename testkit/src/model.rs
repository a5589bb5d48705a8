//! The truth about a small disk, one entry per block, and the lists that the example must print for
//! it.
//!
//! Nothing here merges, stitches or carries over: every block was asked about by itself. Only at
//! the very end equal neighbours are joined, for the lists.

use core::ops::Range;
use std::path::Path;

use serde_json::{Value, json};

use super::naive::{Answer, Client};

const ALLOCATION: &str = "base:allocation";
const DEPTH: &str = "qemu:allocation-depth";
const BITMAP: &str = "qemu:dirty-bitmap:";
const ZERO: u32 = 2;
const DIRTY: u32 = 1;

/// The block that is asked about at a time; smaller at the tail of an odd disk.
pub const BLOCK: u32 = 512;

/// The status of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// Reads as zeroes. None where nobody asked, because asking fails there.
    pub zero: Option<bool>,
    /// Allocation depth; None where the server does not offer it.
    pub depth: Option<u32>,
    /// The flag of each bitmap, in the order asked for.
    pub dirty: Vec<bool>,
}

/// A block: its place and its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelBlock {
    pub range: Range<u64>,
    pub status: ModelStatus,
}

/// How a survey asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyOrder {
    /// All contexts at once.
    Together,
    /// The bitmaps first; then zero status within dirty ranges only, so that clean ones count as
    /// data.
    BitmapFirst,
}

/// A whole disk: consecutive blocks, from 0 to its end.
#[derive(Clone, Debug)]
pub struct Model {
    pub blocks: Vec<ModelBlock>,
}

impl Model {
    /// Asks about everything: allocation, depth and bitmaps, everywhere.
    pub fn ask(socket: &Path, export: &str, bitmaps: &[&str]) -> Self {
        let mut contexts = vec![ALLOCATION.to_owned(), DEPTH.to_owned()];
        contexts.extend(bitmaps.iter().map(|name| format!("{BITMAP}{name}")));
        let mut client = Client::connect(socket, export, &contexts);
        let size = client.size();
        let blocks = survey(&mut client, 0..size).into_iter().map(|(range, answer)| ModelBlock {
            range,
            status: ModelStatus { zero: zero(&answer), depth: depth(&answer), dirty: dirty(&answer[2..]) },
        });
        Self { blocks: blocks.collect() }
    }

    /// Asks the bitmaps alone, then about allocation in the dirty blocks alone.
    pub fn ask_dirty_only(socket: &Path, export: &str, bitmaps: &[&str]) -> Self {
        let contexts: Vec<String> = bitmaps.iter().map(|name| format!("{BITMAP}{name}")).collect();
        let mut first = Client::connect(socket, export, &contexts);
        let mut second = Client::connect(socket, export, &[ALLOCATION.to_owned()]);
        let size = first.size();
        let mut blocks = Vec::new();
        for (range, answer) in survey(&mut first, 0..size) {
            let dirty = dirty(&answer);
            if dirty.contains(&true) {
                blocks.extend(survey(&mut second, range).into_iter().map(|(range, answer)| ModelBlock {
                    range,
                    status: ModelStatus { zero: zero(&answer), depth: None, dirty: dirty.clone() },
                }));
            } else {
                blocks.push(ModelBlock { range, status: ModelStatus { zero: None, depth: None, dirty } });
            }
        }
        Self { blocks }
    }

    pub fn size(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.range.end)
    }

    /// `{"start", "length", "zero", "hole"}`: the answer without bitmaps.
    pub fn zero_list(&self, range: &Range<u64>) -> Vec<Value> {
        let parts =
            self.clip(range).map(|(part, status)| (part, (status.reads_zero(), status.depth == Some(0))));
        join(parts).into_iter().map(zero_extent).collect()
    }

    /// `{"start", "length", "dirty", "zero"}`: the answer with the bitmaps of these numbers named.
    pub fn dirty_list(&self, range: &Range<u64>, bitmaps: &[usize], order: SurveyOrder) -> Vec<Value> {
        let parts = self.clip(range).map(|(part, status)| {
            let dirty = status.is_dirty(bitmaps);
            let asked = dirty || order == SurveyOrder::Together;
            (part, (dirty, asked && status.reads_zero()))
        });
        join(parts).into_iter().map(dirty_extent).collect()
    }

    /// The blocks within `range`, cut at its ends.
    fn clip<'a>(&'a self, range: &'a Range<u64>) -> impl Iterator<Item = (Range<u64>, &'a ModelStatus)> {
        self.blocks.iter().filter_map(|block| {
            let start = block.range.start.max(range.start);
            let end = block.range.end.min(range.end);
            (start < end).then_some((start..end, &block.status))
        })
    }
}

impl ModelStatus {
    fn reads_zero(&self) -> bool {
        self.zero.expect("zero status of a block asked about")
    }

    fn is_dirty(&self, bitmaps: &[usize]) -> bool {
        bitmaps.iter().any(|bitmap| self.dirty[*bitmap])
    }
}

/// One extent of the form that is printed without bitmaps: `(zero, hole)`.
pub fn zero_extent((at, (zero, hole)): (Range<u64>, (bool, bool))) -> Value {
    json!({"start": at.start, "length": at.end - at.start, "zero": zero, "hole": hole})
}

/// One extent of the form that is printed with bitmaps: `(dirty, zero)`.
pub fn dirty_extent((at, (dirty, zero)): (Range<u64>, (bool, bool))) -> Value {
    json!({"start": at.start, "length": at.end - at.start, "dirty": dirty, "zero": zero})
}

/// Joins equal neighbours.
pub fn join<T: PartialEq>(parts: impl IntoIterator<Item = (Range<u64>, T)>) -> Vec<(Range<u64>, T)> {
    let mut joined: Vec<(Range<u64>, T)> = Vec::new();
    for (part, status) in parts {
        match joined.last_mut() {
            Some((last, same)) if last.end == part.start && *same == status => last.end = part.end,
            _ => joined.push((part, status)),
        }
    }
    joined
}

/// Asks about a range in blocks. A block that an answer does not cover is asked about byte by byte.
fn survey(client: &mut Client, range: Range<u64>) -> Vec<(Range<u64>, Answer)> {
    let blocks = cut(range, BLOCK);
    let answers = client.ask_all(&blocks);
    let mut found = Vec::with_capacity(blocks.len());
    for ((offset, length), answer) in blocks.into_iter().zip(answers) {
        let block = offset..offset + u64::from(length);
        if covers(&answer, length) {
            found.push((block, answer));
        } else {
            let bytes = cut(block, 1);
            let answers = client.ask_all(&bytes);
            found.extend(bytes.into_iter().zip(answers).map(|((at, _), answer)| (at..at + 1, answer)));
        }
    }
    found
}

/// Blocks (offset and length) that lie at multiples of their length, as far as the range's ends
/// allow.
fn cut(range: Range<u64>, block: u32) -> Vec<(u64, u32)> {
    let step = u64::from(block);
    let mut blocks = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = ((at / step + 1) * step).min(range.end);
        blocks.push((at, u32::try_from(end - at).unwrap()));
        at = end;
    }
    blocks
}

fn covers(answer: &Answer, length: u32) -> bool {
    answer.iter().flatten().all(|descriptor| descriptor.length >= length)
}

fn zero(answer: &Answer) -> Option<bool> {
    answer[0].map(|allocation| allocation.flags & ZERO != 0)
}

fn depth(answer: &Answer) -> Option<u32> {
    answer[1].map(|depth| depth.flags)
}

fn dirty(answer: &[Option<super::naive::NaiveDescriptor>]) -> Vec<bool> {
    let bitmap =
        |found: &Option<super::naive::NaiveDescriptor>| found.expect("a bitmap asked for").flags & DIRTY != 0;
    answer.iter().map(bitmap).collect()
}
