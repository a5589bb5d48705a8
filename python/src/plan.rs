//! From a map to a backup: actions, totals and plans, decided by the library's policies.

use core::ops::Range;

use nbd_extents::action::{Baseline, DecideError, Full, Incremental, StatusStream, Totals};
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanError, PlanOptions, PlanPosition, PlanStep};
use nbd_extents::{Action, BitmapIndex, Bitmaps};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Failure;
use crate::map::PyMap;

/// An action for a range: "copy", "zero", or in `Map.actions` also "skip".
///
/// It unpacks into `action, start, length`.
#[pyclass(name = "Step", module = "nbd_extents", frozen, eq, hash)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyStep {
    action: Word,
    /// The first byte.
    #[pyo3(get)]
    start: u64,
    /// The number of bytes.
    #[pyo3(get)]
    length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Copy,
    Zero,
    Skip,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Zero => "zero",
            Self::Skip => "skip",
        }
    }
}

impl From<Action> for Word {
    fn from(action: Action) -> Self {
        match action {
            Action::Copy => Self::Copy,
            Action::Zero { .. } => Self::Zero,
            Action::Skip | Action::Absent => Self::Skip,
        }
    }
}

impl From<PlanStep> for PyStep {
    fn from(step: PlanStep) -> Self {
        let action = match step {
            PlanStep::Copy { .. } => Word::Copy,
            PlanStep::Zero { .. } => Word::Zero,
        };
        Self { action, start: step.start(), length: step.length() }
    }
}

#[pymethods]
impl PyStep {
    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("action", "start", "length")
    }

    /// "copy", "zero" or "skip".
    #[getter]
    const fn action(&self) -> &'static str {
        self.action.text()
    }

    /// The first byte after it.
    #[getter]
    const fn end(&self) -> u64 {
        self.start + self.length
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = (self.action(), self.start, self.length).into_pyobject(py)?;
        Ok(fields.try_iter()?.into_any())
    }

    fn __repr__(&self) -> String {
        format!("Step(action='{}', start={}, length={})", self.action(), self.start, self.length)
    }
}

#[pymethods]
impl PyMap {
    /// The action of a backup for each range, as a list of steps.
    ///
    /// Without bitmaps the backup is full: what does not read as zero is copied, zeroes are zeroed.
    /// With bitmaps it is an incremental: the same for dirty bytes, and clean ones are skipped.
    /// `previous_size` is the size that the disk had at the previous backup. A disk of another size
    /// is NotThereError; with `grown`, all bytes beyond the old end are dirty.
    ///
    /// >>> from nbd_extents import merge
    /// >>> merge([4096, 0, 8192, 1], [8192, 0, 4096, 3]).actions()[1:]
    /// [Step(action='copy', start=4096, length=4096), Step(action='zero', start=8192, length=4096)]
    #[pyo3(signature = (*, previous_size=None, grown=false))]
    fn actions(&self, py: Python<'_>, previous_size: Option<u64>, grown: bool) -> PyResult<Vec<PyStep>> {
        let actions = py.detach(|| self.decide(previous_size, grown))?;
        let step = |action: nbd_extents::Extent<Action>| PyStep {
            action: (*action.status()).into(),
            start: action.start(),
            length: action.length(),
        };
        Ok(actions.extents().map(step).collect())
    }

    /// How many bytes a backup copies, zeroes and skips, and their sum, as a dict.
    ///
    /// The arguments are those of `actions`.
    ///
    /// >>> from nbd_extents import merge
    /// >>> merge([4096, 0, 8192, 1], [8192, 0, 4096, 3]).totals()
    /// {'copy': 4096, 'zero': 4096, 'skip': 4096, 'size': 12288}
    #[pyo3(signature = (*, previous_size=None, grown=false))]
    fn totals<'py>(
        &self,
        py: Python<'py>,
        previous_size: Option<u64>,
        grown: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let totals = py.detach(|| -> Result<Totals, Failure> {
            Ok(Totals::of(self.decide(previous_size, grown)?.stream())?)
        })?;
        totals_dict(py, &totals)
    }

    /// The requests that carry the actions out, as a list of steps: in whole blocks, joined, split.
    ///
    /// block_size
    ///     Copies are whole blocks of this size, a power of two; zeroes shrink to whole blocks.
    /// max_copy, max_zero
    ///     The most bytes of one step.
    /// join_gaps
    ///     Reads through a gap between two copies that is not longer than this.
    /// dirty_only
    ///     Leaves clean bytes alone even inside a block, for exports where they cannot be read.
    ///
    /// >>> from nbd_extents import merge
    /// >>> map = merge([6000, 1, 2192, 0], [8192, 0])
    /// >>> map.plan(block_size=4096)
    /// [Step(action='copy', start=0, length=8192)]
    #[pyo3(signature = (
        *,
        block_size=1,
        max_copy=32 << 20,
        max_zero=1 << 30,
        join_gaps=0,
        dirty_only=false,
        previous_size=None,
        grown=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python programs name them")]
    fn plan(
        &self,
        py: Python<'_>,
        block_size: u64,
        max_copy: u64,
        max_zero: u64,
        join_gaps: u64,
        dirty_only: bool,
        previous_size: Option<u64>,
        grown: bool,
    ) -> PyResult<Vec<PyStep>> {
        let range = self.map.range();
        let options = || -> Result<PlanOptions, PlanError> {
            PlanOptions::new(range.end, BlockSize::new(block_size)?)?
                .max_copy(max_copy)?
                .max_zero(max_zero)?
                .join_gaps(join_gaps)
                .access(if dirty_only { Access::DirtyOnly } else { Access::All })
                .resume(PlanPosition { offset: range.start, size: range.end })
        };
        let options = options().map_err(Failure::usage)?;
        Ok(py.detach(|| -> Result<_, Failure> {
            let actions = self.decide(previous_size, grown)?;
            let steps = Plan::new(actions.stream(), options);
            Ok(steps.map(|step| step.map(PyStep::from)).collect::<Result<Vec<_>, _>>()?)
        })?)
    }
}

/// Totals as the program prints them.
pub(crate) fn totals_dict<'py>(py: Python<'py>, totals: &Totals) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("copy", totals.copy)?;
    dict.set_item("zero", totals.zero)?;
    dict.set_item("skip", totals.skip)?;
    dict.set_item("size", totals.sum())?;
    Ok(dict)
}

impl PyStep {
    /// The bytes to read for it: none unless it is a copy.
    pub(crate) fn copied_range(&self) -> Option<Range<u64>> {
        (self.action == Word::Copy).then(|| self.start..self.end())
    }
}

impl PyMap {
    /// The action for each byte.
    pub(crate) fn decide(
        &self,
        previous_size: Option<u64>,
        grown: bool,
    ) -> Result<ExtentMap<Action>, Failure> {
        let range = self.map.range();
        let statuses = self.map.stream();
        let decided = if self.bitmaps.is_empty() {
            if previous_size.is_some() || grown {
                return Err(Failure::usage("previous_size and grown need a map with a bitmap"));
            }
            ExtentMap::covering(statuses.decide(Full::new()), range)
        } else {
            let size = previous_size.unwrap_or(self.disk_size);
            let baseline = Baseline::new(size, self.all_bitmaps());
            let policy = if grown {
                Incremental::new_or_grown(baseline, self.disk_size)
            } else {
                Incremental::new(baseline, self.disk_size)
            };
            ExtentMap::covering(statuses.decide(policy.map_err(Failure::not_there)?), range)
        };
        decided.map_err(|error| match error {
            DecideError::Stream(error) => error.into(),
            other => Failure::other(other),
        })
    }

    fn all_bitmaps(&self) -> Bitmaps {
        let indices = (0..self.bitmaps.len()).filter_map(|index| BitmapIndex::try_from(index).ok());
        indices.fold(Bitmaps::NONE, Bitmaps::with)
    }
}
