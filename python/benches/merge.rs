//! Rust's own time for the merge that `ratios.py` times from Python: two lists of 32-bit entries, read
//! from files, into an `ExtentMap`. Prints the seconds of the fastest of some rounds.

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Pair32, pairs};
use nbd_extents::{Allocation, BitmapIndex, Dirtiness, Status, StreamError};

const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // cargo adds arguments of its own
    let mut lists = env::args().skip(1).filter(|arg| !arg.starts_with("--")).map(|path| read(&path));
    let (Some(dirty), Some(zero)) = (lists.next().transpose()?, lists.next().transpose()?) else {
        return Ok(());
    };
    let mut fastest = Duration::MAX;
    let mut runs = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let map = merged(&dirty, &zero)?;
        fastest = fastest.min(start.elapsed());
        runs = map.run_count();
    }
    println!("{} {runs}", fastest.as_secs_f64());
    Ok(())
}

fn read(path: &str) -> Result<Vec<u32>, std::io::Error> {
    let bytes = fs::read(path)?;
    Ok(bytes.as_chunks().0.iter().map(|&number| u32::from_ne_bytes(number)).collect())
}

fn merged(dirty: &[u32], zero: &[u32]) -> Result<ExtentMap<Status>, Box<dyn std::error::Error>> {
    let end = dirty.as_chunks().0.iter().map(|&[length, _]: &Pair32| u64::from(length)).sum();
    let dirty = place(pairs(dirty)?, 0).map_status(Dirtiness::from_flags);
    let zero = place(pairs(zero)?, 0).map_status(Allocation::from_flags);
    let both = dirty.merge(zero, |&dirty, &zero| {
        Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirty).with_allocation(zero)
    });
    Ok(ExtentMap::covering(both, 0..end).map_err(|error: StreamError| error)?)
}
