//! The counters of a connection: its traffic, and the faults that it forgave.
//!
//! A lenient client (the default) goes on after some faults of real servers. It never does so
//! silently: each kind has a counter here, and an event with the feature `tracing`.

use core::fmt;

/// One kind of fault that a lenient client forgives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tolerated {
    /// The server granted a context that was not asked for; it is ignored.
    UnaskedContext,
    /// The advertised block sizes contradict each other; they are ignored.
    BadBlockSize,
    /// The transmission flags lack HAS_FLAGS.
    NoHasFlags,
    /// A name or description that is only for show is not a string of the protocol; it is ignored.
    BadText,
    /// A status chunk of a context that the request did not ask for; it is dropped.
    UnknownContextChunk,
    /// A chunk of a failed request after its last chunk; it is dropped.
    LateChunk,
    /// Bytes after the message of an error chunk; they are skipped.
    ErrorSlop,
}

impl Tolerated {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::UnaskedContext,
        Self::BadBlockSize,
        Self::NoHasFlags,
        Self::BadText,
        Self::UnknownContextChunk,
        Self::LateChunk,
        Self::ErrorSlop,
    ];

    /// The number of its row in the repository's `SERVER-BEHAVIOUR.md`.
    #[must_use]
    pub const fn row(self) -> u8 {
        self.describe().0
    }

    /// Its row, and its name.
    const fn describe(self) -> (u8, &'static str) {
        match self {
            Self::UnknownContextChunk => (6, "status chunk of a context that was not asked for"),
            Self::ErrorSlop => (36, "bytes after the message of an error chunk"),
            Self::UnaskedContext => (51, "context that was not asked for"),
            Self::BadBlockSize => (62, "contradicting block sizes"),
            Self::LateChunk => (68, "chunk of a failed request after its last one"),
            Self::NoHasFlags => (69, "transmission flags without HAS_FLAGS"),
            Self::BadText => (70, "name or description that is not text"),
        }
    }
}

impl fmt::Display for Tolerated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe().1)
    }
}

/// How often each kind was forgiven.
///
/// ```
/// use nbd_client::stats::{Tolerated, ToleratedCounts};
///
/// let counts = ToleratedCounts::default();
/// assert_eq!((counts.of(Tolerated::LateChunk), counts.total()), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToleratedCounts([u64; Tolerated::ALL.len()]);

#[allow(clippy::indexing_slicing, reason = "ALL has every kind, so each has its counter")]
impl ToleratedCounts {
    /// How often `kind` was forgiven.
    #[must_use]
    pub const fn of(&self, kind: Tolerated) -> u64 {
        self.0[kind as usize]
    }

    /// How often anything was forgiven.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Counts one, and traces it.
    pub(crate) fn add(&mut self, kind: Tolerated) {
        crate::trace::event!(warn, "forgiven", kind = kind);
        self.0[kind as usize] += 1;
    }
}

/// The counters of a session since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Requests that were started, DISC apart.
    pub requests: u64,
    /// Requests whose reply ended well.
    pub done: u64,
    /// Requests whose reply was an error.
    pub failed: u64,
    /// Chunks received, of any kind.
    pub chunks: u64,
    /// Bytes received, headers included.
    pub bytes_received: u64,
    /// Bytes written to the output, headers included.
    pub bytes_sent: u64,
    /// Payload bytes that were read and thrown away.
    pub bytes_drained: u64,
    /// The faults forgiven, those of the handshake included.
    pub forgiven: ToleratedCounts,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind that is not in `ALL`, or in another order than it is declared, would count as
    /// another.
    #[test]
    fn each_kind_has_a_counter_of_its_own() {
        let mut counts = ToleratedCounts::default();
        for (nth, kind) in Tolerated::ALL.into_iter().enumerate() {
            assert_eq!((kind as usize, counts.of(kind)), (nth, 0));
            counts.add(kind);
            assert_eq!((counts.of(kind), counts.total()), (1, nth as u64 + 1));
        }
    }
}
