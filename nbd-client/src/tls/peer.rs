//! The parts of a certificate that messages name. Everything in it was written by others, and is
//! escaped.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::{DateTime, Decode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

use super::Fingerprint;
use crate::text::ServerText;

/// A certificate as people see it.
#[derive(Debug)]
pub(super) struct CertificateText {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Its hosts and addresses (subjectAltName).
    pub(super) names: Vec<String>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    pub(super) is_authority: bool,
    pub(super) has_version_1: bool,
}

impl CertificateText {
    /// `None` for one that is not well-formed.
    pub(super) fn new(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().ok().flatten();
        let constraints = certificate.get_extension::<BasicConstraints>().ok().flatten();
        Some(Self {
            subject: text_of(certificate.subject()),
            issuer: text_of(certificate.issuer()),
            names: names.iter().flat_map(|(_, names)| &names.0).filter_map(name_of).collect(),
            not_before: certificate.validity().not_before.to_unix_duration().as_secs(),
            not_after: certificate.validity().not_after.to_unix_duration().as_secs(),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
            has_version_1: certificate.version() == Version::V1,
        })
    }
}

fn text_of(name: &Name) -> String {
    ServerText::new(name.to_string().as_bytes()).to_string()
}

fn name_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(ServerText::new(name.as_bytes()).to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(core::net::Ipv4Addr::new(a, b, c, d).to_string()),
            ref other => <[u8; 16]>::try_from(other).ok().map(|ip| core::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    }
}

pub(super) fn fingerprint_of(der: &CertificateDer<'_>) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let bytes = <[u8; 32]>::try_from(digest.as_ref());
    debug_assert!(bytes.is_ok(), "SHA-256 has 32 bytes");
    Fingerprint(bytes.unwrap_or_default())
}

/// A time as `2026-11-28T18:00:00Z`.
pub(super) fn time_of(time: UnixTime) -> String {
    let since = core::time::Duration::from_secs(time.as_secs());
    DateTime::from_unix_duration(since)
        .map_or_else(|_| format!("{} s", since.as_secs()), |time| time.to_string())
}
