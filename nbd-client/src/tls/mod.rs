//! TLS between the bytes of a socket and those of a connection (feature `tls`, over rustls).
//!
//! NBD starts in plaintext and changes over with STARTTLS. From its acknowledgement on, the
//! [connection](crate::connection) hands every byte through a `TlsSession`:
//!
//! ```text
//! output  -> seal    -> socket       requests and payloads become records
//! session <- advance <- socket       records become the bytes that the session waits for
//! ```
//!
//! | file | purpose |
//! |---|---|
//! | `options` | [`TlsOptions`]: the certificates to use and the name to expect; part of a URI |
//! | `credentials` | from these to a configuration of rustls: folders, PEM files, authorities |
//! | `verify` | the check of the server's certificate: chain and name, fingerprint, or nothing |
//! | `peer` | the parts of a certificate that messages name |
//! | `session` | rustls between bytes and bytes, for both drivers |
//! | `error` | [`TlsError`] |
//!
//! There is no fallback: a connection that was asked to use TLS sends nothing but STARTTLS in
//! plaintext, and ends if the server does not agree. `SECURITY.md` lists the choices.

mod error;
mod info;
mod options;

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod credentials;
#[cfg(feature = "tls")]
mod peer;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod verify;

pub use error::{CertificateFault, FileFault, TlsError};
pub use info::{Fingerprint, FingerprintError, PeerCheck, TlsInfo};
pub use options::TlsOptions;

#[cfg(not(feature = "tls"))]
pub(crate) use absent::{RustlsConfig, TlsSession, TlsSetup};
#[cfg(feature = "tls")]
pub(crate) use credentials::{RustlsConfig, TlsSetup};
#[cfg(feature = "tls")]
pub(crate) use session::TlsSession;

/// The progress of a [`TlsSession`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "only a session makes progress"))]
pub(crate) enum Progress {
    /// It needs more bytes of the server.
    Blocked,
    /// The handshake of TLS is over.
    Established,
    /// Bytes were handed out.
    Received,
    /// The server will send no more (close_notify).
    Ended,
}
