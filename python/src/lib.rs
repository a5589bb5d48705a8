//! The extension module `_nbd_extents` of the Python package `nbd_extents`.
//!
//! Each file holds one part of the Python interface: it reads Python's arguments, calls the Rust
//! library, and turns the answer into Python objects. The rules of merging, of plans and of
//! formats are the library's; none is repeated here. `package/nbd_extents/__init__.py` says which
//! names are public, and the stub file beside it gives their types.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]

mod backup;
mod chain;
mod client;
mod columns;
mod entries;
mod errors;
mod extent;
mod formats;
mod job;
mod live;
mod map;
mod merge;
mod plan;
mod restore;
mod saved;
mod streams;
mod survey;

/// The compiled part of `nbd_extents`.
#[pyo3::pymodule]
mod _nbd_extents {
    #[pymodule_export]
    use crate::backup::backup;
    #[pymodule_export]
    use crate::chain::{PySource, chain};
    #[pymodule_export]
    use crate::client::PyClient;
    #[pymodule_export]
    use crate::extent::PyExtent;
    #[pymodule_export]
    use crate::formats::formats;
    #[pymodule_export]
    use crate::live::survey;
    #[pymodule_export]
    use crate::map::PyMap;
    #[pymodule_export]
    use crate::merge::merge;
    #[pymodule_export]
    use crate::plan::PyStep;
    #[pymodule_export]
    use crate::restore::restore;
    #[pymodule_export]
    use crate::streams::verify;
    #[pymodule_export]
    use crate::survey::{PyRequest, PySurvey};
}
