//! `restore`: the frames of a chain of backups onto a disk. It can be run again: the result depends
//! on the files alone.

use std::io;
use std::path::{Path, PathBuf};

use nbd_client::Uri;
use nbd_extents_backup::sparse_stream::StreamFact;
use nbd_extents_backup::{CheckedRestore, Restore, RestoreError, RestoreTarget, UncheckedFact};

use crate::connection::{self, ConnectionArgs};
use crate::failure::{Failure, print_soon};
use crate::output::{remark, remark_on_tail};
use crate::progress::{ProgressArgs, Watch};
use crate::streams;
use crate::values::parse_uri;

/// The name of the disk that a target is compared with.
const DISK: &str = "disk in the stream";

/// Restores a chain of backups onto an export: a full one, then its incrementals
///
/// All files are checked before the first byte is written; standard input is checked while it is
/// written.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbdkit -U - memory 64M --run 'nbd-extents restore \"$uri\" disk.full'"))]
pub(crate) struct RestoreArgs {
    /// The target: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri, long_help = uri_help!("The target"))]
    uri: Uri,
    /// The backups, in order; a single - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The target holds this checkpoint, which the first incremental stands on
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<String>,
    /// The target reads as zero all over: a full backup's zeroes are not written
    #[arg(long, conflicts_with = "base")]
    target_is_zero: bool,
    /// How many connections to write over, where the server allows several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    connections: u8,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Checks the streams, and applies them to the target.
pub(crate) fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let is_stream = args.files.iter().any(|file| streams::is_standard(file));
    if is_stream && args.files.len() > 1 {
        return Err(crate::wrong_usage("restore", "'-' is one stream, and goes with no other file"));
    }
    let restore = Restore::new()
        .base(args.base.clone())
        .target_is_zero(args.target_is_zero)
        .connections(args.connections.into())
        .rate(args.progress.limit_rate);
    // Standard input cannot be read twice. Its checks are made while it is written.
    if is_stream {
        return run_stream(args, &restore);
    }
    let files = streams::read("restore", &args.files)?;
    let is_incremental = files.contents().first().is_some_and(|first| first.meta().incremental);
    let checked = restore.check(&files).map_err(|error| match error {
        RestoreError::Files(_) if is_incremental => hint_base(error, args),
        error => error.into(),
    })?;
    for (file, facts) in args.files.iter().zip(checked.unchecked()) {
        warn_unchecked(file, facts);
    }
    run_checked(args, &restore, checked)
}

fn run_checked(args: &RestoreArgs, restore: &Restore, checked: CheckedRestore<'_>) -> Result<(), Failure> {
    let target = connect(args, restore)?;
    watch_signals(&target)?;
    remark_on_tail(target.export().size(), checked.disk_size(), DISK);
    let watch = Watch::begin(&args.progress, "writing", target.monitor())?;
    let done = checked.write_to(target);
    drop(watch);
    args.progress.summary(&done?);
    Ok(())
}

fn run_stream(args: &RestoreArgs, restore: &Restore) -> Result<(), Failure> {
    let target = connect(args, restore)?;
    watch_signals(&target)?;
    let size = target.export().size();
    let watch = Watch::begin(&args.progress, "writing", target.monitor())?;
    let input = io::stdin().lock();
    let done = restore.write_stream(target, input, |meta| remark_on_tail(size, meta.virtual_size, DISK));
    drop(watch);
    let (done, summary) = done.map_err(|error| match error {
        RestoreError::Chain(_) => hint_base(error, args),
        error => error.into(),
    })?;
    // Only now is it known whether the stream has a checksum.
    if summary.checksum.is_none() {
        warn_unchecked(Path::new("-"), &[UncheckedFact::Stream(StreamFact::Bytes)]);
    }
    args.progress.summary(&done);
    Ok(())
}

fn connect(args: &RestoreArgs, restore: &Restore) -> Result<RestoreTarget, Failure> {
    let options = args.connection.options();
    restore.connect(&args.uri, &options).map_err(|error| match error {
        RestoreError::Connect(error) => connection::failure(&args.uri, &options, error),
        error => error.into(),
    })
}

/// A signal ends the program as it would any other; before that it says whether the target was
/// written to.
fn watch_signals(target: &RestoreTarget) -> Result<(), Failure> {
    let monitor = target.monitor();
    #[cfg(unix)]
    crate::signals::watch(move || {
        let has_written = monitor.progress().has_written;
        let state = if has_written { RestoreError::PARTIAL } else { "; the target is as it was" };
        print_soon(&Failure::other("interrupted").hint(state));
    })?;
    Ok(())
}

/// Says what helps with an incremental that comes first.
fn hint_base(error: RestoreError, args: &RestoreArgs) -> Failure {
    const NEEDS_BASE: &str =
        " (--base CHECKPOINT restores incrementals onto a target that holds that checkpoint already)";
    let failure = Failure::from(error);
    if args.base.is_none() { failure.hint(NEEDS_BASE) } else { failure }
}

/// One line for each stream of which something could not be checked: the user decides whether to
/// trust it.
fn warn_unchecked(file: &Path, facts: &[UncheckedFact]) {
    if !facts.is_empty() {
        let facts: Vec<_> = facts.iter().map(UncheckedFact::to_string).collect();
        remark(format_args!("{}: not checked: {}", file.display(), facts.join(", ")));
    }
}
