//! A caller's choices about TLS, as a URI can express them.

use std::path::{Path, PathBuf};

use super::{Fingerprint, FingerprintError};

/// The certificates to use, and the server to expect.
///
/// Everything is optional. Without a folder, certificates are looked for where libnbd does:
/// `/etc/pki/libnbd` for root, `~/.pki/libnbd` and `~/.config/pki/libnbd` for others, then the
/// authorities of the system. The name is that of the URI's host; for a unix socket `localhost`.
///
/// ```
/// use nbd_client::{Options, TlsOptions};
///
/// let tls = TlsOptions::new().certificates("/etc/pki/backup").hostname("node1.example.org");
/// // The URI of the same. Where both say something, the URI counts.
/// let parameters = "tls-certificates=/etc/pki/backup&tls-hostname=node1.example.org";
/// let uri: nbd_client::Uri = format!("nbds://10.0.0.1/disk?{parameters}").parse()?;
/// assert_eq!(uri.tls(), Some(&tls));
/// // Options with TLS also turn an nbd:// URI into a connection over TLS.
/// let options = Options::new().tls(tls);
/// # let _ = options;
/// # Ok::<(), nbd_client::uri::UriError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct TlsOptions {
    pub(crate) certificates: Option<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) verify_peer: Option<bool>,
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl TlsOptions {
    /// TLS with the default folders, the URI's host as the name, and the server's certificate
    /// verified.
    pub fn new() -> Self {
        Self::default()
    }

    /// The folder with `ca-cert.pem`, which must be there unless the server's certificate is not
    /// verified by an authority; `client-cert.pem` and `client-key.pem`, for servers that ask for
    /// them; and `ca-crl.pem`, which lists revoked certificates.
    pub fn certificates(mut self, folder: impl Into<PathBuf>) -> Self {
        self.certificates = Some(folder.into());
        self
    }

    /// The name or address that the server's certificate must be for.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// Whether to verify the server's certificate (default: yes). Without it the connection is
    /// encrypted, but anybody may be at its other end.
    pub const fn verify_peer(mut self, verify: bool) -> Self {
        self.verify_peer = Some(verify);
        self
    }

    /// Accepts exactly the certificate of this fingerprint, whoever signed it, whatever its name
    /// and dates. The server still has to prove that it has the key.
    pub const fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// Fills each choice that is not made here with that of `other`.
    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.certificates = self.certificates.or_else(|| other.certificates.clone());
        self.hostname = self.hostname.or_else(|| other.hostname.clone());
        self.verify_peer = self.verify_peer.or(other.verify_peer);
        self.fingerprint = self.fingerprint.or(other.fingerprint);
        self
    }

    /// One parameter of a URI, percent-decoded. The error says what would be expected.
    pub(crate) fn parameter(self, name: &str, value: &[u8]) -> Result<Self, &'static str> {
        match (name, &*String::from_utf8_lossy(value)) {
            ("tls-hostname", name) if !name.is_empty() => Ok(self.hostname(name)),
            ("tls-hostname", _) => Err("the name of a host"),
            ("tls-verify-peer", "0") => Ok(self.verify_peer(false)),
            ("tls-verify-peer", "1") => Ok(self.verify_peer(true)),
            ("tls-verify-peer", _) => Err("0 or 1"),
            ("tls-type", "x509") => Ok(self),
            ("tls-type", _) => Err("x509"),
            ("x-tls-fingerprint", text) => text.parse().map(|digits| self.fingerprint(digits)).map_err(
                |_: FingerprintError| "a SHA-256 fingerprint, 64 hexadecimal digits with or without colons",
            ),
            ("tls-certificates", "") => Err("a folder"),
            _ => path_of(value).map(|folder| self.certificates(folder)).ok_or("a path"),
        }
    }

    /// The parameters of a URI that say the same, not yet percent-encoded.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut parameters = Vec::new();
        if let Some(folder) = &self.certificates {
            parameters.push(("tls-certificates", bytes_of(folder)));
        }
        if let Some(name) = &self.hostname {
            parameters.push(("tls-hostname", name.clone().into_bytes()));
        }
        if let Some(verify) = self.verify_peer {
            parameters.push(("tls-verify-peer", u8::from(verify).to_string().into_bytes()));
        }
        if let Some(fingerprint) = &self.fingerprint {
            parameters.push(("x-tls-fingerprint", fingerprint.to_string().into_bytes()));
        }
        parameters
    }
}

#[cfg(unix)]
fn bytes_of(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;

    path.as_os_str().as_bytes().to_vec()
}

#[cfg(not(unix))]
fn bytes_of(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

/// A path of these bytes; `None` where the system has no such path.
#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;

    Some(std::ffi::OsStr::from_bytes(bytes).into())
}

/// A path of these bytes; `None` where the system has no such path.
#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    str::from_utf8(bytes).ok().map(PathBuf::from)
}
