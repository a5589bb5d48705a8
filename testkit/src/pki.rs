//! Certificates for tests of TLS, made when a test starts: an authority, a server, a client, and
//! each of them with one fault.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use nbd_client::TlsOptions;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

pub use rcgen::{BasicConstraints, IsCa, date_time_ymd};
pub use rustls::ServerConfig;

/// A certificate with its key.
#[derive(Debug)]
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
    serial: u64,
}

impl Identity {
    /// One that has signed itself, changed by `edit`.
    pub fn self_signed(common_name: &str, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(common_name, names, 1, edit).self_signed(&key).expect("a certificate");
        Self { certificate, key, serial: 1 }
    }

    /// Its certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The configuration of a server that shows this certificate, and that asks its clients for one
    /// by `clients` if that is given.
    pub fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots())).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        Arc::new(builder.with_single_cert(self.chain(), self.private_key()).expect("certificate and key"))
    }

    /// As [`Self::server`], of a server that speaks TLS 1.2 alone.
    pub fn server_of_version_1_2(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
        let config = builder.with_no_client_auth().with_single_cert(self.chain(), self.private_key());
        Arc::new(config.expect("certificate and key"))
    }

    /// The configurations of a server that shows this certificate and has another's key: over TLS 1.3,
    /// and 1.2.
    pub fn server_with_key_of(&self, other: &Self) -> [Arc<ServerConfig>; 2] {
        let key = rustls::crypto::ring::sign::any_supported_type(&other.private_key()).expect("a key");
        let stolen = CertifiedKey::new(self.chain(), key);
        let resolver = Arc::new(SingleCertAndKey::from(stolen));
        [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| {
            let builder = ServerConfig::builder_with_protocol_versions(&[version]);
            Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver.clone()))
        })
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

/// An authority that signs certificates.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub fn new(common_name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = params(common_name, &[], 1, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        });
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these hosts and addresses, changed by `edit`.
    pub fn issue(
        &self,
        common_name: &str,
        names: &[&str],
        serial: u64,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = params(common_name, names, serial, edit);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate, key, serial }
    }

    /// Its certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority");
        roots
    }

    /// The list, in PEM, that revokes one certificate; it is to be renewed in `year`.
    pub fn revoke(&self, identity: &Identity, year: i32) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(identity.serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a list of revoked certificates")
    }
}

fn params(
    common_name: &str,
    names: &[&str],
    serial: u64,
    edit: impl FnOnce(&mut CertificateParams),
) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names of hosts");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    edit(&mut params);
    params
}

/// A folder of certificates in the names that qemu, nbdkit and libnbd use: those of an authority, a
/// server for `localhost` and 127.0.0.1, and a client.
#[derive(Debug)]
pub struct Pki {
    /// It has signed both.
    pub authority: Authority,
    /// The server's.
    pub server: Identity,
    folder: TempDir,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A folder in which everything is right.
    pub fn new() -> Self {
        Self::with_server(&["localhost", "127.0.0.1"], |_| {})
    }

    /// As [`Self::new`], but the server's certificate is for `names`, and changed by `edit`.
    pub fn with_server(names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let authority = Authority::new("test authority");
        let server = authority.issue("test server", names, 2, edit);
        let client = authority.issue("test client", &[], 3, |_| {});
        let pki = Self { authority, server, folder: super::server::folder() };
        pki.write("ca-cert.pem", &pki.authority.certificate_pem());
        pki.write("server-cert.pem", &pki.server.certificate_pem());
        pki.write("server-key.pem", &pki.server.key_pem());
        pki.write("client-cert.pem", &client.certificate_pem());
        pki.write("client-key.pem", &client.key_pem());
        pki
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("write a certificate");
    }

    /// Removes a file from it.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("remove a certificate");
    }

    /// A client's own configuration of rustls, which trusts this authority.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder().with_root_certificates(self.authority.roots());
        Arc::new(builder.with_no_client_auth())
    }

    /// A client's options with this folder.
    pub fn client(&self) -> TlsOptions {
        TlsOptions::new().certificates(self.path())
    }
}
