//! The transmission phase as a state machine without I/O: requests in, bytes for the server out;
//! bytes of the server in, events out.
//!
//! Any number of requests may be in flight; answers come in any order, and chunks of several may be
//! mixed. The session checks the envelope of every chunk (header, cookie, type, length, context)
//! and leaves the descriptors to the caller. A request's failure is an event; a fault after which
//! the stream has no meaning is a [`ProtocolError`], which ends the session.

mod body;
mod buffer_pool;
mod config;
mod coverage;
#[cfg(test)]
mod data_tests;
mod error;
mod event;
mod output;
mod pending;
mod receive;
mod request;
mod start;
mod start_error;
#[cfg(test)]
mod tests;

pub use config::{SessionConfig, SessionLimits};
pub use error::{Errno, ProtocolError, RequestError, RequestFault};
pub use event::{Admit, ChunkOffer, Cookie, Event, take_all};
pub use request::{Command, ReadRequest, RequestInfo, StatusRequest, TrimRequest, WriteRequest, ZeroRequest};
pub use start_error::StartError;

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use body::ReplyInput;
pub(crate) use buffer_pool::BufferPool;
use output::SendQueue;
use pending::Requests;

use crate::frame::{During, RequestHeader, UnexpectedEof};
use crate::stats::SessionStats;

/// The transmission phase of one connection.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Event, Session, SessionConfig, StatusRequest, take_all};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// assert_eq!(session.take_output().len(), 28);
///
/// // One chunk, DONE: context 0, 4096 bytes of status 3.
/// let mut reply: Vec<u8> = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// reply.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3]);
/// assert_eq!(session.feed(&reply, &mut take_all)?, reply.len());
/// assert!(matches!(session.poll(), Some(Event::Status { context: 0, .. })));
/// assert_eq!(session.poll(), Some(Event::Done { cookie }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) config: SessionConfig,
    contexts: Arc<[u32]>,
    requests: Requests,
    input: ReplyInput,
    output: SendQueue,
    pub(crate) buffers: BufferPool,
    /// Each with the transfer that it belongs to, 0 is none, and the bytes of the request's range.
    events: VecDeque<(Event, u64, u64)>,
    /// Requests that are not parts of transfers, and transfers that are over, whose last event was
    /// not polled.
    pub(crate) unowned: usize,
    stats: SessionStats,
    /// Bytes of payload received since the session began.
    payload_received: u64,
    /// The server said that it is going down.
    shutting_down: bool,
    /// DISC was sent.
    disconnected: bool,
    broken: Option<ProtocolError>,
}

impl Session {
    /// Begins, directly after the handshake.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        let contexts = config.export.contexts.iter().map(|context| context.id).collect();
        let stats = SessionStats { forgiven: config.forgiven, ..SessionStats::default() };
        Self { config, contexts, stats, ..Self::default() }
    }

    /// Ends the session: DISC is in the output afterwards, and no request can be started any more.
    pub fn disconnect(&mut self) {
        if core::mem::replace(&mut self.disconnected, true) {
            return;
        }
        self.output.headers(|out| RequestHeader::DISC.encode(self.config.export.headers, out));
    }

    /// The bytes to send to the server, in order; empty if there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        let whole = self.output().collect::<Vec<_>>().concat();
        self.sent(whole.len());
        whole
    }

    /// The bytes to send to the server, in order and without a copy: headers, and payloads of
    /// writes. No slice is empty.
    ///
    /// ```
    /// use nbd_client::frame::Headers;
    /// use nbd_client::session::{Session, SessionConfig, StatusRequest};
    /// use std::io::{IoSlice, Write};
    ///
    /// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
    /// session.start_block_status(&StatusRequest::new(0, 4096))?;
    /// let mut socket = Vec::new();
    /// while session.has_output() {
    ///     let slices: Vec<_> = session.output().map(IoSlice::new).collect();
    ///     let count = socket.write_vectored(&slices)?;
    ///     session.sent(count);
    /// }
    /// assert_eq!(socket.len(), 28);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn output(&self) -> impl Iterator<Item = &[u8]> {
        self.output.slices(|_| &[])
    }

    /// Like [`output`](Self::output), with the bytes of lent buffers. `lender` returns the buffer
    /// that an owner has lent.
    pub(crate) fn output_in<'a>(
        &'a self,
        lender: impl Fn(u64) -> &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> {
        self.output.slices(lender)
    }

    /// Copies the unsent rest of a lent buffer, which goes away.
    pub(crate) fn release(&mut self, owner: u64, buffer: &[u8]) {
        self.output.release(owner, buffer);
    }

    /// `count` bytes of the [output](Self::output) were sent.
    pub fn sent(&mut self, count: usize) {
        let Self { output, buffers, .. } = self;
        output.advance(count, |buffer| buffers.keep(buffer));
    }

    /// True if something is to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.output.unsent > 0
    }

    /// Bytes of payload moved either way since the session began.
    pub(crate) const fn payload_moved(&self) -> u64 {
        self.payload_received + self.output.payload_sent
    }

    /// How many of the requests in flight are FLUSH.
    pub(crate) const fn flushes_in_flight(&self) -> usize {
        self.requests.flushes
    }

    /// The transfer whose reply is under way.
    pub(crate) fn receiving_for(&self) -> u64 {
        let body = self.input.body.as_ref();
        let pending = body.and_then(|body| self.requests.in_flight.get(&body.chunk.cookie));
        pending.map_or(0, |pending| pending.owner)
    }

    /// True while the payload under way is that of a hole.
    pub(crate) fn is_receiving_hole(&self) -> bool {
        self.input.body.is_some_and(|body| body.role == body::Role::Hole)
    }

    /// A number for a transfer; no request has it.
    pub(crate) fn next_number(&mut self) -> Cookie {
        self.requests.next_number()
    }

    /// The next event, if there is one.
    pub fn poll(&mut self) -> Option<Event> {
        self.poll_owned().map(|(event, ..)| event)
    }

    /// Like [`poll`](Self::poll), with the transfer to which the event belongs, and the length of
    /// the request.
    pub(crate) fn poll_owned(&mut self) -> Option<(Event, u64, u64)> {
        let (event, owner, length) = self.events.pop_front()?;
        self.unowned -= usize::from(owner == 0 && event.is_last());
        Some((event, owner, length))
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.input.recycle(payload);
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.in_flight.len()
    }

    /// How many bytes of reads and writes are in flight.
    #[must_use]
    pub const fn bytes_in_flight(&self) -> u64 {
        self.requests.bytes
    }

    /// True if the server said that it is going down: end the session with [`Self::disconnect`].
    #[must_use]
    pub const fn must_disconnect(&self) -> bool {
        self.shutting_down && !self.disconnected
    }

    /// The statistics of the session.
    #[must_use]
    pub const fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// Where the replies stand, as the error of their end.
    pub(crate) fn place(&self) -> UnexpectedEof {
        self.input.eof()
    }

    /// The error if the server closes the connection now: `None` if nothing is lost by it.
    ///
    /// ```
    /// use nbd_client::frame::{During, Headers};
    /// use nbd_client::session::{Session, SessionConfig, StatusRequest};
    ///
    /// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
    /// assert_eq!(session.eof(), None);
    /// session.start_block_status(&StatusRequest::new(0, 4096))?;
    /// // A reply is due now.
    /// assert_eq!(session.eof().map(|eof| eof.during), Some(During::ReplyHeader));
    /// # Ok::<(), nbd_client::session::StartError>(())
    /// ```
    #[must_use]
    pub fn eof(&self) -> Option<UnexpectedEof> {
        let eof = self.place();
        let is_between_replies = (eof.during, eof.got) == (During::ReplyHeader, 0);
        (self.in_flight() > 0 || !is_between_replies).then_some(eof)
    }
}
