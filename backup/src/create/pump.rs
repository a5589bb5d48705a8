//! Moves the bytes of a backup: reads ahead of the output, several in flight, and hands them on in
//! the plan's order.

use std::io::Write;
use std::ops::Range;
use std::thread;

use nbd_client::copy::CopyMonitor;
use nbd_client::pipeline::RateLimit;
use nbd_client::{Error, ReadAhead};
use nbd_extents::StreamError;
use nbd_extents::plan::PlanStep;

use super::BackupError;
use super::frames::FrameOutput;

/// Reads in flight: many short ones make up for what each costs.
pub(super) const IN_FLIGHT: usize = 64;

/// The blocks of ranges that are read, in order. Each lies inside one range.
pub(super) trait Blocks {
    /// The next block, by its offset; `None` at the end of all ranges.
    fn next_block(&mut self) -> Result<Option<(u64, &[u8])>, Error>;
}

impl<I: Iterator<Item = Range<u64>>> Blocks for ReadAhead<'_, I> {
    fn next_block(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        Ok(self.next_block()?.map(|block| (block.offset, block.data)))
    }
}

/// The ranges that a plan copies. A fault of the plan ends them, and is reported by [`run`].
pub(super) fn copies<P>(plan: P) -> impl Iterator<Item = Range<u64>>
where
    P: Iterator<Item = Result<PlanStep, StreamError>>,
{
    plan.map_while(Result::ok).filter_map(|step| match step {
        PlanStep::Copy { range } => Some(range),
        PlanStep::Zero { .. } => None,
    })
}

/// Carries out a plan, with the blocks of its [`copies`], which run ahead.
///
/// `rate` is the most bytes to copy in a second. Other threads receive whatever was asked for while
/// this one waits.
pub(super) fn run<P, W>(
    blocks: &mut impl Blocks,
    plan: P,
    frames: &mut FrameOutput<W>,
    monitor: &CopyMonitor,
    rate: Option<u64>,
) -> Result<(), BackupError>
where
    P: Iterator<Item = Result<PlanStep, StreamError>>,
    W: Write,
{
    let mut limit = rate.map(RateLimit::new);
    for step in plan {
        match step? {
            PlanStep::Zero { range, .. } => {
                monitor.add_zeroed(range.end - range.start);
                frames.zero(range)?;
            }
            PlanStep::Copy { range } => {
                let mut at = range.start;
                while at < range.end {
                    // No block where one is due would be a fault of the reader: the plan is the same.
                    let (offset, data) = blocks.next_block()?.ok_or(Error::GivenUp)?;
                    let length = data.len() as u64;
                    if let Some(limit) = &mut limit {
                        thread::sleep(limit.delay(length));
                    }
                    frames.copy(offset, data)?;
                    at = offset + length;
                    monitor.add_copied(length);
                }
            }
        }
    }
    Ok(())
}
