//! How a run ends when it does not end well: one line on stderr, and the exit code that scripts rely on.

use core::error::Error as _;
use std::io;
use std::process::ExitCode;

use nbd_client::{Errno, Error, ErrorClass, RequestError, SurveyorError};
use nbd_extents::action::{BaselineError, DecideError};
use nbd_extents::plan::PlanError;
use nbd_extents::{StreamError, SurveyError};
use nbd_extents_formats::sparse_stream::{ReadError, WriteError};

/// Exit code 2.
const USAGE: u8 = 2;
/// Exit code 3: what was asked for is not there.
const NOT_THERE: u8 = 3;
/// Exit code 4: connection lost, refused or out of time.
const CONNECTION: u8 = 4;
/// Exit code 5: the server broke the protocol or failed the request.
const SERVER: u8 = 5;
/// Exit code 1: the rest.
const OTHER: u8 = 1;

/// A message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    /// The server refused a request as invalid.
    refusal: bool,
}

impl Failure {
    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message.into())
    }

    /// What was asked for is not there.
    pub(crate) fn not_there(message: impl Into<String>) -> Self {
        Self::new(NOT_THERE, message.into())
    }

    /// Anything else.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(OTHER, message.into())
    }

    const fn new(code: u8, message: String) -> Self {
        Self { code, message, refusal: false }
    }

    /// Whether the server refused a request as invalid.
    pub(crate) const fn is_refusal(&self) -> bool {
        self.refusal
    }

    /// Says what it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Adds a sentence about what might help.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.message.push_str(hint);
        self
    }

    /// A live backup's export refuses questions about clean bytes. What the server says of that is not what helps.
    pub(crate) fn hint_bitmap_first(self, has_bitmap: bool) -> Self {
        self.hint(if has_bitmap {
            " (an export that answers only for dirty ranges needs --bitmap-first)"
        } else {
            " (an export that answers only for dirty ranges needs --bitmap NAME --bitmap-first)"
        })
    }

    /// Prints the line, and gives the exit code.
    pub(crate) fn report(self, program: &str) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{program}: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<SurveyorError> for Failure {
    fn from(error: SurveyorError) -> Self {
        let code = match (&error, error.class()) {
            (SurveyorError::Survey(SurveyError::OutOfRange { .. }), _) => USAGE,
            (_, ErrorClass::NotThere) => NOT_THERE,
            (_, ErrorClass::Connection) => CONNECTION,
            (_, ErrorClass::Server) => SERVER,
            _ => OTHER,
        };
        Self { refusal: is_invalid(&error), ..Self::new(code, error.to_string()) }
    }
}

/// Whether a request failed with EINVAL.
fn is_invalid(error: &SurveyorError) -> bool {
    let SurveyorError::Client(error) = error else { return false };
    error.request().and_then(RequestError::errno).and_then(Errno::name) == Some("EINVAL")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        SurveyorError::from(error).into()
    }
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Self {
        SurveyorError::from(error).into()
    }
}

impl From<nbd_extents::ContextError> for Failure {
    /// A context that the command line cannot ask for.
    fn from(error: nbd_extents::ContextError) -> Self {
        Self::usage(error.to_string())
    }
}

impl<E> From<DecideError<E>> for Failure
where
    Self: From<E>,
{
    fn from(error: DecideError<E>) -> Self {
        match error {
            DecideError::Stream(error) => error.into(),
            other => Self::new(
                OTHER,
                match other {
                    DecideError::Policy(error) => error.to_string(),
                    _ => "no action could be chosen".to_owned(),
                },
            ),
        }
    }
}

impl From<BaselineError> for Failure {
    /// The previous backup is of another size than the disk.
    fn from(error: BaselineError) -> Self {
        Self::new(NOT_THERE, error.to_string())
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        SurveyError::from(error).into()
    }
}

impl From<ReadError> for Failure {
    /// A stream that is not sound, or not whole.
    fn from(error: ReadError) -> Self {
        match error.source() {
            Some(source) => Self::other(format!("{error}: {source}")),
            None => Self::other(error.to_string()),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::other(error.to_string())
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::other(error.to_string())
    }
}

impl From<io::Error> for Failure {
    /// Output that cannot be written. A reader that has gone away (`| head`) is nothing to talk about.
    fn from(error: io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self::new(OTHER, if gone { String::new() } else { format!("cannot write: {error}") })
    }
}
