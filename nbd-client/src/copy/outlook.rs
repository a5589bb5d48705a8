//! The plan beyond the pieces that wait for a lane: while these wait for the rate or for a slow
//! target, the thread that plans goes on, so that the estimate of the whole copy is soon exact.

use alloc::collections::VecDeque;

use nbd_extents::plan::PlanStep;

use super::CopyError;

/// The most steps that are known and not handed out: 2 MiB of memory.
const MOST: usize = 1 << 16;

/// The steps of a plan, of which some are known in advance. Each is counted once, when it is known.
pub(super) struct Outlook<I, F> {
    steps: I,
    /// Counts a step, or the end of the plan.
    count: F,
    known: VecDeque<PlanStep>,
    is_ended: bool,
}

impl<I, F> Outlook<I, F>
where
    I: Iterator<Item = Result<PlanStep, CopyError>>,
    F: FnMut(Option<&PlanStep>),
{
    pub(super) const fn new(steps: I, count: F) -> Self {
        Self { steps, count, known: VecDeque::new(), is_ended: false }
    }

    /// The next step to hand out.
    pub(super) fn next(&mut self) -> Result<Option<PlanStep>, CopyError> {
        if self.known.is_empty() {
            self.look()?;
        }
        Ok(self.known.pop_front())
    }

    /// Gets to know one step more. `false` if there is none, or enough are known.
    pub(super) fn look(&mut self) -> Result<bool, CopyError> {
        if self.is_ended || self.known.len() >= MOST {
            return Ok(false);
        }
        let step = self.steps.next().transpose()?;
        (self.count)(step.as_ref());
        self.is_ended = step.is_none();
        self.known.extend(step);
        Ok(!self.is_ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(count: u64) -> impl Iterator<Item = Result<PlanStep, CopyError>> {
        (0..count).map(|at| Ok(PlanStep::Copy { range: at..at + 1 }))
    }

    #[test]
    fn each_step_is_counted_once_and_handed_out_in_order() {
        let mut counted = Vec::new();
        let mut outlook = Outlook::new(steps(5), |step: Option<&PlanStep>| counted.push(step.cloned()));
        let mut seen = Vec::new();
        while let Some(step) = outlook.next().unwrap() {
            // one step ahead of each that is handed out
            outlook.look().unwrap();
            seen.push(Some(step));
        }
        assert!(!outlook.look().unwrap());
        assert_eq!(seen.len(), 5);
        seen.push(None);
        assert_eq!(counted, seen);
    }

    #[test]
    fn the_known_steps_are_bounded() {
        let mut outlook = Outlook::new(steps(u64::MAX), |_: Option<&PlanStep>| ());
        let known = core::iter::repeat_with(|| outlook.look().unwrap()).take_while(|&is_new| is_new).count();
        assert_eq!(known, MOST);
    }
}
