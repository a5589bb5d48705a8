//! The configuration of a handshake: the export, the options to negotiate, and limits on the
//! server's replies.

use super::HandshakeError;
use crate::frame::{Headers, is_string};
use nbd_extents::Strictness;

/// A meta context to ask for, by its exact name.
///
/// ```
/// use nbd_client::handshake::{ContextRequest, HandshakeConfig};
///
/// let mut config = HandshakeConfig::new("disk");
/// config.contexts.push(ContextRequest { name: "base:allocation".into(), required: true });
/// config.contexts.push(ContextRequest { name: "qemu:allocation-depth".into(), required: false });
/// # assert!(nbd_client::handshake::Handshake::new(config).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContextRequest {
    /// `namespace:leaf`, for example `base:allocation`.
    pub name: String,
    /// If true, the handshake fails when the server does not grant it.
    pub required: bool,
}

/// Bounds on what a server may say before the transmission phase.
///
/// ```
/// use nbd_client::handshake::{Handshake, HandshakeConfig};
///
/// let mut config = HandshakeConfig::new("disk");
/// config.limits.reply_bytes = 1024;
/// let mut handshake = Handshake::new(config)?;
/// handshake.feed(b"NBDMAGICIHAVEOPT\0\x03")?;
/// // A reply to EXTENDED_HEADERS that claims 64 KiB is refused before any of them arrives.
/// let claim = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x0b\x80\0\0\x01\0\x01\0\0";
/// let error = handshake.feed(claim).unwrap_err();
/// assert_eq!(error.to_string(), "reply to EXTENDED_HEADERS claims 65536 bytes, the limit is 1024");
/// # Ok::<(), nbd_client::handshake::HandshakeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeLimits {
    /// The longest payload of an option reply, in bytes.
    pub reply_bytes: u32,
    /// The most replies to one option.
    pub replies: u32,
    /// The most bytes that the server may send in the whole handshake.
    pub total_bytes: u64,
}

impl Default for HandshakeLimits {
    /// 64 KiB a reply, 4096 replies to an option, 4 MiB in all.
    fn default() -> Self {
        Self { reply_bytes: 64 << 10, replies: 4096, total_bytes: 4 << 20 }
    }
}

/// The export, contexts and options that a handshake asks for.
///
/// ```
/// use nbd_client::Strictness;
/// use nbd_client::frame::Headers;
/// use nbd_client::handshake::{Handshake, HandshakeConfig};
///
/// let mut config = HandshakeConfig::new("disk");
/// config.strictness = Strictness::Strict;
/// // Without extended headers the client starts with STRUCTURED_REPLY, option 8.
/// config.headers = Headers::Structured;
/// let mut handshake = Handshake::new(config)?;
/// handshake.feed(b"NBDMAGICIHAVEOPT\0\x03")?;
/// assert_eq!(handshake.take_output(), b"\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0");
/// # Ok::<(), nbd_client::handshake::HandshakeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeConfig {
    /// The export's name; empty is the server's default.
    pub export: String,
    /// The contexts to ask for.
    pub contexts: Vec<ContextRequest>,
    /// The best headers to ask for (default: extended). A server without extended headers is asked
    /// for structured replies. With simple ones there is no block status.
    pub headers: Headers,
    /// Also list the contexts that the server offers (default: false). They are listed anyway if
    /// one that was asked for is not granted.
    pub list_contexts: bool,
    /// List the server's exports (LIST) and end there (default: false): see
    /// [`Handshake::into_exports`](super::Handshake::into_exports).
    pub list_exports: bool,
    /// Begin with STARTTLS (default: false). The caller does the encryption.
    pub start_tls: bool,
    /// Whether to forgive harmless violations of the protocol.
    pub strictness: Strictness,
    /// Bounds on the server's replies.
    pub limits: HandshakeLimits,
}

impl Default for HandshakeConfig {
    /// A handshake for the server's default export.
    fn default() -> Self {
        Self::new("")
    }
}

impl HandshakeConfig {
    /// A lenient handshake for this export, with extended headers if the server has them, and no
    /// context.
    #[must_use]
    pub fn new(export: impl Into<String>) -> Self {
        Self {
            export: export.into(),
            contexts: Vec::new(),
            headers: Headers::Extended,
            list_contexts: false,
            list_exports: false,
            start_tls: false,
            strictness: Strictness::default(),
            limits: HandshakeLimits::default(),
        }
    }

    /// Refuses names that the protocol cannot carry, and a context that is asked for twice.
    pub(super) fn check(&self) -> Result<(), HandshakeError> {
        if !is_string(&self.export) {
            return Err(HandshakeError::BadExportName(self.export.len()));
        }
        for (index, context) in self.contexts.iter().enumerate() {
            let name = &context.name;
            let twice = self.contexts.iter().take(index).any(|earlier| earlier.name == *name);
            if twice || name.is_empty() || !is_string(name) {
                return Err(HandshakeError::BadContextRequest(name.as_str().into()));
            }
        }
        Ok(())
    }
}
