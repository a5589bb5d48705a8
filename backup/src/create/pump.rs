//! Moves the bytes of a backup: reads ahead of the output, several in flight, and hands them on in
//! the plan's order.

use std::io::Write;
use std::thread;

use nbd_client::copy::CopyMonitor;
use nbd_client::pipeline::{PipelineOptions, RateLimit};
use nbd_client::{Error, Pool, ReadAhead};
use nbd_extents::StreamError;
use nbd_extents::plan::PlanStep;

use super::BackupError;
use super::frames::FrameOutput;

/// Reads in flight: many short ones make up for what each costs.
const IN_FLIGHT: usize = 64;
/// The longest read in bytes. A backup of a whole disk to the null device took 0.94 times as long as
/// with 256 KiB, since client and server are woken half as often.
const PIECE: u32 = 512 << 10;

/// Carries out a plan, which is walked twice: by the reads, which run ahead, and by the output.
///
/// `rate` is the most bytes to copy in a second. The pool's threads receive whatever was asked for
/// while this one waits.
pub(super) fn run<P, W>(
    pool: &mut Pool,
    plan: P,
    frames: &mut FrameOutput<W>,
    monitor: &CopyMonitor,
    rate: Option<u64>,
) -> Result<(), BackupError>
where
    P: Iterator<Item = Result<PlanStep, StreamError>> + Clone,
    W: Write,
{
    // A fault of the plan ends the reads here, and is reported by the walk below.
    let copies = plan.clone().map_while(Result::ok).filter_map(|step| match step {
        PlanStep::Copy { range } => Some(range),
        PlanStep::Zero { .. } => None,
    });
    let mut limit = rate.map(RateLimit::new);
    let options = PipelineOptions::default().requests(IN_FLIGHT).piece(PIECE);
    let mut blocks = ReadAhead::new(pool, copies, options)?;
    for step in plan {
        match step? {
            PlanStep::Zero { range, .. } => {
                monitor.add_zeroed(range.end - range.start);
                frames.zero(range)?;
            }
            PlanStep::Copy { range } => {
                let mut at = range.start;
                while at < range.end {
                    // Both walks are of the same plan, so a block is there.
                    let block = blocks.next_block()?.ok_or(Error::GivenUp)?;
                    let length = block.data.len() as u64;
                    if let Some(limit) = &mut limit {
                        thread::sleep(limit.delay(length));
                    }
                    frames.copy(block.offset, block.data)?;
                    at = block.offset + length;
                    monitor.add_copied(length);
                }
            }
        }
    }
    Ok(())
}
