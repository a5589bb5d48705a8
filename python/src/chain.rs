//! `chain`: which backup of a full one and its incrementals serves each range.

use std::sync::Arc;

use nbd_extents::chain::{Chain, ChainLayer, Source};
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Action, Extent};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::Failure;
use crate::map::PyMap;

/// A range of a restored disk: "copy" it from a backup, or "zero" it.
///
/// `layer` is the position of the backup in the list that `chain` was given.
#[pyclass(name = "Source", module = "nbd_extents", frozen, eq, hash, get_all)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PySource {
    /// The first byte.
    start: u64,
    /// The number of bytes.
    length: u64,
    /// "copy" or "zero".
    action: &'static str,
    /// The position of the backup that serves the range.
    layer: Option<usize>,
}

#[pymethods]
impl PySource {
    fn __repr__(&self) -> String {
        let Self { start, length, action, .. } = self;
        let layer = self.layer.map_or_else(|| String::from("None"), |layer| layer.to_string());
        format!("Source(start={start}, length={length}, action='{action}', layer={layer})")
    }
}

impl From<Extent<Source>> for PySource {
    fn from(extent: Extent<Source>) -> Self {
        let source = *extent.status();
        let action = match source.action() {
            Action::Copy => "copy",
            Action::Zero { .. } => "zero",
            Action::Skip | Action::Absent => "skip",
        };
        Self { start: extent.start(), length: extent.length(), action, layer: source.layer() }
    }
}

/// For each range of a disk, the backup to restore it from: a list of `Source`.
///
/// `layers` are `(name, parent, map)`, oldest first. The first is a full backup with a map without
/// bitmaps and `parent` None. Each other one is an incremental, whose map knows the bitmap that was
/// started at its parent. A disk may grow from one backup to the next.
///
/// Raises NotThereError where a layer is missing or out of order, OtherError where a range is in no
/// layer.
///
/// >>> from nbd_extents import Map, merge
/// >>> text = '[{"start": 0, "length": 8192, "zero": false}]'
/// >>> sunday = Map.from_format(text, "imageio-zero")
/// >>> monday = merge([4096, 0, 4096, 1], [8192, 0])
/// >>> chain([("sunday", None, sunday), ("monday", "sunday", monday)])[1]
/// Source(start=4096, length=4096, action='copy', layer=1)
#[pyfunction]
pub(crate) fn chain(py: Python<'_>, layers: &Bound<'_, PyAny>) -> PyResult<Vec<PySource>> {
    let layers: Vec<_> = layers.try_iter()?.map(|item| layer(&item?)).collect::<PyResult<_>>()?;
    Ok(py.detach(|| sources(layers))?)
}

struct Layer {
    name: String,
    parent: Option<String>,
    map: PyMap,
}

fn layer(item: &Bound<'_, PyAny>) -> PyResult<Layer> {
    let (name, parent, map): (Bound<'_, PyString>, Option<String>, Bound<'_, PyAny>) = item.extract()?;
    let map = map.cast::<PyMap>().map_err(|_| PyTypeError::new_err("a layer is (name, parent, Map)"))?;
    Ok(Layer { name: name.to_cow()?.into_owned(), parent, map: map.get().clone() })
}

fn sources(layers: Vec<Layer>) -> Result<Vec<PySource>, Failure> {
    let mut parts = Vec::new();
    let mut below = None;
    for Layer { name, parent, map } in layers {
        let size = map.disk_size;
        let actions = actions(&map, parent.is_some().then_some(below).flatten())?;
        below = Some(size);
        let disk = String::new();
        let part = match parent {
            None => ChainLayer::full(disk, name, size),
            Some(parent) => ChainLayer::incremental(disk, name, parent, size),
        };
        let extents: Vec<_> = actions.extents().collect();
        parts.push((part, from_iter(extents)));
    }
    let chain = Chain::new(parts).map_err(Failure::not_there)?;
    let sources = chain.restore().collect_vec().map_err(Failure::other)?;
    Ok(sources.into_iter().map(PySource::from).collect())
}

/// The actions of a layer. `below` is the size of the disk in the layer below an incremental.
fn actions(map: &PyMap, below: Option<u64>) -> Result<ExtentMap<Action>, Failure> {
    match below {
        // a full backup has all bytes, whatever a bitmap says
        None => PyMap { bitmaps: Arc::default(), ..map.clone() }.decide(None, false),
        Some(_) if map.bitmaps.is_empty() => {
            Err(Failure::usage("the map of an incremental knows the bitmap that was started at its parent"))
        }
        // where the disk has shrunk, nothing lies beyond its old end
        Some(size) => map.decide(Some(size.min(map.disk_size)), true),
    }
}
