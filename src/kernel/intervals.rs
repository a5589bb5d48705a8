//! One side made shorter: what the reader does not want is left out, and neighbours that are the same to the reader are one interval. What the
//! other side has not reached yet is kept for the next stretch.

#![allow(
    clippy::indexing_slicing,
    reason = "indices are masked to the length of the arrays: no check is left in the code"
)]

use super::decode::{Block, Check};
use super::key::{CODE, CODE_BITS, FLAGS, LAST};
use super::prefetch::prefetch;
use super::side::{Side, Taken};
use super::verdicts::{Classes, DEAD, Joining};
use super::wide::{self, Edges};
use crate::extent::MAX_END;
use crate::wire::RawDescriptor;

/// The intervals of one side, the guard behind the last included.
pub(super) const INTERVALS: usize = 512;
/// The descriptors that are decoded before it is seen where their classes change: a bit for each.
const BLOCK: usize = u64::BITS as usize;

/// The intervals of one side that have been read and not been passed. Offsets count from where the merge stands.
#[derive(Debug)]
pub(super) struct Intervals {
    /// Where each starts, as the last key of a cut there: it is above that cut, and below the next.
    pub(super) starts: [u64; INTERVALS],
    /// Where each ends, as a key.
    pub(super) ends: [u64; INTERVALS],
    /// So many have been closed; another may have been started.
    closed: usize,
    last: Last,
    /// So many descriptors of the list have been read.
    count: usize,
}

/// The descriptor that was read last.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// Where it ends: a key without flags.
    end: u64,
    /// Its class: it is in an interval unless that is [`DEAD`].
    class: u64,
}

/// What was read, and where reading stands behind it.
#[derive(Clone, Copy, Debug)]
struct Read {
    closed: usize,
    last: Last,
    /// So many descriptors.
    count: usize,
    block: Block,
}

/// [`Joining`] as a number.
pub(super) const ALL: u8 = 0;
pub(super) const NONE: u8 = 1;
const SOME: u8 = 2;

impl Intervals {
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { starts: [0; INTERVALS], ends: [0; INTERVALS], closed: 0, last: Last::NONE, count: 0 }
    }

    /// Where what has been read ends.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.last.end >> CODE_BITS
    }

    /// Starts over with the descriptor that has been begun, if there is one. `false` where it does not fit.
    pub(super) fn restart<R: RawDescriptor>(&mut self, side: &Side<'_, R>, classes: &Classes) -> bool {
        self.count = 0;
        self.closed = 0;
        self.last = Last::NONE;
        let Some(length) = side.begun() else {
            return false;
        };
        if length > 0 {
            self.starts[0] = CODE;
            self.last.end = length << CODE_BITS;
            self.last.class = classes.keys[(side.flags % FLAGS) as usize];
        }
        length == 0 || side.flags < FLAGS
    }

    /// Reads on, at most `most` descriptors; the merge stands at `base`. Returns all bits of their flags. `None` where there is none, or one needs the plain way: nothing
    /// has been read then.
    pub(super) fn read<R: RawDescriptor>(
        &mut self,
        list: &[R],
        most: usize,
        base: u64,
        classes: &Classes,
        joining: Joining,
    ) -> Option<u64> {
        let rest = list.get(self.count..)?;
        let list = rest.get(..most).unwrap_or(rest);
        let read = match joining {
            Joining::All => self.read_blocks::<R, ALL>(list, classes),
            Joining::None => self.read_blocks::<R, NONE>(list, classes),
            Joining::Some => self.read_blocks::<R, SOME>(list, classes),
        };
        let Read { closed, last, count, block } = read?;
        if count == 0 || base + block.end > MAX_END {
            return None;
        }
        self.closed = closed;
        self.last = last;
        self.count += count;
        Some(block.flags)
    }

    /// Reads blocks, until the list ends or there might be no place for another.
    #[inline(always)]
    fn read_blocks<R: RawDescriptor, const JOINING: u8>(
        &mut self,
        list: &[R],
        classes: &Classes,
    ) -> Option<Read> {
        let (mut last, mut check, mut keys) = (self.last, Check::default(), [0; BLOCK + 1]);
        let (mut opened, mut closed) = (self.closed + usize::from(last.is_alive()), self.closed);
        let mut edges = Edges { starts: &mut self.starts, ends: &mut self.ends, opened, closed };
        let front =
            wide::intervals::<R, JOINING>(list, last.end >> CODE_BITS, last.class, classes, &mut edges)?;
        (opened, closed) = (edges.opened, edges.closed);
        last = Last { end: front.block.end << CODE_BITS, class: front.class };
        check.flags = front.block.flags;
        let mut count = front.count;
        for block in list.get(count..)?.chunks(BLOCK) {
            if opened + BLOCK >= INTERVALS {
                break;
            }
            prefetch(block);
            keys[0] = (last.end | last.class) % DEAD;
            let turns = last.decode::<R, JOINING>(block, classes, &mut check, &mut keys);
            for nth in bits(turns.opens) {
                let key = if JOINING == ALL { keys[nth] } else { keys[nth] % DEAD };
                self.starts[opened % INTERVALS] = key | CODE;
                opened += 1;
            }
            for nth in bits(turns.closes) {
                self.ends[closed % INTERVALS] = keys[nth];
                closed += 1;
            }
            count += block.len();
        }
        Some(Read { closed, last, count, block: check.block(last.end >> CODE_BITS)? })
    }

    /// How many intervals start before `end`, with a guard behind the last of all.
    pub(super) fn upto(&mut self, end: u64) -> usize {
        let Self { closed, last, .. } = *self;
        self.ends[closed % INTERVALS] = last.end | last.class;
        let len = closed + usize::from(last.is_alive());
        self.starts[len % INTERVALS] = u64::MAX;
        self.ends[len % INTERVALS] = LAST;
        if end == self.end() {
            return len;
        }
        self.starts[..len % INTERVALS].partition_point(|start| start >> CODE_BITS < end)
    }

    /// Passes over the first `len` intervals, which start before `end`: the merge stands there now. What goes on behind it, or may, is kept.
    pub(super) fn pass(&mut self, len: usize, end: u64) {
        let end = end << CODE_BITS;
        let goes_on = len > 0 && self.ends[(len - 1) % INTERVALS] & !CODE > end;
        let passed = (len - usize::from(goes_on)).min(self.closed);
        let moved = |start: u64| start.saturating_sub(end) | CODE;
        for (to, from) in (passed..self.closed + 1).enumerate() {
            self.starts[to % INTERVALS] = moved(self.starts[from % INTERVALS]);
            self.ends[to % INTERVALS] = self.ends[from % INTERVALS].wrapping_sub(end);
        }
        self.closed -= passed;
        self.last.end -= end;
    }

    /// How much of the side has been used, up to where the merge stands, which is `base`.
    pub(super) fn used<R: RawDescriptor>(&self, side: &Side<'_, R>, base: u64) -> Taken {
        let mut end = base + self.end();
        for (nth, raw) in side.list[..self.count].iter().enumerate().rev() {
            let descriptor = raw.read();
            let start = end - descriptor.length;
            if start < base {
                return Taken { count: nth + 1, end, flags: descriptor.flags };
            }
            end = start;
        }
        Taken { count: 0, end: side.end, flags: side.flags }
    }
}

/// Where an interval starts, and where one ends: bit by bit, before which descriptors of a block.
#[derive(Clone, Copy, Debug)]
struct Turns {
    opens: u64,
    closes: u64,
}

impl Last {
    const NONE: Self = Self { end: 0, class: DEAD };

    fn is_alive(self) -> bool {
        self.class != DEAD
    }

    /// Decodes a block into keys, behind the key that is there. Without a branch: what follows what cannot be foretold.
    #[inline(always)]
    fn decode<R: RawDescriptor, const JOINING: u8>(
        &mut self,
        block: &[R],
        classes: &Classes,
        check: &mut Check,
        keys: &mut [u64; BLOCK + 1],
    ) -> Turns {
        let was_alive = u64::from(self.is_alive());
        let (mut changes, mut alive) = (0_u64, 0_u64);
        let [_, keys @ ..] = keys;
        for (raw, key) in block.iter().zip(keys) {
            let descriptor = raw.read();
            check.see(descriptor);
            let flags = (descriptor.flags % FLAGS) as usize;
            alive = alive << 1 | classes.alive[flags];
            self.end = self.end.wrapping_add(descriptor.length << CODE_BITS);
            *key = self.end;
            if JOINING != ALL {
                let class = classes.keys[flags];
                *key |= class;
                changes = changes << 1 | u64::from(class != self.class);
                self.class = class;
            }
        }
        if JOINING == ALL {
            self.class = if alive & 1 == 1 { 0 } else { DEAD };
        }
        let unused = BLOCK - block.len();
        let in_order = |bits: u64| bits.reverse_bits() >> unused;
        let alive = in_order(alive);
        let before = alive << 1 | was_alive;
        let all = u64::MAX >> unused;
        let changes = match JOINING {
            ALL => (alive ^ before) & all,
            SOME => in_order(changes),
            _ => all,
        };
        Turns { opens: alive & changes, closes: before & changes }
    }
}

/// The places of the bits that are set, from the lowest on.
#[inline(always)]
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        lowest
    })
}
