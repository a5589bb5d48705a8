//! A range of the disk that all contexts of a reply describe, merged while it is read: the step of
//! `stream/merge.rs`, over the lists of one reply.
//!
//! ```text
//! while bytes are left and the queue has room:
//!     next           =  the end that comes first
//!     push position..next with the answers of all layers joined; the position is `next`
//!     in each layer:    on to the next descriptor, if the current one ends there
//! ```
//!
//! In the usual case each context describes its own part of the status and nothing is disputed. Then
//! to join is an OR of bits; otherwise the safer answer holds, and a dispute is noted.
//!
//! No processor foretells which context changes next, and a wrong guess costs more than the rest of
//! the step. So descriptors are decoded in small blocks, and the step within a block is an addition,
//! not a branch: of two contexts with 2,000 descriptors each, a branch made 16 of 13 ns.

#![allow(clippy::indexing_slicing, reason = "an index in a block is below its length, see `pass`")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use smallvec::SmallVec;

use super::layer::{Answer, Layer, PackedAnswer};
use super::queue::Queue;
use crate::error::StreamError;
use crate::status::Status;

/// One reply: a layer per context, then the layers retained from earlier replies.
///
/// Several pieces may be read from it.
pub(super) type ReplyLayers = SmallVec<[Layer; 4]>;

/// The number of descriptors of a layer that are decoded at once.
const BLOCK: usize = 16;

/// One layer, decoded block by block. The blocks cover the disk up to `u64::MAX`.
///
/// Ends and answers are apart: each step of the merge waits for the load of an end, which is one
/// cycle shorter from an array of numbers.
#[derive(Clone, Debug)]
struct DecodedLayer {
    /// The layer, after the block.
    layer: Layer,
    /// The answers for the flags that nearly all descriptors have: 0 to 3.
    usual: [PackedAnswer; 4],
    /// The ends of the descriptors of the block.
    ends: [u64; BLOCK],
    /// Their answers.
    answers: [PackedAnswer; BLOCK],
    /// The index of the current descriptor in the block.
    current: usize,
}

impl DecodedLayer {
    fn new(layer: &Layer) -> Self {
        let mut decoded = Self {
            usual: [0, 1, 2, 3].map(|flags| layer.meaning.answer(flags).pack()),
            layer: layer.clone(),
            ends: [0; BLOCK],
            answers: [[0; 2]; BLOCK],
            current: 0,
        };
        decoded.decode();
        decoded
    }

    /// Decodes the next block. The last descriptor is followed by an end at `u64::MAX`, for the bytes
    /// that the layer does not describe, which is never passed.
    #[inline(never)]
    fn decode(&mut self) {
        let Self { layer, usual, ends, answers, .. } = self;
        let meaning = layer.meaning;
        let answer = |flags| match usize::try_from(flags).ok().and_then(|flags| usual.get(flags)) {
            Some(usual) => *usual,
            None => meaning.answer(flags).pack(),
        };
        let count = layer.next_block((ends, answers), answer);
        if count < BLOCK {
            (ends[count], answers[count]) = (u64::MAX, meaning.elsewhere().pack());
        }
    }
}

/// The window being read: a range of the disk, and the reply that describes it. The next window may
/// read the same reply, from where this one ends.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The range not yet read.
    left: Range<u64>,
    /// The answer about all of it known from elsewhere: the bitmaps, when the details are requested
    /// separately.
    known: PackedAnswer,
    /// True if all layers describe disjoint parts of a status, so that nothing can be disputed.
    disjoint: bool,
    reply: Option<Arc<ReplyLayers>>,
    layers: Vec<DecodedLayer>,
}

impl Window {
    /// Opens the next window: `range`, as the layers of `reply` describe it. `known` is the answer
    /// about all of it from an earlier pass.
    pub(super) fn open(&mut self, range: Range<u64>, reply: Arc<ReplyLayers>, known: Answer) {
        // retained layers describe the same statuses as the fresh ones, and may contradict them
        let disputed = known.disputed || reply.iter().any(|layer| layer.meaning.retained);
        let mut parts = reply.iter().map(|layer| layer.meaning.kind.safe_status());
        self.disjoint = !disputed && parts.try_fold(known.status, Status::beside).is_some();
        // the same reply is read on from the blocks that are decoded already
        if !self.reply.as_ref().is_some_and(|open| Arc::ptr_eq(open, &reply)) {
            self.layers.clear();
            self.layers.extend(reply.iter().map(DecodedLayer::new));
        }
        for mut head in self.layers.iter_mut().map(Head::of) {
            while head.end <= range.start {
                head.pass(range.start);
            }
            head.layer.current = head.current;
        }
        (self.left, self.known) = (range, known.pack());
        self.reply = Some(reply);
    }

    /// Moves the next extents to the queue, until that has `most`. Returns `false` if none is left.
    pub(super) fn read(&mut self, queue: &mut Queue, most: usize) -> Result<bool, StreamError> {
        let &mut Self { ref mut layers, ref mut left, known, disjoint, .. } = self;
        if left.is_empty() {
            return Ok(false);
        }
        let or = |a: PackedAnswer, b: PackedAnswer| [a[0] | b[0], a[1] | b[1]];
        let safer = |a, b| Answer::unpack(a).join(&Answer::unpack(b)).pack();
        // Of a few layers a compiler knows the number, and keeps the changing values in registers.
        match layers.as_mut_slice() {
            [a] if disjoint => merge::<false>([a].map(Head::of), left, known, or, (queue, most)),
            [a, b] if disjoint => merge::<false>([a, b].map(Head::of), left, known, or, (queue, most)),
            [a, b, c] if disjoint => merge::<false>([a, b, c].map(Head::of), left, known, or, (queue, most)),
            _ => {
                let heads: SmallVec<[_; 8]> = layers.iter_mut().map(Head::of).collect();
                if disjoint {
                    merge::<false>(heads, left, known, or, (queue, most))
                } else {
                    merge::<true>(heads, left, known, safer, (queue, most))
                }
            }
        }?;
        Ok(true)
    }

    /// True if there is something to read, or a reply to release.
    pub(super) fn is_unread(&self) -> bool {
        let is_alone = |open: &Arc<ReplyLayers>| Arc::strong_count(open) == 1;
        !self.left.is_empty() || self.reply.as_ref().is_some_and(is_alone)
    }

    /// Releases the reply if no piece refers to it any more, so that its payloads leave the budget.
    pub(super) fn release_unused(&mut self) {
        if self.reply.take_if(|open| Arc::strong_count(open) == 1).is_some() {
            self.layers.clear();
        }
    }
}

/// The current descriptor of a layer. The loop of the merge keeps its index and its end in registers.
struct Head<'a> {
    layer: &'a mut DecodedLayer,
    current: usize,
    end: u64,
}

impl<'a> Head<'a> {
    fn of(layer: &'a mut DecodedLayer) -> Self {
        Self { current: layer.current, end: layer.ends[layer.current], layer }
    }

    /// Goes on to the next descriptor if the current one ends at or before `position`.
    #[inline(always)]
    fn pass(&mut self, position: u64) {
        self.current += usize::from(self.end <= position);
        if self.current >= BLOCK {
            self.layer.decode();
            self.current = 0;
        }
        self.end = self.layer.ends[self.current];
    }
}

/// The merge itself: up to the end of `left`, or until the queue has `most` extents.
#[inline(never)]
fn merge<'a, const DISPUTES: bool>(
    mut heads: impl AsMut<[Head<'a>]>,
    left: &mut Range<u64>,
    known: PackedAnswer,
    join: impl Fn(PackedAnswer, PackedAnswer) -> PackedAnswer,
    (queue, most): (&mut Queue, usize),
) -> Result<(), StreamError> {
    let (heads, Range { mut start, end }) = (heads.as_mut(), left.clone());
    let mut queue = queue.fill_from(start, most)?;
    while queue.has_room() {
        // Each step waits for the ends of the step before; the end of the window is kept out of that.
        let (mut next, mut all) = (u64::MAX, known);
        for Head { layer, current, end } in &*heads {
            (next, all) = (next.min(*end), join(all, layer.answers[*current]));
        }
        start = next.min(end);
        queue.push::<DISPUTES>(start, all);
        // `open` passes the descriptors that end with the window before it opens the next one.
        if next >= end {
            break;
        }
        heads.iter_mut().for_each(|head| head.pass(next));
    }
    queue.finish(start);
    left.start = start;
    heads.iter_mut().for_each(|head| head.layer.current = head.current);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::ContextKind;
    use crate::extent::Extent;
    use crate::status::{BitmapIndex, Dirtiness};
    use crate::survey::budget::Payload;
    use crate::survey::layer::DISPUTED;
    use crate::survey::queue::MOST;
    use crate::survey::rules::Usable;
    use crate::wire::{Descriptor, Form, encode};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// A list about the bytes from 0 on: the payload of a reply, or retained layers joined.
    #[derive(Clone, Debug)]
    struct TestList {
        meaning: ContextKind,
        retained: bool,
        list: Vec<(u64, u64)>,
    }

    impl TestList {
        fn layer(&self) -> Layer {
            let Self { meaning, retained, ref list } = *self;
            // the last descriptor may reach beyond its usable part
            let usable = Usable { descriptors: list.len(), end: self.end() };
            let lengthened = list.iter().enumerate().map(|(nth, &(length, flags))| Descriptor {
                length: if nth + 1 == list.len() { length + 5 } else { length },
                flags,
            });
            let wide = retained || list.iter().any(|&(_, flags)| flags >> 32 != 0);
            let form = if wide { Form::Extended } else { Form::Compact };
            let payload = Payload::uncounted(encode(form, 0, lengthened).unwrap());
            if retained {
                Layer::joined(payload, meaning, 0, usable)
            } else {
                Layer::new(payload, form, meaning, 0, usable)
            }
        }

        fn end(&self) -> u64 {
            self.list.iter().map(|(length, _)| length).sum()
        }

        /// The answer about one byte.
        fn says(&self, byte: u64) -> Answer {
            let mut end = 0;
            let reaches = |&&(length, _): &&(u64, u64)| {
                end += length;
                end > byte
            };
            match self.list.iter().find(reaches) {
                Some((_, flags)) if self.retained => {
                    Answer { status: self.meaning.status(flags & !DISPUTED), disputed: flags & DISPUTED != 0 }
                }
                Some(&(_, flags)) => Answer::new(self.meaning.status(flags)),
                None if self.retained => Answer::new(Status::UNKNOWN),
                None => Answer::new(self.meaning.safe_status()),
            }
        }
    }

    fn test_list() -> impl Strategy<Value = TestList> {
        const MEANINGS: [ContextKind; 4] = [
            ContextKind::Allocation,
            ContextKind::Bitmap(BitmapIndex::FIRST),
            ContextKind::Bitmap(BitmapIndex::of::<31>()),
            ContextKind::Depth,
        ];
        let flags = select(&[0, 1, 2, 3, 3, 4, 7, 255, 1 << 32, 1 << 40, u64::MAX >> 1][..]);
        let list = vec((1..12_u64, flags), 1..60);
        (select(&MEANINGS[..]), prop::bool::weighted(0.1), list).prop_map(|(meaning, retained, mut list)| {
            if retained {
                // a retained list has known flags, and some are marked
                let known = |flags| meaning.known_flags(flags) | if flags & 4 != 0 { DISPUTED } else { 0 };
                list.iter_mut().for_each(|(_, flags)| *flags = known(*flags));
            }
            TestList { meaning, retained, list }
        })
    }

    proptest! {
        /// However many extents are read at a time, a window joins for each byte the answers of all
        /// layers.
        #[test]
        fn every_byte_gets_what_all_say(
            layers in vec(test_list(), 1..6),
            start in 0..100_u64,
            length in 1..400_u64,
            known in 0..3_u8,
            turns in vec(1..50_u8, 1..30),
        ) {
            let dirty = Status::UNKNOWN.with_bitmap(BitmapIndex::of::<7>(), Dirtiness::DIRTY);
            let known = match known {
                0 => Answer::new(Status::UNKNOWN),
                1 => Answer::new(dirty),
                _ => Answer { status: dirty, disputed: true },
            };
            let range = start..start + length;
            let reply: ReplyLayers = layers.iter().map(TestList::layer).collect();
            let mut window = Window::default();
            window.open(range.clone(), Arc::new(reply), known);
            let (mut position, mut is_disputed) = (start, false);
            let mut check = |extent: Extent<Answer>| {
                assert_eq!(extent.start(), position);
                is_disputed |= extent.status().disputed;
                for byte in extent.range() {
                    let mut all = layers.iter().map(|list| list.says(byte));
                    let first = all.next().unwrap();
                    let said = all.fold(first, |all, other| all.join(&other)).join(&known);
                    assert_eq!(*extent.status(), said, "byte {byte}");
                }
                position = extent.end();
            };
            let mut queue = Queue::new(start, true);
            for turn in turns.into_iter().cycle() {
                if window.left.is_empty() {
                    break;
                }
                let turn = usize::from(turn).min(MOST);
                window.read(&mut queue, turn).unwrap();
                let mut read = 0;
                while let Some(extent) = queue.pop() {
                    check(extent);
                    read += 1;
                }
                assert!(read == turn || window.left.is_empty(), "it reads while there is room");
            }
            prop_assert_eq!(position, range.end);
            prop_assert_eq!(queue.disputed > 0, is_disputed, "disputes are counted");
        }
    }
}
