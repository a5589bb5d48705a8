//! `backup`: one map gives the copies, the zeroes, the totals and the reads.
//!
//! ```text
//! survey -> actions -> one map -> plan -> reads, several in flight -> frames -> a file beside FILE -> FILE
//! ```

mod args;
mod copy;
mod frames;
mod report;
mod target;
pub(crate) mod unfinished;

use std::time::SystemTime;

use nbd_client::copy::CopyMonitor;
use nbd_client::pool::more_connections;
use nbd_client::survey::Order;
use nbd_client::{Export, Pool, Surveyor};
use nbd_extents::action::{Full, Policy, StatusStream, Zeroes};
use nbd_extents::map::{Cap, CapError, ExtentMap};
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Context, Contexts, MAX_END};
use nbd_extents_backup::sparse_stream::{Meta, StreamEnds};

use crate::connection;
use crate::failure::Failure;
use crate::map::Previous;
use crate::progress::Watch;
use crate::streams;
use crate::values::human;
pub(crate) use args::BackupArgs;
use frames::Frames;
use report::Report;
use target::BackupTarget;

/// Does what the command line asks.
pub(crate) fn run(args: &BackupArgs) -> Result<(), Failure> {
    let base = BackupBase::of(args)?;
    let target = BackupTarget::create(&args.file, args.after.as_deref())?;
    let report = Report::create(args.report.as_deref())?;
    let SurveyedDisk { map, assumed, mut pool, closed } = survey(args, base.previous)?;

    let plan = Plan::new(from_iter(map.extents()), plan_options(pool.export(), args)?);
    let totals = plan.clone().measure()?.bytes;
    let meta = meta(args, &base, pool.export().size(), totals.copy);
    let mut frames = Frames::new(target, &meta, args.detect_zeroes)?;
    let monitor = CopyMonitor::new(pool.export().size());
    monitor.plan_copy(totals.copy);
    monitor.plan_to(pool.export().size());
    let watch = Watch::begin(&args.progress, "copying", monitor.clone())?;
    let copied = copy::run(&mut pool, plan, &mut frames, &monitor, &mut args.progress.pace());
    drop(watch);
    copied?;
    // Every request has been answered, so a server that closes badly harms nothing.
    let connections = pool.disconnect().unwrap_or_default();
    let received = closed + connections.iter().map(|stats| stats.bytes_received).sum::<u64>();
    let (target, length) = frames.finish()?;
    target.commit()?;
    report.write(&totals, map.run_count(), assumed, received, length)?;
    args.progress.summary(&monitor.progress());
    Ok(())
}

/// The parent of an incremental, as far as the command line states it.
struct BackupBase {
    previous: Previous,
    parent: Parent,
}

enum Parent {
    /// All of it, from the previous stream.
    Stream(StreamEnds),
    /// By hand: the checkpoint's name, where it is stated.
    Name(Option<String>),
}

impl BackupBase {
    fn of(args: &BackupArgs) -> Result<Self, Failure> {
        let Some(file) = &args.after else {
            let previous = Previous::new(args.previous_size, args.grown);
            if args.grown && previous == Previous::Unsaid {
                let wrong = "'--grown' needs the old size: '--after <FILE>' or '--previous-size <N>'";
                return Err(crate::wrong_usage("backup", wrong));
            }
            let base = Self { previous, parent: Parent::Name(args.parent.clone()) };
            return base.check_names(args);
        };
        let ends = streams::ends(file)?;
        let previous = Previous::new(Some(ends.meta.virtual_size), args.grown);
        Self { previous, parent: Parent::Stream(ends) }.check_names(args)
    }

    /// A chain in which two backups have one name would be refused when it is restored.
    fn check_names(self, args: &BackupArgs) -> Result<Self, Failure> {
        let parent = match &self.parent {
            Parent::Stream(ends) => &ends.meta.checkpoint,
            Parent::Name(name) => name,
        };
        match parent {
            Some(name) if args.checkpoint.as_ref() == Some(name) => Err(Failure::usage(format!(
                "the previous backup is of checkpoint {name:?} already: this one needs another name"
            ))),
            _ => Ok(self),
        }
    }
}

/// Zero status and the bitmaps named, all required: without one of them the backup would be another
/// one.
fn contexts(args: &BackupArgs) -> Result<Contexts, Failure> {
    let mut contexts = Contexts::new();
    for name in &args.bitmap {
        contexts = contexts.require(Context::bitmap(name))?;
    }
    Ok(contexts.require(Context::Allocation)?)
}

/// A disk that has been surveyed, and can be read.
struct SurveyedDisk {
    map: ExtentMap<Action>,
    /// Bytes that the server did not describe.
    assumed: u64,
    pool: Pool,
    /// Bytes received over connections that are closed.
    closed: u64,
}

fn survey(args: &BackupArgs, previous: Previous) -> Result<SurveyedDisk, Failure> {
    let contexts = contexts(args)?;
    // A full backup needs no block status: without it all of the export is data.
    let options = args.connection.options().assume_data(args.bitmap.is_empty());
    let order = if args.bitmap_first { Order::BitmapFirst } else { Order::Together };
    let mut surveyor = Surveyor::connect(&args.uri, &options, &contexts, order)
        .map_err(|error| connection::failure(&args.uri, &options, error))?;
    let (map, assumed) = decide_all(&mut surveyor, &contexts, args, previous)
        .map_err(|failure| failure.hint_survey(!args.bitmap.is_empty(), args.bitmap_first))?;
    let received: u64 = surveyor.connection_stats().map(|stats| stats.bytes_received).sum();
    let client = surveyor.into_client()?;
    let closed = received.saturating_sub(client.stats().bytes_received);
    let clients = more_connections(client, &args.uri, &options, args.connections.into())?;
    Ok(SurveyedDisk { map, assumed, pool: Pool::of(clients)?, closed })
}

/// Refuses an export that may change while it is read, unless the user allows it.
pub(crate) fn check_writable(read_only: bool, allowed: bool) -> Result<(), Failure> {
    if read_only || allowed {
        return Ok(());
    }
    Err(Failure::other(
        "the export is writable, and may change while it is read (--allow-writable takes it all the same)",
    ))
}

fn decide_all(
    surveyor: &mut Surveyor,
    contexts: &Contexts,
    args: &BackupArgs,
    previous: Previous,
) -> Result<(ExtentMap<Action>, u64), Failure> {
    check_writable(surveyor.is_read_only(), args.allow_writable)?;
    check_tail(surveyor.export())?;
    let zeroes = if args.ignore_zero_status { Zeroes::AsData } else { Zeroes::MayUnmap };
    if args.bitmap.is_empty() {
        return decide(surveyor, Full::new().with_zeroes(zeroes), args);
    }
    let policy = previous.incremental(contexts.all_bitmaps(), surveyor.export().size())?;
    decide(surveyor, policy.with_zeroes(zeroes), args)
}

/// The map of all actions, and the number of bytes that the server did not describe. With the
/// bitmap first clean bytes may not even be readable, and stay skipped.
fn decide(
    surveyor: &mut Surveyor,
    policy: impl Policy,
    args: &BackupArgs,
) -> Result<(ExtentMap<Action>, u64), Failure> {
    let size = surveyor.export().size();
    let assumes_data = surveyor.assumes_data();
    let options = args.survey.options(surveyor)?;
    let mut extents = surveyor.survey(options)?;
    let stream = (&mut extents).decide(policy);
    let cap = Cap::bytes(usize::try_from(args.map_memory).unwrap_or(usize::MAX));
    let cap = if args.bitmap_first { cap.keeping_skipped() } else { cap };
    let map = match ExtentMap::capped(stream, 0..size, cap) {
        Ok(capped) => capped.map,
        Err(CapError::Stream(error)) => return Err(error.into()),
        Err(error) => return Err(Failure::other(format!("{error} (--map-memory N allows for more)"))),
    };
    let stats = extents.stats();
    args.survey.remark_on_assumed(assumes_data, &stats);
    Ok((map, stats.assumed_bytes))
}

/// Refuses an export whose last bytes no request may ask for, before any time is spent on the rest.
fn check_tail(export: &Export) -> Result<(), Failure> {
    let (size, minimum) = (export.size(), export.minimum_block());
    let tail = size % minimum;
    if tail == 0 {
        return Ok(());
    }
    Err(Failure::broken(format!(
        "the last {} of the export cannot be read: it has {size} bytes, and the server takes whole \
            blocks of {minimum}",
        human(tail)
    )))
}

/// Reads of whole blocks. With the bitmap first clean bytes may not even be readable, and are left
/// alone.
fn plan_options(export: &Export, args: &BackupArgs) -> Result<PlanOptions, Failure> {
    let minimum = BlockSize::new(export.minimum_block())?;
    let access = if args.bitmap_first { Access::DirtyOnly } else { Access::All };
    // The reads are cut later, when they are asked for.
    Ok(PlanOptions::new(export.size(), minimum)?
        .min_block(minimum)?
        .max_copy(MAX_END)?
        .max_zero(MAX_END)?
        .access(access))
}

/// `data-size` is what the plan copies. Where zeroes are looked for in it, it may turn out to be
/// less.
fn meta(args: &BackupArgs, base: &BackupBase, size: u64, data: u64) -> Meta {
    let date = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut meta = Meta::full(size, data, date.trim_end_matches('Z'));
    meta.incremental = !args.bitmap.is_empty();
    match &base.parent {
        Parent::Stream(previous) => meta.follow(previous),
        Parent::Name(name) => {
            meta.parent.clone_from(name);
            meta.parent_size = base.previous.size();
        }
    }
    if !meta.incremental {
        // A full backup begins a chain: its incrementals take this identity of the disk from it.
        meta.disk = Some(uuid::Uuid::new_v4().to_string());
    }
    meta.checkpoint.clone_from(&args.checkpoint);
    meta.data_size_is_limit = args.detect_zeroes;
    meta
}
