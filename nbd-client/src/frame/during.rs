//! The part of a conversation in which a connection ended or was late.

use core::fmt;

use super::OptionName;

/// A part of the conversation with a server, for errors that say when.
///
/// ```
/// use nbd_client::frame::During;
///
/// assert_eq!(format!("lost in {}", During::Payload), "lost in the payload of a reply");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum During {
    /// Connecting.
    Connect,
    /// Waiting for the server's first words.
    Hello,
    /// Agreeing on this option.
    Option(OptionName),
    /// Agreeing on keys and certificates, after STARTTLS.
    TlsHandshake,
    /// The client's turn in the handshake.
    Handshake,
    /// Waiting for the answer to EXPORT_NAME: a server that lacks the export just closes.
    ExportName,
    /// Sending.
    Send,
    /// Waiting for a reply.
    ReplyHeader,
    /// Receiving the payload of a reply.
    Payload,
}

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option(option) => return write!(f, "the handshake, at {option}"),
            Self::Connect => "the connection",
            Self::Hello => "the server's hello",
            Self::TlsHandshake => "the TLS handshake",
            Self::Handshake => "the handshake",
            Self::ExportName => "EXPORT_NAME (there may be no such export)",
            Self::Send => "sending",
            Self::ReplyHeader => "the wait for a reply",
            Self::Payload => "the payload of a reply",
        })
    }
}

/// The end of a connection in the middle of something.
///
/// ```
/// use nbd_client::frame::During;
/// use nbd_client::handshake::{Handshake, HandshakeConfig};
///
/// let mut handshake = Handshake::new(HandshakeConfig::new("disk"))?;
/// handshake.feed(b"NBDMAGICIH")?;
/// // The server closes here.
/// let eof = handshake.eof();
/// assert_eq!((eof.during, eof.got, eof.expected), (During::Hello, 2, 8));
/// assert_eq!(eof.to_string(), "the server closed it during the server's hello, 2 of 8 bytes were there");
/// # Ok::<(), nbd_client::handshake::HandshakeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server closed it during {during}{}", bytes_text(*got, *expected))]
#[non_exhaustive]
pub struct UnexpectedEof {
    /// The part of the conversation under way.
    pub during: During,
    /// Bytes of the piece under way that had come.
    pub got: u64,
    /// Bytes of the whole piece.
    pub expected: u64,
}

/// How much of a piece was there; nothing where its length is not known, as in the TLS handshake.
fn bytes_text(got: u64, expected: u64) -> String {
    if expected > 0 { format!(", {got} of {expected} bytes were there") } else { String::new() }
}
