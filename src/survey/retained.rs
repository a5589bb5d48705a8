//! Descriptors that went beyond the merged part of their reply, kept for an export that may change.
//!
//! The bytes that they describe are requested again. The safer of the old answer and the new one holds.
//!
//! At most two lists per context are retained, a long one and a short one: a newer list is joined
//! to one of them. No answer is ever dropped: if a list exceeds the free budget, or if joining it
//! again and again costs more work than the received bytes justify, the whole list becomes the
//! context's safe status, which needs almost no memory.

use alloc::vec::Vec;
use core::ops::Range;

use super::budget::{Budget, Payload};

use super::layer::{DISPUTED, Layer};
use super::rules::Usable;
use crate::contexts::{ContextKind, GrantedContext};
use crate::error::StreamError;
use crate::stream::ExtentStream;
use crate::wire::{Descriptor, Form, PayloadWriter};

/// The descriptors that may be joined for each byte of payload received. Servers that answer each
/// request anew need one in four; one whose long list is joined to tiny replies would need
/// thousands.
const WORK_PER_BYTE: usize = 4;
/// The descriptors that may be joined before anything is received.
const FREE_WORK: usize = 4 << 20;

/// The retained answers of one pass, per context.
#[derive(Debug)]
pub(super) struct Retained {
    kept: Vec<RetainedContext>,
    /// The number of descriptors that may still be joined.
    work: usize,
}

/// The retained answers of one context.
///
/// Where the contexts cover very different ranges, the first reply leaves a long list, and every
/// later one a short list about bytes that the long one describes as well. Joining the two each
/// time would cost the length of the long list for every few extents. So a short list stays beside
/// the long one; a window that reads both takes the safer answer, as a join would.
#[derive(Debug, Default)]
struct RetainedContext {
    long: Option<Layer>,
    /// When it was stored, it had at most a quarter of the descriptors left in `long`.
    short: Option<Layer>,
}

impl RetainedContext {
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.long.iter().chain(&self.short)
    }

    fn skip_to(&mut self, offset: u64) {
        for rest in [&mut self.long, &mut self.short] {
            if let Some(layer) = rest {
                layer.skip_to(offset);
            }
            rest.take_if(|layer| layer.end() <= offset);
        }
    }

    /// Takes the list with which `fresh` must be joined: the short one, or the long one if `fresh` has
    /// more than a quarter of its descriptors. `None` if the place for `fresh` is free.
    fn take_partner(&mut self, fresh: &Layer) -> Option<Layer> {
        match &self.long {
            Some(long) if fresh.left().saturating_mul(4) <= long.left() => self.short.take(),
            _ => self.long.take(),
        }
    }

    /// Stores a list in the place that [`take_partner`](Self::take_partner) has found free.
    fn put(&mut self, rest: Layer) {
        let place = if self.long.is_some() { &mut self.short } else { &mut self.long };
        debug_assert!(place.is_none(), "a retained list would be forgotten");
        *place = Some(rest);
    }
}

impl Default for Retained {
    fn default() -> Self {
        Self { kept: Vec::new(), work: FREE_WORK }
    }
}

impl Retained {
    /// The retained layers, each at its read position.
    pub(super) fn layers(&self) -> impl Iterator<Item = Layer> {
        self.kept.iter().flat_map(RetainedContext::layers).cloned()
    }

    /// Drops the answers about bytes before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.kept.iter_mut().for_each(|rest| rest.skip_to(offset));
    }

    /// Retains the answers of `fresh` about the bytes from `done` on, beside earlier ones or joined
    /// to them. Returns the number of lists that had to be coarsened.
    pub(super) fn add(
        &mut self,
        fresh: &[Layer],
        slots: &[GrantedContext],
        done: u64,
        budget: &mut Budget,
    ) -> u64 {
        self.skip_to(done);
        self.kept.resize_with(slots.len(), RetainedContext::default);
        let mut coarsened = 0;
        for ((rest, fresh), slot) in self.kept.iter_mut().zip(fresh).zip(slots) {
            if fresh.end() <= done {
                continue;
            }
            let mut fresh = fresh.clone();
            fresh.skip_to(done);
            fresh.meaning.retained = true;
            // a list joined with the short one may be long enough to be joined with the long one too
            while let Some(old) = rest.take_partner(&fresh) {
                let range = done..old.end().max(fresh.end());
                let payload = if pay(&mut self.work, &old, &fresh) {
                    join(&old, &fresh, slot.kind, done, budget.room())
                } else {
                    None
                };
                coarsened += u64::from(payload.is_none());
                fresh = match payload {
                    Some(payload) => layer(budget.hold(payload), slot.kind, &range),
                    None => coarse(slot.kind, &range),
                };
            }
            rest.put(fresh);
        }
        coarsened
    }

    /// Replaces all lists by the safe status. Returns the number of lists that were not yet coarse.
    pub(super) fn coarsen(&mut self, slots: &[GrantedContext], done: u64) -> u64 {
        let mut coarsened = 0;
        for (rest, slot) in self.kept.iter_mut().zip(slots) {
            for old in [&mut rest.long, &mut rest.short] {
                let Some(counted) = old.take_if(|rest| rest.is_counted()) else { continue };
                let range = done..counted.end();
                drop(counted);
                *old = Some(coarse(slot.kind, &range));
                coarsened += 1;
            }
        }
        coarsened
    }
}

/// Adds to `work` the credit for `fresh` and subtracts the cost of the join. Returns `false` if the
/// credit does not suffice.
fn pay(work: &mut usize, old: &Layer, fresh: &Layer) -> bool {
    let earned = fresh.bytes().saturating_mul(WORK_PER_BYTE);
    *work = work.saturating_add(earned).min(FREE_WORK);
    match work.checked_sub(old.left() + fresh.left()) {
        Some(left) => {
            *work = left;
            true
        }
        None => false,
    }
}

/// Joins two lists from `done` on: the safer answer where both reach, and the longer list beyond.
/// `None` if the result exceeds `most` bytes.
fn join(old: &Layer, fresh: &Layer, kind: ContextKind, done: u64, most: usize) -> Option<Vec<u8>> {
    let (shorter, longer) = if old.end() < fresh.end() { (old, fresh) } else { (fresh, old) };
    let both = || done..shorter.end();
    let longer = || longer.clone();
    let safer = shorter.clone().clip(both()).merge(longer().clip(both()), |&a, &b| safer(kind, a, b));
    // layers do not read the header
    let mut payload = PayloadWriter::new(Form::Extended, 0, 0);
    collect(safer.coalesce(), most, &mut payload)?;
    collect(longer().clip(shorter.end()..), most, &mut payload)?;
    Some(payload.into_vec())
}

/// The safer of two flags, marked if they differ.
fn safer(kind: ContextKind, a: u64, b: u64) -> u64 {
    let mark = (a | b) & DISPUTED;
    let (a, b) = (a & !DISPUTED, b & !DISPUTED);
    kind.safer(a, b) | mark | if a == b { 0 } else { DISPUTED }
}

/// Appends the extents to an extended payload; `None` if they do not fit.
fn collect(
    mut extents: impl ExtentStream<Status = u64, Error = StreamError>,
    most: usize,
    payload: &mut PayloadWriter,
) -> Option<()> {
    while let Some(extent) = extents.next_extent().ok()? {
        if payload.len() + Form::Extended.descriptor_size() > most {
            return None;
        }
        payload.push(Descriptor { length: extent.length(), flags: *extent.status() });
    }
    Some(())
}

/// Creates a layer of one descriptor that gives the whole range the safe status.
fn coarse(kind: ContextKind, range: &Range<u64>) -> Layer {
    let mut payload = PayloadWriter::new(Form::Extended, 0, 1);
    payload.push(Descriptor { length: range.end - range.start, flags: kind.safe_flags() });
    layer(Payload::uncounted(payload.into_vec()), kind, range)
}

fn layer(payload: Payload, kind: ContextKind, range: &Range<u64>) -> Layer {
    let list = payload.as_slice().len() - Form::Extended.header_size();
    let usable = Usable { descriptors: list / Form::Extended.descriptor_size(), end: range.end };
    Layer::joined(payload, kind, range.start, usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::BitmapIndex;

    const BITMAP: ContextKind = ContextKind::Bitmap(BitmapIndex::FIRST);

    /// A range that was disputed once is told as disputed, whatever later replies say.
    #[test]
    fn a_dispute_stays_one() {
        for (old, fresh) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let flags = safer(BITMAP, old, fresh);
            assert_eq!(flags & DISPUTED != 0, old != fresh);
            for (old, fresh) in
                [(old | DISPUTED, fresh), (old, fresh | DISPUTED), (old | DISPUTED, fresh | DISPUTED)]
            {
                assert_eq!(safer(BITMAP, old, fresh), flags | DISPUTED, "{old:x} {fresh:x}");
            }
        }
    }

    /// A bitmap's list about the bytes from 0 on, with alternating flags.
    fn answer(lengths: &[u64], budget: &mut Budget) -> Layer {
        let list = lengths.iter().zip([1, 0].into_iter().cycle());
        let payload = crate::wire::encode(
            Form::Extended,
            0,
            list.map(|(&length, flags)| Descriptor { length, flags }).collect::<Vec<_>>(),
        );
        let usable = Usable { descriptors: lengths.len(), end: lengths.iter().sum() };
        Layer::new(budget.hold(payload.unwrap()), Form::Extended, BITMAP, 0, usable)
    }

    /// Also of a range whose bounds make no sum of 64 bits.
    #[test]
    fn the_safe_status_covers_a_range_at_the_end_of_the_largest_export() {
        let range = 6 << 60..(1 << 63) - 1;
        let extent = coarse(BITMAP, &range).next_extent().unwrap();
        assert_eq!(extent.map(|extent| extent.range()), Some(range));
    }

    #[test]
    fn descriptors_that_end_at_the_byte_skipped_to_are_skipped() {
        let mut layer = answer(&[100, 100, 100], &mut Budget::new(1000));
        for (offset, left) in [(0, 3), (99, 3), (100, 2), (250, 1), (299, 1), (300, 0)] {
            layer.skip_to(offset);
            assert_eq!(layer.left(), left, "after a skip to {offset}");
        }
    }

    #[test]
    fn joining_costs_what_is_left_of_both_and_earns_by_what_came() {
        let budget = &mut Budget::new(100_000);
        let mut old = answer(&[10; 10], budget);
        old.skip_to(40);
        let fresh = answer(&[10; 3], budget);
        let mut work = 0;
        assert!(pay(&mut work, &old, &fresh));
        assert_eq!(work, (8 + 3 * 16) * WORK_PER_BYTE - (6 + 3));
        let long = answer(&[1; 1000], budget);
        let mut work = 0;
        assert!(!pay(&mut work, &long, &fresh), "1003 for 224");
        assert_eq!(work, (8 + 3 * 16) * WORK_PER_BYTE, "it is earned all the same");
        let mut work = FREE_WORK;
        assert!(pay(&mut work, &old, &fresh));
        assert_eq!(work, FREE_WORK - 9, "no more can be saved up");
    }

    #[test]
    fn a_joined_rest_may_take_all_the_room_there_is() {
        let budget = &mut Budget::new(100_000);
        let (old, fresh) = (answer(&[100, 100, 100], budget), answer(&[50, 100], budget));
        // both reach 150 and differ about 50..100; beyond 150 the longer list holds
        let joined = join(&old, &fresh, BITMAP, 50, 1000).unwrap();
        let size = joined.len();
        assert_eq!(join(&old, &fresh, BITMAP, 50, size), Some(joined.clone()));
        assert_eq!(join(&old, &fresh, BITMAP, 50, size - 1), None);
        let joined = layer(budget.hold(joined), BITMAP, &(50..300));
        assert_eq!(joined.left(), (size - 8) / 16);
        let rows: Vec<_> = joined.into_iter().map(|extent| extent.unwrap()).collect();
        let rows: Vec<_> =
            rows.iter().map(|e| (e.range(), e.status() & !DISPUTED, e.status() & DISPUTED != 0)).collect();
        let (agreed, disputed) = (false, true);
        assert_eq!(
            rows,
            [(50..100, 1, disputed), (100..150, 0, agreed), (150..200, 0, agreed), (200..300, 1, agreed)]
        );
    }

    #[test]
    fn what_is_coarse_is_not_coarsened_again() {
        let budget = &mut Budget::new(1000);
        let slots = [GrantedContext { id: 0, name: "b".into(), kind: BITMAP }];
        let mut retained = Retained::default();
        assert_eq!(retained.add(&[answer(&[512, 512], budget)], &slots, 100, budget), 0);
        assert_eq!(retained.coarsen(&slots, 100), 1);
        assert_eq!(retained.coarsen(&slots, 100), 0);
        let mut rest = retained.layers().next().unwrap();
        let extent = rest.next_extent().unwrap().unwrap();
        assert_eq!((extent.range(), *extent.status(), rest.left()), (100..1024, 1, 0));
        assert_eq!(budget.room(), 1000);
    }
}
