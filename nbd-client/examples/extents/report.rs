//! One pipeline for every form: the statuses become what is shown, equal neighbours are joined, and each extent is written when it is whole.

use core::ops::Range;
use std::io::{self, Write};

use nbd_extents::action::{DecideError, Full, Policy, StatusStream, Totals};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Bitmaps, Extent, Status};

use crate::cli::{Content, Shape};
use crate::common::args::{Previous, human};
use crate::common::failure::Failure;
use crate::json::Array;
use crate::table::Table;
use crate::view::{Shown, View};

/// What is reported on.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) range: Range<u64>,
    pub(crate) export_size: u64,
    /// The dirty bitmaps that were asked.
    pub(crate) bitmaps: Bitmaps,
    pub(crate) previous: Previous,
}

/// Writes what was asked for of the extents of `subject`.
pub(crate) fn write<S>(
    extents: S,
    subject: &Subject,
    content: Content,
    shape: Shape,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<S::Error>,
{
    if content == Content::Map {
        let view = View::of_map(!subject.bitmaps.is_empty());
        let shown = extents.map_status(|status| view.show(status)).coalesce();
        return rows(shown, subject, view, shape, out);
    }
    if subject.bitmaps.is_empty() {
        return decide(extents, Full::new(), subject, content, shape, out);
    }
    if subject.previous == Previous::Unsaid && content == Content::Actions && shape == Shape::Table {
        let size = human(subject.export_size);
        writeln!(
            out,
            "the disk is taken to have had {size} at the backup before, as now (--previous-size)\n"
        )?;
    }
    decide(
        extents,
        subject.previous.incremental(subject.bitmaps, subject.export_size)?,
        subject,
        content,
        shape,
        out,
    )
}

/// Actions instead of statuses: the rows or the sums.
fn decide<S>(
    extents: S,
    policy: impl Policy,
    subject: &Subject,
    content: Content,
    shape: Shape,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<DecideError<S::Error>>,
{
    let actions = extents.decide(policy);
    match content {
        Content::Totals => totals(Totals::of(actions)?, subject, shape, out),
        _ => rows(actions.map_status(Shown::Action), subject, View::Actions, shape, out),
    }
}

fn rows<S>(shown: S, subject: &Subject, view: View, shape: Shape, out: &mut impl Write) -> Result<(), Failure>
where
    S: ExtentStream<Status = Shown>,
    Failure: From<S::Error>,
{
    match shape {
        Shape::Json => {
            let mut array = Array::new(&mut *out, view);
            each(shown, |extent| array.push(&extent))?;
            array.finish()?;
        }
        Shape::Table => {
            let mut table = Table::new(&mut *out, subject.range.clone(), view)?;
            each(shown, |extent| table.push(&extent))?;
            table.finish()?;
        }
    }
    Ok(())
}

fn totals(totals: Totals, subject: &Subject, shape: Shape, out: &mut impl Write) -> Result<(), Failure> {
    let Totals { copy, zero, skip, .. } = totals;
    let size = subject.range.end - subject.range.start;
    match shape {
        Shape::Json => {
            writeln!(out, "{{\"copy\": {copy}, \"zero\": {zero}, \"skip\": {skip}, \"size\": {size}}}")?;
        }
        Shape::Table => {
            for (word, bytes) in [("copy", copy), ("zero", zero), ("skip", skip), ("size", size)] {
                writeln!(out, "{word} {bytes:>20} {:>11}", human(bytes))?;
            }
        }
    }
    Ok(())
}

fn each<S>(mut extents: S, mut write: impl FnMut(Extent<Shown>) -> io::Result<()>) -> Result<(), Failure>
where
    S: ExtentStream<Status = Shown>,
    Failure: From<S::Error>,
{
    while let Some(extent) = extents.next_extent()? {
        write(extent)?;
    }
    Ok(())
}
