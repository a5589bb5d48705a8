//! Brings a copy of a disk up to date: reads dirty data alone, and writes zeroes for dirty zeroes.
//!
//! ```text
//! cargo run -p nbd-client --example incremental_copy -- SOURCE_URI BITMAP SIZE_THEN TARGET_URI
//! ```

use core::error::Error;

use nbd_client::pipeline::PipelineOptions;
use nbd_client::survey::Order;
use nbd_client::{Options, Pool, ReadAhead, Surveyor, WriteBehind};
use nbd_extents::action::{Baseline, Incremental, StatusStream};
use nbd_extents::map::ExtentMap;
use nbd_extents::{Action, Context, Contexts};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, bitmap, size_then, target] = &arguments[..] else {
        return Err("usage: incremental_copy SOURCE_URI BITMAP SIZE_THEN TARGET_URI".into());
    };

    // The map of actions: dirty data is copied, dirty zeroes are zeroed, clean bytes are
    // left.
    let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap(bitmap))?;
    let mut surveyor = Surveyor::connect(&source.parse()?, &Options::new(), &wanted, Order::Together)?;
    let size = surveyor.export().size();
    let baseline = Baseline::new(size_then.parse()?, wanted.all_bitmaps());
    let policy = Incremental::new_or_grown(baseline, size)?;
    let options = surveyor.survey_options()?;
    let map = ExtentMap::covering(surveyor.survey(options)?.decide(policy), 0..size)?;

    // The reads go over the connection of the survey, so that they are of the same export.
    let mut source = Pool::of(vec![surveyor.into_client()?])?;
    let mut target = Pool::connect(&target.parse()?, &Options::new(), 1)?;
    let copies = map.extents().filter(|extent| *extent.status() == Action::Copy);
    let mut blocks =
        ReadAhead::new(&mut source, copies.map(|extent| extent.range()), PipelineOptions::default())?;
    let mut writes = WriteBehind::new(&mut target, PipelineOptions::default())?;
    while let Some(block) = blocks.next_block()? {
        let mut data = writes.buffer(block.data.len());
        data.copy_from_slice(block.data);
        writes.write(block.offset, data)?;
    }
    for extent in map.extents() {
        if let Action::Zero { .. } = extent.status() {
            writes.zero(extent.start(), extent.length())?;
        }
    }
    // Only without an error here is all of it written, and durable.
    writes.finish()?;
    source.disconnect()?;
    target.disconnect()?;
    Ok(())
}
