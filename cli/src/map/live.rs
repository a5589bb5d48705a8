//! A live export: connect, negotiate, survey, show.

use core::ops::Range;
use std::io::Write;

use nbd_client::handshake::HandshakeError;
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Error, Options, Surveyor, Uri};
use nbd_extents::{Context, ContextError, Contexts};

use super::ahead::SurveyAhead;
use super::args::{MapArgs, MapContent, MapFormat};
use super::report::{self, MapSubject};
use crate::connection;
use crate::failure::Failure;

/// Asks the server, and writes its map in the form asked for.
pub(super) fn run(uri: &Uri, args: &MapArgs, out: &mut impl Write) -> Result<(), Failure> {
    let contexts = contexts(args)?;
    // Without block status all of an export is data; of a bitmap nothing can be assumed.
    let options = args.connection.options().assume_data(args.survey.safe_on_failure);
    let order = if args.bitmap_first { Order::BitmapFirst } else { Order::Together };
    let surveyor = Surveyor::connect(uri, &options, &contexts, order)
        .map_err(|error| connect_failure(uri, &options, error, args))?;
    survey(surveyor, &contexts, args, out)
        .map_err(|failure| failure.hint_survey(!args.bitmap.is_empty(), args.bitmap_first))
}

/// The failure of a connection. Without block status a map of all data is still possible.
fn connect_failure(uri: &Uri, options: &Options, error: SurveyorError, args: &MapArgs) -> Failure {
    let has_no_status =
        matches!(&error, SurveyorError::Client(Error::Handshake(HandshakeError::NoStructuredReplies(..))));
    let failure = connection::failure(uri, options, error);
    if has_no_status && args.bitmap.is_empty() {
        return failure.hint(" (--safe-on-failure takes all of the export for data)");
    }
    failure
}

/// The contexts to ask for: the named bitmaps; the allocation, but not for nbdinfo's map of a bitmap,
/// which shows nothing else; and the depth, if there is one, where neither a bitmap nor nbdinfo's map
/// is asked for.
fn contexts(args: &MapArgs) -> Result<Contexts, ContextError> {
    let contexts = Contexts::new().require_all(args.bitmap.iter().map(Context::bitmap))?;
    let is_nbdinfo = args.format() == MapFormat::Nbdinfo;
    let has_bitmap = !args.bitmap.is_empty();
    if is_nbdinfo && has_bitmap {
        return Ok(contexts);
    }
    let contexts = contexts.require(Context::Allocation)?;
    if is_nbdinfo || has_bitmap { Ok(contexts) } else { contexts.optional(Context::Depth) }
}

fn survey(
    surveyor: Surveyor,
    contexts: &Contexts,
    args: &MapArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let range = range(args, surveyor.export().size())?;
    let content = args.content();
    if !surveyor.is_read_only() && args.format() == MapFormat::Table && content != MapContent::Totals {
        writeln!(out, "the export is writable: its map may change while it is read\n")?;
    }
    let options = args.survey.options(&surveyor)?.range(range.clone())?;
    let assumes_data = surveyor.assumes_data();
    let subject = MapSubject {
        range,
        export_size: surveyor.export().size(),
        bitmaps: contexts.all_bitmaps(),
        previous: args.previous(),
    };
    let mut extents = SurveyAhead::start(surveyor, options)?;
    report::write(&mut extents, &subject, content, args.format(), out)?;
    args.survey.remark_on_assumed(assumes_data, extents.stats());
    Ok(())
}

/// The range asked for; without a length, up to the end. An empty one is a mistake, unless the disk
/// is empty and no offset was given.
fn range(args: &MapArgs, size: u64) -> Result<Range<u64>, Failure> {
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
