//! What earlier replies said of bytes that are still to do, on an export that may change. It is held against the next answer about them, and
//! the safer of the two is taken.
//!
//! There are two rests a context at most, a long one and a short one: a newer one is joined to one of them. Nothing that was said is ever just dropped: where a rest would take more room
//! than there is, or where joining it again and again would take more work than what was received is worth, all of it becomes the context's
//! safe status, which takes next to none.

use alloc::vec::Vec;
use core::ops::Range;

use smallvec::SmallVec;

use super::budget::{Budget, Payload};
use super::contexts::{ContextKind, GrantedContext};
use super::layer::{DISPUTED, Layer};
use super::rules::Usable;
use crate::error::StreamError;
use crate::stream::ExtentStream;
use crate::wire::{Descriptor, Form};

/// Descriptors that may be joined for each byte of payload received. Servers that answer afresh need one in four; one that has a long rest joined to
/// crumbs would need thousands.
const WORK_PER_BYTE: usize = 4;
/// Descriptors that may be joined before anything is received.
const FREE_WORK: usize = 4 << 20;

/// The rests of one pass, one a context.
#[derive(Debug)]
pub(super) struct Rests {
    kept: SmallVec<[Rest; 4]>,
    /// Descriptors that may still be joined.
    work: usize,
}

/// What earlier replies said in one context.
///
/// Where the contexts reach very differently, the first reply leaves a long rest, and every later one a
/// short rest of bytes that the long one describes as well. To join the two each time would cost the length
/// of the long one for every few extents. So a short rest stays beside the long one; a window that reads
/// both takes the safer of them, as a join would.
#[derive(Debug, Default)]
struct Rest {
    long: Option<Layer>,
    /// At most a quarter as many descriptors as `long` has.
    short: Option<Layer>,
}

impl Rest {
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

    /// Takes the rest that a new one is to be joined to: of two, the short one, unless the new one is long.
    fn take_joined(&mut self, fresh: &Layer) -> Option<Layer> {
        match &self.long {
            Some(long) if fresh.left().saturating_mul(4) <= long.left() => self.short.take(),
            _ => self.long.take(),
        }
    }

    /// Keeps a rest that [`take_joined`](Self::take_joined) has made room for.
    fn put(&mut self, rest: Layer) {
        let place = if self.long.is_some() { &mut self.short } else { &mut self.long };
        debug_assert!(place.is_none(), "a rest would be forgotten");
        *place = Some(rest);
    }
}

impl Default for Rests {
    fn default() -> Self {
        Self { kept: SmallVec::new(), work: FREE_WORK }
    }
}

impl Rests {
    /// The rests, to be read from where they are.
    pub(super) fn layers(&self) -> impl Iterator<Item = Layer> {
        self.kept.iter().flat_map(Rest::layers).cloned()
    }

    /// Forgets what was said of the bytes before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.kept.iter_mut().for_each(|rest| rest.skip_to(offset));
    }

    /// Keeps what `fresh` says of the bytes from `done` on, beside what was said before or joined to it. Returns how many rests had to be
    /// coarsened for it.
    pub(super) fn add(
        &mut self,
        fresh: &[Layer],
        slots: &[GrantedContext],
        done: u64,
        budget: &mut Budget,
    ) -> u64 {
        self.skip_to(done);
        self.kept.resize_with(slots.len(), Rest::default);
        let mut coarsened = 0;
        for ((rest, fresh), slot) in self.kept.iter_mut().zip(fresh).zip(slots) {
            if fresh.end() <= done {
                continue;
            }
            let mut fresh = fresh.clone();
            fresh.skip_to(done);
            // a joined rest may have become long itself, and then takes the long one in
            while let Some(old) = rest.take_joined(&fresh) {
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

    /// Turns all rests into safe statuses. Returns how many were not yet.
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

/// Adds to `work` what `fresh` has earned and takes from it what joining costs; `false` when that is too much.
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

/// What both say of the bytes from `done` on: the safer where both speak, and the longer one's word behind. `None` when that takes more than
/// `most` bytes.
fn join(old: &Layer, fresh: &Layer, meaning: ContextKind, done: u64, most: usize) -> Option<Vec<u8>> {
    let (shorter, longer) = if old.end() < fresh.end() { (old, fresh) } else { (fresh, old) };
    let both = done..shorter.end();
    let known = |layer: &Layer| {
        let reader = layer.clone();
        layer.clone().map_status(move |flags| reader.known_flags(flags))
    };
    let behind = known(longer).clip(both.end..longer.end());
    let safer =
        known(shorter).clip(both.clone()).merge(known(longer).clip(both), |&a, &b| safer(meaning, a, b));
    let mut payload = header();
    collect(safer.coalesce(), most, &mut payload)?;
    collect(behind, most, &mut payload)?;
    Some(payload)
}

/// The safer of two answers, marked when they differ.
fn safer(meaning: ContextKind, a: u64, b: u64) -> u64 {
    let mark = (a | b) & DISPUTED;
    let (a, b) = (a & !DISPUTED, b & !DISPUTED);
    meaning.safer(a, b) | mark | if a == b { 0 } else { DISPUTED }
}

/// Appends the extents to an extended payload; `None` when there is no room for them all.
fn collect(
    mut extents: impl ExtentStream<Status = u64, Error = StreamError>,
    most: usize,
    payload: &mut Vec<u8>,
) -> Option<()> {
    while let Some(extent) = extents.next_extent().ok()? {
        if payload.len() + Form::Extended.descriptor_size() > most {
            return None;
        }
        push(payload, Descriptor { length: extent.length(), flags: *extent.status() });
    }
    Some(())
}

/// One descriptor that gives the whole range the safe status.
fn coarse(meaning: ContextKind, range: &Range<u64>) -> Layer {
    let mut payload = header();
    push(&mut payload, Descriptor { length: range.end - range.start, flags: meaning.safe_flags() });
    layer(Payload::uncounted(payload), meaning, range)
}

/// The start of an extended payload; layers do not read it.
fn header() -> Vec<u8> {
    alloc::vec![0; Form::Extended.header_size()]
}

fn push(payload: &mut Vec<u8>, descriptor: Descriptor) {
    payload.extend_from_slice(&descriptor.length.to_be_bytes());
    payload.extend_from_slice(&descriptor.flags.to_be_bytes());
}

fn layer(payload: Payload, meaning: ContextKind, range: &Range<u64>) -> Layer {
    let list = payload.as_slice().len() - Form::Extended.header_size();
    let usable = Usable { descriptors: list / Form::Extended.descriptor_size(), end: range.end };
    Layer::of_rests(payload, meaning, range.start, usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::BitmapIndex;

    const BITMAP: ContextKind = ContextKind::Bitmap(BitmapIndex::FIRST);

    /// A bitmap's answer about bytes from 0 on, with flags that alternate.
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

    #[test]
    fn what_ends_at_the_byte_skipped_to_is_left_behind() {
        let mut layer = answer(&[100, 100, 100], &mut Budget::new(1000));
        for (offset, left) in [(0, 3), (99, 3), (100, 2), (250, 1), (299, 1), (300, 0)] {
            layer.skip_to(offset);
            assert_eq!(layer.left(), left, "behind {offset}");
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
        // both speak up to 150, and of 50..100 they say different things; behind, the longer one does
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
        let mut rests = Rests::default();
        assert_eq!(rests.add(&[answer(&[512, 512], budget)], &slots, 100, budget), 0);
        assert_eq!(rests.coarsen(&slots, 100), 1);
        assert_eq!(rests.coarsen(&slots, 100), 0);
        let mut rest = rests.layers().next().unwrap();
        let extent = rest.next_extent().unwrap().unwrap();
        assert_eq!((extent.range(), *extent.status(), rest.left()), (100..1024, 1, 0));
        assert_eq!(budget.room(), 1000);
    }
}
