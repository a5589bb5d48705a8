//! `--format nbdinfo`: one context as the server says it, in the bytes that `nbdinfo --map --json`
//! prints.

use std::io::Write;

use nbd_extents::stream::ExtentStream;
use nbd_extents::{Allocation, Dirtiness, Status};
use nbd_extents_formats::nbdinfo::{Context, JsonWriter, Totals};
use nbd_extents_formats::{Encode, IoText, OutputError, write as encode};

use crate::failure::Failure;

/// Writes the map or the totals: of the bitmap where one was asked for, else of the allocation.
pub(super) fn write<S>(extents: S, is_bitmap: bool, totals: bool, out: &mut impl Write) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<S::Error>,
{
    if is_bitmap {
        // Unknown is shown as the safe answer.
        let flags = |status: Status| u64::from(status.dirty().unwrap_or(true));
        context(extents.map_status(|status| Dirtiness::from_flags(flags(status))), totals, out)
    } else {
        let flags = |status: Status| {
            u64::from(status.hole().unwrap_or(false)) | u64::from(status.zero().unwrap_or(false)) << 1
        };
        context(extents.map_status(|status| Allocation::from_flags(flags(status))), totals, out)
    }
}

fn context<S, C>(extents: S, totals: bool, out: &mut impl Write) -> Result<(), Failure>
where
    S: ExtentStream<Status = C>,
    C: Context + PartialEq,
    JsonWriter<C>: Encode<Row = C>,
    Failure: From<S::Error>,
{
    if totals {
        return Ok(write!(out, "{}", Totals::of(extents)?.json())?);
    }
    let mut text = IoText::new(out);
    match encode(extents.coalesce(), &mut JsonWriter::new(), &mut text) {
        Ok(()) => Ok(()),
        Err(OutputError::Stream(error)) => Err(error.into()),
        Err(OutputError::Format(error)) => match text.take_error() {
            Some(error) => Err(error.into()),
            None => Err(Failure::other(error.to_string())),
        },
        Err(_) => Err(Failure::other("the map could not be written")),
    }
}
