//! A survey fed by a client of your own: send its requests, hand it the replies, read the merged
//! extents.
//!
//! ```text
//! cargo run --example own_client
//! ```

use core::error::Error;

use nbd_extents::Survey;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 8 * MIB;
const ALLOCATION: &str = "base:allocation";
const BITMAP: &str = "qemu:dirty-bitmap:b0";

fn main() -> Result<(), Box<dyn Error>> {
    let mut survey = Survey::new(SIZE, [ALLOCATION, BITMAP])?;
    while let Some(request) = survey.next_request()? {
        let (id, offset) = (request.id(), request.offset());
        println!("asked about {} bytes at {offset}", request.length());
        for (context, entries) in block_status(offset) {
            survey.extents32(id, context, offset, &entries)?;
        }
        // Only now does the reply count. One that fails goes to `reply_failed`, and is asked for
        // again.
        survey.reply_done(id)?;
        while let Some(extent) = survey.next_extent()? {
            println!("  {extent}");
        }
    }
    // Whether each byte has been handed out exactly once.
    survey.complete()?;
    Ok(())
}

/// Stands for a client. Servers answer less than they were asked, and not equally far for each
/// context: the bitmap reaches 3 MiB from here, the allocation 2 MiB. The survey goes on after the
/// shorter of them.
fn block_status(offset: u64) -> [(&'static str, Vec<u32>); 2] {
    let left = SIZE - offset;
    let entry = |length: u64, flags| [u32::try_from(length.min(left)).unwrap_or(u32::MAX), flags];
    let zero = if offset < 4 * MIB { 0 } else { 3 };
    [(BITMAP, entry(3 * MIB, 1).to_vec()), (ALLOCATION, entry(2 * MIB, zero).to_vec())]
}
