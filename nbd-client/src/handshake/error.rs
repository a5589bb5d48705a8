//! Why a handshake failed.

use core::fmt;

use crate::frame::OptionName;
use crate::text::ServerText;

/// A handshake that did not lead to an export. The connection cannot be used again.
///
/// ```
/// use nbd_client::handshake::{Handshake, HandshakeConfig};
///
/// let mut handshake = Handshake::new(HandshakeConfig::new("disk"))?;
/// let error = handshake.feed(b"HTTP/1.1 400 Bad Request").unwrap_err();
/// assert_eq!(error.to_string(), "not an NBD server: it says \"HTTP/1.1\"");
/// # Ok::<(), nbd_client::handshake::HandshakeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The caller's export name is too long, in bytes, or has a zero byte.
    #[error("an export name of {0} bytes cannot be asked for: at most 4096, no zero byte")]
    BadExportName(usize),
    /// The caller's context name is empty, too long, has a zero byte, or is there twice.
    #[error("context \"{0}\" cannot be asked for: empty, too long, or named twice")]
    BadContextRequest(ServerText),
    /// The peer does not speak NBD: its first 8 bytes.
    #[error("not an NBD server: it says \"{0}\"")]
    NotNbd(ServerText),
    /// A server of the oldstyle handshake, without options.
    #[error("an oldstyle NBD server, which has no options and no block status")]
    OldStyle,
    /// NBD, but neither newstyle nor oldstyle: the second magic as sent.
    #[error("unknown NBD handshake {0:#018x}")]
    UnknownStyle(u64),
    /// A newstyle server without the fixed option haggling: its handshake flags as sent.
    #[error("the server does not speak fixed newstyle, its flags are {0:#06x}")]
    NotFixedNewstyle(u16),
    /// An option reply with another magic.
    #[error("bad magic {magic:#018x} in the reply to {option}")]
    BadMagic {
        /// The option asked.
        option: OptionName,
        /// The magic as sent.
        magic: u64,
    },
    /// A reply to another option than the one asked.
    #[error("expected a reply to {asked}, got one to {got}")]
    WrongOption {
        /// The option asked.
        asked: OptionName,
        /// The option that the reply names.
        got: OptionName,
    },
    /// A reply of a type that this option does not have.
    #[error("unexpected reply of type {kind:#x} to {option}")]
    UnexpectedReply {
        /// The option asked.
        option: OptionName,
        /// The type as sent.
        kind: u32,
    },
    /// A reply whose length cannot be right for its type.
    #[error("reply of type {kind:#x} to {option} has a wrong length of {length} bytes")]
    BadLength {
        /// The option asked.
        option: OptionName,
        /// The type of the reply.
        kind: u32,
        /// Bytes of its payload.
        length: u32,
    },
    /// A reply beyond [`HandshakeLimits::reply_bytes`](super::HandshakeLimits::reply_bytes).
    #[error("reply to {option} claims {length} bytes, the limit is {limit}")]
    ReplyTooLong {
        /// The option asked.
        option: OptionName,
        /// Bytes claimed.
        length: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// More replies to one option than
    /// [`HandshakeLimits::replies`](super::HandshakeLimits::replies).
    #[error("more than {limit} replies to {option}")]
    TooManyReplies {
        /// The option asked.
        option: OptionName,
        /// The limit.
        limit: u32,
    },
    /// A handshake beyond [`HandshakeLimits::total_bytes`](super::HandshakeLimits::total_bytes).
    /// Holds that limit.
    #[error("a handshake of more than {0} bytes")]
    TooManyBytes(u64),
    /// A name that is not UTF-8 or has a zero byte.
    #[error("reply to {option} has a name that is no text: \"{name}\"")]
    BadName {
        /// The option asked.
        option: OptionName,
        /// The name, escaped.
        name: ServerText,
    },
    /// Two contexts of one name or of one number.
    #[error("context \"{name}\" or its id {id} was granted twice")]
    DuplicateContext {
        /// The later one's name.
        name: ServerText,
        /// The later one's number.
        id: u32,
    },
    /// A context of this name, which was not asked for (strict).
    #[error("context \"{0}\" was granted but not asked for")]
    UnaskedContext(ServerText),
    /// A second report of the export's size.
    #[error("the export was described twice")]
    DuplicateExportInfo,
    /// GO was acknowledged without size and flags.
    #[error("GO was acknowledged without the size of the export")]
    NoExportInfo,
    /// A size in bytes that no file can have.
    #[error("an export of {0} bytes, the most is 9223372036854775807")]
    SizeTooLarge(u64),
    /// Contradicting block sizes (strict).
    #[error("block sizes that cannot be: minimum {minimum}, preferred {preferred}, maximum {maximum}")]
    BadBlockSize {
        /// Minimum as sent.
        minimum: u32,
        /// Preferred as sent.
        preferred: u32,
        /// Maximum as sent.
        maximum: u32,
    },
    /// Transmission flags without HAS_FLAGS (strict).
    #[error("transmission flags {0:#06x} lack HAS_FLAGS")]
    NoHasFlags(u16),
    /// TLS was asked for, and the server does not speak fixed newstyle, in which it begins.
    #[error("the server has no TLS, which only fixed newstyle can begin: a newer server is needed")]
    TooOldForTls,
    /// Bytes after the answer to STARTTLS, which nobody has encrypted: an attack. How many there
    /// are.
    #[error(
        "{0} unencrypted bytes after the answer to STARTTLS: somebody in between may have added them, \
         or the server does not know TLS well"
    )]
    BytesAfterStartTls(usize),
    /// The server refused an option that cannot be done without.
    #[error("the server refused {option}: {reason}{}", text.tail())]
    Refused {
        /// The option.
        option: OptionName,
        /// Why.
        reason: Refusal,
        /// The server's message.
        text: ServerText,
    },
    /// The server has no export of this name.
    #[error("the server has no export \"{export}\"{}", text.tail())]
    ExportUnknown {
        /// The name asked for.
        export: ServerText,
        /// The server's message.
        text: ServerText,
    },
    /// A required context is not there.
    #[error("the export has no meta context \"{name}\"; {}", offer(offered.as_deref()))]
    ContextMissing {
        /// The context asked for.
        name: ServerText,
        /// The contexts that the server offers, if it said so.
        offered: Option<Box<[ServerText]>>,
    },
    /// This context is required, but the server has no structured replies and so no block status.
    #[error("no meta context \"{0}\": the server has no structured replies")]
    NoStructuredReplies(ServerText),
}

/// Why a server refuses an option: the type of its reply, which has the error bit (NBD protocol,
/// "Option reply types").
///
/// ```
/// use nbd_client::frame::{OptionName, option_type};
/// use nbd_client::handshake::{HandshakeError, Refusal};
///
/// let (option, reason) = (OptionName(option_type::GO), Refusal::TLS_REQUIRED);
/// let error = HandshakeError::Refused { option, reason, text: "".into() };
/// assert_eq!(error.to_string(), "the server refused GO: TLS is required");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal(pub u32);

impl Refusal {
    /// The server does not know the option.
    pub const UNSUPPORTED: Self = Self(0x8000_0001);
    /// Only after STARTTLS.
    pub const TLS_REQUIRED: Self = Self(0x8000_0005);
    /// No such export.
    pub const UNKNOWN_EXPORT: Self = Self(0x8000_0006);
    /// The server is going down.
    pub const SHUTDOWN: Self = Self(0x8000_0007);
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0x8000_0001 => "not supported",
            0x8000_0002 => "forbidden by policy",
            0x8000_0003 => "invalid request",
            0x8000_0004 => "not supported on its platform",
            0x8000_0005 => "TLS is required",
            0x8000_0006 => "unknown export",
            0x8000_0007 => "it is shutting down",
            0x8000_0008 => "block sizes must be asked for",
            0x8000_0009 => "request too big",
            0x8000_000a => "extended headers are required",
            other => return write!(f, "error {other:#010x}"),
        })
    }
}

/// The contexts that a server offers, at most eight of them, in one line.
fn offer(names: Option<&[ServerText]>) -> String {
    const SHOWN: usize = 8;

    let Some(names) = names else { return "it does not say what it has".to_owned() };
    if names.is_empty() {
        return "it has none".to_owned();
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(ServerText::as_str).collect();
    match names.len() - shown.len() {
        0 => format!("it has {}", shown.join(", ")),
        more => format!("it has {} and {more} more", shown.join(", ")),
    }
}
