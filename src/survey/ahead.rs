//! Many extents of a window at once: the usual case, in which each context speaks of its own part of the status and nothing is disputed. Then there is
//! nothing to weigh, and to combine what all say is to combine bits.
//!
//! Which context says something else next cannot be foretold, so that most of the time goes into that. What is left is kept small: the lists are
//! at hand, the meaning of flags is looked up, and everything lies in registers, since one function does a whole batch.

use core::mem;
use core::ops::Range;

use super::contexts::Meaning;
use super::layer::{List, Place};
use super::ready::Ready;
use super::window::Part;
use crate::status::Status;

/// A [`Status`] as [`Status::pack`] makes it.
type Packed = [u64; 2];

/// One context's part, being read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    place: Place,
    /// What is said of the bytes up to the place.
    said: Packed,
    list: List<'a>,
    meaning: Meaning,
    /// What the flags mean that nearly all descriptors have.
    usual: [Packed; 4],
    /// What holds behind the end.
    elsewhere: Packed,
}

impl<'a> Cursor<'a> {
    /// A cursor at a place up to which `said` holds.
    pub(super) fn new((layer, elsewhere): &'a Part, place: Place, said: Status) -> Self {
        let meaning = layer.meaning();
        Self {
            place,
            said: said.pack(),
            list: layer.list(),
            meaning,
            usual: [0, 1, 2, 3].map(|flags| meaning.status(flags).pack()),
            elsewhere: elsewhere.pack(),
        }
    }

    /// Where it stands, and what is said up to there.
    pub(super) fn stands(&self) -> (Place, Status) {
        (self.place, Status::unpack(self.said))
    }

    #[inline]
    fn go_on(&mut self, position: u64) {
        let Some(flags) = self.place.go_behind(position, &self.list) else {
            self.said = self.elsewhere;
            return;
        };
        let usual = usize::try_from(flags).ok().and_then(|flags| self.usual.get(flags));
        self.said = usual.copied().unwrap_or_else(|| self.meaning.status(flags).pack());
    }
}

/// Merges what all and `known` say of a range, while there is room. Returns up to where.
pub(super) fn merge(all: &mut [Cursor<'_>], range: Range<u64>, known: Status, ready: &mut Ready) -> u64 {
    match all.len() {
        1 => merge_some::<1>(all, range, known, ready),
        2 => merge_some::<2>(all, range, known, ready),
        3 => merge_some::<3>(all, range, known, ready),
        _ => merge_each(all, range, known, ready),
    }
}

/// The same, compiled for so many: that takes an eighth off a whole survey of two contexts.
fn merge_some<const N: usize>(
    all: &mut [Cursor<'_>],
    range: Range<u64>,
    known: Status,
    ready: &mut Ready,
) -> u64 {
    match <&mut [_; N]>::try_from(&mut *all) {
        Ok(some) => merge_each(some, range, known, ready),
        Err(_) => merge_each(all, range, known, ready),
    }
}

#[inline(never)]
fn merge_each<'a>(
    mut cursors: impl AsMut<[Cursor<'a>]>,
    range: Range<u64>,
    known: Status,
    ready: &mut Ready,
) -> u64 {
    let Range { mut start, end } = range;
    let known = known.pack();
    ready.read(|| {
        if start >= end {
            return None;
        }
        let (mut next, mut all) = (end, known);
        for cursor in cursors.as_mut() {
            if cursor.place.position <= start {
                cursor.go_on(start);
            }
            next = next.min(cursor.place.position);
            all = [all[0] | cursor.said[0], all[1] | cursor.said[1]];
        }
        Some((mem::replace(&mut start, next), next, all))
    });
    start
}
