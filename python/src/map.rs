//! `Map`: a disk's map in memory, as a Python object. Formats, plans and saved maps have files of
//! their own.

use std::sync::Arc;

use nbd_extents::map::ExtentMap;
use nbd_extents::{Extent, Status};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::columns;
use crate::errors::Failure;
use crate::extent::PyExtent;

/// The extents that an iterator of a map reads at a time.
const BATCH: usize = 1024;

/// The map of a disk: every byte once, in extents that are made as they are asked for.
///
/// It comes from `survey`, `merge`, `Map.from_bytes` or `Map.from_format`. It takes 9 bytes of
/// memory an extent, cannot be changed, and may be used by many threads. Two maps are equal when
/// they say the same of every byte.
///
/// >>> from nbd_extents import merge
/// >>> map = merge(dirty=[4096, 0, 8192, 1], zero=[8192, 0, 4096, 3])
/// >>> for extent in map:
/// ...     print(extent.start, extent.length, extent.dirty, extent.zero)
/// 0 4096 False False
/// 4096 4096 True False
/// 8192 4096 True True
/// >>> len(map), map.size
/// (3, 12288)
#[pyclass(name = "Map", module = "nbd_extents", frozen)]
#[derive(Clone, Debug)]
pub(crate) struct PyMap {
    pub(crate) map: Arc<ExtentMap<Status>>,
    /// The bitmaps that were asked, in the order of their bits.
    pub(crate) bitmaps: Arc<[String]>,
    /// The size of the whole disk, in bytes.
    pub(crate) disk_size: u64,
}

impl PyMap {
    /// A map that knows these bitmaps, of a disk of `disk_size` bytes.
    pub(crate) fn new(map: ExtentMap<Status>, bitmaps: Arc<[String]>, disk_size: u64) -> Self {
        Self { map: Arc::new(map), bitmaps, disk_size }
    }
}

#[pymethods]
impl PyMap {
    /// The number of bytes that it describes.
    #[getter]
    fn size(&self) -> u64 {
        self.map.range().end - self.map.range().start
    }

    /// The first byte that it describes.
    #[getter]
    fn start(&self) -> u64 {
        self.map.range().start
    }

    /// The first byte after those that it describes.
    #[getter]
    fn end(&self) -> u64 {
        self.map.range().end
    }

    /// The size of the whole disk in bytes; more than `size` where only a part was surveyed.
    #[getter]
    const fn disk_size(&self) -> u64 {
        self.disk_size
    }

    /// The names of the dirty bitmaps that were asked.
    #[getter]
    fn bitmaps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.bitmaps.iter())
    }

    fn __len__(&self) -> usize {
        self.map.run_count()
    }

    fn __iter__(&self) -> PyMapIterator {
        PyMapIterator {
            map: Arc::clone(&self.map),
            position: self.map.range().start,
            batch: Vec::new().into_iter(),
        }
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.map == other.map
    }

    fn __repr__(&self) -> String {
        let range = self.map.range();
        format!("<Map of bytes {}..{}: {} extents>", range.start, range.end, self.map.run_count())
    }

    /// The extent that holds byte `offset`; IndexError outside of the map.
    ///
    /// >>> from nbd_extents import merge
    /// >>> map = merge([4096, 0, 8192, 1], [8192, 0, 4096, 3])
    /// >>> map.at(9000).start
    /// 8192
    fn at(&self, offset: u64) -> PyResult<PyExtent> {
        self.map.get(offset).map(PyExtent::from).ok_or_else(|| {
            let range = self.map.range();
            PyIndexError::new_err(format!(
                "byte {offset} is not in the map of bytes {}..{}",
                range.start, range.end
            ))
        })
    }

    /// The part of the map from byte `start` to before byte `end`, as a map of its own.
    ///
    /// >>> from nbd_extents import merge
    /// >>> map = merge([4096, 0, 8192, 1], [8192, 0, 4096, 3])
    /// >>> [extent.start for extent in map.slice(5000, 9000)]
    /// [5000, 8192]
    #[pyo3(signature = (start, end=None))]
    fn slice(&self, start: u64, end: Option<u64>) -> PyResult<Self> {
        let whole = self.map.range();
        let end = end.unwrap_or(whole.end);
        if start > end || start < whole.start || end > whole.end {
            return Err(Failure::usage(format!(
                "bytes {start}..{end} are not in the map of bytes {}..{}",
                whole.start, whole.end
            ))
            .into());
        }
        let part = self.map.slice(start..end).to_map();
        Ok(Self::new(part, Arc::clone(&self.bitmaps), self.disk_size))
    }

    /// A dict of columns, each a `memoryview` with one value for each extent.
    ///
    /// `numpy.frombuffer` takes them without a copy. Without names, the columns are `start` and
    /// `length` (64-bit numbers), `dirty`, `zero` and `hole` (one byte, 0 or 1). `dirty` is 1 and
    /// `zero` and `hole` are 0 where no context has an answer: those are the safe values. By name
    /// there are also `depth` (32 bits; 2^32 - 1 where it is not known), `bitmaps` (32 bits, a
    /// mask) and `known` (one byte: 1 if `dirty` is known, plus 2 if `zero` and `hole` are, plus 4
    /// if `depth` is).
    ///
    /// >>> from nbd_extents import merge
    /// >>> columns = merge([4096, 0, 8192, 1], [8192, 0, 4096, 3]).columns()
    /// >>> list(columns["start"]), list(columns["zero"])
    /// ([0, 4096, 8192], [False, False, True])
    #[pyo3(signature = (*names))]
    fn columns<'py>(&self, py: Python<'py>, names: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
        columns::make(py, &self.map, &names)
    }

    /// The differences of two maps: a list of `(before, after)` extents over the same bytes. One of
    /// the two is None where only the other map describes them.
    ///
    /// >>> from nbd_extents import merge
    /// >>> old, new = merge([8192, 0], [8192, 3]), merge([8192, 0], [4096, 0, 4096, 3])
    /// >>> [(before.start, before.zero, after.zero) for before, after in old.diff(new)]
    /// [(0, True, False)]
    fn diff(&self, py: Python<'_>, after: &Self) -> PyResult<Vec<(Option<PyExtent>, Option<PyExtent>)>> {
        py.detach(|| {
            let changes = self.map.as_slice().diff(after.map.as_slice());
            changes
                .map(|change| {
                    let side = |status: Option<Status>| {
                        let status = status?;
                        Some(PyExtent::from(change.map(|_| status)))
                    };
                    Ok((side(change.status().before), side(change.status().after)))
                })
                .collect()
        })
    }

    /// The bytes of memory that the map takes.
    #[getter]
    fn memory_usage(&self) -> usize {
        self.map.memory_usage()
    }
}

/// The extents of a `Map`, one by one.
#[pyclass(name = "MapIterator", module = "nbd_extents")]
#[derive(Debug)]
pub(crate) struct PyMapIterator {
    map: Arc<ExtentMap<Status>>,
    /// The end of the last batch.
    position: u64,
    batch: std::vec::IntoIter<Extent<Status>>,
}

#[pymethods]
impl PyMapIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self) -> Option<PyExtent> {
        let next = self.batch.next().or_else(|| {
            // a look-up of the position costs more than an extent: a batch is read after each
            let rest = self.map.slice(self.position..);
            let batch: Vec<_> = rest.extents().take(BATCH).collect();
            self.position = batch.last().map_or(self.position, Extent::end);
            self.batch = batch.into_iter();
            self.batch.next()
        });
        next.map(PyExtent::from)
    }
}
