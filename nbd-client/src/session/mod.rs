//! The transmission phase as a state machine without I/O: requests in, bytes for the server out; bytes of the server in,
//! events out.
//!
//! Any number of requests may be in flight; answers come in any order, and chunks of several may be mixed. The session
//! checks the envelope of every chunk (header, cookie, type, length, context) and leaves the descriptors to the caller.
//! A request's failure is an event; a fault after which the stream has no meaning is a [`ProtocolError`], and the session's last word.

mod body;
mod error;
mod event;
mod pending;
mod receive;
#[cfg(test)]
mod tests;

pub use error::{Errno, ProtocolError, RequestError, StartError};
pub use event::{Admit, ChunkOffer, Cookie, Event, TakeAll};

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use body::Input;
use pending::{Pending, Requests};

use crate::error::UnexpectedEof;
use crate::export::Export;
use crate::frame::{Headers, Request, command, command_flag};
use crate::stats::{ForgivenCounts, SessionStats};
use nbd_extents::Strictness;

/// Bounds on what a server may send in the transmission phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// The longest payload of a chunk, in bytes. The protocol asks to bear 2^25.
    pub max_payload: u64,
    /// The most payload of a whole reply, in bytes.
    pub max_reply: u64,
    /// The most chunks of a reply beyond one for each context: errors, and chunks that are drained.
    pub max_extra_chunks: u32,
}

impl Default for SessionLimits {
    /// 2^25 + 64 bytes a chunk, 1 GiB a reply, 64 extra chunks.
    fn default() -> Self {
        Self { max_payload: (1 << 25) + 64, max_reply: 1 << 30, max_extra_chunks: 64 }
    }
}

/// What a session has to know of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The headers agreed on.
    pub headers: Headers,
    /// The numbers of the contexts granted.
    pub contexts: Vec<u32>,
    /// The server takes a list of contexts with a request.
    pub payload_status: bool,
    /// What to do about violations.
    pub strictness: Strictness,
    /// Bounds on what the server sends.
    pub limits: SessionLimits,
}

impl SessionConfig {
    /// A lenient session with these headers and contexts.
    #[must_use]
    pub fn new(headers: Headers, contexts: impl Into<Vec<u32>>) -> Self {
        Self {
            headers,
            contexts: contexts.into(),
            payload_status: false,
            strictness: Strictness::default(),
            limits: SessionLimits::default(),
        }
    }

    /// A lenient session on this export.
    #[must_use]
    pub fn of_export(export: &Export) -> Self {
        let contexts: Vec<u32> = export.contexts.iter().map(|context| context.id).collect();
        Self { payload_status: export.payload_status(), ..Self::new(export.headers, contexts) }
    }
}

/// A block status request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRequest<'a> {
    offset: u64,
    length: u64,
    req_one: bool,
    contexts: Option<&'a [u32]>,
}

impl<'a> StatusRequest<'a> {
    /// The status of `length` bytes from `offset`, of every context of the connection.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { offset, length, req_one: false, contexts: None }
    }

    /// Only the first extent of each context (REQ_ONE).
    #[must_use]
    pub const fn req_one(self) -> Self {
        Self { req_one: true, ..self }
    }

    /// Only the contexts with these numbers; the server must know the payload form, see [`Export::payload_status`].
    #[must_use]
    pub const fn only(self, contexts: &'a [u32]) -> Self {
        Self { contexts: Some(contexts), ..self }
    }

    /// Where it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How far it goes, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }
}

/// The transmission phase of one connection.
///
/// ```
/// use nbd_client::{Event, Headers, Session, SessionConfig, StatusRequest, TakeAll};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// assert_eq!(session.take_output().len(), 28);
///
/// // One chunk, DONE: context 0, 4096 bytes of status 3.
/// let mut reply: Vec<u8> = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// reply.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3]);
/// assert_eq!(session.feed(&reply, &mut TakeAll)?, reply.len());
/// assert!(matches!(session.poll(), Some(Event::Status { context: 0, .. })));
/// assert_eq!(session.poll(), Some(Event::Done { cookie }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    contexts: Arc<[u32]>,
    requests: Requests,
    input: Input,
    output: Vec<u8>,
    events: VecDeque<Event>,
    stats: SessionStats,
    /// The server said that it is going down.
    shutting_down: bool,
    /// DISC was sent.
    disconnected: bool,
    broken: Option<ProtocolError>,
}

impl Session {
    /// Begins, directly behind the handshake.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        let contexts = Arc::from(config.contexts.as_slice());
        Self {
            config,
            contexts,
            requests: Requests::default(),
            input: Input::default(),
            output: Vec::new(),
            events: VecDeque::new(),
            stats: SessionStats::default(),
            shutting_down: false,
            disconnected: false,
            broken: None,
        }
    }

    /// Takes over what the handshake forgave, so that the statistics show all of the connection.
    pub fn count_forgiven(&mut self, forgiven: ForgivenCounts) {
        self.stats.forgiven = forgiven;
    }

    /// Starts a block status request: it is in the output afterwards.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is sent, and nothing changes.
    pub fn start_block_status(&mut self, request: &StatusRequest<'_>) -> Result<Cookie, StartError> {
        self.check_start(request)?;
        let contexts = match request.contexts {
            None => Arc::clone(&self.contexts),
            Some(only) => self.check_contexts(only)?,
        };
        if contexts.is_empty() {
            return Err(StartError::NoContexts);
        }
        let before = self.output.len();
        let cookie = self.requests.enter(Pending::new(request.offset, contexts));
        self.encode_status(cookie, request);
        self.stats.requests += 1;
        self.stats.bytes_sent += (self.output.len() - before) as u64;
        crate::trace::sent("BLOCK_STATUS", cookie.get(), request.offset, request.length);
        Ok(cookie)
    }

    fn check_start(&self, request: &StatusRequest<'_>) -> Result<(), StartError> {
        const END: u64 = i64::MAX as u64;
        let &StatusRequest { offset, length, .. } = request;
        if let Some(error) = self.broken {
            return Err(StartError::Broken(error));
        }
        if self.shutting_down || self.disconnected {
            return Err(StartError::Ending);
        }
        match self.config.headers {
            Headers::Simple => return Err(StartError::NoStructuredReplies),
            Headers::Structured if length > u64::from(u32::MAX) => {
                return Err(crate::frame::RequestTooLong { length }.into());
            }
            Headers::Structured | Headers::Extended => {}
        }
        if length == 0 {
            return Err(StartError::ZeroLength { offset });
        }
        if offset.checked_add(length).is_none_or(|end| end > END) {
            return Err(StartError::PastEnd { offset, length, size: END });
        }
        Ok(())
    }

    fn check_contexts(&self, only: &[u32]) -> Result<Arc<[u32]>, StartError> {
        if !self.config.payload_status || self.config.headers != Headers::Extended {
            return Err(StartError::NoPayloadStatus);
        }
        for (index, &context) in only.iter().enumerate() {
            if !self.contexts.contains(&context) {
                return Err(StartError::UnknownContext { context });
            }
            if only.iter().take(index).any(|&earlier| earlier == context) {
                return Err(StartError::DuplicateContext { context });
            }
        }
        Ok(Arc::from(only))
    }

    /// The header, and in the payload form the effect's length and the contexts behind it.
    fn encode_status(&mut self, cookie: Cookie, request: &StatusRequest<'_>) {
        let mut flags = if request.req_one { command_flag::REQ_ONE } else { 0 };
        let mut length = request.length;
        if let Some(only) = request.contexts {
            flags |= command_flag::PAYLOAD_LEN;
            length = 8 + 4 * only.len() as u64;
        }
        self.encode(Request {
            flags,
            command: command::BLOCK_STATUS,
            cookie: cookie.get(),
            offset: request.offset,
            length,
        });
        if let Some(only) = request.contexts {
            self.output.extend_from_slice(&request.length.to_be_bytes());
            only.iter().for_each(|context| self.output.extend_from_slice(&context.to_be_bytes()));
        }
    }

    fn encode(&mut self, request: Request) {
        // Its only error, a length beyond compact headers, was excluded by check_start.
        let _ = request.encode(self.config.headers, &mut self.output);
    }

    /// Ends the session: DISC is in the output afterwards, and no request can be started any more.
    pub fn disconnect(&mut self) {
        if core::mem::replace(&mut self.disconnected, true) {
            return;
        }
        self.encode(Request { flags: 0, command: command::DISC, cookie: 0, offset: 0, length: 0 });
    }

    /// What is to be sent to the server, in order. Empty if nothing is.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// The next event, if there is one.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Gives back the memory of an event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.input.recycle(payload);
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// True if the server said that it is going down: end the session with [`Self::disconnect`].
    #[must_use]
    pub const fn must_disconnect(&self) -> bool {
        self.shutting_down && !self.disconnected
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// What it means that the server closed the connection now: `None` if nothing is lost by it.
    #[must_use]
    pub fn eof(&self) -> Option<UnexpectedEof> {
        if self.requests.len() == 0 && self.input.is_between_replies() {
            None
        } else {
            Some(self.input.eof())
        }
    }
}
