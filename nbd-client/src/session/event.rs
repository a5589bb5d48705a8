//! What a session tells its caller, and what it asks before it takes a payload.

use core::fmt;

use nbd_extents::Admission;

use super::RequestError;

/// The number of a request; never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub(super) u64);

impl Cookie {
    /// A number that a pool gives, which is on no wire.
    pub(crate) const fn of_pool(number: u64) -> Self {
        Self(number)
    }

    /// The number as it stands on the wire.
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
/// Chunks of one request come in the server's order; those of several may be mixed. The last event of a request is `Done` or
/// `Failed`. What came before a `Failed` is not to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A status chunk, whole.
    Status {
        /// The request that it answers.
        cookie: Cookie,
        /// The context of which it speaks.
        context: u32,
        /// The payload, with the context's number at its start. Give it back with [`Session::recycle`](super::Session::recycle).
        payload: Vec<u8>,
    },
    /// All data of a read, of which none was seen before it was whole. `Done` comes next.
    Read {
        /// The request that it answers.
        cookie: Cookie,
        /// The buffer that the read was started with. Give it back with [`Session::recycle_buffer`](super::Session::recycle_buffer).
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

/// Decides on chunks before anything is allocated for them; this is where a caller keeps its byte budget.
///
/// Closures are admissions, and [`TakeAll`] is the one without a budget (the session's own `max_payload` holds all the same).
pub trait Admit {
    /// Called once for each chunk that would become an [`Event::Status`].
    fn admit(&mut self, offer: &ChunkOffer) -> Admission;
}

impl<F: FnMut(&ChunkOffer) -> Admission> Admit for F {
    fn admit(&mut self, offer: &ChunkOffer) -> Admission {
        self(offer)
    }
}

/// Takes every chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct TakeAll;

impl Admit for TakeAll {
    fn admit(&mut self, _offer: &ChunkOffer) -> Admission {
        Admission::Take
    }
}
