//! `map`: which ranges of an export are dirty or clean, zero or data, or what a backup does with
//! them.
//!
//! [`live`] asks a server, [`demo`] has answers of one; [`report`] writes the form asked for.

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

use args::Format;
pub(crate) use args::{Args, Previous};

use crate::failure::Failure;
use crate::output::Output;

/// Does what the command line asks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.check()?;
    let is_for_people = args.format() == Format::Table;
    let mut out = if is_for_people { Output::held() } else { Output::streamed() };
    match &args.uri {
        Some(uri) => live::run(uri, args, &mut out)?,
        None => demo::run(args, &mut out)?,
    }
    Ok(out.finish()?)
}
