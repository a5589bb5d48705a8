//! One pipeline for both forms: the status is mapped to what is shown, equal neighbours are joined, and each extent is written when it is
//! whole.

use core::ops::Range;
use std::io::{self, Write};

use nbd_extents::stream::ExtentStream;
use nbd_extents::{Extent, Status};

use crate::cli::Shape;
use crate::failure::Failure;
use crate::json::Array;
use crate::table::Table;
use crate::view::{Shown, View};

/// Writes the map of `range` in the shape asked for.
pub(crate) fn write<S>(
    extents: S,
    range: Range<u64>,
    view: View,
    shape: Shape,
    out: &mut impl Write,
) -> Result<(), Failure>
where
    S: ExtentStream<Status = Status>,
    Failure: From<S::Error>,
{
    let shown = extents.map_status(|status| view.show(status)).coalesce();
    match shape {
        Shape::Json => {
            let mut array = Array::new(&mut *out);
            each(shown, |extent| array.push(&extent))?;
            array.finish()?;
        }
        Shape::Table => {
            let mut table = Table::new(&mut *out, range, view)?;
            each(shown, |extent| table.push(&extent))?;
            table.finish()?;
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
