//! Who is measured in which group, what question each answers, and the check that those who answer the same question agree.

use crate::answer::{Segment, hash_written};
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

/// Answers a question about a workload; the buffer is for [`Question::Written`], whose answer is the number of segments in it.
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
    pub(crate) contenders: &'static [Contender],
}

const fn contender(name: &'static str, question: Question, run: Run) -> Contender {
    Contender { name, question, run }
}

/// The yardstick of every group.
pub(crate) const FLOOR: Contender = contender("floor", Question::Lengths, floor);
/// Answers the filtered question in whatever group it stands: it has no statuses to report, so in `merge` it is there as the
/// nearest comparable question ("dirty and not zero"), not as the same one.
const BLAZE: Contender = contender("range-set-blaze", Question::Wanted, blaze::filter);

/// `nbd-extents` is what a caller gets with the features on, `nbd-extents-portable` without. Today both are the same plain merge
/// through the public API; the kernels, once there, set them apart.
pub(crate) const SINKS: [Sink; 4] = [
    Sink {
        name: "merge",
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Segments, ours::fold),
            contender("nbd-extents-portable", Question::Segments, ours::fold),
            contender("naive", Question::Segments, naive::fold),
            BLAZE,
        ],
    },
    Sink {
        name: "merge-write",
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Written, ours::write),
            contender("nbd-extents-portable", Question::Written, ours::write),
            contender("naive", Question::Written, naive::write),
        ],
    },
    Sink {
        name: "merge-coalesced",
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Joined, ours::coalesce),
            contender("nbd-extents-portable", Question::Joined, ours::coalesce),
            contender("naive", Question::Joined, naive::coalesce),
        ],
    },
    Sink {
        name: "merge-filtered",
        contenders: &[
            FLOOR,
            contender("nbd-extents", Question::Wanted, ours::filter),
            contender("nbd-extents-portable", Question::Wanted, ours::filter),
            contender("naive", Question::Wanted, naive::filter),
            BLAZE,
        ],
    },
];

/// The least that any merge must do: one pass over both inputs, which only sums the lengths.
fn floor(workload: &Workload, _: &mut [Segment]) -> u64 {
    let sum = |payload: &[u8]| -> u64 {
        let list = payload[4..].as_chunks().0;
        list.iter().map(|&[a, b, c, d, ..]: &[u8; 8]| u64::from(u32::from_be_bytes([a, b, c, d]))).sum()
    };
    sum(&workload.allocation) + sum(&workload.bitmap)
}

impl Contender {
    /// Runs once, untimed, and compares the answer with the naive one (the floor's with what the crate's decoder reads).
    ///
    /// Panics when they differ: a wrong answer has no speed.
    pub(crate) fn verify(&self, workload: &Workload, out: &mut [Segment]) {
        let expected = self.question.ask(reference(self.question), workload, out);
        let got = self.question.ask(self.run, workload, out);
        let (name, question, on) = (self.name, self.question, workload.name);
        assert_eq!(got, expected, "{name} on {on}: {question:?} differs from the reference");
        if self.question == Question::Wanted {
            assert!(
                blaze::wanted_set(workload) == ours::wanted_set(workload),
                "range-set-blaze and nbd-extents on {on}: the sets of wanted bytes differ"
            );
        }
    }
}

impl Question {
    fn ask(self, run: Run, workload: &Workload, out: &mut [Segment]) -> u64 {
        if self != Self::Written {
            return run(workload, out);
        }
        // What an earlier contender left in the buffer must not pass for this one's answer.
        out.fill(Segment::NONE);
        let written = usize::try_from(run(workload, out)).unwrap();
        assert!(
            out[written..].iter().all(|rest| *rest == Segment::NONE),
            "wrote more segments than it counted"
        );
        hash_written(&out[..written])
    }
}

fn reference(question: Question) -> Run {
    match question {
        Question::Lengths => |workload, _| {
            workload.allocation().chain(workload.bitmap()).map(|descriptor| descriptor.length).sum()
        },
        Question::Segments => naive::fold,
        Question::Written => naive::write,
        Question::Joined => naive::coalesce,
        Question::Wanted => naive::filter,
    }
}
