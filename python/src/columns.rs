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
    let columns = PyDict::new(py);
    let usual = USUAL.iter().copied().filter(|_| names.is_empty());
    for name in names.iter().map(String::as_str).chain(usual) {
        let Some(&(name, column)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known = NAMES.map(|(name, _)| name).join(", ");
            return Err(PyValueError::new_err(format!("no column {name:?}: there are {known}")));
        };
        columns.set_item(name, column.make(py, map)?)?;
    }
    Ok(columns)
}

impl Column {
    fn make<'py>(self, py: Python<'py>, map: &ExtentMap<Status>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Start => column(py, map, "Q", |extent| extent.start().to_ne_bytes()),
            Self::Length => column(py, map, "Q", |extent| extent.length().to_ne_bytes()),
            // the safe status stands where no context has an answer
            Self::Dirty => of_status(py, map, "?", |status| [u8::from(status.dirty().unwrap_or(true))]),
            Self::Zero => of_status(py, map, "?", |status| [u8::from(status.zero().unwrap_or(false))]),
            Self::Hole => of_status(py, map, "?", |status| [u8::from(status.hole().unwrap_or(false))]),
            Self::Depth => of_status(py, map, "I", |status| status.depth().unwrap_or(u32::MAX).to_ne_bytes()),
            Self::Bitmaps => of_status(py, map, "I", |status| mask(status).to_ne_bytes()),
            Self::Known => of_status(py, map, "B", |status| [known(status)]),
        }
    }
}

fn known(status: &Status) -> u8 {
    let bit = |known, bit| if known { bit } else { 0 };
    bit(status.dirty().is_some(), KNOWS_DIRTY)
        | bit(status.zero().is_some(), KNOWS_ZERO)
        | bit(status.depth().is_some(), KNOWS_DEPTH)
}

fn of_status<'py, const N: usize>(
    py: Python<'py>,
    map: &ExtentMap<Status>,
    code: &str,
    value: impl Fn(&Status) -> [u8; N],
) -> PyResult<Bound<'py, PyAny>> {
    column(py, map, code, |extent| value(extent.status()))
}

/// Writes one value of `N` bytes for each extent, and casts the bytes to the format `code`.
fn column<'py, const N: usize>(
    py: Python<'py>,
    map: &ExtentMap<Status>,
    code: &str,
    value: impl Fn(&Extent<Status>) -> [u8; N],
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyBytes::new_with(py, map.run_count() * N, |bytes| {
        let (slots, _) = bytes.as_chunks_mut::<N>();
        for (slot, extent) in slots.iter_mut().zip(map.extents()) {
            *slot = value(&extent);
        }
        Ok(())
    })?;
    PyMemoryView::from(&bytes)?.call_method1("cast", (code,))
}
