//! One pipeline for every form: the statuses become shown ones, equal neighbours are joined, and
//! each extent is written when it is whole.

use core::ops::Range;
use std::io::{self, Write};

use nbd_extents::action::{DecideError, Full, Policy, StatusStream, Totals};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Bitmaps, Extent, Status};

use super::args::{MapContent, MapFormat, Previous};
use super::json::Array;
use super::nbdinfo;
use super::table::Table;
use super::view::{Shown, View};
use crate::failure::Failure;
use crate::values::human;

/// The subject of a report: a range, its export and its bitmaps.
#[derive(Clone, Debug)]
pub(super) struct MapSubject {
    pub(super) range: Range<u64>,
    pub(super) export_size: u64,
    /// The dirty bitmaps that were asked.
    pub(super) bitmaps: Bitmaps,
    pub(super) previous: Previous,
}

/// Writes the extents of `subject` in the form asked for.
pub(super) fn write<S>(
    extents: S,
    subject: &MapSubject,
    content: MapContent,
    format: MapFormat,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<S::Error>,
{
    if format == MapFormat::Nbdinfo {
        return nbdinfo::write(extents, !subject.bitmaps.is_empty(), content == MapContent::Totals, out);
    }
    if content == MapContent::Map {
        let view = View::of_map(!subject.bitmaps.is_empty());
        let shown = extents.map_status(|status| view.show(status)).coalesce();
        return rows(shown, subject, view, format, out);
    }
    if subject.bitmaps.is_empty() {
        return decide(extents, Full::new(), subject, content, format, out);
    }
    if subject.previous == Previous::Unsaid && content == MapContent::Actions && format == MapFormat::Table {
        let size = human(subject.export_size);
        writeln!(
            out,
            "the disk is taken to have had {size} at the previous backup, as now (--previous-size)\n"
        )?;
    }
    decide(
        extents,
        subject.previous.incremental(subject.bitmaps, subject.export_size)?,
        subject,
        content,
        format,
        out,
    )
}

/// Actions instead of statuses: the rows or the sums.
fn decide<S>(
    extents: S,
    policy: impl Policy,
    subject: &MapSubject,
    content: MapContent,
    format: MapFormat,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<DecideError<S::Error>>,
{
    let actions = extents.decide(policy);
    match content {
        MapContent::Totals => totals(Totals::of(actions)?, subject, format, out),
        _ => rows(actions.map_status(Shown::Action), subject, View::Actions, format, out),
    }
}

fn rows<S>(
    shown: S,
    subject: &MapSubject,
    view: View,
    format: MapFormat,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Shown>,
    Failure: From<S::Error>,
{
    match format {
        MapFormat::Json => {
            let mut array = Array::new(&mut *out, view);
            if let Err(failure) = each(shown, |extent| array.push(&extent)) {
                // The rows until here are right. An error of the output must not replace the first one.
                let _ = array.flush();
                return Err(failure);
            }
            array.finish()?;
            writeln!(out)?;
        }
        _ => {
            let mut table = Table::new(&mut *out, subject.range.clone(), view)?;
            each(shown, |extent| table.push(&extent))?;
            table.finish()?;
        }
    }
    Ok(())
}

fn totals(
    totals: Totals,
    subject: &MapSubject,
    format: MapFormat,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let Totals { copy, zero, skip, .. } = totals;
    let size = subject.range.end - subject.range.start;
    match format {
        MapFormat::Json => {
            writeln!(out, "{{\"copy\": {copy}, \"zero\": {zero}, \"skip\": {skip}, \"size\": {size}}}")?;
        }
        _ => {
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
