//! The handshake as a state machine without I/O: bytes of the server in, bytes for the server out,
//! at the end an export.
//!
//! The order (NBD protocol, "Fixed newstyle negotiation"); every option is sent at most once,
//! LIST_META_CONTEXT at most twice, and never two at a time:
//!
//! ```text
//! hello -> [STARTTLS] -> EXTENDED_HEADERS -> (refused: STRUCTURED_REPLY) -> SET_META_CONTEXT
//!       -> (something missing: LIST_META_CONTEXT) -> GO -> (unsupported: EXPORT_NAME) -> finished
//! hello -> [STARTTLS] -> LIST -> finished, where only the exports are asked for
//! ```
//!
//! Of an export that does not exist, all contexts are missing too. Only the answer to GO tells the
//! two cases apart, so a missing context becomes an error after GO.

mod config;
mod error;
mod replies;
mod steps;
#[cfg(test)]
mod tests;

pub use config::{ContextRequest, HandshakeConfig, HandshakeLimits};
pub use error::{HandshakeError, Refusal};

use steps::Step;

use crate::export::{Export, ListedExport, MetaContext};
use crate::frame::{
    During, Fields, IHAVEOPT, MAX_STRING, NBDMAGIC, OLDSTYLE_MAGIC, OPTION_REPLY_MAGIC, OptionName,
    OptionReply, RequestHeader, UnexpectedEof, handshake_flag, option_reply_type,
};
use crate::stats::ToleratedCounts;
use crate::text::ServerText;

/// The piece that the machine is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Magic,
    Style,
    Flags,
    /// The header of a reply to this step's option.
    Header(Step),
    /// The payload of a reply of this type and length.
    Payload(Step, u32, usize),
    /// The caller, who has to encrypt the connection.
    StartTls,
    /// The answer to EXPORT_NAME, which has no header, and its length.
    ExportName(usize),
    Finished,
}

impl Stage {
    /// The bytes of the piece.
    const fn length(self) -> usize {
        match self {
            Self::Magic | Self::Style => 8,
            Self::Flags => 2,
            Self::Header(_) => OptionReply::LEN,
            Self::Payload(_, _, length) | Self::ExportName(length) => length,
            Self::StartTls | Self::Finished => 0,
        }
    }
}

/// The next step of a handshake, as its caller sees it.
///
/// ```
/// use nbd_client::Export;
/// use nbd_client::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
/// use std::io::{Error, Read, Write};
///
/// /// Shakes hands over any stream. A byte at a time is slow, but leaves nothing over.
/// fn negotiate(stream: &mut (impl Read + Write), config: HandshakeConfig) -> Result<Export, Error> {
///     let mut handshake = Handshake::new(config).map_err(Error::other)?;
///     while handshake.status() == HandshakeStatus::NeedsInput {
///         let mut byte = [0];
///         if stream.read(&mut byte)? == 0 {
///             return Err(Error::other(handshake.eof()));
///         }
///         let fed = handshake.feed(&byte);
///         stream.write_all(&handshake.take_output())?;
///         fed.map_err(Error::other)?;
///     }
///     let (export, _) = handshake.export().ok_or_else(|| Error::other("TLS was asked for"))?;
///     Ok(export.clone())
/// }
///
/// let mut silent = std::io::Cursor::new(Vec::new());
/// let error = negotiate(&mut silent, HandshakeConfig::new("disk")).unwrap_err();
/// assert!(error.to_string().ends_with("0 of 8 bytes were there"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStatus {
    /// More bytes of the server (after the output was sent).
    NeedsInput,
    /// An encrypted connection: see [`Handshake::tls_started`].
    NeedsTls,
    /// Nothing: [`Handshake::export`].
    Finished,
}

/// A handshake under way.
///
/// ```
/// use nbd_client::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
///
/// let mut handshake = Handshake::new(HandshakeConfig::new("disk"))?;
/// assert_eq!(handshake.feed(b"NBDMAGICIHAVEOPT\0\x03")?, 18);
/// // Client flags, then EXTENDED_HEADERS.
/// assert_eq!(handshake.take_output(), b"\0\0\0\x03IHAVEOPT\0\0\0\x0b\0\0\0\0");
/// assert_eq!(handshake.status(), HandshakeStatus::NeedsInput);
/// # Ok::<(), nbd_client::handshake::HandshakeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Handshake {
    config: HandshakeConfig,
    stage: Stage,
    /// The bytes received of the piece that the stage waits for.
    buffer: Vec<u8>,
    output: Vec<u8>,
    received: u64,
    /// Replies to the option under way.
    replies: u32,
    no_zeroes: bool,
    /// The facts known of the export by now.
    export: Export,
    has_size: bool,
    /// The contexts granted, in the server's order, those not asked for included.
    granted: Vec<MetaContext>,
    /// Why SET_META_CONTEXT was refused by a server that supports it.
    set_refused: Option<HandshakeError>,
    /// The names that LIST_META_CONTEXT has shown: on offer once it has ended well.
    listing: Vec<String>,
    /// The exports listed.
    exports: Vec<ListedExport>,
    forgiven: ToleratedCounts,
    error: Option<HandshakeError>,
}

impl Handshake {
    /// Starts a handshake. The server speaks first: [`feed`](Self::feed) it the server's bytes.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::BadExportName`] and [`HandshakeError::BadContextRequest`]: names that
    /// cannot be sent.
    pub fn new(config: HandshakeConfig) -> Result<Self, HandshakeError> {
        config.check()?;
        Ok(Self { config, ..Self::default() })
    }

    /// Takes bytes of the server and says how many it took. It leaves those after the end of the
    /// handshake.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`], and the same one at every later call. The output may then hold a last
    /// message (ABORT or DISC), to be sent before the connection is closed.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, HandshakeError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let taken = self.consume(input);
        self.error = taken.as_ref().err().cloned();
        taken
    }

    /// The bytes to send to the server, in order; empty if there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// The bytes to send to the server, in order. They stay until they are [sent](Self::sent).
    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    pub(crate) fn sent(&mut self, count: usize) {
        drop(self.output.drain(..count.min(self.output.len())));
    }

    /// The next need of the handshake.
    #[must_use]
    pub const fn status(&self) -> HandshakeStatus {
        match self.stage {
            Stage::Finished => HandshakeStatus::Finished,
            Stage::StartTls => HandshakeStatus::NeedsTls,
            _ => HandshakeStatus::NeedsInput,
        }
    }

    /// Goes on after the caller has encrypted the connection. Without [`HandshakeStatus::NeedsTls`]
    /// it does nothing.
    ///
    /// ```
    /// use nbd_client::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
    ///
    /// let mut config = HandshakeConfig::new("disk");
    /// config.start_tls = true;
    /// let mut handshake = Handshake::new(config)?;
    /// handshake.feed(b"NBDMAGICIHAVEOPT\0\x03")?;
    /// assert_eq!(handshake.take_output(), b"\0\0\0\x03IHAVEOPT\0\0\0\x05\0\0\0\0");
    /// handshake.feed(b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x05\0\0\0\x01\0\0\0\0")?;
    /// assert_eq!(handshake.status(), HandshakeStatus::NeedsTls);
    /// // Here the caller wraps the stream; all that follows is encrypted.
    /// handshake.tls_started();
    /// assert_eq!(handshake.status(), HandshakeStatus::NeedsInput);
    /// assert!(!handshake.take_output().is_empty());
    /// # Ok::<(), nbd_client::handshake::HandshakeError>(())
    /// ```
    pub fn tls_started(&mut self) {
        if self.stage == Stage::StartTls {
            self.stage = self.first_step();
        }
    }

    /// The export and the faults forgiven, if the handshake is finished and was for an export.
    #[must_use]
    pub fn export(&self) -> Option<(&Export, ToleratedCounts)> {
        let is_agreed = !self.config.list_exports && self.stage == Stage::Finished;
        is_agreed.then_some((&self.export, self.forgiven))
    }

    /// The server's exports, if they were [asked for](HandshakeConfig::list_exports) and the
    /// handshake is finished.
    #[must_use]
    pub fn into_exports(self) -> Option<Vec<ListedExport>> {
        let is_listed = self.config.list_exports && self.stage == Stage::Finished;
        is_listed.then_some(self.exports)
    }

    /// The error if the server closes the connection now.
    #[must_use]
    pub fn eof(&self) -> UnexpectedEof {
        let during = match self.stage {
            Stage::Magic | Stage::Style | Stage::Flags => During::Hello,
            Stage::ExportName(_) => During::ExportName,
            Stage::Header(step) | Stage::Payload(step, ..) => During::Option(step.name()),
            Stage::StartTls => During::TlsHandshake,
            Stage::Finished => During::Handshake,
        };
        UnexpectedEof { during, got: self.buffer.len() as u64, expected: self.stage.length() as u64 }
    }

    fn consume(&mut self, input: &[u8]) -> Result<usize, HandshakeError> {
        let mut rest = input;
        while self.status() == HandshakeStatus::NeedsInput && !rest.is_empty() {
            let missing = self.stage.length().saturating_sub(self.buffer.len());
            let (now, later) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.buffer.extend_from_slice(now);
            self.received += now.len() as u64;
            rest = later;
            if now.len() == missing {
                let piece = core::mem::take(&mut self.buffer);
                self.stage = self.piece(&piece)?;
            }
        }
        if self.stage == Stage::StartTls && !rest.is_empty() {
            return Err(HandshakeError::BytesAfterStartTls(rest.len()));
        }
        Ok(input.len() - rest.len())
    }

    /// Takes the whole piece that the stage waits for, and returns the next stage.
    fn piece(&mut self, piece: &[u8]) -> Result<Stage, HandshakeError> {
        match self.stage {
            Stage::Magic if piece == NBDMAGIC.to_be_bytes() => Ok(Stage::Style),
            Stage::Magic => Err(HandshakeError::NotNbd(ServerText::new(piece))),
            Stage::Style => self.style(piece),
            Stage::Flags => self.flags(piece),
            Stage::Header(step) => self.header(step, piece),
            Stage::Payload(step, kind, _) => self.reply(step, kind, piece),
            Stage::ExportName(_) => self.export_name(piece),
            Stage::StartTls | Stage::Finished => Ok(self.stage),
        }
    }

    fn style(&self, piece: &[u8]) -> Result<Stage, HandshakeError> {
        match Fields(piece).u64() {
            Some(IHAVEOPT) => Ok(Stage::Flags),
            Some(OLDSTYLE_MAGIC) => Err(self.too_old(HandshakeError::OldStyle)),
            other => Err(HandshakeError::UnknownStyle(other.unwrap_or_default())),
        }
    }

    /// This error, or that the server is too old for TLS, if TLS was asked for.
    fn too_old(&self, error: HandshakeError) -> HandshakeError {
        if self.config.start_tls { HandshakeError::TooOldForTls } else { error }
    }

    /// Answers the server's flags with the same of ours: a server drops a client that sets others.
    fn flags(&mut self, piece: &[u8]) -> Result<Stage, HandshakeError> {
        let flags = Fields(piece).u16().unwrap_or_default();
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            return Err(self.too_old(HandshakeError::NotFixedNewstyle(flags)));
        }
        self.no_zeroes = flags & handshake_flag::NO_ZEROES != 0;
        let ours = u32::from(flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES));
        self.output.extend_from_slice(&ours.to_be_bytes());
        Ok(if self.config.start_tls { self.start(Step::StartTls) } else { self.first_step() })
    }

    /// The header of an option reply. Its length is judged before a byte of the payload is awaited.
    fn header(&mut self, step: Step, piece: &[u8]) -> Result<Stage, HandshakeError> {
        let option = step.name();
        let Some(OptionReply { magic, option: got, kind, length }) = OptionReply::decode(piece) else {
            return Ok(self.stage);
        };
        let limits = self.config.limits;
        self.replies += 1;
        if magic != OPTION_REPLY_MAGIC {
            return Err(HandshakeError::BadMagic { option, magic });
        }
        if got != option.0 {
            return Err(HandshakeError::WrongOption { asked: option, got: OptionName(got) });
        }
        if length > limits.reply_bytes {
            return Err(HandshakeError::ReplyTooLong { option, length, limit: limits.reply_bytes });
        }
        let payload = usize::try_from(length).unwrap_or(usize::MAX);
        if kind == option_reply_type::META_CONTEXT && payload > 4 + MAX_STRING
            || kind == option_reply_type::ACK && payload > 0
        {
            return Err(HandshakeError::BadLength { option, kind, length });
        }
        if self.replies > limits.replies {
            return Err(HandshakeError::TooManyReplies { option, limit: limits.replies });
        }
        if self.received.saturating_add(u64::from(length)) > limits.total_bytes {
            return Err(HandshakeError::TooManyBytes(limits.total_bytes));
        }
        match payload {
            0 => self.reply(step, kind, &[]),
            _ => Ok(Stage::Payload(step, kind, payload)),
        }
    }

    /// A whole reply to the option under way.
    fn reply(&mut self, step: Step, kind: u32, payload: &[u8]) -> Result<Stage, HandshakeError> {
        if kind & option_reply_type::ERROR_BIT != 0 {
            return self.refused(step, kind, payload);
        }
        match (step, kind) {
            (_, option_reply_type::ACK) => return self.acknowledged(step),
            (Step::SetContexts, option_reply_type::META_CONTEXT) => self.grant(payload)?,
            (Step::ListContexts, option_reply_type::META_CONTEXT) => self.list(payload)?,
            (Step::ListExports, option_reply_type::SERVER) => self.server(payload)?,
            (Step::Go, option_reply_type::INFO) => self.info(payload)?,
            _ => return Err(HandshakeError::UnexpectedReply { option: step.name(), kind }),
        }
        Ok(Stage::Header(step))
    }

    /// Size and flags, with or without 124 zero bytes after them.
    fn export_name(&mut self, piece: &[u8]) -> Result<Stage, HandshakeError> {
        let size = piece.get(..10).unwrap_or_default();
        self.set_size(size).unwrap_or(Err(HandshakeError::NoExportInfo))?;
        self.finish()
    }

    fn finish(&mut self) -> Result<Stage, HandshakeError> {
        self.complete_export().inspect_err(|_| {
            // the transmission phase has begun: it ends with DISC
            RequestHeader::DISC.encode(self.export.headers, &mut self.output);
        })?;
        Ok(Stage::Finished)
    }
}
