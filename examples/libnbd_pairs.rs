//! The lists that libnbd's callback gets for two contexts, merged: which bytes are dirty, and which
//! of them read as zero?
//!
//! ```text
//! cargo run --example libnbd_pairs
//! ```

use core::error::Error;

use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::pairs;
use nbd_extents::{Allocation, Dirtiness};

/// Pairs of length and flags, in host order, from byte 0 on.
const DIRTY: [u32; 6] = [1 << 20, 0, 64 << 10, 1, 960 << 10, 0];
const ALLOCATION: [u32; 4] = [(1 << 20) + (4 << 10), 0, (1 << 20) - (4 << 10), 3];

fn main() -> Result<(), Box<dyn Error>> {
    // The context gives the flags their meaning, before the lists meet: 1 is dirty in the one, a
    // hole in the other.
    let dirty = place(pairs(&DIRTY)?, 0).map_status(Dirtiness::from_flags);
    let zero = place(pairs(&ALLOCATION)?, 0).map_status(Allocation::from_flags);

    let merged = dirty.merge(zero, |dirty, zero| match (dirty.is_dirty(), zero.is_zero()) {
        (false, _) => "leave",
        (true, true) => "write zeroes",
        (true, false) => "read and store",
    });
    let mut rows = merged.coalesce();
    while let Some(extent) = rows.next_extent()? {
        println!("{:>8} {:>8}  {}", extent.start(), extent.length(), extent.status());
    }
    Ok(())
}
