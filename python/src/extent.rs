//! `Extent`: a range of a map, as a Python object.

use nbd_extents::{Extent, Status};
use pyo3::basic::CompareOp;
use pyo3::prelude::*;

use crate::errors::Failure;

/// A range of bytes and all that is known of them.
///
/// `dirty`, `zero` and `hole` are True, False, or None where no context has an answer. An extent
/// unpacks into its five fields, compares by value, and can be a key of a dict.
///
/// >>> extent = Extent(4096, 512, dirty=True, zero=False)
/// >>> extent.end
/// 4608
/// >>> start, length, dirty, zero, hole = extent
/// >>> extent
/// Extent(start=4096, length=512, dirty=True, zero=False, hole=None)
#[pyclass(name = "Extent", module = "nbd_extents", frozen)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyExtent {
    /// The first byte.
    #[pyo3(get)]
    start: u64,
    /// The number of bytes.
    #[pyo3(get)]
    length: u64,
    /// Whether any of the bitmaps marks the bytes as changed.
    #[pyo3(get)]
    dirty: Option<bool>,
    /// Whether the bytes read as zeroes.
    #[pyo3(get)]
    zero: Option<bool>,
    /// Whether the bytes take no space on the server. A hole that is not zero has undefined
    /// content and must be read.
    #[pyo3(get)]
    hole: Option<bool>,
    /// The layer of the image that holds the bytes: 0 none, 1 the image itself; None where it was
    /// not asked.
    #[pyo3(get)]
    depth: Option<u32>,
    /// A mask of the bitmaps that mark the bytes: bit i for the i-th bitmap that was named.
    #[pyo3(get)]
    bitmaps: u32,
}

impl From<Extent<Status>> for PyExtent {
    #[inline]
    fn from(extent: Extent<Status>) -> Self {
        let status = extent.status();
        Self {
            start: extent.start(),
            length: extent.length(),
            dirty: status.dirty(),
            zero: status.zero(),
            hole: status.hole(),
            depth: status.depth(),
            bitmaps: mask(status),
        }
    }
}

/// The bitmaps that call a range dirty, bit i for bitmap i.
pub(crate) fn mask(status: &Status) -> u32 {
    status.dirty_set().indices().fold(0, |mask, index| mask | 1 << usize::from(index))
}

#[pymethods]
impl PyExtent {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str, &'static str) {
        ("start", "length", "dirty", "zero", "hole")
    }

    #[new]
    #[pyo3(signature = (start, length, dirty=None, zero=None, hole=None, *, depth=None, bitmaps=None))]
    fn new(
        start: u64,
        length: u64,
        dirty: Option<bool>,
        zero: Option<bool>,
        hole: Option<bool>,
        depth: Option<u32>,
        bitmaps: Option<u32>,
    ) -> PyResult<Self> {
        Extent::new(start, length, ())
            .map_err(|error| Failure::from(nbd_extents::StreamError::from(error)))?;
        let bitmaps = bitmaps.unwrap_or(u32::from(dirty == Some(true)));
        if bitmaps != 0 && dirty != Some(true) {
            return Err(Failure::usage("an extent that bitmaps mark is dirty").into());
        }
        Ok(Self { start, length, dirty, zero, hole, depth, bitmaps })
    }

    /// The first byte after it.
    #[getter]
    const fn end(&self) -> u64 {
        self.start + self.length
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = (self.start, self.length, self.dirty, self.zero, self.hole).into_pyobject(py)?;
        Ok(fields.try_iter()?.into_any())
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let equal = self == other.get();
        match op {
            CompareOp::Eq => Ok(equal.into_pyobject(py)?.to_owned().into_any().unbind()),
            CompareOp::Ne => Ok((!equal).into_pyobject(py)?.to_owned().into_any().unbind()),
            _ => Ok(py.NotImplemented()),
        }
    }

    fn __hash__(&self) -> u64 {
        use core::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let word = |value| match value {
            Some(true) => "True",
            Some(false) => "False",
            None => "None",
        };
        let mut text = format!(
            "Extent(start={}, length={}, dirty={}, zero={}, hole={}",
            self.start,
            self.length,
            word(self.dirty),
            word(self.zero),
            word(self.hole)
        );
        if let Some(depth) = self.depth {
            text.push_str(&format!(", depth={depth}"));
        }
        if self.bitmaps > 1 {
            text.push_str(&format!(", bitmaps={:#b}", self.bitmaps));
        }
        text.push(')');
        text
    }
}
