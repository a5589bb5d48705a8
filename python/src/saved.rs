//! Maps as bytes, for backup tools that keep a map between two runs.
//!
//! ```text
//! magic and version | postcard: bitmaps, size of the disk, map | CRC-32 of all before it
//! ```

use std::sync::Arc;

use nbd_extents::Status;
use nbd_extents::map::ExtentMap;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use serde::{Deserialize, Serialize};

use crate::errors::Failure;
use crate::map::PyMap;

/// The first bytes of a saved map. The last of them is the version of the rest.
const MAGIC: &[u8; 8] = b"NBDXMAP\x01";

#[derive(Serialize)]
struct Saved<'a> {
    bitmaps: &'a [String],
    disk_size: u64,
    map: &'a ExtentMap<Status>,
}

#[derive(Deserialize)]
struct Loaded {
    bitmaps: Vec<String>,
    disk_size: u64,
    map: ExtentMap<Status>,
}

#[pymethods]
impl PyMap {
    /// The map as bytes, with a checksum, for `Map.from_bytes`. Maps can be pickled, too.
    ///
    /// >>> from nbd_extents import merge
    /// >>> map = merge([8192, 0], [4096, 0, 4096, 3])
    /// >>> Map.from_bytes(map.to_bytes()) == map
    /// True
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.save())?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Loads a map that `to_bytes` has saved; BrokenRulesError if the bytes are not one, or
    /// damaged.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let bytes = data.as_bytes();
        Ok(py.detach(|| Self::load(bytes))?)
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = this.py();
        let load = this.get_type().getattr("from_bytes")?;
        Ok((load, PyTuple::new(py, [this.get().to_bytes(py)?])?))
    }
}

impl PyMap {
    fn save(&self) -> Result<Vec<u8>, Failure> {
        let saved = Saved { bitmaps: &self.bitmaps, disk_size: self.disk_size, map: &self.map };
        let mut bytes = postcard::to_extend(&saved, MAGIC.to_vec()).map_err(Failure::other)?;
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        Ok(bytes)
    }

    fn load(bytes: &[u8]) -> Result<Self, Failure> {
        let Some((checked, sum)) = bytes.split_last_chunk() else {
            return Err(Failure::rules(format!("{} bytes are no saved map", bytes.len())));
        };
        let Some(body) = checked.strip_prefix(MAGIC) else {
            return Err(Failure::rules("the bytes are no saved map, or one of another version"));
        };
        if crc32fast::hash(checked) != u32::from_le_bytes(*sum) {
            return Err(Failure::rules("the saved map is damaged: its checksum is not that of its bytes"));
        }
        let Loaded { bitmaps, disk_size, map } = postcard::from_bytes(body)
            .map_err(|error| Failure::rules(format!("the saved map cannot be read: {error}")))?;
        if map.range().end > disk_size {
            return Err(Failure::rules("the saved map is larger than its disk"));
        }
        Ok(Self::new(map, Arc::from(bitmaps), disk_size))
    }
}
