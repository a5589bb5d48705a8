//! `map`: which ranges of an export are dirty or clean, zero or data, or what a backup does with
//! them.
//!
//! [`live`] asks a server, by way of [`ahead`], and [`demo`] has the answers of one. [`report`] writes
//! the form asked for.

mod ahead;
mod args;
mod demo;
mod json;
mod live;
mod nbdinfo;
mod nbdinfo_totals;
mod picture;
mod report;
mod table;
mod view;

use args::MapFormat;
pub(crate) use args::{MapArgs, Previous};

use crate::failure::Failure;
use crate::output::Output;

/// Does what the command line asks.
pub(crate) fn run(args: &MapArgs) -> Result<(), Failure> {
    args.check()?;
    let is_for_people = args.format() == MapFormat::Table;
    let mut out = if is_for_people { Output::held() } else { Output::streamed() };
    match &args.uri {
        Some(uri) => live::run(uri, args, &mut out)?,
        None => demo::run(args, &mut out)?,
    }
    Ok(out.finish()?)
}
