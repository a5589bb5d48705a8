//! How a run ends when it does not end well: one line on stderr, and the exit code that scripts
//! rely on.

use core::error::Error as _;
use core::time::Duration;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::channel;

use nbd_client::copy::CopyError;
use nbd_client::session::{Errno, RequestError};
use nbd_client::survey::SurveyorError;
use nbd_client::{Error, ErrorClass};
use nbd_extents::action::{BaselineError, DecideError};
use nbd_extents::plan::PlanError;
use nbd_extents::{StreamError, SurveyError};
use nbd_extents_backup::sparse_stream::{ContentsError, FrameError, FrameFault, StreamChainError};
use nbd_extents_backup::{BackupError, FilesError, OutputError, RestoreError};

use crate::backup::report::FORCE;
use crate::backup::unfinished;
use crate::progress::last_of_failure;
use crate::values::human;

/// The exit code of wrong usage.
pub(crate) const USAGE: u8 = 2;
/// The thing asked for is not there, or does not fit.
const NOT_THERE: u8 = 3;
/// Connection lost, refused or out of time; TLS not agreed.
const CONNECTION: u8 = 4;
/// The server or the file broke the rules.
const BROKEN: u8 = 5;
/// The rest.
const OTHER: u8 = 1;

/// Why a server failed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The request is invalid (EINVAL).
    Invalid,
    /// For any other reason.
    Other,
}

/// A message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    /// The server failed a request.
    refused: Option<Refused>,
    /// The message is clap's, of several lines.
    whole: bool,
}

impl Failure {
    /// The command line makes no sense for this export or file.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message.into())
    }

    /// clap's message, with its hints.
    pub(crate) fn of_clap(error: &clap::Error) -> Self {
        Self { whole: true, ..Self::new(USAGE, error.to_string()) }
    }

    /// The thing asked for is not there, or does not fit.
    pub(crate) fn not_there(message: impl Into<String>) -> Self {
        Self::new(NOT_THERE, message.into())
    }

    /// No connection.
    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(CONNECTION, message.into())
    }

    /// A file broke the rules of its format.
    pub(crate) fn broken(message: impl Into<String>) -> Self {
        Self::new(BROKEN, message.into())
    }

    /// Anything else.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(OTHER, message.into())
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::other(format!("{}: {error}", path.display()))
    }

    /// A file that was named to be read, and cannot be opened.
    pub(crate) fn input(path: &Path, error: &io::Error) -> Self {
        let failure = Self::file(path, error);
        let code = if error.kind() == io::ErrorKind::NotFound { NOT_THERE } else { OTHER };
        Self { code, ..failure }
    }

    /// Output that cannot be written. No message where its reader has gone away (`| head`).
    pub(crate) fn output(error: &io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self::other(if gone { String::new() } else { format!("cannot write the output: {error}") })
    }

    const fn new(code: u8, message: String) -> Self {
        Self { code, message, refused: None, whole: false }
    }

    /// Says what it is about: a file, one of two inputs.
    pub(crate) fn about(self, what: &str) -> Self {
        if self.message.is_empty() {
            return self;
        }
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Adds a sentence about what might help.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.message.push_str(hint);
        self
    }

    /// Says what helps where a server fails to describe a range, or refuses questions about clean
    /// bytes, as the export of a live backup does.
    pub(crate) fn hint_survey(self, has_bitmap: bool, bitmap_first: bool) -> Self {
        match (self.refused, bitmap_first, has_bitmap) {
            (None, ..) | (Some(Refused::Invalid), true, _) => self,
            (Some(Refused::Other), ..) => self
                .hint(" (--safe-on-failure takes what the server fails to describe for data, and for dirty)"),
            (_, _, true) => self.hint(" (an export that answers only for dirty ranges needs --bitmap-first)"),
            (_, _, false) => self
                .hint(" (an export that answers only for dirty ranges needs --bitmap NAME --bitmap-first)"),
        }
    }

    /// The exit code.
    const fn code(&self) -> u8 {
        self.code
    }

    /// Prints the message, and gives the exit code. Where nobody reads stderr the code has to do.
    pub(crate) fn report(self) -> ExitCode {
        let mut stderr = io::stderr().lock();
        if let Some(last) = last_of_failure(&self.message) {
            let _ = writeln!(stderr, "{last}");
        }
        let _ = match (self.whole, self.message.as_str()) {
            (_, "") => Ok(()),
            (true, message) => write!(stderr, "{message}"),
            (false, message) => writeln!(stderr, "nbd-extents: {message}"),
        };
        ExitCode::from(self.code)
    }
}

/// Ends the program with this failure, from any thread: the main one may be blocked.
pub(crate) fn end(failure: &Failure) -> ! {
    // Held until the program has ended, so that no backup is renamed after its file was removed. One
    // that is being renamed now is whole: the lock waits for it.
    let _held = unfinished::remove();
    print_soon(failure);
    std::process::exit(i32::from(failure.code()))
}

/// Prints the message of a program that is about to end. A stderr that is blocked does not hold it
/// up.
pub(crate) fn print_soon(failure: &Failure) {
    let last = last_of_failure(&failure.message).map_or_else(String::new, |last| last + "\n");
    let line = format!("{last}nbd-extents: {}\n", failure.message);
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(Duration::from_secs(1));
}

impl From<SurveyorError> for Failure {
    fn from(error: SurveyorError) -> Self {
        let code = match (&error, error.class()) {
            (SurveyorError::Survey(SurveyError::OutOfRange { .. }), _) => USAGE,
            (_, ErrorClass::NotThere) => NOT_THERE,
            (_, ErrorClass::Connection) => CONNECTION,
            (_, ErrorClass::Server) => BROKEN,
            _ => OTHER,
        };
        Self { refused: refused(&error), ..Self::new(code, error.to_string()) }
    }
}

/// Why the server failed a request, if that is the error. One that shuts down fails them all.
fn refused(error: &SurveyorError) -> Option<Refused> {
    let SurveyorError::Client(error) = error else { return None };
    match error.request().and_then(RequestError::errno)? {
        Errno::ESHUTDOWN => None,
        Errno::EINVAL => Some(Refused::Invalid),
        _ => Some(Refused::Other),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        SurveyorError::from(error).into()
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        let message = error.to_string();
        match error {
            CopyError::ReadOnly | CopyError::TooSmall { .. } => Self::not_there(message),
            CopyError::Tail { .. } | CopyError::Differs { .. } => Self::broken(message),
            CopyError::Source(error) | CopyError::Target(error) => Self { message, ..error.into() },
            CopyError::Survey(error) => Self { message, ..error.into() },
            _ => Self::other(message),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Context(error) => error.into(),
            BackupError::Connect(error) | BackupError::Survey(error) => error.into(),
            BackupError::Baseline(error) => error.into(),
            BackupError::Read(error) => error.into(),
            BackupError::Frame(fault) => fault.into(),
            BackupError::Write(error) => error.into(),
            BackupError::Output(error) => error.into(),
            BackupError::SameCheckpoint { .. } | BackupError::UnknownSize => Self::usage(error.to_string()),
            BackupError::Writable => Self::other(format!(
                "{error} (serve it read-only, as `qemu-nbd -r` does; --allow-writable takes it all the same)"
            )),
            BackupError::Tail { size, minimum } => {
                let tail = human(size % minimum);
                Self::broken(format!(
                    "the last {tail} of the export cannot be read: it has {size} bytes, and the server \
                        takes whole blocks of {minimum}"
                ))
            }
            BackupError::Map(error) => Self::other(format!("{error} (--map-memory N allows for more)")),
            _ => Self::other(error.to_string()),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Files(error) => error.into(),
            RestoreError::Stream(error) => error.into(),
            RestoreError::Chain(error) => error.into(),
            RestoreError::NeedsPrevious => Self::usage(format!("{error}: not with --target-is-zero")),
            RestoreError::Connect(error) => error.into(),
            RestoreError::ReadOnly | RestoreError::TooSmall { .. } => Self::not_there(error.to_string()),
            RestoreError::Target { file: Some(file), error } => {
                Self::from(*error).about(&file.display().to_string())
            }
            RestoreError::Target { file: None, error } => (*error).into(),
            RestoreError::Partial(error) => Self::from(*error).hint(RestoreError::PARTIAL),
            _ => Self::other(error.to_string()),
        }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::NotABackup { .. } => Self::usage(error.to_string()).hint(FORCE),
            OutputError::ReplacesParent | OutputError::Terminal => Self::usage(error.to_string()),
            _ => Self::other(error.to_string()),
        }
    }
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Stream { file, error } => Self::from(error).about(&file.display().to_string()),
            FilesError::Open { file, error } => Self::input(&file, &error),
            FilesError::Chain { .. } => Self::not_there(error.to_string()),
            FilesError::Changed { .. } => Self::broken(error.to_string()),
            _ => Self::other(error.to_string()),
        }
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
            DecideError::Policy(error) => Self::other(error.to_string()),
            _ => Self::other("no action could be chosen"),
        }
    }
}

impl From<BaselineError> for Failure {
    /// The previous backup is of another size than the disk.
    fn from(error: BaselineError) -> Self {
        let failure = Self::not_there(error.to_string());
        match error {
            BaselineError::SizeChanged { baseline, export } if baseline < export => {
                failure.hint(" (--grown takes all beyond the old end for dirty)")
            }
            _ => failure,
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        SurveyError::from(error).into()
    }
}

impl From<FrameError> for Failure {
    /// A stream that is not sound, or not whole.
    fn from(error: FrameError) -> Self {
        match error.source() {
            Some(source) => Self::broken(format!("{error}: {source}")),
            None => Self::broken(error.to_string()),
        }
    }
}

impl From<ContentsError> for Failure {
    fn from(error: ContentsError) -> Self {
        match error {
            ContentsError::Frame(error) => error.into(),
            ContentsError::Input(error) => Self::other(format!("cannot read the stream: {error}")),
            other => Self::broken(other.to_string()),
        }
    }
}

impl From<StreamChainError> for Failure {
    /// Streams that do not follow each other: wrong order, parent, disk or size.
    fn from(error: StreamChainError) -> Self {
        Self::not_there(error.to_string())
    }
}

impl From<FrameFault> for Failure {
    /// A stream of our own that would not be sound.
    fn from(fault: FrameFault) -> Self {
        match fault.source() {
            Some(source) => Self::other(format!("{fault}: {source}")),
            None => Self::other(fault.to_string()),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::other(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::output(&error)
    }
}
