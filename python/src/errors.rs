//! Which Python exception each Rust error becomes: the classes of the program's exit codes for
//! failures of servers and files, `ValueError` and `OverflowError` for arguments.

use core::fmt::Display;
use std::io;
use std::path::Path;

use nbd_client::survey::SurveyorError;
use nbd_client::{Error, ErrorClass};
use nbd_extents::{ExtentError, StreamError, SurveyError};
use pyo3::PyErr;
use pyo3::exceptions::{PyOverflowError, PyValueError};

/// The exceptions, which are written in Python: `package/nbd_extents/_errors.py`.
mod classes {
    use pyo3::import_exception;

    import_exception!(nbd_extents._errors, NotThereError);
    import_exception!(nbd_extents._errors, LostConnectionError);
    import_exception!(nbd_extents._errors, BrokenRulesError);
    import_exception!(nbd_extents._errors, OtherError);
}

/// A failure on its way to Python. Unlike a `PyErr`, it can be made without the GIL.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Subclass,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subclass {
    /// Exit code 2: `ValueError`.
    Usage,
    /// A number beyond what the library holds: `OverflowError`.
    Overflow,
    NotThere,
    Connection,
    Rules,
    Other,
}

impl Failure {
    /// A wrong argument.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Subclass::Usage, message)
    }

    /// Something that was asked for is not there, or does not fit.
    pub(crate) fn not_there(message: impl Display) -> Self {
        Self::new(Subclass::NotThere, message)
    }

    /// The server or a file broke the rules.
    pub(crate) fn rules(message: impl Display) -> Self {
        Self::new(Subclass::Rules, message)
    }

    /// Anything else.
    pub(crate) fn other(message: impl Display) -> Self {
        Self::new(Subclass::Other, message)
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::other(format!("{}: {error}", path.display()))
    }

    /// A file that was named to be read, and cannot be opened.
    pub(crate) fn input(path: &Path, error: &io::Error) -> Self {
        let failure = Self::file(path, error);
        let kind = if error.kind() == io::ErrorKind::NotFound { Subclass::NotThere } else { failure.kind };
        Self { kind, ..failure }
    }

    /// Names the file that it is about.
    pub(crate) fn about(self, file: &Path) -> Self {
        Self { message: format!("{}: {}", file.display(), self.message), ..self }
    }

    /// Adds words about what might help.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.message.push_str(hint);
        self
    }

    fn new(kind: Subclass, message: impl Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

impl From<Failure> for PyErr {
    fn from(Failure { kind, message }: Failure) -> Self {
        match kind {
            Subclass::Usage => PyValueError::new_err(message),
            Subclass::Overflow => PyOverflowError::new_err(message),
            Subclass::NotThere => classes::NotThereError::new_err(message),
            Subclass::Connection => classes::LostConnectionError::new_err(message),
            Subclass::Rules => classes::BrokenRulesError::new_err(message),
            Subclass::Other => classes::OtherError::new_err(message),
        }
    }
}

impl From<ErrorClass> for Subclass {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::NotThere => Self::NotThere,
            ErrorClass::Connection => Self::Connection,
            ErrorClass::Server => Self::Rules,
            _ => Self::Other,
        }
    }
}

impl From<SurveyorError> for Failure {
    fn from(error: SurveyorError) -> Self {
        match error {
            SurveyorError::Survey(error) => error.into(),
            other => Self::new(other.class().into(), other),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.class().into(), error)
    }
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Self {
        let kind = match &error {
            SurveyError::TooLarge { .. } => Subclass::Overflow,
            SurveyError::UnknownRequest(_)
            | SurveyError::WrongOffset { .. }
            | SurveyError::OutOfRange { .. }
            | SurveyError::NoContext
            | SurveyError::NotBitmapFirst => Subclass::Usage,
            _ => return Self::new(SurveyorError::from(error.clone()).class().into(), error),
        };
        Self::new(kind, error)
    }
}

impl From<StreamError> for Failure {
    /// Lists of the caller's own that cannot be merged.
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Extent(ExtentError::TooLarge { .. }) => Subclass::Overflow,
            _ => Subclass::Usage,
        };
        Self::new(kind, error)
    }
}
