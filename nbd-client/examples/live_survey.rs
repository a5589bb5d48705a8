//! The merged map of a live export, extent by extent, with progress on stderr.
//!
//! ```text
//! cargo run -p nbd-client --example live_survey -- 'nbd+unix:///?socket=/tmp/nbd.sock' b0
//! ```

use core::error::Error;

use nbd_client::survey::Order;
use nbd_client::{Options, Surveyor};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(uri) = arguments.next() else {
        return Err("usage: live_survey URI [BITMAP]...".into());
    };

    // Each context is required or optional. A required one that is missing is an error that lists
    // those there are.
    let mut wanted = Contexts::new().require(Context::Allocation)?;
    for bitmap in arguments {
        wanted = wanted.require(Context::bitmap(bitmap))?;
    }
    let mut surveyor = Surveyor::connect(&uri.parse()?, &Options::new(), &wanted, Order::Together)?;

    // A map of an export that is being written may mix several moments, so it is asked for by name.
    let options = surveyor.survey_options()?.allow_writable();
    let size = surveyor.export().size();
    let mut extents = surveyor.survey(options)?;
    let mut percent = u128::MAX;
    while let Some(extent) = extents.next_extent()? {
        println!("{extent}");
        let now = u128::from(extent.end()) * 100 / u128::from(size.max(1));
        if now != percent {
            eprint!("\r{now}%");
            percent = now;
        }
    }
    eprintln!("\r{} requests", extents.stats().requests);
    surveyor.disconnect()?;
    Ok(())
}
