//! Moves the bytes of a backup: reads ahead of the output, several in flight, and hands them on in
//! the plan's order.

use std::io::Write;

use nbd_client::copy::CopyMonitor;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::{Error, Pool, ReadAhead};
use nbd_extents::StreamError;
use nbd_extents::plan::PlanStep;

use super::frames::Frames;
use crate::failure::Failure;
use crate::progress::Pace;

/// Reads in flight: many short ones make up for what each costs.
const IN_FLIGHT: usize = 64;

/// Carries out a plan, which is walked twice: by the reads, which run ahead, and by the output.
pub(super) fn run<P, W>(
    pool: &mut Pool,
    plan: P,
    frames: &mut Frames<W>,
    monitor: &CopyMonitor,
    pace: &mut Pace,
) -> Result<(), Failure>
where
    P: Iterator<Item = Result<PlanStep, StreamError>> + Clone,
    W: Write,
{
    // A fault of the plan ends the reads here, and is reported by the walk below.
    let copies = plan.clone().map_while(Result::ok).filter_map(|step| match step {
        PlanStep::Copy { range } => Some(range),
        PlanStep::Zero { .. } => None,
    });
    let mut blocks = ReadAhead::new(pool, copies, PipelineOptions::default().requests(IN_FLIGHT))?;
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
                    let block = blocks.next_block()?.ok_or(Error::GivenUp)?;
                    pace.wait(block.data.len() as u64);
                    frames.copy(block.offset, block.data)?;
                    at = block.offset + block.data.len() as u64;
                    monitor.add_copied(block.data.len() as u64);
                }
            }
        }
    }
    Ok(())
}
