//! A live export: connect, negotiate, survey, show.

use core::ops::Range;
use std::io::Write;

use nbd_client::survey::Order;
use nbd_client::{Surveyor, Uri};
use nbd_extents::{Context, ContextError, Contexts};

use super::args::{Args, Content, Format};
use super::report::{self, Subject};
use crate::connection;
use crate::failure::Failure;

/// Asks the server, and writes its map in the form asked for.
pub(super) fn run(uri: &Uri, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let contexts = contexts(args)?;
    let options = args.connection.options();
    let order = if args.bitmap_first { Order::BitmapFirst } else { Order::Together };
    let mut surveyor = Surveyor::connect(uri, &options, &contexts, order)
        .map_err(|error| connection::failure(uri, &options, error))?;
    survey(&mut surveyor, &contexts, args, out)
        .map_err(|failure| failure.hint_bitmap_first(!args.bitmap.is_empty(), args.bitmap_first))?;
    surveyor.disconnect().ok(); // all that was asked has been answered
    Ok(())
}

/// The bitmaps named and, unless nbdinfo's map of a bitmap is to be shown, the allocation are
/// required. The depth is asked for only where it is shown, and may be missing.
fn contexts(args: &Args) -> Result<Contexts, ContextError> {
    let mut contexts = Contexts::new();
    for name in &args.bitmap {
        contexts = contexts.require(Context::bitmap(name))?;
    }
    match (args.format(), args.bitmap.is_empty()) {
        (Format::Nbdinfo, false) => Ok(contexts),
        (Format::Nbdinfo, true) | (_, false) => contexts.require(Context::Allocation),
        _ => contexts.require(Context::Allocation)?.optional(Context::Depth),
    }
}

fn survey(
    surveyor: &mut Surveyor,
    contexts: &Contexts,
    args: &Args,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let range = range(args, surveyor.export().size())?;
    let content = args.content();
    if !surveyor.is_read_only() && args.format() == Format::Table && content != Content::Totals {
        writeln!(out, "the export is writable: its map may change while it is read\n")?;
    }
    let options = surveyor.survey_options()?.range(range.clone())?.allow_writable();
    let subject = Subject {
        range,
        export_size: surveyor.export().size(),
        bitmaps: contexts.all_bitmaps(),
        previous: args.previous(),
    };
    report::write(surveyor.survey(options)?, &subject, content, args.format(), out)
}

/// The range asked for; without a length, up to the end. An empty one is a mistake, unless the disk
/// is empty and no offset was given.
fn range(args: &Args, size: u64) -> Result<Range<u64>, Failure> {
    let start = args.offset.unwrap_or(0);
    match args.length {
        None if start < size || args.offset.is_none() => Ok(start..size),
        None => Err(Failure::usage(format!(
            "the offset {start} is not within the export, which has {size} bytes"
        ))),
        Some(length) => match start.checked_add(length.get()) {
            Some(end) if end <= size => Ok(start..end),
            _ => Err(Failure::usage(format!(
                "the range of {length} bytes at {start} does not fit the export, which has {size} bytes"
            ))),
        },
    }
}
