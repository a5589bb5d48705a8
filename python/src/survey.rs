//! `Survey`: the merge of replies for programs that ask the server with a client of their own.

use nbd_extents::wire::Form;
use nbd_extents::{Contexts, ExportParams, RequestId, Survey, SurveyError, SurveyOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::entries::Entries;
use crate::errors::Failure;
use crate::extent::PyExtent;

/// The next request of a survey: the status of `length` bytes from byte `offset` on.
#[pyclass(name = "Request", module = "nbd_extents", frozen, eq, hash)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PyRequest {
    /// The number of the request, which no other request of the survey has.
    #[pyo3(get)]
    id: u64,
    /// The first byte to ask about.
    #[pyo3(get)]
    offset: u64,
    /// The number of bytes to ask about.
    #[pyo3(get)]
    length: u64,
}

#[pymethods]
impl PyRequest {
    fn __repr__(&self) -> String {
        format!("Request(id={}, offset={}, length={})", self.id, self.offset, self.length)
    }
}

/// Merges the replies of a server that is asked with another client, such as libnbd.
///
/// It says what to ask, takes each context's part of a reply, and gives out merged extents that
/// cover the disk exactly once. The contexts of one reply may end at different offsets, and a
/// reply may be shorter than the request; the rest is requested again.
///
/// `size` is the size of the export in bytes, `contexts` the full names of the contexts that the
/// server has granted. A writable export needs `read_only=False`: its map may change meanwhile, and
/// the safer of two answers holds.
///
/// >>> survey = Survey(1 << 20, ["base:allocation", "qemu:dirty-bitmap:b0"])
/// >>> while request := survey.next_request():
/// ...     # nbd.block_status(request.length, request.offset, callback) of libnbd
/// ...     survey.extents(request, "base:allocation", request.offset, [65536, 0, 983040, 3])
/// ...     survey.extents(request, "qemu:dirty-bitmap:b0", request.offset, [(1048576, 1)])
/// ...     survey.reply_done(request)
/// >>> [(extent.start, extent.dirty, extent.zero) for extent in survey.read()]
/// [(0, True, False), (65536, True, True)]
/// >>> survey.complete()
#[pyclass(name = "Survey", module = "nbd_extents")]
#[derive(Debug)]
pub(crate) struct PySurvey {
    survey: Survey,
}

#[pymethods]
impl PySurvey {
    #[new]
    #[pyo3(signature = (size, contexts, *, read_only=true))]
    fn new(size: u64, contexts: &Bound<'_, PyAny>, read_only: bool) -> PyResult<Self> {
        let names = strings(contexts, "contexts")?;
        let survey = survey(size, &names, read_only).map_err(|error| match error {
            // the caller named them, so it is the caller's fault
            SurveyError::Context(error) => Failure::usage(error),
            other => other.into(),
        })?;
        Ok(Self { survey })
    }

    /// The next request, or None while enough is in flight and when all has been asked.
    fn next_request(&mut self) -> PyResult<Option<PyRequest>> {
        let request = self.survey.next_request().map_err(Failure::from)?;
        Ok(request.map(|request| PyRequest {
            id: request.id().into(),
            offset: request.offset(),
            length: request.length(),
        }))
    }

    /// Takes one context's part of a reply. A context that the survey does not ask about is
    /// ignored.
    ///
    /// `entries` are what libnbd's callback gets, or any other shape that `merge` takes. The first
    /// of them starts at `offset`, where the request starts. They may describe less than was asked.
    ///
    /// Wrong arguments (TypeError, ValueError, OverflowError) leave the request outstanding. After
    /// BrokenRulesError it is over, and the survey asks again.
    fn extents(
        &mut self,
        request: &Bound<'_, PyAny>,
        context: &str,
        offset: u64,
        entries: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let id = id_of(request)?;
        let entries = Entries::read(entries)?;
        let survey = &mut self.survey;
        match &entries {
            Entries::Narrow(pairs) => survey.extents32(id, context, offset, pairs.as_flattened()),
            Entries::Wide(pairs) => survey.extents64(id, context, offset, pairs),
        }
        .map_err(|error| Failure::from(error).into())
    }

    /// Says that the reply to a request is whole. Its extents can be read from now on.
    fn reply_done(&mut self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let id = id_of(request)?;
        Ok(self.survey.reply_done(id).map_err(Failure::from)?)
    }

    /// Says that the server answered a request with an error. The survey asks again.
    fn reply_failed(&mut self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let id = id_of(request)?;
        Ok(self.survey.reply_failed(id).map_err(Failure::from)?)
    }

    /// The merged extents that are ready, as a list. Call it after each reply.
    fn read(&mut self) -> PyResult<Vec<PyExtent>> {
        let mut extents = Vec::new();
        while let Some(extent) = self.survey.next_extent().map_err(Failure::from)? {
            extents.push(extent.into());
        }
        Ok(extents)
    }

    /// The first byte that has not been read.
    #[getter]
    fn position(&self) -> u64 {
        self.survey.position()
    }

    /// Proves that every extent of the disk was read, once; raises OtherError where some were not.
    fn complete(&self) -> PyResult<()> {
        Ok(self.survey.check_complete().map_err(Failure::from)?)
    }
}

fn survey(size: u64, names: &[String], read_only: bool) -> Result<Survey, SurveyError> {
    if read_only {
        return Survey::new(size, names);
    }
    let mut wanted = Contexts::new();
    for name in names {
        wanted = wanted.require(name.parse()?)?;
    }
    let granted = wanted.negotiate_names(wanted.names())?;
    let options = SurveyOptions::new(ExportParams::new(size, Form::Compact)?).allow_writable();
    Survey::together(options, granted)
}

/// The request that an argument stands for.
fn id_of(request: &Bound<'_, PyAny>) -> PyResult<RequestId> {
    match request.cast::<PyRequest>() {
        Ok(request) => Ok(request.get().id.into()),
        Err(_) => Err(PyTypeError::new_err("a request is an object that next_request returned")),
    }
}

/// The strings of any iterable but a string, which would be read letter by letter.
pub(crate) fn strings(names: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<String>> {
    if names.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!("{what} is a list of names, not one string")));
    }
    names.try_iter()?.map(|name| Ok(name?.cast::<PyString>()?.to_cow()?.into_owned())).collect()
}
