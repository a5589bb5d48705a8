//! Maps of two backups, kept in a few bytes each and compared later: which bytes changed in
//! between?
//!
//! ```text
//! cargo run --example saved_map --features serde
//! ```

use core::error::Error;

use nbd_extents::map::{ExtentMap, MapBuilder};
use nbd_extents::{Action, Extent};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let monday = map(3)?;
    let tuesday = map(4)?;
    // serde's forms are the same in every format; postcard is a small one.
    let saved = [postcard::to_allocvec(&monday)?, postcard::to_allocvec(&tuesday)?];
    println!("{} runs in {} bytes of memory", monday.run_count(), monday.memory_usage());
    println!("{} and {} bytes saved", saved[0].len(), saved[1].len());

    let monday: ExtentMap<Action> = postcard::from_bytes(&saved[0])?;
    let tuesday: ExtentMap<Action> = postcard::from_bytes(&saved[1])?;
    let mut changed = 0;
    for difference in monday.diff(&tuesday) {
        changed += difference.length();
    }
    println!("{} MiB differ", changed / MIB);
    Ok(())
}

/// A map of a disk on which every `nth` MiB is to be copied.
fn map(nth: u64) -> Result<ExtentMap<Action>, Box<dyn Error>> {
    let mut builder = MapBuilder::covering(0..SIZE);
    for start in (0..SIZE).step_by(1 << 20) {
        let action = if (start / MIB).is_multiple_of(nth) { Action::Copy } else { Action::Skip };
        builder.push(Extent::new(start, MIB, action)?)?;
    }
    Ok(builder.finish()?)
}
