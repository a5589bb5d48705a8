//! `restore`: the frames of a chain of backups onto a disk. It can be run again: the result depends
//! on the files alone.

use core::ops::Range;
use std::path::{Path, PathBuf};

use nbd_client::copy::CopyMonitor;
use nbd_client::pipeline::{JoinedWrites, PipelineOptions};
use nbd_client::{Export, Pool, Uri};
use nbd_extents_backup::sparse_stream::{self, Event, Meta, StreamFact, Summary};

use crate::connection::{self, ConnectionArgs};
use crate::failure::Failure;
use crate::output::remark;
use crate::progress::{Pace, ProgressArgs, Watch};
use crate::streams::{self, Streams};
use crate::values::{human, parse_uri};

/// Restores a chain of backups onto an export: a full one, then its incrementals
///
/// All files are checked before the first byte is written; standard input is checked while it is
/// written.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbdkit -U - memory 64M --run 'nbd-extents restore \"$uri\" disk.full'"))]
pub(crate) struct RestoreArgs {
    /// The target: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri)]
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
    if args.files.len() > 1 && args.files.iter().any(|file| streams::is_stdin(file)) {
        return Err(crate::wrong_usage("restore", "'-' is one stream, and goes with no other file"));
    }
    // Standard input cannot be read twice. Its checks are made while it is written.
    let is_checked = !args.files.iter().any(|file| streams::is_stdin(file));
    let jobs = if is_checked { check_files(args)? } else { Vec::new() };
    let options = args.connection.options();
    let mut pool = Pool::connect(&args.uri, &options, args.connections.into())
        .map_err(|error| connection::failure(&args.uri, &options, error))?;
    let export = pool.export().clone();
    check_target(&export, jobs.last().map(|job| job.meta.virtual_size))?;
    let monitor = CopyMonitor::new(export.size());
    let watch = Watch::begin(&args.progress, "writing", monitor.clone())?;
    let mut pace = args.progress.pace();
    let mut has_written = false;
    for (nth, file) in args.files.iter().enumerate() {
        let job = jobs.get(nth);
        let restore = Restore {
            args,
            skip_zeroes: args.target_is_zero && nth == 0,
            limit: job.map_or(u64::MAX, |job| job.limit),
            export: &export,
            target: JoinedWrites::new(&mut pool, PipelineOptions::default())?,
            has_written: &mut has_written,
            monitor: &monitor,
            pace: &mut pace,
        };
        if let Err(failure) = restore.apply(file, job) {
            return Err(if has_written { failure.hint(PARTIAL) } else { failure });
        }
    }
    drop(watch);
    pool.disconnect().ok(); // all of it is there
    args.progress.summary(&monitor.progress());
    Ok(())
}

/// Added to the message of a restore that fails after its first write.
const PARTIAL: &str =
    "; the target now holds neither its old state nor the backup's: restore it again from the full backup on";

/// A stream that has been checked.
struct Job {
    meta: Meta,
    summary: Summary,
    /// The first byte of the disk that a later stream has cut off.
    limit: u64,
}

/// Checks every file, and that they are a chain. Names the facts that could not be checked.
fn check_files(args: &RestoreArgs) -> Result<Vec<Job>, Failure> {
    let streams = Streams::read(&args.files)?;
    if let Some(first) = streams.contents().first() {
        check_zero(first.meta(), args)?;
    }
    let base = args.base.as_deref();
    let chain = streams.chain(base).map_err(|failure| match streams.contents().first() {
        Some(first) if base.is_none() && first.meta().incremental => failure.hint(NEEDS_BASE),
        _ => failure,
    })?;
    for (position, file) in args.files.iter().enumerate() {
        // A base has a name and nothing more, which the user has vouched for.
        let unchecked = if base.is_some() && position == 0 { None } else { Some(&chain) };
        warn_unchecked(file, &streams.unchecked(unchecked, position));
    }
    let mut limit = u64::MAX;
    let jobs = streams.contents().iter().rev().map(|contents| {
        limit = limit.min(contents.meta().virtual_size);
        Job { meta: contents.meta().clone(), summary: contents.summary(), limit }
    });
    let mut jobs: Vec<_> = jobs.collect();
    jobs.reverse();
    Ok(jobs)
}

const NEEDS_BASE: &str =
    " (--base CHECKPOINT restores incrementals onto a target that holds that checkpoint already)";

/// One line for each stream of which something could not be checked: the user decides whether to
/// trust it.
fn warn_unchecked(file: &Path, facts: &[String]) {
    if !facts.is_empty() {
        remark(format_args!("{}: not checked: {}", file.display(), facts.join(", ")));
    }
}

fn check_zero(first: &Meta, args: &RestoreArgs) -> Result<(), Failure> {
    if first.incremental && args.target_is_zero {
        return Err(Failure::usage(
            "an incremental needs the previous backup on the target: not with --target-is-zero",
        ));
    }
    Ok(())
}

/// Whether the disk of the backup fits the target.
fn check_target(export: &Export, wanted: Option<u64>) -> Result<(), Failure> {
    if export.flags.is_read_only() {
        return Err(Failure::not_there("the export is read-only: nothing can be restored onto it"));
    }
    let Some(wanted) = wanted else { return Ok(()) };
    if export.size() < wanted {
        return Err(Failure::not_there(format!(
            "the target has {} bytes, and the disk in the stream {wanted}: it does not fit",
            export.size()
        )));
    }
    if export.size() > wanted {
        let tail = human(export.size() - wanted);
        remark(format_args!(
            "the target is {tail} larger than the disk in the stream: from byte {wanted} on it stays as it is"
        ));
    }
    Ok(())
}

/// One stream on its way to the target.
struct Restore<'a> {
    args: &'a RestoreArgs,
    skip_zeroes: bool,
    /// Bytes from here on are cut off by a later stream, and the target need not have room for
    /// them.
    limit: u64,
    export: &'a Export,
    target: JoinedWrites<'a>,
    /// The target is no longer as it was.
    has_written: &'a mut bool,
    monitor: &'a CopyMonitor,
    pace: &'a mut Pace,
}

impl Restore<'_> {
    /// Applies the stream in `file`, and waits until it is durable.
    fn apply(mut self, file: &Path, job: Option<&Job>) -> Result<(), Failure> {
        let summary = streams::read(file, |event| match event {
            Event::Meta(meta) => self.begin(&meta, job),
            Event::Payload { offset, bytes } => self.data(offset, bytes),
            Event::Zero { range } => self.zero(range),
            _ => Ok(()),
        })?;
        match job {
            Some(job) if job.summary != summary => Err(changed(file)),
            None => {
                // Only now is it known whether the stream of standard input has a checksum.
                if summary.checksum.is_none() {
                    warn_unchecked(file, &[StreamFact::Bytes.to_string()]);
                }
                self.finish()
            }
            Some(_) => self.finish(),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        Ok(self.target.finish()?)
    }

    fn begin(&mut self, meta: &Meta, job: Option<&Job>) -> Result<(), Failure> {
        match job {
            Some(job) if job.meta != *meta => {
                return Err(Failure::broken("the stream has changed since it was checked"));
            }
            Some(_) => {}
            None => {
                check_zero(meta, self.args)?;
                sparse_stream::check_first(meta, self.args.base.as_deref()).map_err(|error| {
                    let failure = Failure::from(error);
                    if self.args.base.is_none() { failure.hint(NEEDS_BASE) } else { failure }
                })?;
                check_target(self.export, Some(meta.virtual_size))?;
            }
        }
        self.monitor.plan_copy(meta.data_size);
        self.monitor.plan_to(self.export.size());
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.pace.wait(bytes.len() as u64);
        self.monitor.add_copied(bytes.len() as u64);
        let room = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        *self.has_written = true;
        Ok(self.target.write(offset, bytes)?)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        let range = range.start..range.end.min(self.limit);
        if self.skip_zeroes || range.is_empty() {
            return Ok(());
        }
        *self.has_written = true;
        self.monitor.add_zeroed(range.end - range.start);
        Ok(self.target.zero(range)?)
    }
}

fn changed(file: &Path) -> Failure {
    Failure::broken("the stream has changed since it was checked").about(&file.display().to_string())
}
