//! The handshake as a state machine without I/O: bytes of the server in, bytes for the server out,
//! at the end an export.
//!
//! The order (NBD protocol, "Fixed newstyle negotiation"); every option is sent at most once, and
//! never two at a time:
//!
//! ```text
//! hello -> [STARTTLS] -> EXTENDED_HEADERS -> (refused: STRUCTURED_REPLY) -> SET_META_CONTEXT
//!       -> (something missing: LIST_META_CONTEXT) -> GO -> (not supported: EXPORT_NAME) -> finished
//! hello -> [STARTTLS] -> LIST -> finished, where only the exports are asked for
//! ```
//!
//! Of an export that does not exist, all contexts are missing too. Only the answer to GO tells the two
//! cases apart, so a missing context becomes an error after GO.

mod config;
mod draft;
mod error;
mod steps;
#[cfg(test)]
mod tests;

pub use config::{ContextRequest, HandshakeConfig, HandshakeLimits};
pub use error::{HandshakeError, Refusal};

use draft::Draft;
use steps::Step;

use crate::export::{Export, ListedExport};
use crate::frame::{
    During, Fields, IHAVEOPT, MAX_STRING, NBDMAGIC, OLDSTYLE_MAGIC, OPTION_REPLY_MAGIC, OptionName,
    OptionReply, RequestHeader, UnexpectedEof, handshake_flag, option_reply_type,
};
use crate::stats::ToleratedCounts;
use crate::text::ServerText;

/// The message that the machine is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Magic,
    Style,
    Flags,
    /// The header of a reply to this step's option.
    Header(Step),
    /// The payload of a reply of this type.
    Payload(Step, u32),
    /// The caller, who has to encrypt the connection.
    StartTls,
    /// The answer to EXPORT_NAME, which has no header.
    ExportName,
    Finished,
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
///     let (export, _) = handshake.take_export().ok_or_else(|| Error::other("TLS was asked for"))?;
///     Ok(export)
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
    /// Nothing: [`Handshake::take_export`].
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
#[derive(Debug)]
pub struct Handshake {
    config: HandshakeConfig,
    stage: Stage,
    /// The bytes received of the piece that the stage waits for, and the length of that piece.
    buffer: Vec<u8>,
    want: usize,
    output: Vec<u8>,
    received: u64,
    /// Replies to the option under way.
    replies: u32,
    no_zeroes: bool,
    draft: Draft,
    export: Option<Export>,
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
        Ok(Self {
            draft: Draft::new(config.strictness),
            config,
            stage: Stage::Magic,
            buffer: Vec::new(),
            // the length of NBDMAGIC
            want: 8,
            output: Vec::new(),
            received: 0,
            replies: 0,
            no_zeroes: false,
            export: None,
            error: None,
        })
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
            self.first_step();
        }
    }

    /// The export and the faults forgiven, once, if the handshake is finished.
    #[must_use]
    pub fn take_export(&mut self) -> Option<(Export, ToleratedCounts)> {
        let forgiven = self.draft.forgiven;
        self.export.take().map(|export| (export, forgiven))
    }

    /// The server's exports, if they were [asked for](HandshakeConfig::list_exports) and the
    /// handshake is finished.
    #[must_use]
    pub fn into_exports(self) -> Option<Vec<ListedExport>> {
        let is_listed = self.config.list_exports && self.stage == Stage::Finished;
        is_listed.then_some(self.draft.exports)
    }

    /// The error if the server closes the connection now.
    #[must_use]
    pub fn eof(&self) -> UnexpectedEof {
        let during = match self.stage {
            Stage::Magic | Stage::Style | Stage::Flags => During::Hello,
            Stage::ExportName => During::ExportName,
            Stage::Header(step) | Stage::Payload(step, _) => During::Option(step.name()),
            Stage::StartTls => During::TlsHandshake,
            Stage::Finished => During::Handshake,
        };
        UnexpectedEof { during, got: self.buffer.len() as u64, expected: self.want as u64 }
    }

    fn consume(&mut self, input: &[u8]) -> Result<usize, HandshakeError> {
        let mut rest = input;
        while self.status() == HandshakeStatus::NeedsInput && !rest.is_empty() {
            let missing = self.want.saturating_sub(self.buffer.len());
            let (now, later) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.buffer.extend_from_slice(now);
            self.received += now.len() as u64;
            rest = later;
            if now.len() == missing {
                let piece = core::mem::take(&mut self.buffer);
                self.piece(&piece)?;
            }
        }
        if self.stage == Stage::StartTls && !rest.is_empty() {
            return Err(HandshakeError::BytesAfterStartTls(rest.len()));
        }
        Ok(input.len() - rest.len())
    }

    /// A whole piece of the kind that the stage waits for.
    fn piece(&mut self, piece: &[u8]) -> Result<(), HandshakeError> {
        match self.stage {
            Stage::Magic => self.magic(piece),
            Stage::Style => self.style(piece),
            Stage::Flags => self.flags(piece),
            Stage::Header(step) => self.header(step, piece),
            Stage::Payload(step, kind) => self.reply(step, kind, piece),
            Stage::ExportName => self.export_name(piece),
            Stage::StartTls | Stage::Finished => Ok(()),
        }
    }

    fn expect(&mut self, stage: Stage, want: usize) {
        self.stage = stage;
        self.want = want;
    }

    fn magic(&mut self, piece: &[u8]) -> Result<(), HandshakeError> {
        if Fields(piece).u64() != Some(NBDMAGIC) {
            return Err(HandshakeError::NotNbd(ServerText::new(piece)));
        }
        self.expect(Stage::Style, 8);
        Ok(())
    }

    fn style(&mut self, piece: &[u8]) -> Result<(), HandshakeError> {
        match Fields(piece).u64() {
            Some(IHAVEOPT) => {
                self.expect(Stage::Flags, 2);
                Ok(())
            }
            Some(OLDSTYLE_MAGIC) if self.config.start_tls => Err(HandshakeError::TooOldForTls),
            Some(OLDSTYLE_MAGIC) => Err(HandshakeError::OldStyle),
            other => Err(HandshakeError::UnknownStyle(other.unwrap_or_default())),
        }
    }

    /// Answers the server's flags with the same of ours: a server drops a client that sets others.
    fn flags(&mut self, piece: &[u8]) -> Result<(), HandshakeError> {
        let flags = Fields(piece).u16().unwrap_or_default();
        if flags & handshake_flag::FIXED_NEWSTYLE == 0 {
            if self.config.start_tls {
                return Err(HandshakeError::TooOldForTls);
            }
            return Err(HandshakeError::NotFixedNewstyle(flags));
        }
        self.no_zeroes = flags & handshake_flag::NO_ZEROES != 0;
        let ours = u32::from(flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES));
        self.output.extend_from_slice(&ours.to_be_bytes());
        if self.config.start_tls {
            self.start(Step::StartTls);
        } else {
            self.first_step();
        }
        Ok(())
    }

    /// The header of an option reply. Its length is judged before a byte of the payload is awaited.
    fn header(&mut self, step: Step, piece: &[u8]) -> Result<(), HandshakeError> {
        let option = step.name();
        let Some(OptionReply { magic, option: got, kind, length }) = OptionReply::decode(piece) else {
            return Ok(());
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
        if length == 0 {
            return self.reply(step, kind, &[]);
        }
        self.expect(Stage::Payload(step, kind), payload);
        Ok(())
    }

    /// A whole reply to the option under way.
    fn reply(&mut self, step: Step, kind: u32, payload: &[u8]) -> Result<(), HandshakeError> {
        if kind & option_reply_type::ERROR_BIT != 0 {
            return self.refused(step, kind, payload);
        }
        match (step, kind) {
            (_, option_reply_type::ACK) => return self.acknowledged(step),
            (Step::SetContexts, option_reply_type::META_CONTEXT) => {
                self.draft.grant(&self.config, payload)?
            }
            (Step::ListContexts | Step::ListQemuContexts, option_reply_type::META_CONTEXT) => {
                self.draft.list(payload)?;
            }
            (Step::ListExports, option_reply_type::SERVER) => self.draft.server(payload)?,
            (Step::Go, option_reply_type::INFO) => self.draft.info(payload)?,
            _ => return Err(HandshakeError::UnexpectedReply { option: step.name(), kind }),
        }
        self.expect(Stage::Header(step), OptionReply::LEN);
        Ok(())
    }

    /// Size and flags, with or without 124 zero bytes after them.
    fn export_name(&mut self, piece: &[u8]) -> Result<(), HandshakeError> {
        let size = piece.get(..10).unwrap_or_default();
        self.draft.set_size(size).unwrap_or(Err(HandshakeError::NoExportInfo))?;
        self.finish()
    }

    fn finish(&mut self) -> Result<(), HandshakeError> {
        match self.draft.finish(&self.config) {
            Ok(export) => {
                self.export = Some(export);
                self.expect(Stage::Finished, 0);
                Ok(())
            }
            Err(error) => {
                // the transmission phase has begun: it ends with DISC, whose length fits any header
                let encoded = RequestHeader::DISC.encode(self.draft.export.headers, &mut self.output);
                debug_assert!(encoded.is_ok(), "DISC has no length");
                Err(error)
            }
        }
    }
}
