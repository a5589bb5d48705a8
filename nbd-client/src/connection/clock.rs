//! The limits of time of a connection, in its caller's clock.
//!
//! A slow server is not a dead one: a limit on requests in flight is a limit on time without
//! progress. Progress is a request answered whole, or [`PROGRESS`] bytes of payload since the limit
//! last restarted; a byte a second is none. Bytes that a socket holds when a limit is over were sent
//! in time, and are taken first. The deadline of the whole job is absolute.

use core::time::Duration;
use std::time::Instant;

use crate::error::Error;
use crate::frame::During;
use crate::options::TimeLimits;
use crate::session::Session;

/// Payload that is progress, in bytes, sent and received together.
const PROGRESS: u64 = 64 << 10;
/// Tries to move bytes after the end of a limit, without progress: more than a socket needs.
const LATE: u32 = 64;
/// The most time for saying goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Clock {
    limits: TimeLimits,
    /// When the limit that applies now last restarted.
    restarted: Instant,
    /// Requests answered and bytes of payload moved until then, since the connection began.
    answered: u64,
    moved: u64,
    /// Tries to move bytes since the limit was over.
    late: u32,
    /// Since when the caller has been busy elsewhere.
    away: Option<Instant>,
}

impl Clock {
    pub(super) const fn new(started: Instant, limits: TimeLimits) -> Self {
        Self { limits, restarted: started, answered: 0, moved: 0, late: 0, away: None }
    }

    /// Restarts the limit.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.restarted, self.late) = (now, 0);
    }

    /// Restarts the limit for a request with nothing in flight beside it: bytes that have moved before
    /// are no progress of it.
    pub(super) fn begin(&mut self, now: Instant, moved: u64) {
        self.moved = moved;
        self.restart(now);
    }

    /// Restarts the limit if there was progress since the last time.
    pub(super) fn note(&mut self, now: Instant, answered: u64, moved: u64) {
        if answered != self.answered || moved - self.moved >= PROGRESS {
            (self.answered, self.moved) = (answered, moved);
            self.restart(now);
        }
    }

    /// From now on the caller does not move bytes: its time is not the server's.
    pub(crate) fn begin_idle_time(&mut self, now: Instant) {
        self.away.get_or_insert(now);
    }

    /// The caller moves bytes again: the limit does not count the time between.
    pub(crate) fn exclude_idle_time(&mut self, now: Instant) {
        if let Some(away) = self.away.take() {
            self.restarted += now.saturating_duration_since(away.max(self.restarted));
        }
    }

    /// When time runs out, under a limit if there is one; `None` is never.
    pub(super) fn end(&self, limit: Option<Duration>) -> Option<Instant> {
        let end = limit.and_then(|limit| self.restarted.checked_add(limit));
        end.into_iter().chain(self.limits.deadline).min()
    }

    /// When the time of a goodbye that was begun is over, also once it has been said.
    pub(crate) fn goodbye_end(&self) -> Option<Instant> {
        self.end(Some(self.goodbye()))
    }

    fn goodbye(&self) -> Duration {
        self.limits.request.min(GOODBYE)
    }

    /// True once the whole job is to be over.
    pub(super) fn is_out_of_time(&self, now: Instant) -> bool {
        self.limits.deadline.is_some_and(|end| end <= now)
    }

    /// Counts a try to move bytes after the end. True if there were too many, or if no time is left
    /// for the whole job.
    pub(super) fn is_too_late(&mut self, now: Instant) -> bool {
        self.late += 1;
        self.late > LATE || self.is_out_of_time(now)
    }

    /// The limit that has ended the wait by now.
    pub(crate) fn timeout(&self, during: During, now: Instant) -> Error {
        if self.is_out_of_time(now) {
            return Error::OutOfTime(during);
        }
        Error::Timeout { during, after: now.saturating_duration_since(self.restarted) }
    }

    /// The limit of the most patient request in flight: a server may do one at a time, and the
    /// others wait for it. Answers of a server that has hung up have the time of a goodbye.
    pub(super) fn limit(&self, session: &Session, has_hung_up: bool) -> Option<Duration> {
        let TimeLimits { request, flush, .. } = self.limits;
        match (session.in_flight(), session.flushes_in_flight()) {
            // nothing is awaited, whatever is left to send
            (0, _) => None,
            _ if has_hung_up => Some(self.goodbye()),
            (_, 0) => Some(request),
            (requests, flushes) if requests > flushes => flush.map(|flush| flush.max(request)),
            _ => flush,
        }
    }
}
