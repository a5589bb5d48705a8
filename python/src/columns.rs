//! A map as columns: one `memoryview` for each field, over bytes that are written once.

use nbd_extents::map::ExtentMap;
use nbd_extents::{Extent, Status};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};

use crate::extent::mask;

/// The columns that a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Start,
    Length,
    Dirty,
    Zero,
    Hole,
    Depth,
    Bitmaps,
    Known,
}

/// Each column's name.
const NAMES: [(&str, Column); 8] = [
    ("start", Column::Start),
    ("length", Column::Length),
    ("dirty", Column::Dirty),
    ("zero", Column::Zero),
    ("hole", Column::Hole),
    ("depth", Column::Depth),
    ("bitmaps", Column::Bitmaps),
    ("known", Column::Known),
];

/// The columns that are made where none is named.
const USUAL: [&str; 5] = ["start", "length", "dirty", "zero", "hole"];

/// The extents that are written at a time.
const BATCH: usize = 1024;

/// Bits of the column `known`.
const KNOWS_DIRTY: u8 = 1;
const KNOWS_ZERO: u8 = 2;
const KNOWS_DEPTH: u8 = 4;

/// A dict of the columns with these names; of the usual ones for an empty list.
pub(crate) fn make<'py>(
    py: Python<'py>,
    map: &ExtentMap<Status>,
    names: &[String],
) -> PyResult<Bound<'py, PyDict>> {
    let usual = USUAL.iter().copied().filter(|_| names.is_empty());
    let mut wanted = Vec::new();
    for name in names.iter().map(String::as_str).chain(usual) {
        let Some(&named) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known = NAMES.map(|(name, _)| name).join(", ");
            return Err(PyValueError::new_err(format!("no column {name:?}: there are {known}")));
        };
        wanted.push(named);
    }
    let columns: Vec<_> = wanted.iter().map(|&(_, column)| column).collect();
    let mut made = Vec::new();
    allocate(py, map, &columns, Vec::new(), &mut made)?;
    let dict = PyDict::new(py);
    // the last column was finished first
    for ((name, column), bytes) in wanted.into_iter().zip(made.into_iter().rev()) {
        dict.set_item(name, PyMemoryView::from(&bytes)?.call_method1("cast", (column.code(),))?)?;
    }
    Ok(dict)
}

/// Makes the bytes of each column, one inside of the other, and when there are all, writes them.
///
/// Python's bytes can be written only while they are made; so one walk over the map fills them all.
fn allocate<'py>(
    py: Python<'py>,
    map: &ExtentMap<Status>,
    columns: &[Column],
    open: Vec<(Column, &mut [u8])>,
    made: &mut Vec<Bound<'py, PyBytes>>,
) -> PyResult<()> {
    let Some((&column, rest)) = columns.split_first() else {
        write(map, open);
        return Ok(());
    };
    let bytes = PyBytes::new_with(py, map.run_count() * column.size(), |bytes| {
        let mut open: Vec<(Column, &mut [u8])> = open;
        open.push((column, bytes));
        allocate(py, map, rest, open, made)
    })?;
    made.push(bytes);
    Ok(())
}

/// Writes all columns, a batch of extents at a time, which stays in the cache meanwhile.
fn write(map: &ExtentMap<Status>, mut columns: Vec<(Column, &mut [u8])>) {
    let mut extents = map.extents();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        batch.extend(extents.by_ref().take(BATCH));
        if batch.is_empty() {
            return;
        }
        for (column, bytes) in &mut columns {
            let length = batch.len() * column.size();
            let (now, later) = core::mem::take(bytes).split_at_mut_checked(length).unwrap_or_default();
            *bytes = later;
            column.write(&batch, now);
        }
    }
}

impl Column {
    /// The bytes of one value.
    const fn size(self) -> usize {
        match self {
            Self::Start | Self::Length => 8,
            Self::Depth | Self::Bitmaps => 4,
            Self::Dirty | Self::Zero | Self::Hole | Self::Known => 1,
        }
    }

    /// The format of a `memoryview` with such values.
    const fn code(self) -> &'static str {
        match self {
            Self::Start | Self::Length => "Q",
            Self::Depth | Self::Bitmaps => "I",
            Self::Dirty | Self::Zero | Self::Hole => "?",
            Self::Known => "B",
        }
    }

    fn write(self, extents: &[Extent<Status>], bytes: &mut [u8]) {
        match self {
            Self::Start => put(extents, bytes, |extent| extent.start().to_ne_bytes()),
            Self::Length => put(extents, bytes, |extent| extent.length().to_ne_bytes()),
            // the safe status stands where no context has an answer
            Self::Dirty => put(extents, bytes, |extent| [u8::from(extent.status().dirty().unwrap_or(true))]),
            Self::Zero => put(extents, bytes, |extent| [u8::from(extent.status().zero().unwrap_or(false))]),
            Self::Hole => put(extents, bytes, |extent| [u8::from(extent.status().hole().unwrap_or(false))]),
            Self::Depth => {
                put(extents, bytes, |extent| extent.status().depth().unwrap_or(u32::MAX).to_ne_bytes());
            }
            Self::Bitmaps => put(extents, bytes, |extent| mask(extent.status()).to_ne_bytes()),
            Self::Known => put(extents, bytes, |extent| [known(extent.status())]),
        }
    }
}

fn put<const N: usize>(
    extents: &[Extent<Status>],
    bytes: &mut [u8],
    value: impl Fn(&Extent<Status>) -> [u8; N],
) {
    for (slot, extent) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(extents) {
        *slot = value(extent);
    }
}

fn known(status: &Status) -> u8 {
    let bit = |known, bit| if known { bit } else { 0 };
    bit(status.dirty().is_some(), KNOWS_DIRTY)
        | bit(status.zero().is_some(), KNOWS_ZERO)
        | bit(status.depth().is_some(), KNOWS_DEPTH)
}
