//! A live export: connect, negotiate, survey, show.

use core::ops::Range;
use std::io::Write;

use nbd_client::{Options, Order, Surveyor};
use nbd_extents::{Context, Contexts};

use crate::cli::{Content, Job, Shape};
use crate::common::failure::Failure;
use crate::info;
use crate::report::{self, Subject};

/// Does what the command line asks.
pub(crate) fn run(job: &Job, out: &mut impl Write) -> Result<(), Failure> {
    let mut surveyor = connect(job)?;
    if job.info {
        info::write(surveyor.export(), job.shape, out)?;
    } else {
        survey(&mut surveyor, job, out).map_err(|failure| hint(failure, job))?;
    }
    out.flush()?;
    surveyor.disconnect().ok(); // all that was asked has been answered
    Ok(())
}

fn connect(job: &Job) -> Result<Surveyor, Failure> {
    let options = Options::new()
        .extended_headers(!job.compact)
        .strict(job.strict)
        .deadline(job.deadline)
        .list_contexts(job.info);
    let order = if job.bitmap_first && !job.info { Order::BitmapFirst } else { Order::Together };
    Ok(Surveyor::connect(&job.uri, &options, &contexts(job)?, order)?)
}

/// Allocation and the bitmaps named are required; the depth is asked for only where it is shown, and may be missing. To show what the server
/// offers, nothing is required.
fn contexts(job: &Job) -> Result<Contexts, Failure> {
    let mut contexts = Contexts::new();
    for name in &job.bitmaps {
        contexts = contexts.require(Context::bitmap(name))?;
    }
    if job.info {
        return Ok(contexts.optional(Context::Allocation)?.optional(Context::Depth)?);
    }
    contexts = contexts.require(Context::Allocation)?;
    if job.bitmaps.is_empty() {
        contexts = contexts.optional(Context::Depth)?;
    }
    Ok(contexts)
}

fn survey(surveyor: &mut Surveyor, job: &Job, out: &mut impl Write) -> Result<(), Failure> {
    let range = range(job, surveyor.export().size)?;
    let writable = !surveyor.is_read_only();
    if writable && job.shape == Shape::Table && job.content != Content::Totals {
        writeln!(out, "the export is writable: its map may change while it is read\n")?;
    }
    let options = surveyor.survey_options()?.range(range.clone())?.allow_writable();
    let subject = Subject {
        range,
        export_size: surveyor.export().size,
        bitmaps: contexts(job)?.all_bitmaps(),
        previous: job.previous,
    };
    let extents = surveyor.survey(options)?;
    report::write(extents, &subject, job.content, job.shape, out)
}

/// The range asked for; without a length, up to the end. An empty one is a mistake, unless the disk is empty and nothing was said.
fn range(job: &Job, size: u64) -> Result<Range<u64>, Failure> {
    let start = job.offset.unwrap_or(0);
    let end = match job.length {
        Some(length) => start.checked_add(length),
        None => Some(size),
    };
    match end {
        Some(end) if end <= size && (start < end || job.offset.is_none()) => Ok(start..end),
        _ => Err(Failure::usage(format!("the range does not lie within the export of {size} bytes"))),
    }
}

/// A live backup's export refuses questions about clean bytes. What the server says of that is not what helps.
fn hint(failure: Failure, job: &Job) -> Failure {
    if !failure.is_refusal() || job.bitmap_first {
        return failure;
    }
    failure.hint_bitmap_first(!job.bitmaps.is_empty())
}
