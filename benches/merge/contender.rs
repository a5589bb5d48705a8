//! The contenders of each group, and the question that each answers.

use nbd_extents::Processor;
use nbd_extents::wire::{Compact, Extended, Form};

use crate::answer::Segment;
use crate::workloads::Workload;
use crate::{blaze, naive, ours};

/// The questions of the bench. Contenders with the same question must give the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// How long are both lists together?
    Lengths,
    /// Which segments are there? (a hash)
    Segments,
    /// Which segments are there? (in the buffer)
    Written,
    /// Which segments are there when equal neighbours are joined? (a hash)
    Joined,
    /// Which ranges are dirty and not zero, touching ones joined? (a hash)
    Wanted,
}

/// Answers a question about a workload; the buffer is for [`Question::Written`], whose answer is
/// the number of segments in it.
pub(crate) type Run = fn(&Workload, &mut [Segment]) -> u64;

#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) question: Question,
    pub(crate) run: Run,
}

/// The groups of one sink: `sink/workload` for every workload.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) name: &'static str,
    pub(crate) lists: Lists,
    pub(crate) contenders: &'static [Contender],
}

/// Which lists a sink reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// `EXTENTS` compact descriptors on the longer side.
    Compact,
    /// The same disk in extended descriptors.
    Extended,
    /// This number of compact descriptors on the longer side: 500 is an ordinary disk, fewer a
    /// single reply.
    Few(usize),
}

/// The crate without its optional features: the kernels that every processor has.
macro_rules! portable {
    ($run:expr) => {
        |workload, out| {
            Processor::Any.limit();
            let answer = $run(workload, out);
            Processor::Avx512.limit();
            answer
        }
    };
}

const fn contender(name: &'static str, question: Question, run: Run) -> Contender {
    Contender { name, question, run }
}

/// The yardstick of every group.
pub(crate) const FLOOR: Contender = contender("floor", Question::Lengths, floor);
/// Answers the filtered question in every group. It has no statuses to report, so in `merge` it
/// stands for the nearest comparable question ("dirty and not zero"), not for the same one.
const BLAZE: Contender = contender("range-set-blaze", Question::Wanted, blaze::filter);

/// `nbd-extents` is the crate with the features of the build, `nbd-extents-portable` without the
/// optional ones, and `next-extent` a caller that takes extent after extent by hand.
pub(crate) const SINKS: [Sink; 10] = [
    Sink {
        name: "merge",
        lists: Lists::Compact,
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Segments, ours::fold::<Compact>),
            contender("nbd-extents-portable", Question::Segments, portable!(ours::fold::<Compact>)),
            contender("next-extent", Question::Segments, ours::step::<Compact>),
            contender("naive", Question::Segments, naive::fold),
            BLAZE,
        ],
    },
    Sink {
        name: "merge-write",
        lists: Lists::Compact,
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Written, ours::write::<Compact>),
            contender("nbd-extents-portable", Question::Written, portable!(ours::write::<Compact>)),
            contender("naive", Question::Written, naive::write),
        ],
    },
    Sink {
        name: "merge-coalesced",
        lists: Lists::Compact,
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Joined, ours::coalesce::<Compact>),
            contender("nbd-extents-portable", Question::Joined, portable!(ours::coalesce::<Compact>)),
            contender("naive", Question::Joined, naive::coalesce),
        ],
    },
    Sink {
        name: "merge-filtered",
        lists: Lists::Compact,
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Wanted, ours::filter::<Compact>),
            contender("nbd-extents-portable", Question::Wanted, portable!(ours::filter::<Compact>)),
            contender("naive", Question::Wanted, naive::filter),
            BLAZE,
        ],
    },
    Sink {
        name: "merge-decided",
        lists: Lists::Compact,
        contenders: &[
            FLOOR,
            contender("undecided", Question::Segments, ours::fold_statuses::<Compact>),
            contender("nbd-extents", Question::Wanted, ours::decide::<Compact>),
            contender("covering", Question::Wanted, ours::decide_covering::<Compact>),
        ],
    },
    Sink {
        name: "merge-extended",
        lists: Lists::Extended,
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Segments, ours::fold::<Extended>),
            contender("nbd-extents-portable", Question::Segments, portable!(ours::fold::<Extended>)),
            contender("naive", Question::Segments, naive::fold),
        ],
    },
    small("merge-small", 500),
    small("merge-small-128", 128),
    small("merge-small-32", 32),
    small("merge-small-8", 8),
];

/// The contenders on short lists.
const FEW: [Contender; 5] = [
    FLOOR,
    contender("nbd-extents", Question::Segments, ours::fold::<Compact>),
    contender("nbd-extents-portable", Question::Segments, portable!(ours::fold::<Compact>)),
    contender("next-extent", Question::Segments, ours::step::<Compact>),
    contender("naive", Question::Segments, naive::fold),
];

/// A group of short lists.
const fn small(name: &'static str, descriptors: usize) -> Sink {
    Sink { name, lists: Lists::Few(descriptors), contenders: &FEW }
}

/// The least work of any merge: one pass over both inputs, which only sums the lengths.
fn floor(workload: &Workload, _: &mut [Segment]) -> u64 {
    let sum: fn(&[u8]) -> u64 = match workload.form {
        Form::Compact => sum_compact,
        Form::Extended => sum_extended,
    };
    sum(&workload.allocation) + sum(&workload.bitmap)
}

pub(crate) fn sum_compact(payload: &[u8]) -> u64 {
    let list = payload[4..].as_chunks().0;
    list.iter().map(|&[a, b, c, d, ..]: &[u8; 8]| u64::from(u32::from_be_bytes([a, b, c, d]))).sum()
}

fn sum_extended(payload: &[u8]) -> u64 {
    let list = payload[8..].as_chunks().0;
    list.iter()
        .map(|&[a, b, c, d, e, f, g, h, ..]: &[u8; 16]| u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        .sum()
}
