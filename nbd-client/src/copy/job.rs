//! A copy under way: one thread hands out the plan in pieces, and the lanes move them.

use core::ops::Range;
use std::time::Instant;

use nbd_extents::plan::PlanStep;

use super::lane::{Lane, Shared};
use super::outlook::Outlook;
use super::queue::{Piece, PieceTask, Queue};
use super::{CopyError, CopyMonitor, CopyOptions, CopyProgress};
use crate::client::Client;
use crate::error::Error;
use crate::export::Export;
use crate::frame::During;
use crate::pipeline::RateLimit;
use crate::transport::Transport as _;

/// The longest range of zeroes in one piece, in bytes, so that several lanes share a longer one.
const LONG_ZERO: u64 = 1 << 30;

/// A step of the plan, or the error of the survey that it is made from.
type Planned = Result<PlanStep, CopyError>;

/// Ends the copy when its thread panics: the plan would wait for room in the queue for ever, or the
/// lanes for pieces.
struct StopOnPanic<'a>(&'a Queue);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// How a lane ended.
fn outcome(joined: std::thread::Result<Result<(), CopyError>>) -> Result<(), CopyError> {
    joined.unwrap_or(Err(CopyError::Panicked))
}

/// Works on this thread while another one watches a target that has nothing to do yet: its end ends
/// the work.
pub(super) fn watch<V>(
    targets: &mut [Client],
    queue: &Queue,
    work: impl FnOnce() -> Result<V, CopyError>,
) -> Result<V, CopyError> {
    let Some(Client { io, .. }) = targets.first_mut() else { return work() };
    let waker = io.mover.0.waker();
    let waker = waker.map_err(|source| CopyError::Target(Error::io(During::Connect, source)))?;
    let Some(waker) = waker else { return work() };
    queue.register(0, waker.clone());
    let mut wait = move || {
        loop {
            waker.will_wait();
            if queue.is_over() || queue.is_done(true) {
                return Ok(());
            }
            io.watch().map_err(CopyError::Target)?;
        }
    };
    std::thread::scope(|scope| {
        let _guard = StopOnPanic(queue);
        let builder = std::thread::Builder::new().name("nbd-copy".to_owned());
        let watching = builder.spawn_scoped(scope, move || wait().inspect_err(|_| queue.stop()));
        let watching = watching.map_err(CopyError::Thread)?;
        let done = work();
        queue.close();
        outcome(watching.join()).and(done)
    })
}

/// A copy under way.
pub(super) struct Job<'a> {
    pub(super) target: &'a Export,
    pub(super) monitor: &'a CopyMonitor,
    pub(super) queue: &'a Queue,
    pub(super) options: &'a CopyOptions,
}

impl Job<'_> {
    /// Carries out the steps over pairs of connections, and makes the result durable.
    pub(super) fn run<E: Into<CopyError>>(
        &self,
        steps: impl Iterator<Item = Result<PlanStep, E>>,
        sources: Vec<Client>,
        targets: Vec<Client>,
    ) -> Result<CopyProgress, CopyError> {
        let count = sources.len().min(targets.len()).max(1);
        let pace = self.options.pipeline.share(count);
        let mut lanes: Vec<_> = sources
            .into_iter()
            .zip(targets)
            .enumerate()
            .map(|(number, (source, target))| Lane::new(number, source, target, pace, self.options.verify))
            .collect();
        self.move_all(steps.map(|step| step.map_err(E::into)), &mut lanes)?;
        // One flush is enough: several lanes write only where the target has CAN_MULTI_CONN, which
        // makes a flush cover the writes that every connection has completed.
        if let Some(lane) = lanes.first_mut() {
            lane.flush().map_err(CopyError::Target)?;
        }
        lanes.iter_mut().for_each(Lane::disconnect);
        Ok(self.monitor.progress())
    }

    /// Plans on this thread and moves the pieces on one thread for each lane, until the plan is
    /// carried out or something fails.
    fn move_all(&self, steps: impl Iterator<Item = Planned>, lanes: &mut [Lane]) -> Result<(), CopyError> {
        let shared = Shared { queue: self.queue, monitor: self.monitor };
        std::thread::scope(|scope| {
            // the policy is the caller's
            let _guard = StopOnPanic(self.queue);
            let mut threads = Vec::new();
            for lane in lanes {
                let run = move || {
                    let _guard = StopOnPanic(shared.queue);
                    lane.run(shared).inspect_err(|_| shared.queue.stop())
                };
                let builder = std::thread::Builder::new().name("nbd-copy".to_owned());
                match builder.spawn_scoped(scope, run) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        // the scope waits for the lanes that run already
                        self.queue.stop();
                        return Err(CopyError::Thread(error));
                    }
                }
            }
            let planned = self.plan(steps).inspect_err(|_| self.queue.stop());
            self.queue.close();
            // every lane is joined before the first failure is looked for; one that panics fails
            let results: Vec<_> = threads.into_iter().map(|thread| outcome(thread.join())).collect();
            // a failure of a lane is why the plan stopped, and not the other way round
            results.into_iter().collect::<Result<Vec<()>, _>>().and(planned)
        })
    }

    /// Hands the steps to the lanes, in pieces and no faster than wanted.
    fn plan(&self, steps: impl Iterator<Item = Planned>) -> Result<(), CopyError> {
        let mut limit = self.options.rate.map(RateLimit::new);
        let mut outlook = Outlook::new(steps, |step| self.count(step));
        while let Some(step) = outlook.next()? {
            let (range, task) = match step {
                PlanStep::Copy { range } => (range, PieceTask::Copy),
                PlanStep::Zero { range, may_unmap } => (range, PieceTask::Zero { may_unmap }),
            };
            for (piece, is_ragged) in self.pieces(range, task) {
                // a part of a block is written as data
                if (task == PieceTask::Copy || is_ragged)
                    && let Some(limit) = &mut limit
                {
                    let end = Instant::now() + limit.delay(piece.range.end - piece.range.start);
                    while Instant::now() < end && outlook.look()? {}
                    self.queue.pause(end.saturating_duration_since(Instant::now()));
                }
                while self.queue.is_full() && outlook.look()? {}
                if !self.queue.push(piece, is_ragged) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Counts a step of the plan, or its end.
    fn count(&self, step: Option<&PlanStep>) {
        let Some(step) = step else { return self.monitor.plan_to(self.monitor.progress().size) };
        let (range, whole) = match step {
            PlanStep::Copy { range } => (range, 0),
            PlanStep::Zero { range, .. } => {
                let whole = self.whole_blocks(range);
                (range, whole.end - whole.start)
            }
        };
        // before the bytes are counted, so that never more is planned than looked at
        self.monitor.plan_to(range.end);
        self.monitor.plan_copy(range.end - range.start - whole);
        self.monitor.plan_zero(whole);
    }

    /// The whole blocks of the target within a range. Its end counts as the end of a block.
    fn whole_blocks(&self, range: &Range<u64>) -> Range<u64> {
        let block = self.target.minimum_block();
        let last = if range.end == self.target.size() { range.end } else { range.end - range.end % block };
        let first = range.start.next_multiple_of(block).min(range.end);
        first..last.max(first)
    }

    /// A range in pieces: parts of the target's blocks at its ends (`true`), and whole blocks in
    /// between (`false`).
    fn pieces(&self, range: Range<u64>, task: PieceTask) -> impl Iterator<Item = (Piece, bool)> {
        let whole = self.whole_blocks(&range);
        let options = self.options.pipeline;
        let mut at = range.start;
        core::iter::from_fn(move || {
            let is_ragged = at < whole.start || at >= whole.end;
            let end = if at < whole.start {
                whole.start
            } else if at < whole.end {
                match task {
                    PieceTask::Copy => at + options.cut(at, whole.end),
                    PieceTask::Zero { .. } => whole.end.min((at - at % LONG_ZERO).saturating_add(LONG_ZERO)),
                }
            } else if at < range.end {
                range.end
            } else {
                return None;
            };
            let piece = Piece { range: at..end, task };
            at = end;
            Some((piece, is_ragged))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_panics_ends_the_copy_and_is_blamed_on_no_server() {
        let queue = Queue::default();
        let lane = || {
            let _guard = StopOnPanic(&queue);
            panic!("the test asks for a panic")
        };
        let joined = std::thread::scope(|scope| scope.spawn(lane).join());
        assert!(matches!(outcome(joined), Err(CopyError::Panicked)));
        assert!(queue.is_over(), "otherwise the plan waits for room for ever");
    }
}
