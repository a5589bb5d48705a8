//! The one error of both clients, and its classes for exit codes.

use alloc::sync::Arc;
use core::time::Duration;
use std::io;

use crate::frame::{During, OptionName, UnexpectedEof, option_type};
use crate::handshake::{HandshakeError, Refusal};
use crate::session::{Errno, ProtocolError, RequestError, StartError};
use crate::tls::TlsError;

/// Why a call of a client, a pool or a pipeline failed.
///
/// ```
/// use nbd_client::{Client, Error, Options};
///
/// let uri = "nbd+unix:///?socket=/nowhere/nbd.sock".parse()?;
/// let error = Client::connect(&uri, &Options::new()).unwrap_err();
/// assert!(matches!(error, Error::Connect { .. }));
/// assert!(error.to_string().starts_with("cannot connect to "));
/// # Ok::<(), nbd_client::uri::UriError>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address.
        address: String,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// A deadline passed.
    #[error("timed out during {during} after {:.1} s", after.as_secs_f64())]
    Timeout {
        /// The part of the conversation under way.
        during: During,
        /// How long it had been.
        after: Duration,
    },
    /// The deadline of the whole job passed in this part of the conversation, see
    /// [`Options::deadline`](crate::Options::deadline).
    #[error("the time for the whole job ran out during {0}")]
    OutOfTime(During),
    /// The job was cancelled by a [`Canceller`](crate::transport::Canceller), in this part of the
    /// conversation.
    #[error("cancelled during {0}")]
    Cancelled(During),
    /// The server closed the connection where more was due.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] UnexpectedEof),
    /// The connection failed.
    #[error("connection failed during {during}: {source}")]
    Io {
        /// The part of the conversation under way.
        during: During,
        /// How.
        source: Arc<io::Error>,
    },
    /// The handshake led to no export.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server broke the protocol; the connection cannot be used again.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// One request failed; the connection is usable.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request cannot be asked at all; nothing was sent.
    #[error(transparent)]
    Start(#[from] StartError),
    /// TLS was asked for, and there is none, or no more of it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An earlier request of a pipeline failed, and no more are started.
    #[error("no more requests, an earlier one of them failed")]
    Stopped,
    /// Several connections to one export do not agree about this.
    #[error("two connections to one export disagree about its {0}")]
    Disagreement(&'static str),
    /// An earlier error ended the connection.
    #[error("the connection was given up after an earlier error")]
    GivenUp,
    /// A thread or task that served the connection panicked: a fault of this program, not of the
    /// server.
    #[error("a thread or task that served the connection panicked, which is a fault of this program")]
    Panicked,
}

/// The kind of failure of an [`Error`]: enough to choose an exit code.
///
/// ```
/// use nbd_client::{Error, ErrorClass};
/// use nbd_client::handshake::HandshakeError;
///
/// fn exit_code(error: &Error) -> u8 {
///     match error.class() {
///         ErrorClass::NotThere => 3,
///         ErrorClass::Connection => 4,
///         ErrorClass::Server => 5,
///         _ => 1,
///     }
/// }
///
/// let unknown = HandshakeError::ExportUnknown { export: "disk".into(), text: "".into() };
/// assert_eq!(exit_code(&unknown.into()), 3);
/// assert_eq!(exit_code(&Error::GivenUp), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Something asked for is not there: the export, a required context.
    NotThere,
    /// The connection was lost, refused or out of time, or TLS was not agreed on.
    Connection,
    /// The server broke the protocol, or failed the request.
    Server,
    /// The rest: the caller asked for something impossible, cancelled or panicked, or the export's
    /// storage is full.
    Other,
}

impl Error {
    pub(crate) fn io(during: During, source: io::Error) -> Self {
        Self::Io { during, source: source.into() }
    }

    /// The reason why a thread or task that serves a connection goes before its work is done: a
    /// panic of a stream, or a runtime that ends.
    pub(crate) fn of_lost_worker() -> Self {
        if std::thread::panicking() { Self::Panicked } else { Self::Cancelled(During::ReplyHeader) }
    }

    /// True if the server failed a request with this number.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    /// use nbd_client::session::{Errno, ZeroRequest};
    ///
    /// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &Options::new())?;
    /// match client.write_zeroes(&ZeroRequest::new(0, 1 << 20).fast()) {
    ///     // It would not be fast: the caller can as well write the zeroes later.
    ///     Err(error) if error.is_errno(Errno::ENOTSUP) => {}
    ///     other => other?,
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_errno(&self, errno: Errno) -> bool {
        self.request().and_then(RequestError::errno) == Some(errno)
    }

    /// The failure of a request, if it is that.
    ///
    /// ```
    /// use nbd_client::Error;
    ///
    /// /// Where a job may go on with its next range.
    /// fn is_connection_usable(error: &Error) -> bool {
    ///     error.request().is_some_and(|request| !request.is_shutdown())
    /// }
    ///
    /// assert!(!is_connection_usable(&Error::GivenUp));
    /// ```
    #[must_use]
    pub const fn request(&self) -> Option<&RequestError> {
        if let Self::Request(error) = self { Some(error) } else { None }
    }

    /// The part of the conversation in which the server hung up, if it is that.
    pub(crate) const fn hung_up_during(&self) -> Option<During> {
        match self {
            Self::ConnectionLost(UnexpectedEof { during, .. }) | Self::Io { during, .. } => Some(*during),
            _ => None,
        }
    }

    /// The kind of failure.
    ///
    /// ```
    /// use nbd_client::{Error, ErrorClass, TlsError};
    ///
    /// assert_eq!(Error::Tls(TlsError::Exhausted).class(), ErrorClass::Connection);
    /// ```
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Handshake(error) => class_of_handshake(error),
            Self::Tls(error) if error.is_violation() => ErrorClass::Server,
            Self::Request(error) if error.is_full() => ErrorClass::Other,
            Self::Protocol(_) | Self::Request(_) | Self::Stopped | Self::Disagreement(..) => {
                ErrorClass::Server
            }
            Self::Start(StartError::Broken(_) | StartError::Ending) => ErrorClass::Server,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::OutOfTime(..)
            | Self::ConnectionLost(_)
            | Self::Io { .. }
            | Self::Tls(_)
            | Self::GivenUp => ErrorClass::Connection,
            Self::Cancelled(..) | Self::Start(_) | Self::Panicked => ErrorClass::Other,
        }
    }
}

const fn class_of_handshake(error: &HandshakeError) -> ErrorClass {
    match error {
        HandshakeError::ExportUnknown { .. }
        | HandshakeError::ContextMissing { .. }
        | HandshakeError::NoStructuredReplies(..) => ErrorClass::NotThere,
        // nothing was sent
        HandshakeError::BadExportName(..) | HandshakeError::BadContextRequest(..) => ErrorClass::Other,
        HandshakeError::TooOldForTls
        | HandshakeError::BytesAfterStartTls(..)
        | HandshakeError::Refused { option: OptionName(option_type::STARTTLS), .. }
        | HandshakeError::Refused { reason: Refusal::TLS_REQUIRED, .. } => ErrorClass::Connection,
        _ => ErrorClass::Server,
    }
}
