//! The facts about a TLS connection.

use core::fmt;
use core::str::FromStr;

/// The SHA-256 fingerprint of a certificate.
///
/// It is printed as `openssl x509 -noout -fingerprint -sha256` does.
///
/// ```
/// use nbd_client::tls::Fingerprint;
///
/// let digits = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
/// let fingerprint: Fingerprint = digits.parse()?;
/// // With colons or without, in either case.
/// assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
/// assert!(fingerprint.to_string().starts_with("E3:B0:C4:42"));
/// assert!("E3:B0".parse::<Fingerprint>().is_err());
/// # Ok::<(), nbd_client::tls::FingerprintError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub(crate) [u8; 32]);

/// A text that is no SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons; got {digits}")]
pub struct FingerprintError {
    /// How many hexadecimal digits there were.
    pub digits: usize,
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map_while(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let error = FingerprintError { digits: digits.len() };
        let is_whole = text.chars().filter(|c| *c != ':').count() == digits.len();
        let bytes: Vec<u8> = digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect();
        // an odd digit at the end would be lost otherwise
        let fits = is_whole && digits.len() == 64;
        <[u8; 32]>::try_from(bytes).ok().filter(|_| fits).map(Self).ok_or(error)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The check that the server's certificate has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerCheck {
    /// An authority vouches for it, and it is for the name that was expected.
    Authority,
    /// It has the fingerprint that was expected.
    Fingerprint,
    /// None: the caller did not want any.
    Nothing,
    /// The verification of the caller's own configuration of rustls.
    Custom,
}

/// A connection over TLS: the protocol, the cipher, and the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// `TLS 1.2` or `TLS 1.3`.
    pub protocol: String,
    /// The cipher suite by its registered name, for example `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The subject of the server's certificate, for example `CN=node1`; empty if it has none or it
    /// cannot be read. Control characters are escaped.
    pub subject: String,
    /// The fingerprint of the server's certificate; `None` if it sent none.
    pub fingerprint: Option<Fingerprint>,
    /// The check that it has passed.
    pub check: PeerCheck,
}
