//! Why there is no TLS, or no more of it.

use core::fmt;
use std::path::PathBuf;

use super::Fingerprint;

/// Why a connection over TLS did not come about, or ended.
///
/// ```
/// use nbd_client::{Client, Error, Options, TlsError};
///
/// let uri = "nbds://localhost/?tls-certificates=/nowhere".parse()?;
/// // The files are read before anything is sent.
/// let connected = Client::connect(&uri, &Options::new());
/// let Err(Error::Tls(error)) = connected else { panic!("no such folder") };
/// # if cfg!(feature = "tls") {
/// assert!(matches!(error, TlsError::File { .. }));
/// assert!(error.to_string().starts_with("/nowhere/ca-cert.pem: "));
/// # }
/// # Ok::<(), nbd_client::uri::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The crate was built without its feature `tls`.
    #[error("TLS was asked for, and nbd-client was built without it: enable its feature \"tls\"")]
    NotBuilt,
    /// A file of certificates or keys cannot be used.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        fault: FileFault,
    },
    /// There is no authority to trust.
    #[error(
        "no authority to verify the server by: {looked} has none; name a folder with ca-cert.pem in it \
         (in the URI: ?tls-certificates=DIR), or the fingerprint of the server's certificate \
         (?x-tls-fingerprint=HEX)"
    )]
    NoAuthority {
        /// The places that were searched.
        looked: String,
    },
    /// The name that the certificate should have can be no host's.
    #[error(
        "\"{}\" is no name of a host: say which one the certificate is for (tls-hostname)",
        name.escape_debug()
    )]
    BadHostname {
        /// The name.
        name: String,
    },
    /// The server's certificate was not accepted.
    #[error("the server's certificate ({subject}) {fault}")]
    Certificate {
        /// Its subject, for example `CN=node1`. A rustls configuration of the caller's own does not
        /// tell it: a note stands here then.
        subject: String,
        /// The reason.
        fault: CertificateFault,
    },
    /// The server asked for a certificate of the client and did not accept the answer.
    #[error("{}", ClientCertificateText(certificate.as_deref(), reason))]
    ClientCertificate {
        /// The certificate that was sent; `None` if there was none to send.
        certificate: Option<PathBuf>,
        /// The words or the fault of the server.
        reason: String,
    },
    /// The server ended TLS with an alert.
    #[error("the server ended TLS with the alert \"{alert}\"")]
    Alert {
        /// Its name in RFC 8446, section 6.
        alert: String,
    },
    /// Client and server have no version of TLS, or no cipher, in common.
    #[error("no TLS that both sides speak: {reason}; TLS 1.2 or 1.3 is needed")]
    Incompatible {
        /// The reason, in rustls' words.
        reason: String,
    },
    /// The server's bytes are no TLS, or were changed on their way.
    #[error("the server broke TLS{}: {reason}", if *established { "" } else { " in its handshake" })]
    Broken {
        /// The reason, in rustls' words.
        reason: String,
        /// True after the handshake.
        established: bool,
    },
    /// A TLS 1.2 connection has encrypted as much as its keys may.
    #[error(
        "the keys of this TLS 1.2 connection are used up: let the server speak TLS 1.3, which renews them"
    )]
    Exhausted,
}

/// Why a file of certificates or keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It cannot be read.
    #[error("{reason}: {needed}")]
    Unreadable {
        /// The error of the system, in words.
        reason: String,
        /// The purpose of the file.
        needed: &'static str,
    },
    /// It does not hold what it should.
    #[error("no {expected} in PEM form in it")]
    NothingInIt {
        /// The content that it should have.
        expected: &'static str,
    },
    /// Its contents cannot be used.
    #[error("cannot be used: {reason}")]
    Unusable {
        /// The reason, in rustls' words.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("not the key of {}: make or copy both together", certificate.display())]
    KeyDoesNotFit {
        /// The certificate.
        certificate: PathBuf,
    },
}

/// Why a server's certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// No authority that is trusted has signed it, though there may be one of the same name.
    #[error(
        "is signed by {issuer}, which {authorities} does not hold, or only with another key: add that \
         authority's certificate there (in the URI: ?tls-certificates=DIR, with ca-cert.pem), or compare \
         and name the fingerprint (in the URI: ?x-tls-fingerprint={fingerprint})"
    )]
    UnknownAuthority {
        /// The subject of the authority.
        issuer: String,
        /// The source of the trusted authorities.
        authorities: String,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// It is for other names.
    #[error(
        "is not for {expected} but for {}: use such a name, or expect it (in the URI: ?tls-hostname=NAME)",
        names.join(", ")
    )]
    WrongName {
        /// The name expected.
        expected: String,
        /// Its names.
        names: Vec<String>,
    },
    /// It has no names (subjectAltName). A CN alone has not counted since RFC 6125.
    #[error(
        "has no subjectAltName, so it is not for {expected}; a CN alone does not count: issue it with \
         subjectAltName=DNS:{expected} (or IP:), or compare and name its fingerprint \
         (in the URI: ?x-tls-fingerprint={fingerprint})"
    )]
    NoName {
        /// The name expected.
        expected: String,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// Its time, or that of an authority between it and a trusted one, is over.
    #[error("{}expired at {not_after}: renew it, or look at this machine's clock", of(authority))]
    Expired {
        /// The end of its time, in UTC.
        not_after: String,
        /// The authority that has expired, if it is not the certificate itself.
        authority: Option<String>,
    },
    /// Its time, or that of an authority between it and a trusted one, has not begun.
    #[error("{}is not valid before {not_before}: look at the clocks of both machines", of(authority))]
    NotYetValid {
        /// The beginning of its time, in UTC.
        not_before: String,
        /// The authority that is not yet valid, if it is not the certificate itself.
        authority: Option<String>,
    },
    /// The authority has revoked it.
    #[error("was revoked by its authority (ca-crl.pem): the server needs a new one")]
    Revoked,
    /// There is a list of revoked certificates, but none of its authority.
    #[error("may be revoked: ca-crl.pem has no list of its authority; add it, or remove the file")]
    UnknownRevocation,
    /// The list of revoked certificates is too old.
    #[error(
        "may be revoked: the list in ca-crl.pem should have been renewed{}; fetch a new one",
        at(next_update)
    )]
    OldRevocationList {
        /// When a new one was due, in UTC.
        next_update: Option<String>,
    },
    /// It is the certificate of an authority (CA:TRUE), and no server's.
    #[error(
        "is an authority's own (CA:TRUE), which no server may use, though other programs accept it: let it \
         sign one for the server, or compare and name its fingerprint (in the URI: \
         ?x-tls-fingerprint={fingerprint})"
    )]
    IsAuthority {
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// It is of a version before 3, which has no names.
    #[error(
        "is of X.509 version 1, which cannot say whose it is: issue it again with extensions \
         (openssl x509 -req -extfile with subjectAltName)"
    )]
    OldVersion,
    /// Its fingerprint is another one than was expected.
    #[error("has the fingerprint {got}, not {expected}: it was replaced, or somebody is in between")]
    OtherFingerprint {
        /// The one expected.
        expected: Fingerprint,
        /// The one it has.
        got: Fingerprint,
    },
    /// The rest.
    #[error("cannot be used: {reason}")]
    Unusable {
        /// The reason, in rustls' words.
        reason: String,
    },
}

fn of(authority: &Option<String>) -> String {
    authority.as_ref().map(|subject| format!("was signed by {subject}, which ")).unwrap_or_default()
}

fn at(time: &Option<String>) -> String {
    time.as_ref().map(|time| format!(" at {time}")).unwrap_or_default()
}

/// Which certificate of the client was refused, or that there was none.
struct ClientCertificateText<'a>(Option<&'a std::path::Path>, &'a str);

impl fmt::Display for ClientCertificateText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(certificate, reason) = self;
        match certificate {
            None => write!(
                f,
                "the server wants a certificate of the client, and there is none to send ({reason}): put \
                 client-cert.pem and client-key.pem into the folder of certificates (tls-certificates)"
            ),
            Some(path) => write!(
                f,
                "the server did not accept the client's certificate {} ({reason}): an authority that the \
                 server trusts must have signed it",
                path.display()
            ),
        }
    }
}

impl TlsError {
    /// True if the server broke the rules on a connection that was already encrypted.
    pub(crate) const fn is_violation(&self) -> bool {
        matches!(self, Self::Broken { established: true, .. })
    }
}
