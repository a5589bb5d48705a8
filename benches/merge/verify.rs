//! Checks that contenders with the same question agree: a wrong answer has no speed.

use nbd_extents::wire::{Compact, Extended, Form};

use crate::answer::{Segment, hash_written};
use crate::contender::{Contender, Question, Run};
use crate::workloads::{Raw, Workload};
use crate::{blaze, naive, ours};

/// The answers of the reference about one workload, computed once per question.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    answers: Vec<(Question, u64)>,
}

impl Verifier {
    /// Runs a contender once, untimed, and compares its answer with the naive one. The floor's
    /// answer is compared with the sum by the crate's decoder.
    ///
    /// Panics when they differ.
    pub(crate) fn verify(&mut self, contender: &Contender, workload: &Workload, out: &mut [Segment]) {
        let Contender { name, question, run } = *contender;
        let expected = self.expected(question, workload, out);
        let got = question.ask(run, workload, out);
        assert_eq!(got, expected, "{name} on {}: {question:?} differs from the reference", workload.name);
    }

    fn expected(&mut self, question: Question, workload: &Workload, out: &mut [Segment]) -> u64 {
        if let Some(&(_, answer)) = self.answers.iter().find(|(asked, _)| *asked == question) {
            return answer;
        }
        if question == Question::Wanted {
            assert!(
                blaze::wanted_ranges(workload).eq(ours::wanted_ranges::<Compact>(workload)),
                "range-set-blaze and nbd-extents on {}: the wanted ranges differ",
                workload.name
            );
        }
        let answer = question.ask(reference(question), workload, out);
        self.answers.push((question, answer));
        answer
    }
}

impl Question {
    fn ask(self, run: Run, workload: &Workload, out: &mut [Segment]) -> u64 {
        if self != Self::Written {
            return run(workload, out);
        }
        // The buffer may hold an earlier contender's answer, which must not pass for this one's.
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
        Question::Lengths => |workload, _| match workload.form {
            Form::Compact => lengths::<Compact>(workload),
            Form::Extended => lengths::<Extended>(workload),
        },
        Question::Segments => naive::fold,
        Question::Written => naive::write,
        Question::Joined => naive::coalesce,
        Question::Wanted => naive::filter,
    }
}

fn lengths<R: Raw>(workload: &Workload) -> u64 {
    workload.allocation::<R>().chain(workload.bitmap::<R>()).map(|descriptor| descriptor.length).sum()
}
