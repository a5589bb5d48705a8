//! The events of a session, and its question before it takes a payload.

use core::fmt;

use nbd_extents::Admission;

use super::RequestError;

/// The number of a request; never used twice in a session.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Cookie, Session, SessionConfig, StatusRequest};
/// use std::collections::HashMap;
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let mut ranges: HashMap<Cookie, u64> = HashMap::new();
/// for offset in [0, 4096] {
///     ranges.insert(session.start_block_status(&StatusRequest::new(offset, 4096))?, offset);
/// }
/// assert_eq!(ranges.len(), 2);
/// # Ok::<(), nbd_client::session::StartError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub(crate) u64);

impl Cookie {
    /// The number as it stands on the wire; of a transfer or a pool, one that no server sees.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened to a request.
///
/// Chunks of one request come in the server's order; those of several may be mixed. The last event
/// of a request is `Done` or `Failed`. Payloads before a `Failed` must not be used.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Event, Session, SessionConfig, StatusRequest, take_all};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// session.take_output();
/// // One chunk, DONE: context 0, 4096 bytes of status 3.
/// let mut reply = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// reply.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3]);
/// session.feed(&reply, &mut take_all)?;
///
/// let mut statuses = Vec::new();
/// while let Some(event) = session.poll() {
///     match event {
///         Event::Status { context, payload, .. } => statuses.push((context, payload)),
///         Event::Done { .. } => break,
///         Event::Failed { error, .. } => return Err(error.into()),
///         _ => {}
///     }
/// }
/// assert_eq!(statuses, [(0, reply[20..].to_vec())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A status chunk, whole.
    Status {
        /// The request that it answers.
        cookie: Cookie,
        /// The context of which it speaks.
        context: u32,
        /// The payload, with the context's number at its start. Give it back with
        /// [`Session::recycle`](super::Session::recycle).
        payload: Vec<u8>,
    },
    /// All data of a read, of which none was seen before it was whole. `Done` comes next.
    Read {
        /// The request that it answers.
        cookie: Cookie,
        /// The buffer that the read was started with. Give it back with
        /// [`Session::recycle_buffer`](super::Session::recycle_buffer).
        data: Vec<u8>,
    },
    /// A status chunk that the caller chose not to take.
    Drained {
        /// The request that it answers.
        cookie: Cookie,
        /// The context of which it spoke.
        context: u32,
        /// Bytes of its payload.
        length: u64,
    },
    /// The reply is complete.
    Done {
        /// The request.
        cookie: Cookie,
    },
    /// The reply is an error, or not a valid reply. The connection is still usable.
    Failed {
        /// The request.
        cookie: Cookie,
        /// Why.
        error: RequestError,
    },
}

impl Event {
    /// True for the last event of a request.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }

    /// The request that this is about.
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        match self {
            Self::Status { cookie, .. }
            | Self::Read { cookie, .. }
            | Self::Drained { cookie, .. }
            | Self::Done { cookie }
            | Self::Failed { cookie, .. } => *cookie,
        }
    }
}

/// A status chunk whose header is here and whose payload is not: nothing has been allocated for it.
///
/// ```
/// use nbd_client::Admission;
/// use nbd_client::session::ChunkOffer;
///
/// /// Takes a chunk of up to a MiB, its context's number included.
/// fn small(offer: &ChunkOffer) -> Admission {
///     if offer.length > 1 << 20 { Admission::Drain } else { Admission::Take }
/// }
/// # let _: &mut nbd_client::session::Admit<'_> = &mut small;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkOffer {
    /// The request that it answers.
    pub cookie: Cookie,
    /// The context of which it speaks.
    pub context: u32,
    /// Bytes of its payload, the context's number included.
    pub length: u64,
}

/// Decides on chunks before anything is allocated for them; this is where a caller keeps its byte
/// budget.
///
/// It is called once for each chunk that would become an [`Event::Status`]. [`take_all`] is the one
/// without a budget (the session's own `max_payload` holds all the same).
///
/// ```
/// use nbd_client::Admission;
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{ChunkOffer, Event, Session, SessionConfig, StatusRequest};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// let cookie = session.start_block_status(&StatusRequest::new(0, 4096))?;
/// session.take_output();
/// // One chunk, DONE: context 0, 4096 bytes of status 3.
/// let mut reply = vec![0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 5];
/// reply.extend(cookie.get().to_be_bytes());
/// reply.extend([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3]);
/// // A budget of 8 bytes, which the 12 of this chunk are beyond.
/// let mut budget: u64 = 8;
/// session.feed(&reply, &mut |offer: &ChunkOffer| match budget.checked_sub(offer.length) {
///     None => Admission::Drain,
///     Some(left) => {
///         budget = left;
///         Admission::Take
///     }
/// })?;
/// assert_eq!(session.poll(), Some(Event::Drained { cookie, context: 0, length: 12 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Admit<'a> = dyn FnMut(&ChunkOffer) -> Admission + 'a;

/// Takes every chunk.
///
/// ```
/// use nbd_client::frame::Headers;
/// use nbd_client::session::{Session, SessionConfig, take_all};
///
/// let mut session = Session::new(SessionConfig::new(Headers::Structured, [0]));
/// assert_eq!(session.feed(&[], &mut take_all), Ok(0));
/// ```
pub const fn take_all(_offer: &ChunkOffer) -> Admission {
    Admission::Take
}
