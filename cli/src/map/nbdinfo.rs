//! `--format nbdinfo`: one context as the server says it, in the bytes that `nbdinfo --map --json`
//! prints.

use std::io::Write;

use nbd_extents::stream::ExtentStream;
use nbd_extents::{Allocation, Dirtiness, Status};
use nbd_extents_formats::nbdinfo::description;
use nbd_extents_formats::{Attributes, ConvertError, Format, ListWriteError, WriteOptions};

use super::nbdinfo_totals::ContextTotals;
use crate::failure::Failure;

/// Writes the map or the totals: of the bitmap where one was asked for, else of the allocation.
pub(super) fn write<S>(extents: S, is_bitmap: bool, totals: bool, out: &mut impl Write) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<S::Error>,
{
    // Unknown is shown as the safe answer.
    let dirty = |status: Status| status.dirty().unwrap_or(true);
    let zero = |status: Status| status.zero().unwrap_or(false);
    let hole = |status: Status| status.hole().unwrap_or(false);
    if totals {
        let flags = |status: Status| u64::from(hole(status)) | u64::from(zero(status)) << 1;
        let description = if is_bitmap { description::<Dirtiness> } else { description::<Allocation> };
        let mut totals = ContextTotals::new(description);
        extents.for_each(|extent| {
            let status = *extent.status();
            totals.add(if is_bitmap { dirty(status).into() } else { flags(status) }, extent.length());
        })?;
        return Ok(write!(out, "{}", totals.json())?);
    }
    let known = |status: Status| match is_bitmap {
        true => Attributes { dirty: Some(dirty(status)), ..Attributes::default() },
        false => Attributes { zero: Some(zero(status)), hole: hole(status), ..Attributes::default() },
    };
    let format = if is_bitmap { Format::NbdinfoDirtyJson } else { Format::NbdinfoAllocationJson };
    let written = format.writer(out, WriteOptions::default());
    match written.write_all(extents.map_status(known).coalesce()) {
        Ok(_) => Ok(()),
        Err(ConvertError::Read(error)) => Err(error.into()),
        Err(ConvertError::Write(ListWriteError::Output(error))) => Err(error.into()),
        Err(ConvertError::Write(error)) => Err(Failure::other(error.to_string())),
    }
}
