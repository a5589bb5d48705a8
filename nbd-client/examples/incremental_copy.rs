//! Brings a copy of a disk up to date: reads dirty data alone, and writes zeroes for dirty zeroes.
//!
//! ```text
//! cargo run -p nbd-client --example incremental_copy -- SOURCE_URI BITMAP SIZE_THEN TARGET_URI
//! ```

use core::error::Error;

use nbd_client::copy::{Copy, CopyOptions};
use nbd_client::survey::Order;
use nbd_client::{Options, Surveyor};
use nbd_extents::action::{Baseline, Incremental};
use nbd_extents::{Context, Contexts};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, bitmap, size_then, target] = &arguments[..] else {
        return Err("usage: incremental_copy SOURCE_URI BITMAP SIZE_THEN TARGET_URI".into());
    };
    let (source, target, options) = (source.parse()?, target.parse()?, Options::new());

    let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap(bitmap))?;
    let surveyor = Surveyor::connect(&source, &options, &wanted, Order::Together)?;
    let baseline = Baseline::new(size_then.parse()?, wanted.all_bitmaps());
    let policy = Incremental::new_or_grown(baseline, surveyor.export().size())?;

    let copy = Copy::connect(surveyor, (&source, &options), (&target, &options), 1)?;
    let survey = copy.surveyor().survey_options()?;
    // Only without an error is all of it written, and durable.
    let (done, _) = copy.run(policy, survey, &CopyOptions::new())?;
    println!("{} bytes copied, {} made zero", done.copied, done.zeroed);
    Ok(())
}
