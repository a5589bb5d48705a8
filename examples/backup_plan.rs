//! From the statuses of a disk to the reads and writes of an incremental backup, carried out on
//! disks in memory.
//!
//! ```text
//! cargo run --example backup_plan
//! ```

use core::error::Error;
use core::ops::Range;

use nbd_extents::action::{Baseline, Incremental, StatusStream};
use nbd_extents::plan::{BlockSize, Plan, PlanOptions, PlanStep};
use nbd_extents::stream::from_iter;
use nbd_extents::{Allocation, Bitmaps, Dirtiness, Extent, ExtentError, Status};

const SIZE: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let mut source = vec![0xaa; SIZE];
    let mut backup = source.clone(); // the previous backup
    source[1000..1010].fill(0xbb); // the guest writes,
    source[2048..3072].fill(0); // and discards

    // The extents of a survey of that: dirty in blocks of 512 bytes, and zero where the guest has
    // discarded.
    let statuses = [
        status(0..512, false, false)?,
        status(512..1024, true, false)?,
        status(1024..2048, false, false)?,
        status(2048..3072, true, true)?,
        status(3072..4096, false, false)?,
    ];

    // An incremental stands on the size and the bitmaps of the previous backup.
    let size = SIZE as u64;
    let policy = Incremental::new(Baseline::new(size, Bitmaps::FIRST), size)?;
    let options = PlanOptions::new(size, BlockSize::new(512)?)?.max_copy(64 << 10)?;
    for step in Plan::new(from_iter(statuses).decide(policy), options) {
        match step? {
            PlanStep::Copy { range } => {
                println!("copy {range:?}");
                let range = bytes(&range);
                backup[range.clone()].copy_from_slice(&source[range]);
            }
            PlanStep::Zero { range, .. } => {
                println!("zero {range:?}, unread");
                backup[bytes(&range)].fill(0);
            }
        }
    }
    assert_eq!(backup, source);
    Ok(())
}

fn status(range: Range<u64>, dirty: bool, zero: bool) -> Result<Extent<Status>, ExtentError> {
    let status = Status::UNKNOWN
        .with_allocation(Allocation::from_flags(if zero { 3 } else { 0 }))
        .with_bitmap(nbd_extents::BitmapIndex::FIRST, Dirtiness::from_flags(u64::from(dirty)));
    Extent::from_range(range, status)
}

/// Steps never leave the disk, which is in memory here.
fn bytes(range: &Range<u64>) -> Range<usize> {
    let index = |offset| usize::try_from(offset).unwrap_or(SIZE);
    index(range.start)..index(range.end)
}
