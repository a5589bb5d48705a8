//! Maps in the formats of other programs, read and written by the crate `nbd-extents-formats`.

use nbd_extents::Extent;
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents_formats::{
    Assume, Attributes, ConvertError, Fault, Format, ImageLayer, ListReadError, ListWriteError, Loss,
    ReadOptions, WriteOptions,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::errors::Failure;
use crate::map::PyMap;

/// The name that stands for both of ovirt-imageio's formats: with a bitmap the dirty extents, else
/// the zero extents.
const IMAGEIO: &str = "imageio";

/// The names of the formats that `Map.to_format` and `Map.from_format` know.
///
/// >>> "nbdinfo-allocation-json" in formats()
/// True
#[pyfunction]
pub(crate) fn formats(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, Format::ALL.iter().map(|format| format.name()))
}

#[pymethods]
impl PyMap {
    /// The map as JSON text. "imageio" is what the program `nbd-extents map --json` prints: with
    /// bitmaps `dirty` and `zero`, without `zero` and `hole`.
    ///
    /// `hole` is ovirt-imageio's: True where no layer of the image holds the bytes, which only a
    /// survey with `depth=True` can know. Where no context has an answer, the safe one is written:
    /// dirty, and data. For other formats see `to_format`, with `lossy=True`.
    ///
    /// >>> from nbd_extents import merge
    /// >>> merge([4096, 1], [4096, 3]).to_json()
    /// '[{"start": 0, "length": 4096, "dirty": true, "zero": true}]'
    #[pyo3(signature = (format=IMAGEIO))]
    fn to_json(&self, py: Python<'_>, format: &str) -> PyResult<String> {
        Ok(py.detach(|| self.write(format, Loss::Allow))?)
    }

    /// The map in a format of another program, as text; `formats()` has their names.
    ///
    /// A fact that the format has no word for is an error (NotThereError), or left out with
    /// `lossy`. So is a fact that the format demands and the map does not know; with `lossy` the
    /// safe answer is written: dirty, and data. There is none for the layer: formats that name it
    /// need a survey with `depth=True`. No survey tells what "qcow2reader" demands.
    ///
    /// >>> from nbd_extents import merge
    /// >>> print(merge([4096, 1], [4096, 0]).to_format("nbdinfo-dirty", lossy=True), end="")
    ///          0        4096    1  dirty
    #[pyo3(signature = (format, *, lossy=false))]
    fn to_format(&self, py: Python<'_>, format: &str, lossy: bool) -> PyResult<String> {
        let loss = if lossy { Loss::Allow } else { Loss::Refuse };
        Ok(py.detach(|| self.write(format, loss))?)
    }

    /// Reads a map in a format of another program, from a str or bytes.
    ///
    /// `size` is the size of the disk in bytes; some formats need it, and all are held to it. What
    /// a format does not say is None in the extents. Raises BrokenRulesError for text that is not
    /// of the format, and for an empty list, which tells of a program that failed.
    ///
    /// >>> text = '[{"start": 0, "length": 512, "zero": true, "hole": false}]'
    /// >>> [extent.zero for extent in Map.from_format(text, "imageio-zero")]
    /// [True]
    #[staticmethod]
    #[pyo3(signature = (text, format, *, size=None))]
    fn from_format(
        py: Python<'_>,
        text: &Bound<'_, PyAny>,
        format: &str,
        size: Option<u64>,
    ) -> PyResult<Self> {
        let format = known(format)?;
        if let Ok(text) = text.cast::<PyBytes>() {
            let bytes = text.as_bytes();
            return Ok(py.detach(|| parse(bytes, format, size))?);
        }
        let text = text.cast::<PyString>()?.to_cow()?;
        Ok(py.detach(|| parse(text.as_bytes(), format, size))?)
    }
}

impl PyMap {
    fn write(&self, format: &str, loss: Loss) -> Result<String, Failure> {
        let format = match (format, self.bitmaps.is_empty()) {
            (IMAGEIO, true) => Format::ImageioZero,
            (IMAGEIO, false) => Format::ImageioDirty,
            _ => known(format)?,
        };
        let lossy = loss == Loss::Allow;
        let assume = Assume { dirty: lossy, data: lossy };
        let options = WriteOptions { size: Some(self.disk_size), loss, assume, ..WriteOptions::default() };
        // no depth is known without the context: the bytes are then taken to be in the image
        let assumed = (lossy && format == Format::ImageioZero).then_some(ImageLayer::Present);
        let known = self.map.stream().map_status(|status| {
            let known = Attributes::from(status);
            Attributes { layer: known.layer.or(assumed), ..known }
        });
        let mut text = Vec::new();
        format.writer(&mut text, options).write_all(known).map_err(|error| match error {
            ConvertError::Write(error @ ListWriteError::SizeNeeded { .. }) => Failure::usage(error),
            ConvertError::Write(error) => Failure::not_there(error),
            ConvertError::Read(error) => Failure::other(error),
        })?;
        String::from_utf8(text).map_err(Failure::other)
    }
}

fn known(name: &str) -> Result<Format, Failure> {
    name.parse().map_err(|_| {
        let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
        Failure::usage(format!("no format '{}': there are {}", name.escape_debug(), names.join(", ")))
    })
}

fn parse(text: &[u8], format: Format, size: Option<u64>) -> Result<PyMap, Failure> {
    let options = ReadOptions { size, ..ReadOptions::default() };
    let rows = format.read(text, options).collect_vec().map_err(|error| match error {
        ListReadError::List { fault: Fault::SizeNeeded, .. } => Failure::usage(error),
        error => Failure::rules(error),
    })?;
    let ends = (rows.first().map_or(0, Extent::start), rows.last().map_or(0, Extent::end));
    let range = size.map_or(ends.0..ends.1, |size| 0..size);
    let is_dirty_known = rows.iter().any(|extent| extent.status().dirty.is_some());
    let bitmaps = is_dirty_known.then(|| String::from("dirty")).into_iter().collect();
    let statuses = from_iter(rows).map_status(|known| known.status());
    let map = ExtentMap::covering(statuses, range).map_err(Failure::rules)?;
    let end = map.range().end;
    Ok(PyMap::new(map, bitmaps, size.unwrap_or(end)))
}
