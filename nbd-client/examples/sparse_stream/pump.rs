//! Moves the bytes of a backup: reads ahead of the output, several in flight, and hands them on in the plan's order.

use alloc::collections::VecDeque;
use std::io::Write;

use nbd_client::{Client, Cookie, Error, Event, ReadRequest, TakeAll, Transport};
use nbd_extents::StreamError;
use nbd_extents::plan::PlanStep;

use crate::common::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// The longest read. Larger ones keep a server's caches less well.
pub(crate) const READ: u64 = 256 << 10;
/// The most bytes that are asked for, or have come and wait for others before them.
const AHEAD: u64 = 8 << 20;
/// The most steps that wait, most of them small.
const STEPS: usize = 1024;

/// A step of the plan on its way.
enum Step {
    /// Asked for.
    Asked(Cookie, u64),
    /// All there, from this byte of the disk on.
    Here(u64, Vec<u8>),
    Zero(core::ops::Range<u64>),
}

/// Carries out a plan.
pub(crate) fn run<T: Transport, W: Write>(
    client: &mut Client<T>,
    steps: impl Iterator<Item = Result<PlanStep, StreamError>>,
    output: &mut Output<W>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut steps = steps.fuse();
    let mut pump = Pump { client, waiting: VecDeque::new(), bytes: 0 };
    while pump.fill(&mut steps)? {
        pump.drain(output, progress)?;
        if pump.bytes > 0 {
            pump.receive()?;
        }
    }
    Ok(())
}

struct Pump<'a, T> {
    client: &'a mut Client<T>,
    /// In the plan's order.
    waiting: VecDeque<Step>,
    /// Bytes of the reads among them.
    bytes: u64,
}

impl<T: Transport> Pump<'_, T> {
    /// Asks ahead. False when all that was to be done is done.
    fn fill(
        &mut self,
        steps: &mut impl Iterator<Item = Result<PlanStep, StreamError>>,
    ) -> Result<bool, Failure> {
        while self.bytes < AHEAD && self.waiting.len() < STEPS {
            let Some(step) = steps.next().transpose()? else { break };
            let step = match step {
                PlanStep::Zero { range, .. } => Step::Zero(range),
                PlanStep::Copy { range } => {
                    let length = range.end - range.start;
                    let buffer = self.client.buffer(usize::try_from(length).unwrap_or(usize::MAX));
                    let cookie = self.client.start_read(&ReadRequest::new(range.start), buffer)?;
                    self.bytes += length;
                    Step::Asked(cookie, range.start)
                }
            };
            self.waiting.push_back(step);
        }
        Ok(!self.waiting.is_empty())
    }

    /// Hands on what is there, up to the first step that is not.
    fn drain<W: Write>(&mut self, output: &mut Output<W>, progress: &Progress) -> Result<(), Failure> {
        while let Some(step) = self.waiting.pop_front() {
            match step {
                Step::Asked(..) => {
                    self.waiting.push_front(step);
                    break;
                }
                Step::Zero(range) => output.zero(range)?,
                Step::Here(offset, data) => {
                    output.copy(offset, &data)?;
                    self.bytes -= data.len() as u64;
                    progress.add(data.len() as u64);
                    self.client.recycle_buffer(data);
                }
            }
        }
        Ok(())
    }

    /// Waits for the next read to be answered.
    fn receive(&mut self) -> Result<(), Failure> {
        match self.client.next_event(&mut TakeAll)? {
            Some(Event::Read { cookie, data }) => {
                for step in &mut self.waiting {
                    if let Step::Asked(asked, offset) = *step
                        && asked == cookie
                    {
                        *step = Step::Here(offset, data);
                        return Ok(());
                    }
                }
                Ok(())
            }
            Some(Event::Failed { error, .. }) => Err(Error::from(error).into()),
            Some(_) => Ok(()),
            None => Err(Error::GivenUp.into()),
        }
    }
}
