//! Transfers: ranges of any length, cut into requests, in the best way that the server turns out to
//! have.
//!
//! A transfer is one entry in the caller's books, whatever becomes of it on the wire: requests that
//! the server finds too long are halved, zeroes go down from FAST_ZERO to WRITE_ZEROES to writing
//! them, and a failed part ends the whole.

use alloc::collections::VecDeque;
use core::ops::Range;
use std::collections::HashMap;

use crate::session::{
    Command, Cookie, Errno, Event, ReadRequest, RequestError, RequestInfo, Session, StartError, Ticket,
    TrimRequest, WriteRequest, ZeroRequest,
};

/// The longest request of a long read or write, in bytes. Longer ones would make the server hold
/// more memory and start later to answer.
const PIECE: u64 = 1 << 20;
/// The most requests of one transfer in flight.
const IN_FLIGHT: usize = 8;
/// The longest request that moves no data and may be slow, in bytes.
const SLOW_EFFECT: u64 = 64 << 20;
/// The longest request that moves no data and is quick, in bytes.
const QUICK_EFFECT: u64 = 1 << 30;
/// Requests up to this length are never too long, so a refusal means something else.
const NEVER_TOO_LONG: u64 = 64 << 10;

/// TransferBytes of a transfer: its own, or the caller's, which are lent with each call.
#[derive(Debug)]
pub(crate) enum TransferBytes {
    Own(Vec<u8>),
    Lent(usize),
}

impl TransferBytes {
    fn len(&self) -> u64 {
        match self {
            Self::Own(bytes) => bytes.len() as u64,
            Self::Lent(length) => *length as u64,
        }
    }
}

/// A range of any length and what to do with it.
#[derive(Debug)]
pub(crate) enum Transfer {
    Read {
        offset: u64,
        bytes: TransferBytes,
    },
    Write {
        request: WriteRequest,
        bytes: TransferBytes,
    },
    /// Zeroes in the best way that the server has.
    Zero {
        offset: u64,
        length: u64,
    },
    /// Zeroes in exactly this way.
    WriteZeroes(ZeroRequest),
    Trim(TrimRequest),
    Cache {
        offset: u64,
        length: u64,
    },
    Flush,
}

impl Transfer {
    /// TransferBytes of payload that it moves.
    pub(crate) fn moves(&self) -> u64 {
        match self {
            Self::Read { bytes, .. } | Self::Write { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// An error if a connection with this session would not take it.
    pub(crate) fn check(&self, session: &Session) -> Result<(), StartError> {
        let (command, range) = (self.command(session), self.range());
        session.check_whole(command, range.start, range.end.saturating_sub(range.start), self.fua())?;
        match self {
            Self::WriteZeroes(request) if request.fast && !session.flags().can_fast_zero() => {
                Err(StartError::NotOffered { what: "FAST_ZERO" })
            }
            _ => Ok(()),
        }
    }

    /// The whole of it as an error names it.
    pub(crate) fn info(&self, cookie: Cookie, session: &Session) -> RequestInfo {
        let Range { start: offset, end } = self.range();
        RequestInfo { cookie, command: self.command(session), offset, length: end - offset }
    }

    const fn fua(&self) -> bool {
        match self {
            Self::Write { request, .. } => request.fua,
            Self::WriteZeroes(request) => request.fua,
            Self::Trim(request) => request.fua,
            _ => false,
        }
    }

    fn command(&self, session: &Session) -> Command {
        match self {
            Self::Read { .. } => Command::Read,
            Self::Write { .. } => Command::Write,
            Self::Zero { .. } if !session.flags().can_write_zeroes() => Command::Write,
            Self::Zero { .. } | Self::WriteZeroes(_) => Command::WriteZeroes,
            Self::Trim(_) => Command::Trim,
            Self::Cache { .. } => Command::Cache,
            Self::Flush => Command::Flush,
        }
    }

    fn range(&self) -> Range<u64> {
        let (offset, length) = match self {
            Self::Read { offset, bytes } => (*offset, bytes.len()),
            Self::Write { request, bytes } => (request.offset, bytes.len()),
            Self::Zero { offset, length } | Self::Cache { offset, length } => (*offset, *length),
            Self::WriteZeroes(request) => (request.offset, request.length),
            Self::Trim(request) => (request.offset, request.length),
            Self::Flush => (0, 0),
        };
        offset..offset.saturating_add(length)
    }
}

/// The ways to write zeroes, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Zeroing {
    /// WRITE_ZEROES with FAST_ZERO.
    #[default]
    Fast,
    /// WRITE_ZEROES.
    Plain,
    /// WRITE, of zeroes.
    Data,
}

/// A transfer under way.
#[derive(Debug)]
struct ActiveTransfer {
    transfer: Transfer,
    /// Where it begins, in bytes.
    start: u64,
    /// Ranges not asked for yet.
    open: VecDeque<Range<u64>>,
    in_flight: usize,
    /// The longest request that the server may not find too long, in bytes.
    longest: u64,
    error: Option<RequestError>,
}

/// The transfers of a connection, and what it has learned about its server.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    jobs: HashMap<u64, ActiveTransfer>,
    /// Transfers with open ranges, in order.
    ready: VecDeque<u64>,
    events: VecDeque<Event>,
    zeroing: Zeroing,
    /// The longest requests that the server took after it had found longer ones too long, in bytes.
    learned: HashMap<Command, u64>,
}

impl Transfers {
    /// Enters a transfer that was checked.
    pub(super) fn begin(&mut self, transfer: Transfer, session: &mut Session) -> Cookie {
        let cookie = session.next_number();
        let range = transfer.range();
        let job = ActiveTransfer {
            start: range.start,
            open: VecDeque::from([range]),
            transfer,
            in_flight: 0,
            longest: u64::MAX,
            error: None,
        };
        self.jobs.insert(cookie.get(), job);
        self.ready.push_back(cookie.get());
        self.fill(session);
        cookie
    }

    /// Transfers whose last event has not been polled.
    pub(super) fn len(&self) -> usize {
        self.jobs.len() + self.events.iter().filter(|event| event.is_last()).count()
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Asks for no more parts of a transfer. It ends with the answers to those in flight.
    #[cfg(feature = "tokio")]
    pub(super) fn cancel(&mut self, cookie: Cookie) {
        if let Some(job) = self.jobs.get_mut(&cookie.get()).filter(|job| job.in_flight > 0) {
            job.open.clear();
        }
    }

    /// The error of a transfer that has failed and is waiting for the rest of its answers.
    pub(super) fn failure(&self, cookie: Cookie) -> Option<RequestError> {
        self.jobs.get(&cookie.get())?.error.clone()
    }

    /// The transfer's own bytes to write; `None` if the caller lends them.
    pub(super) fn data(&self, owner: u64) -> Option<&[u8]> {
        match &self.jobs.get(&owner)?.transfer {
            Transfer::Write { bytes: TransferBytes::Own(bytes), .. } => Some(bytes),
            _ => None,
        }
    }

    /// The transfer's own buffer for reads; `None` if the caller lends it.
    pub(super) fn buffer(&mut self, owner: u64) -> Option<&mut Vec<u8>> {
        match &mut self.jobs.get_mut(&owner)?.transfer {
            Transfer::Read { bytes: TransferBytes::Own(bytes), .. } => Some(bytes),
            _ => None,
        }
    }

    /// Starts requests as long as the session has room for them.
    pub(super) fn fill(&mut self, session: &mut Session) {
        while let Some(&number) = self.ready.front() {
            let Some(job) = self.jobs.get_mut(&number) else {
                self.ready.pop_front();
                continue;
            };
            let Some(open) = job.open.front().cloned() else {
                self.ready.pop_front();
                self.finish_if_over(number, session);
                continue;
            };
            let command = job.command(self.zeroing, session);
            let longest = job.longest.min(self.learned.get(&command).copied().unwrap_or(u64::MAX));
            let length = job.piece(command, self.zeroing, session).min(longest).min(open.end - open.start);
            let moves = if matches!(command, Command::Read | Command::Write) { length } else { 0 };
            // alone on the connection it is never refused for its size
            if session.in_flight() > 0 && !session.has_room(moves) {
                return;
            }
            if job.in_flight >= IN_FLIGHT {
                // others have their turn, and an answer brings this one back
                self.ready.pop_front();
                continue;
            }
            let zeroing = self.zeroing;
            let started =
                session.start_for(number, |session| job.start(open.start, length, zeroing, session));
            match started {
                Ok(_) => {
                    job.in_flight += 1;
                    job.advance(length);
                }
                Err(reason) => {
                    let request =
                        RequestInfo { cookie: Cookie::numbered(number), command, offset: open.start, length };
                    job.fail(RequestError::NotStarted { request, reason: Box::new(reason) });
                }
            }
        }
    }

    /// Takes the last event of a request that is part of a transfer.
    pub(super) fn take(&mut self, event: Event, ticket: Ticket, session: &mut Session) {
        let Some(job) = self.jobs.get_mut(&ticket.owner) else {
            debug_assert!(false, "an event of a transfer that is over");
            return;
        };
        job.in_flight -= 1;
        match event {
            Event::Failed { error, .. } => {
                let RequestInfo { command, offset, length, .. } = error.request();
                let range = offset..offset.saturating_add(length);
                let zeroing = if ticket.is_fast { Zeroing::Plain } else { Zeroing::Data };
                let is_zero =
                    matches!(job.transfer, Transfer::Zero { .. }) && command == Command::WriteZeroes;
                let too_long =
                    error.errno().is_some_and(|errno| matches!(errno, Errno::EINVAL | Errno::EOVERFLOW))
                        && length > NEVER_TOO_LONG.max(session.minimum_block());
                if is_zero && error.errno() == Some(Errno::ENOTSUP) && job.error.is_none() {
                    self.zeroing = self.zeroing.max(zeroing);
                    job.open.push_front(range);
                } else if too_long && job.error.is_none() {
                    let block = session.minimum_block();
                    let half = (length / 2 - length / 2 % block).max(block);
                    job.longest = job.longest.min(half);
                    job.open.push_front(range);
                } else {
                    job.fail(error);
                }
            }
            _ if job.longest < u64::MAX => {
                // the server took the shorter one, so its length was the reason
                let command = job.command(self.zeroing, session);
                let learned = self.learned.entry(command).or_insert(job.longest);
                *learned = job.longest.min(*learned);
            }
            _ => {}
        }
        if !job.open.is_empty() && !self.ready.contains(&ticket.owner) {
            self.ready.push_front(ticket.owner);
        }
        self.finish_if_over(ticket.owner, session);
        self.fill(session);
    }

    fn finish_if_over(&mut self, number: u64, session: &mut Session) {
        if self.jobs.get(&number).is_none_or(|job| job.in_flight > 0 || !job.open.is_empty()) {
            return;
        }
        let Some(job) = self.jobs.remove(&number) else { return };
        let cookie = Cookie::numbered(number);
        match (job.transfer, job.error) {
            (Transfer::Read { bytes: TransferBytes::Own(data), .. }, None) => {
                self.events.push_back(Event::Read { cookie, data });
                self.events.push_back(Event::Done { cookie });
            }
            (transfer, error) => {
                if let Transfer::Read { bytes: TransferBytes::Own(bytes), .. }
                | Transfer::Write { bytes: TransferBytes::Own(bytes), .. } = transfer
                {
                    // a write that failed early may still have bytes to send
                    session.release(number, &bytes);
                    session.recycle_buffer(bytes);
                }
                self.events.push_back(match error {
                    None => Event::Done { cookie },
                    Some(error) => Event::Failed { cookie, error },
                });
            }
        }
    }
}

impl ActiveTransfer {
    fn command(&self, zeroing: Zeroing, session: &Session) -> Command {
        match self.transfer {
            Transfer::Zero { .. } if zeroing == Zeroing::Data => Command::Write,
            _ => self.transfer.command(session),
        }
    }

    /// The longest request for a part of it, in bytes.
    fn piece(&self, command: Command, zeroing: Zeroing, session: &Session) -> u64 {
        let longest = u64::from(session.longest_payload());
        let is_quick = match &self.transfer {
            Transfer::Zero { .. } => zeroing == Zeroing::Fast && session.flags().can_fast_zero(),
            Transfer::WriteZeroes(request) => request.fast,
            _ => false,
        };
        match command {
            // one request where the caller has made it short enough
            Command::Read | Command::Write => PIECE.min(longest),
            Command::Cache => SLOW_EFFECT.min(longest),
            _ if is_quick => QUICK_EFFECT,
            _ => SLOW_EFFECT,
        }
    }

    fn start(
        &self,
        offset: u64,
        length: u64,
        zeroing: Zeroing,
        session: &mut Session,
    ) -> Result<Cookie, StartError> {
        let (at, size) = (fit(offset - self.start), fit(length));
        match &self.transfer {
            Transfer::Read { .. } => session.start_lent_read(&ReadRequest::new(offset), at, size),
            Transfer::Write { request, .. } => {
                session.start_lent_write(&WriteRequest { offset, ..*request }, Some(at), size)
            }
            Transfer::Zero { .. } if self.command(zeroing, session) == Command::Write => {
                session.start_lent_write(&WriteRequest::new(offset), None, size)
            }
            Transfer::Zero { .. } => {
                let request = ZeroRequest::new(offset, length);
                let is_fast = zeroing == Zeroing::Fast && session.flags().can_fast_zero();
                session.start_write_zeroes(&if is_fast { request.fast() } else { request })
            }
            Transfer::WriteZeroes(request) => {
                session.start_write_zeroes(&ZeroRequest { offset, length, ..*request })
            }
            Transfer::Trim(request) => session.start_trim(&TrimRequest { offset, length, ..*request }),
            Transfer::Cache { .. } => session.start_cache(offset, length),
            Transfer::Flush => session.start_flush(),
        }
    }

    /// The first `length` open bytes are asked for.
    fn advance(&mut self, length: u64) {
        if let Some(open) = self.open.front_mut() {
            open.start += length;
            if open.is_empty() {
                self.open.pop_front();
            }
        }
    }

    /// The first error ends it: nothing more is asked for.
    fn fail(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
        self.open.clear();
    }
}

/// A length in memory: no longer than a buffer of the transfer, or a piece.
fn fit(length: u64) -> usize {
    debug_assert!(usize::try_from(length).is_ok(), "a transfer longer than memory");
    usize::try_from(length).unwrap_or(usize::MAX)
}
