//! A backup: one map says what is to be copied and zeroed, its totals, and what is read.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nbd_client::{Order, Surveyor};
use nbd_extents::action::{Full, Policy, StatusStream, Totals, Zeroes};
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions};
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Context, Contexts, MAX_END};
use nbd_extents_formats::sparse_stream::Meta;

use crate::cli::Download;
use crate::common::failure::Failure;
use crate::output::{Output, stdout};
use crate::progress::Progress;
use crate::pump;

/// Does what the command line asks.
pub(crate) fn run(job: &Download) -> Result<(), Failure> {
    let out = stdout()?;
    let report_file = create_report(job)?;
    let contexts = contexts(job)?;
    let order = if job.bitmap_first { Order::BitmapFirst } else { Order::Together };
    let mut surveyor = Surveyor::connect(&job.server.uri, &job.server.options, &contexts, order)?;
    let map = survey(&mut surveyor, &contexts, job).map_err(|failure| hint(failure, job))?;

    let plan = Plan::new(from_iter(map.extents()), plan_options(&surveyor, job)?);
    let totals = plan.clone().measure()?.bytes;
    let mut output = Output::new(out, &meta(job, surveyor.export().size, &totals), job.detect_zeroes)?;
    let mut received: u64 = surveyor.connection_stats().map(|stats| stats.bytes_received).sum();
    let mut client = surveyor.into_client()?;
    received -= client.stats().bytes_received;
    {
        let progress = Progress::new("copying", totals.copy);
        pump::run(&mut client, plan, &mut output, &progress)?;
    }
    received += client.stats().bytes_received;
    let length = output.finish()?;
    client.disconnect().ok(); // all that was asked has been answered
    report(report_file, job, &totals, received, length)
}

/// Zero status and the bitmaps named, all required: without one of them the backup would be another one.
fn contexts(job: &Download) -> Result<Contexts, Failure> {
    let mut contexts = Contexts::new();
    for name in &job.bitmaps {
        contexts = contexts.require(Context::bitmap(name))?;
    }
    Ok(contexts.require(Context::Allocation)?)
}

/// What is to be done with each byte.
fn survey(
    surveyor: &mut Surveyor,
    contexts: &Contexts,
    job: &Download,
) -> Result<ExtentMap<Action>, Failure> {
    if !surveyor.is_read_only() && !job.allow_writable {
        return Err(Failure::other(
            "the export is writable, and may change while it is read (--allow-writable backs it up all the same)",
        ));
    }
    let zeroes = if job.ignore_zero_status { Zeroes::AsData } else { Zeroes::MayUnmap };
    if job.bitmaps.is_empty() {
        return decide(surveyor, Full::new().with_zeroes(zeroes));
    }
    let size = surveyor.export().size;
    let policy = job.previous.incremental(contexts.all_bitmaps(), size)?;
    decide(surveyor, policy.with_zeroes(zeroes))
}

fn decide(surveyor: &mut Surveyor, policy: impl Policy) -> Result<ExtentMap<Action>, Failure> {
    let size = surveyor.export().size;
    let options = surveyor.survey_options()?.allow_writable();
    Ok(ExtentMap::covering(surveyor.survey(options)?.decide(policy), 0..size)?)
}

/// Reads of whole blocks. With the bitmap first clean bytes may not even be readable, and are left alone.
fn plan_options(surveyor: &Surveyor, job: &Download) -> Result<PlanOptions, Failure> {
    let export = surveyor.export();
    let (minimum, maximum) =
        export.block_size.map_or((1, u32::MAX), |sizes| (sizes.minimum(), sizes.maximum()));
    let block = BlockSize::new(u64::from(minimum))?;
    let longest = pump::READ.min(u64::from(maximum)).max(block.bytes());
    let access = if job.bitmap_first { Access::DirtyOnly } else { Access::All };
    Ok(PlanOptions::new(export.size, block)?.max_copy(longest)?.max_zero(MAX_END)?.access(access))
}

/// `data-size` is what the plan copies. Where zeroes are looked for in it, it may turn out to be less.
fn meta(job: &Download, size: u64, totals: &Totals) -> Meta {
    let date = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut meta = Meta::full(size, totals.copy, date.trim_end_matches('Z'));
    meta.incremental = !job.bitmaps.is_empty();
    meta.checkpoint.clone_from(&job.checkpoint);
    meta.parent.clone_from(&job.parent);
    meta.data_size_is_limit = job.detect_zeroes;
    meta
}

fn hint(failure: Failure, job: &Download) -> Failure {
    if !failure.is_refusal() || job.bitmap_first {
        return failure;
    }
    failure.hint_bitmap_first(!job.bitmaps.is_empty())
}

/// Made before the server is asked: a report that cannot be written fails the backup before its stream begins.
fn create_report(job: &Download) -> Result<Option<File>, Failure> {
    let create = |path: &PathBuf| File::create(path).map_err(|error| report_failure(path, &error));
    job.report.as_ref().map(create).transpose()
}

fn report(
    file: Option<File>,
    job: &Download,
    totals: &Totals,
    received: u64,
    stream: u64,
) -> Result<(), Failure> {
    let (Some(mut file), Some(path)) = (file, &job.report) else { return Ok(()) };
    let Totals { copy, zero, skip, .. } = totals;
    let text = format!(
        "{{\"copy\": {copy}, \"zero\": {zero}, \"skip\": {skip}, \"received\": {received}, \"stream\": {stream}}}\n"
    );
    file.write_all(text.as_bytes()).map_err(|error| report_failure(path, &error))
}

fn report_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("{}: {error}", path.display()))
}
