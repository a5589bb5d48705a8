//! From a caller's choices to a configuration of rustls: folders, PEM files, authorities.

use alloc::sync::Arc;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, SignatureScheme};

use super::verify::{Judge, Observed, PeerVerifier};
use super::{FileFault, PeerCheck, TlsError, TlsOptions};

const AUTHORITY: &str = "ca-cert.pem";
const CERTIFICATE: &str = "client-cert.pem";
const KEY: &str = "client-key.pem";
const REVOKED: &str = "ca-crl.pem";

/// The name to expect of a server that was not reached by a name.
const LOCAL: &str = "localhost";

/// A configuration of rustls that the caller made.
pub(crate) type RustlsConfig = Arc<ClientConfig>;

/// Everything that one connection needs to begin TLS.
#[derive(Debug)]
pub(crate) struct TlsSetup {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    pub(super) check: PeerCheck,
    /// The certificate that a server gets which asks for one.
    pub(super) certificate: Option<PathBuf>,
    pub(super) observed: Arc<Observed>,
}

impl TlsSetup {
    /// Reads the files, unless the caller has a configuration. Each connection reads them anew, so
    /// that a certificate that was renewed is used.
    pub(crate) fn new(wanted: &TlsOptions, config: Option<&RustlsConfig>) -> Result<Self, TlsError> {
        let host = wanted.hostname.as_deref().unwrap_or(LOCAL);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::BadHostname { name: host.to_owned() })?;
        let observed = Arc::new(Observed::default());
        if let Some(config) = config {
            let config = Arc::clone(config);
            return Ok(Self { config, name, check: PeerCheck::Custom, certificate: None, observed });
        }
        let folder = Folder::find(wanted);
        let provider = Arc::new(ring::default_provider());
        let judge = folder.judge(wanted, &provider)?;
        let check = judge.check();
        let client = folder.client_certificate(&provider)?;
        let certificate = client.as_ref().map(|_| folder.file(CERTIFICATE));
        let resolver = ClientCertificate { key: client.map(Arc::new), observed: Arc::clone(&observed) };
        let verifier =
            PeerVerifier { judge, provider: Arc::clone(&provider), observed: Arc::clone(&observed) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Incompatible { reason: error.to_string() })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        // a session is never continued: each connection verifies the server anew
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name, check, certificate, observed })
    }
}

/// The certificate of the client, for servers that ask for one.
#[derive(Debug)]
struct ClientCertificate {
    key: Option<Arc<CertifiedKey>>,
    observed: Arc<Observed>,
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.observed.ask();
        self.key.clone()
    }

    /// Also without a certificate, so that a server that wants one is noticed.
    fn has_certs(&self) -> bool {
        true
    }
}

/// The folder of the certificates.
#[derive(Debug)]
enum Folder {
    /// The one that the caller named, or a default one that has certificates.
    At(PathBuf),
    /// There is none.
    System,
}

impl Folder {
    fn find(wanted: &TlsOptions) -> Self {
        let named = wanted.certificates.clone();
        named
            .or_else(|| default_folders().into_iter().find(|folder| folder.join(AUTHORITY).exists()))
            .map_or(Self::System, Self::At)
    }

    fn file(&self, name: &str) -> PathBuf {
        match self {
            Self::At(folder) => folder.join(name),
            Self::System => name.into(),
        }
    }

    /// The contents of a file that need not be there.
    fn read_if_there(&self, name: &str, needed: &'static str) -> Result<Option<Vec<u8>>, TlsError> {
        let Self::At(folder) = self else { return Ok(None) };
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(path, &error, needed)),
        }
    }

    /// How to judge the server's certificate.
    fn judge(&self, wanted: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Judge, TlsError> {
        if let Some(fingerprint) = wanted.fingerprint {
            return Ok(Judge::Fingerprint(fingerprint));
        }
        if wanted.verify_peer == Some(false) {
            return Ok(Judge::Nothing);
        }
        let (roots, authorities) = self.authorities()?;
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        if let Some(pem) = self.read_if_there(REVOKED, "it lists the certificates that are revoked")? {
            let lists: Vec<CertificateRevocationListDer<'static>> =
                self.parse(REVOKED, &pem, "list of revoked certificates")?;
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let verifier = builder.build().map_err(|error| self.unusable(REVOKED, error))?;
        Ok(Judge::Chain { verifier, authorities })
    }

    /// The trusted authorities, and where they come from.
    fn authorities(&self) -> Result<(RootCertStore, String), TlsError> {
        let mut roots = RootCertStore::empty();
        let Self::At(_) = self else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            let looked = "the system (and ~/.pki/libnbd and the like)".to_owned();
            return if roots.is_empty() {
                Err(TlsError::NoAuthority { looked })
            } else {
                Ok((roots, "the system".to_owned()))
            };
        };
        let path = self.file(AUTHORITY);
        let needed = "the folder of certificates must have the authority's certificate in it";
        let pem = std::fs::read(&path).map_err(|error| unreadable(path.clone(), &error, needed))?;
        for certificate in self.parse::<CertificateDer<'_>>(AUTHORITY, &pem, "certificate")? {
            roots.add(certificate).map_err(|error| self.unusable(AUTHORITY, error))?;
        }
        Ok((roots, path.display().to_string()))
    }

    /// The client's certificate and key, if they are there; one without the other is an error.
    fn client_certificate(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, TlsError> {
        let needed = "client-cert.pem and client-key.pem go together";
        let certificate = self.read_if_there(CERTIFICATE, needed)?;
        let key = self.read_if_there(KEY, needed)?;
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            (certificate, _) => {
                let missing = self.file(if certificate.is_none() { CERTIFICATE } else { KEY });
                let fault = FileFault::Unreadable { reason: "not there".to_owned(), needed };
                return Err(TlsError::File { path: missing, fault });
            }
        };
        // OpenSSL's older form of a key with a password has the label of one without
        let key = if is_encrypted(&key) { Vec::new() } else { key };
        let chain = self.parse(CERTIFICATE, &certificate, "certificate")?;
        let mut keys = self.parse::<PrivateKeyDer<'_>>(KEY, &key, "private key without a password")?;
        CertifiedKey::from_der(chain, keys.swap_remove(0), provider).map(Some).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let fault = FileFault::KeyDoesNotFit { certificate: self.file(CERTIFICATE) };
                TlsError::File { path: self.file(KEY), fault }
            }
            other => self.unusable(KEY, other),
        })
    }

    /// The sections of a PEM file; there is at least one.
    fn parse<T: PemObject>(
        &self,
        name: &str,
        pem: &[u8],
        expected: &'static str,
    ) -> Result<Vec<T>, TlsError> {
        let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(pem).collect();
        let items = items.map_err(|error| self.unusable(name, error))?;
        if items.is_empty() {
            return Err(TlsError::File { path: self.file(name), fault: FileFault::NothingInIt { expected } });
        }
        Ok(items)
    }

    fn unusable(&self, name: &str, error: impl core::fmt::Display) -> TlsError {
        TlsError::File { path: self.file(name), fault: FileFault::Unusable { reason: error.to_string() } }
    }
}

fn unreadable(path: PathBuf, error: &std::io::Error, needed: &'static str) -> TlsError {
    TlsError::File { path, fault: FileFault::Unreadable { reason: error.to_string(), needed } }
}

fn is_encrypted(key: &[u8]) -> bool {
    key.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"))
}

/// The folders in which libnbd looks for certificates.
fn default_folders() -> Vec<PathBuf> {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return vec!["/etc/pki/libnbd".into()];
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let in_home = |path: &str| home.as_ref().map(|home| Path::new(home).join(path));
    [".pki/libnbd", ".config/pki/libnbd"].into_iter().filter_map(in_home).collect()
}
