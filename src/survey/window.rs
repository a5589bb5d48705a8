//! A range of the disk that all contexts of a reply describe, merged while it is read.

use alloc::sync::Arc;
use core::ops::Range;

use smallvec::SmallVec;

use super::ahead;
use super::layer::{Answer, Layer, LayerCursor};
use super::output_queue::OutputQueue;
use crate::extent::Extent;
use crate::status::Status;

/// One context's layer, and the status of the bytes that it does not describe.
pub(super) type ContextLayer = (Layer, Status);

/// One reply: a layer per context, then the layers retained from earlier replies.
///
/// Several pieces may be read from it.
pub(super) type ReplyLayers = SmallVec<[ContextLayer; 4]>;

/// The position of a window in one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerState {
    pub(super) cursor: LayerCursor,
    /// The answer for the bytes up to the cursor.
    pub(super) answer: Answer,
}

/// The merged extents of a window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    parts: ReplyLayers,
    /// One for each layer.
    at: SmallVec<[LayerState; 4]>,
    /// The status of the whole window known from elsewhere: the bitmaps, when the details are
    /// requested separately.
    known: Answer,
    /// True if all layers describe disjoint parts of a status, so that nothing can be disputed.
    disjoint: bool,
    /// The range not yet read.
    left: Range<u64>,
}

impl Window {
    pub(super) fn new(range: &Range<u64>, parts: ReplyLayers, known: Answer) -> Self {
        let start = |(layer, elsewhere): &ContextLayer| LayerState {
            cursor: layer.cursor(),
            answer: Answer::new(*elsewhere),
        };
        let at = parts.iter().map(start).collect();
        let disputed = known.disputed || parts.iter().any(|(layer, _)| layer.may_be_disputed());
        let all =
            parts.iter().try_fold(known.status, |all, (layer, _)| all.beside(layer.meaning().safe_status()));
        Self { parts, at, known, disjoint: all.is_some() && !disputed, left: range.clone() }
    }

    /// Returns the next extent: the joined answers about the next byte, up to the first change.
    pub(super) fn next_extent(&mut self) -> Option<Extent<Answer>> {
        let Range { start, end } = self.left;
        if start >= end {
            return None;
        }
        let (mut next, mut merged) = (end, None);
        for ((layer, elsewhere), LayerState { cursor, answer }) in self.parts.iter().zip(&mut self.at) {
            if cursor.position <= start {
                let flags = cursor.seek_past(start, &layer.list());
                *answer = flags.map_or(Answer::new(*elsewhere), |flags| layer.answer(flags));
            }
            next = next.min(cursor.position);
            merged = Some(merged.map_or(*answer, |merged: Answer| merged.join(answer)));
        }
        self.left.start = next;
        Some(Extent::trusted(start, next, merged.map_or(self.known, |merged| merged.join(&self.known))))
    }

    /// Reads ahead while there is room, if the layers are disjoint.
    ///
    /// Returns the range that was read; `None` if nothing was.
    pub(super) fn read_ahead(&mut self, ready: &mut OutputQueue) -> Option<Range<u64>> {
        let Range { start: first, end } = self.left;
        if !self.disjoint || first >= end {
            return None;
        }
        self.left.start = ahead::merge(&self.parts, &mut self.at, first..end, self.known.status, ready);
        Some(first..self.left.start)
    }
}

/// The window being read, and its reply. The next window may read the same reply, from where this
/// one ends.
#[derive(Debug, Default)]
pub(super) struct Reader {
    window: Option<Window>,
    reply: Option<Open>,
}

#[derive(Debug)]
struct Open {
    layers: Arc<ReplyLayers>,
    /// The same layers, without the descriptors before the window.
    parts: ReplyLayers,
}

impl Reader {
    /// Opens the next window.
    pub(super) fn open(&mut self, range: &Range<u64>, layers: Arc<ReplyLayers>, known: Answer) {
        let mut reply = match self.reply.take() {
            Some(open) if Arc::ptr_eq(&open.layers, &layers) => open,
            _ => Open { parts: ReplyLayers::clone(&layers), layers },
        };
        for (layer, _) in &mut reply.parts {
            layer.skip_to(range.start);
        }
        self.window = Some(Window::new(range, reply.parts.clone(), known));
        self.reply = Some(reply);
    }

    /// Reads ahead in the window, while there is room: see [`Window::read_ahead`].
    pub(super) fn read_ahead(&mut self, ready: &mut OutputQueue) -> Option<Range<u64>> {
        self.window.as_mut()?.read_ahead(ready)
    }

    /// Returns the next extent of the window; `None` at its end.
    pub(super) fn next_extent(&mut self) -> Option<Extent<Answer>> {
        let next = self.window.as_mut()?.next_extent();
        if next.is_none() {
            self.window = None;
        }
        next
    }

    /// Drops a reply that no piece refers to any more, so that it no longer counts.
    pub(super) fn rest(&mut self) {
        self.reply.take_if(|open| Arc::strong_count(&open.layers) == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{BitmapIndex, Dirtiness};
    use crate::survey::budget::Payload;
    use crate::survey::contexts::ContextKind;
    use crate::survey::layer::DISPUTED;
    use crate::survey::rules::Usable;
    use crate::wire::{Descriptor, Form, encode};
    use alloc::vec::Vec;
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
        fn part(&self) -> ContextLayer {
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
                (Layer::of_retained(payload, meaning, 0, usable), Status::UNKNOWN)
            } else {
                (Layer::new(payload, form, meaning, 0, usable), meaning.safe_status())
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
        /// Read extent by extent, ahead, and in turns, a window combines for each byte the answers
        /// of all layers.
        #[test]
        fn every_byte_gets_what_all_say(
            layers in vec(test_list(), 1..6),
            start in 0..100_u64,
            length in 1..400_u64,
            known in 0..3_u8,
            turns in vec(0..50_u8, 1..30),
        ) {
            let dirty = Status::UNKNOWN.with_bitmap(BitmapIndex::of::<7>(), Dirtiness::DIRTY);
            let known = match known {
                0 => Answer::new(Status::UNKNOWN),
                1 => Answer::new(dirty),
                _ => Answer { status: dirty, disputed: true },
            };
            let range = start..start + length;
            let parts: ReplyLayers = layers.iter().map(TestList::part).collect();
            let mut window = Window::new(&range, parts, known);
            let mut position = start;
            let mut check = |extent: &Extent<Status>, disputed: Option<bool>| {
                assert_eq!(extent.start(), position);
                for byte in extent.range() {
                    let mut all = layers.iter().map(|list| list.says(byte));
                    let first = all.next().unwrap();
                    let said = all.fold(first, |all, other| all.join(&other)).join(&known);
                    assert_eq!(*extent.status(), said.status, "byte {byte}");
                    assert_eq!(disputed.unwrap_or_default(), said.disputed, "byte {byte}");
                }
                position = extent.end();
            };
            for turn in turns.into_iter().cycle() {
                let mut ready = OutputQueue::of(usize::from(turn));
                let before = window.left.start;
                let Some(read) = (if turn > 0 { window.read_ahead(&mut ready) } else { None }) else {
                    let Some(extent) = window.next_extent() else { break };
                    check(&extent.map(|answer| answer.status), Some(extent.status().disputed));
                    continue;
                };
                prop_assert_eq!(read, before..window.left.start);
                let mut last = None;
                while let Some(extent) = ready.take_whole().or_else(|| ready.take_last()) {
                    prop_assert_ne!(last, Some(*extent.status()), "equal neighbours are joined");
                    last = Some(*extent.status());
                    check(&extent, None);
                }
            }
            prop_assert_eq!(position, range.end);
        }
    }
}
