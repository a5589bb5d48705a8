//! rustls between bytes and bytes, without I/O.
//!
//! rustls' unbuffered interface is used: records lie in a buffer of ours, are decrypted there, and
//! each payload goes from rustls to its place in one copy.

use alloc::collections::VecDeque;
use core::fmt;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, ProtocolVersion};

use super::peer::{CertificateText, fingerprint_of};
use super::{CertificateFault, Progress, TlsError, TlsInfo, TlsSetup};
use crate::frame::{During, OptionName, option_type};

/// Room for the longest handshake message of rustls (64 KiB) and the records around it; after the
/// handshake, the most that one read brings.
const INCOMING: usize = 128 << 10;
/// Plaintext that is encrypted at a time, in bytes.
const SEALED: usize = 64 << 10;
/// The longest plaintext of a record, in bytes.
const RECORD: usize = 16 << 10;
/// More than a record adds to its plaintext, in bytes.
const OVERHEAD: usize = 256;

/// The TLS of one connection, from the acknowledgement of STARTTLS on.
pub(crate) struct TlsSession {
    setup: TlsSetup,
    rustls: UnbufferedClientConnection,
    /// Records of the server; those from `start` to `end` are not processed yet.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Plaintext that nobody has waited for yet.
    plaintext: Vec<u8>,
    outgoing: Outgoing,
    is_established: bool,
    /// The server has said something over TLS.
    has_received: bool,
    /// The server will send no more.
    has_ended: bool,
    /// close_notify is in the outgoing bytes, or was sent.
    is_closed: bool,
    failure: Option<TlsError>,
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").field("is_established", &self.is_established).finish_non_exhaustive()
    }
}

impl TlsSession {
    /// Begins the handshake of TLS. `unsent` is the plaintext that is still to be sent before it.
    pub(crate) fn new(setup: TlsSetup, unsent: Vec<u8>) -> Result<Self, TlsError> {
        let rustls = UnbufferedClientConnection::new(setup.config.clone(), setup.name.clone())
            .map_err(|error| TlsError::Incompatible { reason: error.to_string() })?;
        Ok(Self {
            setup,
            rustls,
            incoming: vec![0; INCOMING],
            start: 0,
            end: 0,
            plaintext: Vec::new(),
            outgoing: Outgoing { end: unsent.len(), bytes: unsent, ..Outgoing::default() },
            is_established: false,
            has_received: false,
            has_ended: false,
            is_closed: false,
            failure: None,
        })
    }

    // ---- from the server

    /// The buffer for the next bytes of the server; never empty. `is_over` lets it forget earlier
    /// ones.
    pub(crate) fn space(&mut self, is_over: bool) -> &mut [u8] {
        self.incoming.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.incoming.len() {
            // nothing was processed since the last time
            if is_over { self.end = 0 } else { self.incoming.resize(2 * self.end, 0) }
        }
        self.incoming.get_mut(self.end..).unwrap_or_default()
    }

    pub(crate) fn received(&mut self, count: usize) {
        self.end = self.incoming.len().min(self.end + count);
    }

    /// Processes records until there is something to tell. `take` gets plaintext, and says how many
    /// bytes of it somebody has waited for; it is offered the rest again.
    pub(crate) fn advance(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<Progress, TlsError> {
        if !self.plaintext.is_empty() {
            let taken = take(&self.plaintext).min(self.plaintext.len());
            self.plaintext.drain(..taken);
            return Ok(if taken > 0 { Progress::Received } else { Progress::Blocked });
        }
        // after the answers that came before it
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.process(take)
    }

    fn process(&mut self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<Progress, TlsError> {
        loop {
            if self.has_ended {
                return Ok(Progress::Ended);
            }
            let records = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
            let UnbufferedStatus { discard, state, .. } = self.rustls.process_tls_records(records);
            let mut progress = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let broken = |error: rustls::Error| TlsError::Broken {
                            reason: error.to_string(),
                            established: true,
                        };
                        let payload = record.map_err(broken)?.payload;
                        self.has_received = true;
                        let taken = if self.plaintext.is_empty() { take(payload) } else { 0 };
                        self.plaintext.extend_from_slice(payload.get(taken..).unwrap_or_default());
                    }
                    progress = Some(Progress::Received);
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    self.outgoing.append(0, |room| encoded(data.encode(room)));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => self.has_ended = true,
                Ok(ConnectionState::WriteTraffic(_)) if !self.is_established => {
                    self.is_established = true;
                    progress = Some(Progress::Established);
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    progress = Some(Progress::Blocked);
                }
                // early data is a server's state
                Ok(_) => progress = Some(Progress::Blocked),
                Err(error) => {
                    self.start = self.end.min(self.start + discard);
                    self.queue_alert();
                    return Err(self.failure_of(&error));
                }
            }
            self.start = self.end.min(self.start + discard);
            match progress {
                Some(Progress::Blocked) if self.end - self.start == self.incoming.len() => {
                    let reason = format!("a handshake message of more than {INCOMING} bytes");
                    return Err(TlsError::Broken { reason, established: self.is_established });
                }
                Some(progress) => return Ok(progress),
                None => {}
            }
        }
    }

    /// After an error: the alert that tells the server of it.
    fn queue_alert(&mut self) {
        let records = self.incoming.get_mut(self.start..self.end).unwrap_or_default();
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.rustls.process_tls_records(records).state {
            self.outgoing.append(0, |room| encoded(data.encode(room)));
        }
        (self.start, self.end, self.is_closed) = (0, 0, true);
    }

    // ---- to the server

    /// True if there is something to send, where the connection has `plaintext` to send or not.
    pub(crate) fn has_output(&self, plaintext: bool, is_last: bool) -> bool {
        !self.outgoing.is_empty() || self.is_established && !self.is_closed && (plaintext || is_last)
    }

    /// Makes records of the beginning of the output if all earlier ones were sent. After the last
    /// output comes close_notify.
    pub(crate) fn seal<'a>(&mut self, output: impl Iterator<Item = &'a [u8]>, is_last: bool) {
        if !self.outgoing.is_empty() || !self.is_established || self.is_closed {
            return;
        }
        if let Err(failure) = self.try_seal(output, is_last) {
            self.is_closed = true;
            self.failure = Some(failure);
        }
    }

    fn try_seal<'a>(
        &mut self,
        output: impl Iterator<Item = &'a [u8]>,
        is_last: bool,
    ) -> Result<(), TlsError> {
        // rustls encrypts only after it has processed all that came
        while self.process(&mut |_| 0)? == Progress::Received {}
        let Self { rustls, incoming, outgoing, .. } = self;
        let records = incoming.get_mut(self.start..self.end).unwrap_or_default();
        let UnbufferedStatus { state, .. } = rustls.process_tls_records(records);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            debug_assert!(false, "an established session that cannot write: {state:?}");
            return Err(TlsError::Exhausted);
        };
        let mut is_exhausted = false;
        let mut encrypted = |result: Result<usize, EncryptError>| match result {
            Err(EncryptError::InsufficientSize(error)) => Err(error.required_size),
            Err(EncryptError::EncryptExhausted) => {
                is_exhausted = true;
                Ok(0)
            }
            Ok(count) => Ok(count),
        };
        let mut rest = SEALED;
        for slice in output {
            let now = slice.get(..rest).unwrap_or(slice);
            for record in now.chunks(RECORD) {
                outgoing.append(record.len() + OVERHEAD, |room| encrypted(traffic.encrypt(record, room)));
                outgoing.records.push_back((outgoing.end, record.len()));
            }
            rest -= now.len();
            if rest == 0 {
                break;
            }
        }
        // with room left there was no more output
        if is_last && rest > 0 {
            outgoing.append(OVERHEAD, |room| encrypted(traffic.queue_close_notify(room)));
            self.is_closed = true;
        }
        if is_exhausted { Err(TlsError::Exhausted) } else { Ok(()) }
    }

    /// The bytes to send.
    pub(crate) fn output(&self) -> &[u8] {
        self.outgoing.unsent()
    }

    /// Says that bytes were sent, and returns how many of the connection's output went with them.
    pub(crate) fn sent(&mut self, count: usize) -> usize {
        self.outgoing.sent(count)
    }

    /// The failure of [`Self::seal`], which [`Self::advance`] reports.
    pub(crate) fn failure(&self) -> Option<TlsError> {
        self.failure.clone()
    }

    // ---- what it knows

    /// The facts about the connection, once it is established.
    pub(crate) fn info(&self) -> TlsInfo {
        let peer = self.rustls.peer_certificates().and_then(|chain| chain.first());
        let suite = self.rustls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        TlsInfo {
            protocol: match self.rustls.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
                Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
                other => format!("{other:?}"),
            },
            // rustls' own prefix for those of TLS 1.3
            cipher: suite.unwrap_or_default().replace("TLS13_", "TLS_"),
            subject: peer.and_then(CertificateText::new).map(|text| text.subject).unwrap_or_default(),
            fingerprint: peer.map(fingerprint_of),
            check: self.setup.check,
        }
    }

    /// The error to report for one of rustls. The verifier's own finding, if it has one, says more.
    fn failure_of(&self, error: &rustls::Error) -> TlsError {
        use AlertDescription as Alert;
        use rustls::Error as E;

        if let Some(fault) = self.setup.observed.fault() {
            return fault;
        }
        match error {
            E::AlertReceived(
                Alert::AccessDenied
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateRequired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::NoCertificate
                | Alert::UnknownCA
                | Alert::UnsupportedCertificate,
            ) if self.setup.observed.was_asked() => self.client_refused(error.to_string()),
            E::AlertReceived(
                Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity,
            )
            | E::PeerIncompatible(_) => TlsError::Incompatible { reason: error.to_string() },
            E::AlertReceived(alert) => TlsError::Alert { alert: format!("{alert:?}") },
            // our own verifier leaves a finding, so this one is of a configuration that the caller
            // made
            E::InvalidCertificate(_) => TlsError::Certificate {
                subject: "by the caller's own rules".to_owned(),
                fault: CertificateFault::Unusable { reason: error.to_string() },
            },
            _ => TlsError::Broken { reason: error.to_string(), established: self.is_established },
        }
    }

    fn client_refused(&self, reason: String) -> TlsError {
        TlsError::ClientCertificate { certificate: self.setup.certificate.clone(), reason }
    }

    /// The reason of a server that hangs up before it has said anything over TLS, if it is known.
    /// Most servers hang up on a client whose certificate they refuse, some of them without an
    /// alert.
    pub(crate) fn explain(&self, during: During) -> Option<TlsError> {
        // a server that knows no extended headers may hang up for that, whatever the certificate:
        // it is asked again without them
        let may_be_option = during == During::Option(OptionName(option_type::EXTENDED_HEADERS))
            && self.setup.certificate.is_some();
        let is_refusal = !self.has_received && !may_be_option && self.setup.observed.was_asked();
        is_refusal.then(|| self.client_refused("it hung up".to_owned()))
    }
}

/// The bytes written, or the room that they need.
fn encoded(result: Result<usize, EncodeError>) -> Result<usize, usize> {
    match result {
        Err(EncodeError::InsufficientSize(error)) => Err(error.required_size),
        result => Ok(result.unwrap_or_default()),
    }
}

/// Bytes for the server. Their memory is kept.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    end: usize,
    /// The end of each record, and its plaintext in bytes. A server may answer a request as soon as
    /// it has the last record of it.
    records: VecDeque<(usize, usize)>,
}

impl Outgoing {
    const fn is_empty(&self) -> bool {
        self.sent == self.end
    }

    fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..self.end).unwrap_or_default()
    }

    /// Offers room for as many bytes. `write` says how many it wrote, or how many it needs.
    fn append(&mut self, room: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
        let mut room = room;
        loop {
            if self.bytes.len() < self.end + room {
                self.bytes.resize(self.end + room, 0);
            }
            match write(self.bytes.get_mut(self.end..).unwrap_or_default()) {
                Ok(count) => {
                    self.end += count;
                    return;
                }
                Err(needed) => room = needed,
            }
        }
    }

    /// The plaintext of the records that are through now, in bytes.
    fn sent(&mut self, count: usize) -> usize {
        self.sent = self.end.min(self.sent + count);
        let mut through = 0;
        while let Some((_, plaintext)) = self.records.front().filter(|(end, _)| *end <= self.sent) {
            through += plaintext;
            self.records.pop_front();
        }
        if self.is_empty() {
            (self.sent, self.end) = (0, 0);
        }
        through
    }
}
