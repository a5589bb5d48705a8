//! The check of the server's certificate.
//!
//! Whatever is checked, the server must prove that it has the key of the certificate: no mode
//! leaves out the signature over the handshake. A check that fails writes its reason down, with the
//! certificate at hand; rustls' own error knows less.

use alloc::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::peer::{CertificateText, fingerprint_of, time_of};
use super::{CertificateFault, Fingerprint, PeerCheck, TlsError};

/// The facts that the handshake of one connection showed.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The fault of the server's certificate.
    fault: OnceLock<TlsError>,
    /// The server has asked for a certificate of the client.
    asked: AtomicBool,
}

impl Observed {
    pub(super) fn fault(&self) -> Option<TlsError> {
        self.fault.get().cloned()
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

/// How a server's certificate is judged.
#[derive(Debug)]
pub(super) enum Judge {
    /// By its chain, name, dates and the lists of revoked ones. The authorities come from
    /// `authorities`, which messages name.
    Chain {
        verifier: Arc<WebPkiServerVerifier>,
        authorities: String,
    },
    Fingerprint(Fingerprint),
    Nothing,
}

impl Judge {
    pub(super) const fn check(&self) -> PeerCheck {
        match self {
            Self::Chain { .. } => PeerCheck::Authority,
            Self::Fingerprint(_) => PeerCheck::Fingerprint,
            Self::Nothing => PeerCheck::Nothing,
        }
    }
}

#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) judge: Judge,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) observed: Arc<Observed>,
}

impl PeerVerifier {
    /// Keeps the fault for the error of the handshake: rustls's own error has less of it.
    fn note(&self, certificate: &CertificateDer<'_>, fault: CertificateFault) {
        let subject =
            CertificateText::new(certificate).map_or_else(|| "unreadable".into(), |text| text.subject);
        // the first fault ends the handshake
        self.observed.fault.set(TlsError::Certificate { subject, fault }).ok();
    }

    /// Notes a fault if the server did not prove that it has the key of the certificate.
    fn observe(
        &self,
        certificate: &CertificateDer<'_>,
        result: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Err(error) = &result {
            let is_old = || CertificateText::new(certificate).is_some_and(|text| text.has_version_1);
            let fault = match error {
                Error::InvalidCertificate(CertificateError::BadSignature) => CertificateFault::Unusable {
                    reason: "no proof that the server has its key: somebody is in between, or it has another"
                        .to_owned(),
                },
                // rustls refuses the key of every certificate of version 1
                _ if is_old() => CertificateFault::OldVersion,
                _ => CertificateFault::Unusable { reason: error.to_string() },
            };
            self.note(certificate, fault);
        }
        result
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (error, fault) = match &self.judge {
            Judge::Nothing => return Ok(ServerCertVerified::assertion()),
            Judge::Fingerprint(expected) => {
                let (expected, got) = (*expected, fingerprint_of(end_entity));
                if got == expected {
                    return Ok(ServerCertVerified::assertion());
                }
                let error = CertificateError::ApplicationVerificationFailure.into();
                (error, CertificateFault::OtherFingerprint { expected, got })
            }
            Judge::Chain { verifier, authorities } => {
                let verified =
                    verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
                let Err(error) = verified else { return verified };
                let fault = fault_of(&error, end_entity, intermediates, server_name, authorities);
                (error, fault)
            }
        };
        self.note(end_entity, fault);
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.observe(cert, verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.observe(cert, verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The fault that rustls found, with the certificate at hand.
fn fault_of(
    error: &Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    authorities: &str,
) -> CertificateFault {
    use CertificateError as E;

    let fingerprint = fingerprint_of(end_entity);
    let unusable = || CertificateFault::Unusable { reason: error.to_string() };
    let Error::InvalidCertificate(reason) = error else { return unusable() };
    let Some(text) = CertificateText::new(end_entity) else { return unusable() };
    // an authority between it and a trusted one has dates of its own
    let other = |has_date: &dyn Fn(&CertificateText) -> bool| {
        let mut others = intermediates.iter().filter_map(CertificateText::new);
        if has_date(&text) { None } else { others.find(has_date).map(|other| other.subject) }
    };
    match reason {
        // an authority of the same name that has another key, or one that is not there
        E::UnknownIssuer | E::BadSignature => {
            let authorities = authorities.to_owned();
            CertificateFault::UnknownAuthority { issuer: text.issuer, authorities, fingerprint }
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            let expected = name.to_str().into_owned();
            match text.names {
                names if names.is_empty() => CertificateFault::NoName { expected, fingerprint },
                names => CertificateFault::WrongName { expected, names },
            }
        }
        E::ExpiredContext { not_after, .. } => CertificateFault::Expired {
            not_after: time_of(*not_after),
            authority: other(&|text| text.not_after == not_after.as_secs()),
        },
        E::NotValidYetContext { not_before, .. } => CertificateFault::NotYetValid {
            not_before: time_of(*not_before),
            authority: other(&|text| text.not_before == not_before.as_secs()),
        },
        E::Revoked => CertificateFault::Revoked,
        E::UnknownRevocationStatus => CertificateFault::UnknownRevocation,
        E::ExpiredRevocationList => CertificateFault::OldRevocationList { next_update: None },
        E::ExpiredRevocationListContext { next_update, .. } => {
            CertificateFault::OldRevocationList { next_update: Some(time_of(*next_update)) }
        }
        _ if text.has_version_1 => CertificateFault::OldVersion,
        _ if text.is_authority => CertificateFault::IsAuthority { fingerprint },
        _ => unusable(),
    }
}
