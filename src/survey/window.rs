//! A stretch of the disk that all contexts of a reply describe, merged while it is read.

use alloc::sync::Arc;
use core::ops::Range;

use smallvec::SmallVec;

use super::ahead;
use super::layer::{Answer, Layer, Place};
use super::output_queue::OutputQueue;
use crate::extent::Extent;
use crate::status::Status;

/// One context's part in a window: its layer, and what holds for the bytes that it leaves out.
pub(super) type Part = (Layer, Status);

/// What a reply told, one part a context, and what rests told before it. Several pieces may be read from it.
pub(super) type Told = SmallVec<[Part; 4]>;

/// Where a window stands in a part.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) place: Place,
    /// What is said of the bytes up to the place.
    pub(super) answer: Answer,
}

/// The merged extents of a window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    parts: Told,
    /// One for each part.
    at: SmallVec<[At; 4]>,
    /// What is known of the whole window from elsewhere: the bitmaps, when the details are asked apart.
    known: Answer,
    /// Whether no two of all these speak about the same part of a status, so that there is nothing to weigh and nothing to dispute.
    apart: bool,
    /// What has not been read yet.
    left: Range<u64>,
}

impl Window {
    pub(super) fn new(range: &Range<u64>, parts: Told, known: Answer) -> Self {
        let start = |(layer, elsewhere): &Part| At { place: layer.place(), answer: Answer::new(*elsewhere) };
        let at = parts.iter().map(start).collect();
        let disputed = known.disputed || parts.iter().any(|(layer, _)| layer.may_be_disputed());
        let all =
            parts.iter().try_fold(known.status, |all, (layer, _)| all.beside(layer.meaning().safe_status()));
        Self { parts, at, known, apart: all.is_some() && !disputed, left: range.clone() }
    }

    /// The next extent: what all say of the next byte, up to where the first of them says something else.
    pub(super) fn next_extent(&mut self) -> Option<Extent<Answer>> {
        let Range { start, end } = self.left;
        if start >= end {
            return None;
        }
        let (mut next, mut merged) = (end, None);
        for ((layer, elsewhere), At { place, answer }) in self.parts.iter().zip(&mut self.at) {
            if place.position <= start {
                let flags = place.go_behind(start, &layer.list());
                *answer = flags.map_or(Answer::new(*elsewhere), |flags| layer.answer(flags));
            }
            next = next.min(place.position);
            merged = Some(merged.map_or(*answer, |merged: Answer| merged.join(answer)));
        }
        self.left.start = next;
        Some(Extent::trusted(start, next, merged.map_or(self.known, |merged| merged.join(&self.known))))
    }

    /// Reads on while there is room, where that can be done without weighing what is said. Returns what has been read; `None` when nothing has.
    pub(super) fn read_ahead(&mut self, ready: &mut OutputQueue) -> Option<Range<u64>> {
        let Range { start: first, end } = self.left;
        if !self.apart || first >= end {
            return None;
        }
        self.left.start = ahead::merge(&self.parts, &mut self.at, first..end, self.known.status, ready);
        Some(first..self.left.start)
    }
}

/// The window that is read, and the reply behind it: the next window may be of the same reply, and goes on where this one ends.
#[derive(Debug, Default)]
pub(super) struct Reader {
    window: Option<Window>,
    reply: Option<Open>,
}

#[derive(Debug)]
struct Open {
    told: Arc<Told>,
    /// The same parts, without the descriptors that lie before the window.
    parts: Told,
}

impl Reader {
    /// Goes on to another window.
    pub(super) fn open(&mut self, range: &Range<u64>, told: Arc<Told>, known: Answer) {
        let mut reply = match self.reply.take() {
            Some(open) if Arc::ptr_eq(&open.told, &told) => open,
            _ => Open { parts: Told::clone(&told), told },
        };
        for (layer, _) in &mut reply.parts {
            layer.skip_to(range.start);
        }
        self.window = Some(Window::new(range, reply.parts.clone(), known));
        self.reply = Some(reply);
    }

    /// Reads on in the window, while there is room: see [`Window::read_ahead`].
    pub(super) fn read_ahead(&mut self, ready: &mut OutputQueue) -> Option<Range<u64>> {
        self.window.as_mut()?.read_ahead(ready)
    }

    /// The next extent of the window; at its end `None`.
    pub(super) fn next_extent(&mut self) -> Option<Extent<Answer>> {
        let next = self.window.as_mut()?.next_extent();
        if next.is_none() {
            self.window = None;
        }
        next
    }

    /// Lets go of a reply that no piece is left of, so that it does not count any more.
    pub(super) fn rest(&mut self) {
        self.reply.take_if(|open| Arc::strong_count(&open.told) == 1);
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

    /// A list about bytes from 0 on: a payload of a reply, or joined rests.
    #[derive(Clone, Debug)]
    struct Said {
        meaning: ContextKind,
        rests: bool,
        list: Vec<(u64, u64)>,
    }

    impl Said {
        fn part(&self) -> Part {
            let Self { meaning, rests, ref list } = *self;
            // the last may reach farther than what is used of it
            let usable = Usable { descriptors: list.len(), end: self.end() };
            let lengthened = list.iter().enumerate().map(|(nth, &(length, flags))| Descriptor {
                length: if nth + 1 == list.len() { length + 5 } else { length },
                flags,
            });
            let wide = rests || list.iter().any(|&(_, flags)| flags >> 32 != 0);
            let form = if wide { Form::Extended } else { Form::Compact };
            let payload = Payload::uncounted(encode(form, 0, lengthened).unwrap());
            if rests {
                (Layer::of_rests(payload, meaning, 0, usable), Status::UNKNOWN)
            } else {
                (Layer::new(payload, form, meaning, 0, usable), meaning.safe_status())
            }
        }

        fn end(&self) -> u64 {
            self.list.iter().map(|(length, _)| length).sum()
        }

        /// What is said of one byte.
        fn says(&self, byte: u64) -> Answer {
            let mut end = 0;
            let reaches = |&&(length, _): &&(u64, u64)| {
                end += length;
                end > byte
            };
            match self.list.iter().find(reaches) {
                Some((_, flags)) if self.rests => {
                    Answer { status: self.meaning.status(flags & !DISPUTED), disputed: flags & DISPUTED != 0 }
                }
                Some(&(_, flags)) => Answer::new(self.meaning.status(flags)),
                None if self.rests => Answer::new(Status::UNKNOWN),
                None => Answer::new(self.meaning.safe_status()),
            }
        }
    }

    fn told() -> impl Strategy<Value = Said> {
        const MEANINGS: [ContextKind; 4] = [
            ContextKind::Allocation,
            ContextKind::Bitmap(BitmapIndex::FIRST),
            ContextKind::Bitmap(BitmapIndex::of::<31>()),
            ContextKind::Depth,
        ];
        let flags = select(&[0, 1, 2, 3, 3, 4, 7, 255, 1 << 32, 1 << 40, u64::MAX >> 1][..]);
        let list = vec((1..12_u64, flags), 1..60);
        (select(&MEANINGS[..]), prop::bool::weighted(0.1), list).prop_map(|(meaning, rests, mut list)| {
            if rests {
                // what is joined has known flags, and some are marked
                let known = |flags| meaning.known_flags(flags) | if flags & 4 != 0 { DISPUTED } else { 0 };
                list.iter_mut().for_each(|(_, flags)| *flags = known(*flags));
            }
            Said { meaning, rests, list }
        })
    }

    proptest! {
        /// Read one by one, ahead, and in turns, a window says of each byte what all parts together say of it.
        #[test]
        fn every_byte_gets_what_all_say(
            told in vec(told(), 1..6),
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
            let parts: Told = told.iter().map(Said::part).collect();
            let mut window = Window::new(&range, parts, known);
            let mut position = start;
            let mut check = |extent: &Extent<Status>, disputed: Option<bool>| {
                assert_eq!(extent.start(), position);
                for byte in extent.range() {
                    let mut all = told.iter().map(|told| told.says(byte));
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
