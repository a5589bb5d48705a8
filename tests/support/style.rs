//! The freedom that the protocol leaves to a server, and that real servers use: how one reply is
//! cut, split and ordered.

use core::ops::Range;

use nbd_extents::wire::Descriptor;
use proptest::prelude::*;

/// The shape of one reply. Each field is drawn by proptest, and shrinks towards the plain, complete
/// reply.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// For each context (in turn), the distance between the end of its list and that of the
    /// request, in 255ths.
    pub(crate) short: Vec<u8>,
    /// For each context, the part of the last extent's run beyond the request that is described, in
    /// 255ths.
    pub(crate) overshoot: Vec<u8>,
    /// Only the first extent of each list.
    pub(crate) one_each: bool,
    /// One whole extra extent if a list ends exactly at the request's end, as nbdkit 1.32 sends it.
    pub(crate) extra: bool,
    /// Equal neighbours: a run is cut after byte `i` if bit `i % 64` is set.
    pub(crate) splits: u64,
    /// Bits that the protocol does not define.
    pub(crate) junk: u32,
    /// The chunks are rotated by this, and reversed if it is odd.
    pub(crate) order: usize,
}

impl Style {
    /// A complete reply, every run one descriptor.
    pub(crate) fn plain() -> Self {
        Self {
            short: vec![0],
            overshoot: vec![0],
            one_each: false,
            extra: false,
            splits: 0,
            junk: 0,
            order: 0,
        }
    }

    pub(crate) fn shuffle<T>(&self, chunks: &mut [T]) {
        if !chunks.is_empty() {
            chunks.rotate_left(self.order % chunks.len());
        }
        if self.order % 2 == 1 {
            chunks.reverse();
        }
    }

    /// The list of one context, whose flags of each byte are `flags`, and the end of its usable
    /// part.
    pub(crate) fn list(
        &self,
        context: usize,
        flags: &[u64],
        asked: Range<usize>,
        grain: usize,
    ) -> (Vec<Descriptor>, usize) {
        let end = self.end(context, flags, &asked, grain);
        let mut list = self.cut(flags, asked.start..end, asked.end);
        let mut told = end;
        if self.one_each {
            told = keep_front(&mut list, asked.start, grain, flags.len());
        }
        if self.extra && told == asked.end && told < flags.len() {
            list.extend(self.cut(flags, told..run_end(flags, told), told));
        }
        (list, told)
    }

    /// The end of this context's list: a multiple of `grain`, or the end of the export.
    fn end(&self, context: usize, flags: &[u64], asked: &Range<usize>, grain: usize) -> usize {
        let short = usize::from(pick(&self.short, context));
        let over = usize::from(pick(&self.overshoot, context));
        if short > 0 {
            let missing = (asked.len() - 1) * short / 255;
            return (asked.end - missing).next_multiple_of(grain).min(asked.end);
        }
        let more = (run_end(flags, asked.end - 1) - asked.end) * over / 255;
        let end = asked.end + more;
        let exact = end == flags.len() || more == 0;
        if exact { end } else { (end - end % grain).max(asked.end) }
    }

    /// Runs of equal flags, cut where the style splits before `asked_end`: only the last may reach
    /// beyond.
    fn cut(&self, flags: &[u64], range: Range<usize>, asked_end: usize) -> Vec<Descriptor> {
        let mut list: Vec<Descriptor> = Vec::new();
        let mut fresh = true;
        for at in range.clone() {
            if fresh || flags[at] != flags[at - 1] {
                list.push(Descriptor { length: 0, flags: flags[at] });
            }
            list.last_mut().unwrap().length += 1;
            fresh = self.splits >> (at % 64) & 1 == 1 && at + 1 < asked_end;
        }
        assert_eq!(list.iter().map(|d| d.length).sum::<u64>(), range.len() as u64);
        list
    }
}

/// Keeps descriptors from the front until they end at a multiple of `grain` or the export's end,
/// and returns that end.
fn keep_front(list: &mut Vec<Descriptor>, start: usize, grain: usize, size: usize) -> usize {
    let mut end = start;
    let mut kept = 0;
    for descriptor in list.iter() {
        end += usize::try_from(descriptor.length).unwrap();
        kept += 1;
        if end.is_multiple_of(grain) || end == size {
            break;
        }
    }
    list.truncate(kept);
    end
}

fn run_end(flags: &[u64], at: usize) -> usize {
    (at + 1..flags.len()).find(|&next| flags[next] != flags[at]).unwrap_or(flags.len())
}

fn pick(list: &[u8], nth: usize) -> u8 {
    list[nth % list.len()]
}

/// Half of the lists complete, the others cut or too long anywhere.
fn shares() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 1..4)
}

/// Any style.
pub(crate) fn styles() -> impl Strategy<Value = Vec<Style>> {
    let splits = prop_oneof![2 => Just(0), 1 => any::<u64>(), 1 => Just(u64::MAX)];
    let junk = prop_oneof![Just(0), any::<u32>()];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let style = (shares(), shares(), flags, splits, junk, 0_usize..6).prop_map(
        |(short, overshoot, (one_each, extra), splits, junk, order)| Style {
            short,
            overshoot,
            one_each,
            extra,
            splits,
            junk,
            order,
        },
    );
    prop::collection::vec(style, 1..6)
}
