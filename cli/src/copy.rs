//! `copy`: from one export to another, all bytes or the dirty ones. The library does the work.

use nbd_client::copy::{Copy, CopyError, CopyMonitor, CopyOptions, CopyProgress};
use nbd_client::survey::Order;
use nbd_client::{Surveyor, Uri};
use nbd_extents::action::Full;
use nbd_extents::plan::Access;
use nbd_extents::{Context, Contexts, SurveyStats};

use crate::connection::{self, ConnectionArgs};
use crate::failure::{Failure, print_soon};
use crate::map::Previous;
use crate::output::remark_on_tail;
use crate::progress::{ProgressArgs, Watch};
use crate::survey::SurveyArgs;
use crate::values::{human, parse_size, parse_uri};

/// Copies one export to another: all of it, or the changes
///
/// With --bitmap only the dirty ranges are copied, onto a target that holds the previous copy.
/// Zeroes are made on the target, and not sent. The copy is durable when it ends well; a
/// copy that ended early can be run again, with the same result.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -U - memory 64M --run 'export target=\"$uri\"
  nbdkit -r -U - memory 64M --run \"nbd-extents copy \\\"\\$uri\\\" \\\"\\$target\\\"\"'"))]
pub(crate) struct CopyArgs {
    /// The export to read: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri, long_help = uri_help!("The export to read"))]
    source: Uri,
    /// The export to write, at least as large
    #[arg(value_parser = parse_uri)]
    target: Uri,
    /// Only the dirty ranges of this bitmap (its own name, such as b0); may be repeated
    #[arg(long, value_name = "NAME")]
    bitmap: Vec<String>,
    /// The size of the disk at the previous copy
    ///
    /// If the disk has another size now, the run ends with exit code 3: after a disk has grown,
    /// qemu calls the new part clean.
    #[arg(long, value_name = "N", value_parser = parse_size, requires = "bitmap")]
    previous_size: Option<u64>,
    /// A disk that has grown is no error: all beyond its old end is copied
    #[arg(long, requires = "previous_size")]
    grown: bool,
    /// Ask the bitmaps first, and read nothing outside of dirty ranges
    ///
    /// This needs another connection where the server has no extended headers.
    #[arg(long, requires = "bitmap")]
    bitmap_first: bool,
    /// Copy an export that is not read-only, though it may change meanwhile
    #[arg(long)]
    allow_writable: bool,
    /// Read each written range back, and compare
    #[arg(long)]
    verify: bool,
    /// How many connections to either side, where both servers allow several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    connections: u8,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    survey: SurveyArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Does what the command line asks.
pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    let contexts = contexts(args)?;
    // A full copy needs no block status: without it all of the export is data.
    let options = args.connection.options().assume_data(args.bitmap.is_empty());
    let order = if args.bitmap_first { Order::BitmapFirst } else { Order::Together };
    let surveyor = Surveyor::connect(&args.source, &options, &contexts, order)
        .map_err(|error| connection::failure(&args.source, &options, error).about("the source"))?;
    crate::backup::check_writable(surveyor.is_read_only(), args.allow_writable)?;
    let assumes_data = surveyor.assumes_data();
    let connections = args.connections.into();
    let copy = Copy::connect(surveyor, (&args.source, &options), (&args.target, &options), connections)
        .map_err(|error| early(failure(error, args, &options)))?;
    remark_on_tail(copy.target().size(), copy.surveyor().export().size(), "source");
    let watch = Watch::begin(&args.progress, "copying", copy.monitor())?;
    let monitor = copy.monitor();
    #[cfg(unix)]
    crate::signals::watch({
        let monitor = monitor.clone();
        move || print_soon(&partial(Failure::other("interrupted"), &monitor, AGAIN))
    })?;
    let result = move_data(copy, &contexts, args, &monitor);
    drop(watch);
    let (done, stats) = result?;
    args.survey.remark_on_assumed(assumes_data, &stats);
    args.progress.summary(&done);
    Ok(())
}

fn contexts(args: &CopyArgs) -> Result<Contexts, Failure> {
    let bitmaps = args.bitmap.iter().map(Context::bitmap);
    Ok(Contexts::new().require_all(bitmaps.chain([Context::Allocation]))?)
}

fn move_data(
    copy: Copy,
    contexts: &Contexts,
    args: &CopyArgs,
    monitor: &CopyMonitor,
) -> Result<(CopyProgress, SurveyStats), Failure> {
    let size = copy.surveyor().export().size();
    let survey = args.survey.options(copy.surveyor()).map_err(early)?;
    let access = if args.bitmap_first { Access::DirtyOnly } else { Access::All };
    let options = CopyOptions::new().rate(args.progress.limit_rate).verify(args.verify).access(access);
    let result = if args.bitmap.is_empty() {
        copy.run(Full::new(), survey, &options)
    } else {
        let previous = Previous::new(args.previous_size, args.grown);
        let policy = previous.incremental(contexts.all_bitmaps(), size).map_err(early)?;
        copy.run(policy, survey, &options)
    };
    result.map_err(|error| {
        let advice = if matches!(error, CopyError::Differs { .. }) { DISTRUST } else { AGAIN };
        let failure = Failure::from(error).hint_survey(!args.bitmap.is_empty(), args.bitmap_first);
        partial(failure, monitor, advice)
    })
}

/// Added to the message of a copy that fails before its first write.
const NOTHING: &str = "; nothing was written: the target is as it was";

/// A failure before the first write.
fn early(error: impl Into<Failure>) -> Failure {
    error.into().hint(NOTHING)
}

/// The failure to connect, with what may help.
fn failure(error: CopyError, args: &CopyArgs, options: &nbd_client::Options) -> Failure {
    match error {
        CopyError::Source(error) => connection::failure(&args.source, options, error).about("the source"),
        CopyError::Target(error) => connection::failure(&args.target, options, error).about("the target"),
        error => error.into(),
    }
}

/// The advice after a copy that ended early.
const AGAIN: &str = "run the same copy again";
/// The advice about a target that loses data.
const DISTRUST: &str = "do not rely on it; check the target's storage and its server, or copy to another \
    target";

/// Says what the target holds after a copy that failed, and what to do.
fn partial(failure: Failure, monitor: &CopyMonitor, advice: &str) -> Failure {
    let now = monitor.progress();
    if !now.has_written {
        return failure.hint(NOTHING);
    }
    let (copied, zeroed) = (human(now.copied), human(now.zeroed - now.zero_already));
    failure.hint(&format!(
        "; the target now holds a part of the copy ({copied} copied, {zeroed} zeroed) over its old \
            content: {advice}"
    ))
}
