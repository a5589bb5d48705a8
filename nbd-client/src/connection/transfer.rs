//! Transfers: reads, writes and zeroes of any length, cut into the requests that the server
//! accepts.
//!
//! The caller starts one transfer and gets one answer, however many requests it takes. Requests
//! that the server finds too long are halved. Zeroes are tried by FAST_ZERO, then by WRITE_ZEROES,
//! then by writing them. The transfer fails when one of its requests fails otherwise.

use alloc::collections::VecDeque;
use core::ops::Range;
use std::collections::HashMap;

use crate::error::Error;
use crate::export::{Export, TransmissionFlags};
use crate::frame::command_flag;
use crate::number_map::NumberMap;
use crate::session::{
    Command, Cookie, Errno, Event, ReadRequest, RequestError, RequestFault, RequestInfo, Session, StartError,
    WriteRequest, ZeroRequest,
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
/// Requests up to this length, which is also the longest minimum block, are never too long: a
/// refusal means something else.
const NEVER_TOO_LONG: u64 = 64 << 10;

/// A request for a range of any length.
#[derive(Debug)]
pub struct Transfer {
    pub(crate) request: RequestInfo,
    /// Its own bytes; `None` if the caller lends them with each call, or if there are none.
    bytes: Option<Vec<u8>>,
    /// WRITE_ZEROES that may go out in any way that makes zeroes.
    is_zero: bool,
    /// A read that takes no memory for holes.
    is_sparse: bool,
}

impl Transfer {
    /// A request in exactly this way. The caller lends the bytes that it moves.
    pub(crate) const fn new(request: RequestInfo) -> Self {
        Self { request, bytes: None, is_zero: false, is_sparse: false }
    }

    /// A read into memory that the session has to spare, taken when its first byte comes: reads that
    /// wait for their answers need none.
    pub(crate) fn read(range: Range<u64>) -> Self {
        Self::new(ReadRequest::new(range.start).of(range.end - range.start)).with(Vec::new())
    }

    /// As [`Self::read`]. If the server says that all of the range is a hole, no memory is taken, and
    /// [`Event::Read`] comes without bytes.
    pub(crate) fn sparse_read(range: Range<u64>) -> Self {
        Self { is_sparse: true, ..Self::read(range) }
    }

    /// This request with bytes of its own, as many as it is long, or none as [`Self::read`].
    pub(crate) fn with(self, bytes: Vec<u8>) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    /// Zeroes in the best way that the server has.
    pub(crate) fn zero(offset: u64, length: u64) -> Self {
        Self { is_zero: true, ..Self::new(ZeroRequest::new(offset, length).0) }
    }

    /// True if there is nothing to ask for: an empty range, or a FLUSH of a server that does not
    /// offer it and so has nothing to flush.
    pub(crate) fn is_nothing(&self, export: &Export) -> bool {
        match self.request.command {
            Command::Flush => !export.flags.can_flush(),
            _ => self.request.length == 0,
        }
    }

    /// An error if a connection with this session would not take it.
    pub(crate) fn check(&self, session: &Session) -> Result<(), StartError> {
        session.check_whole(self.whole(session.export().flags))
    }

    /// The whole of it as one request, zeroes as they go out where FAST_ZERO does not work.
    pub(crate) fn whole(&self, flags: TransmissionFlags) -> RequestInfo {
        self.terms(flags, Zeroing::Plain)
    }

    /// The whole of it as one request, zeroes in the best way that the server offers and that is no
    /// better than `best`.
    fn terms(&self, flags: TransmissionFlags, best: Zeroing) -> RequestInfo {
        let has_plain = flags.can_write_zeroes() && best < Zeroing::Data;
        let has_fast = has_plain && flags.can_fast_zero() && best == Zeroing::Fast;
        match self.request {
            request if !self.is_zero => request,
            request if has_fast => ZeroRequest(request).fast().0,
            request if has_plain => request,
            RequestInfo { offset, length, .. } => WriteRequest::new(offset).of(length),
        }
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
    /// The range not asked for yet; that of a FLUSH is empty.
    rest: Option<Range<u64>>,
    /// Ranges that the server refused and that are asked for in another way, the next one last.
    again: Vec<Range<u64>>,
    /// Why the last range was refused as too long, which is a guess, until a request is done.
    refusal: Option<RequestError>,
    in_flight: usize,
    /// Holes came while it had no memory.
    has_holes: bool,
    /// The length to which requests were halved after the server found one too long, in bytes.
    longest: Option<u64>,
    /// The longest request that the server took, in bytes.
    taken: u64,
    /// It has failed or was cancelled, and asks for nothing more.
    is_ending: bool,
    error: Option<RequestError>,
}

/// The transfers of a connection, and what it has learned about its server.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    jobs: NumberMap<u64, ActiveTransfer>,
    /// Transfers with open ranges, in order.
    ready: VecDeque<u64>,
    zeroing: Zeroing,
    /// The longest requests that the server took after it had found longer ones too long, in bytes.
    learned: HashMap<Command, u64>,
}

impl Transfers {
    /// Enters a transfer that was checked, under the caller's number or a new one.
    pub(super) fn begin(
        &mut self,
        number: Option<Cookie>,
        transfer: Transfer,
        session: &mut Session,
    ) -> Cookie {
        let cookie = number.unwrap_or_else(|| session.next_number());
        let RequestInfo { offset, length, .. } = transfer.request;
        let range = offset..offset.saturating_add(length);
        let job = ActiveTransfer {
            rest: Some(range),
            again: Vec::new(),
            refusal: None,
            transfer,
            in_flight: 0,
            has_holes: false,
            longest: None,
            taken: 0,
            is_ending: false,
            error: None,
        };
        self.jobs.insert(cookie.get(), job);
        self.ready.push_back(cookie.get());
        self.fill(session);
        cookie
    }

    /// Transfers under way.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Asks for no more parts of a transfer. It ends with the answers to those in flight, or with
    /// the next answer if there are none.
    #[cfg(feature = "tokio")]
    pub(crate) fn cancel(&mut self, cookie: Cookie) {
        if let Some(job) = self.jobs.get_mut(&cookie.get())
            && !job.is_ending
        {
            job.ask_no_more();
            // it may be over at the next answer, so it is looked at first
            self.ready.push_front(cookie.get());
        }
    }

    /// The transfers that have failed and are waiting for the rest of their answers, and those of
    /// which the server has refused a part and done none since.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (Cookie, RequestError)> {
        let error = |job: &ActiveTransfer| job.error.as_ref().or(job.refusal.as_ref()).cloned();
        let errors = self.jobs.iter().filter_map(move |(&number, job)| Some((number, error(job)?)));
        errors.map(|(number, error)| (Cookie(number), error))
    }

    /// The error to report for a lost connection: the failure of a transfer, if there is one, since
    /// it says more than the loss that followed.
    pub(crate) fn reason(&self, lost: Error) -> Error {
        self.failures().next().map_or(lost, |(_, failure)| failure.into())
    }

    /// The transfer's own bytes to write; `None` if the caller lends them.
    pub(super) fn data(&self, owner: u64) -> Option<&[u8]> {
        self.jobs.get(&owner)?.transfer.bytes.as_deref()
    }

    /// The buffer for the reply under way: the transfer's own, now that something for it comes, or
    /// the one that its caller lends.
    pub(super) fn room<'a>(&'a mut self, session: &mut Session, lent: &'a mut [u8]) -> &'a mut [u8] {
        let owner = session.receiving_for();
        // most pieces are headers, which belong to no transfer
        if owner == 0 {
            return lent;
        }
        let Some(ActiveTransfer { transfer, has_holes, .. }) = self.jobs.get_mut(&owner) else { return lent };
        let Some(bytes) = &mut transfer.bytes else { return lent };
        if !bytes.is_empty() {
            return bytes;
        }
        if transfer.is_sparse && session.is_receiving_hole() {
            *has_holes = true;
            return &mut [];
        }
        *bytes = session.buffer(in_memory(transfer.request.length));
        if *has_holes {
            bytes.fill(0);
        }
        bytes
    }

    /// Starts requests as long as the session has room for them.
    pub(super) fn fill(&mut self, session: &mut Session) {
        while let Some(number) = self.ready.pop_front() {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            let Some(open) = job.next_open() else {
                if job.in_flight == 0 {
                    self.finish(number, session);
                }
                continue;
            };
            if job.in_flight >= IN_FLIGHT {
                // others have their turn, and an answer brings this one back
                continue;
            }
            // it stays the next until it has asked for all of it
            self.ready.push_front(number);
            let whole = job.transfer.terms(session.export().flags, self.zeroing);
            let found = [job.longest, self.learned.get(&whole.command).copied()];
            let longest = found.into_iter().flatten().fold(longest_piece(whole, session), u64::min);
            let length = longest.min(open.end - open.start);
            let terms = RequestInfo { offset: open.start, length, ..whole };
            // alone on the connection it is never refused for its size
            if session.in_flight() > 0 && !session.has_room(terms.moves()) {
                return;
            }
            let at = in_memory(terms.offset - job.transfer.request.offset);
            match session.start_part(number, terms, at, job.transfer.is_zero) {
                Ok(_) => {
                    job.in_flight += 1;
                    job.advance(length);
                }
                Err(reason) => {
                    let fault = RequestFault::NotStarted(Box::new(reason));
                    job.fail(RequestError { request: terms, fault });
                }
            }
        }
    }

    /// Takes the last event of a request that is part of a transfer.
    pub(super) fn take(&mut self, event: Event, owner: u64, length: u64, session: &mut Session) {
        let Some(job) = self.jobs.get_mut(&owner) else {
            debug_assert!(false, "an event of a transfer that is over");
            return;
        };
        job.in_flight -= 1;
        match event {
            Event::Failed { error, .. } => {
                let RequestInfo { command, offset, .. } = error.request;
                let range = offset..offset.saturating_add(length);
                match error.errno().filter(|_| !job.is_ending) {
                    Some(Errno::ENOTSUP) if job.transfer.is_zero && command == Command::WriteZeroes => {
                        let is_fast = error.request.has(command_flag::FAST_ZERO);
                        self.zeroing = self.zeroing.max(if is_fast { Zeroing::Plain } else { Zeroing::Data });
                        job.again.push(range);
                    }
                    Some(Errno::EINVAL | Errno::EOVERFLOW) if length > NEVER_TOO_LONG => {
                        let block = session.export().minimum_block();
                        let half = (length / 2 - length / 2 % block).max(block);
                        job.longest = Some(job.longest.unwrap_or(half).min(half));
                        job.again.push(range);
                        job.refusal = Some(error);
                    }
                    _ => job.fail(error),
                }
            }
            _ => (job.taken, job.refusal) = (job.taken.max(length), None),
        }
        // a transfer without open ranges may be over, so it is looked at first
        if job.next_open().is_none() || !self.ready.contains(&owner) {
            self.ready.push_front(owner);
        }
        self.fill(session);
    }

    fn finish(&mut self, number: u64, session: &mut Session) {
        let Some(job) = self.jobs.remove(&number) else { return };
        let cookie = Cookie(number);
        // the server took all refused ranges at this length, and none longer: the length was the
        // reason
        if let Some(longest) = job.longest.filter(|&longest| !job.is_ending && job.taken <= longest) {
            let RequestInfo { command, .. } = job.transfer.terms(session.export().flags, self.zeroing);
            let learned = self.learned.entry(command).or_insert(longest);
            *learned = longest.min(*learned);
        }
        if let Some(data) = job.transfer.bytes {
            if job.error.is_none() && job.transfer.request.command == Command::Read {
                debug_assert!(
                    !data.is_empty() || job.has_holes,
                    "a read that is answered has bytes or holes"
                );
                session.event(Event::Read { cookie, data });
            } else {
                // a write that was refused early may still have bytes to send
                session.release(number, &data);
                session.recycle_buffer(data);
            }
        }
        session.event(match job.error {
            None => Event::Done { cookie },
            Some(error) => Event::Failed { cookie, error },
        });
    }
}

impl ActiveTransfer {
    /// The next range to ask for.
    fn next_open(&self) -> Option<Range<u64>> {
        self.again.last().or(self.rest.as_ref()).cloned()
    }

    /// The first `length` bytes of the next range are asked for.
    fn advance(&mut self, length: u64) {
        if let Some(open) = self.again.last_mut().or(self.rest.as_mut()) {
            open.start += length;
        }
        self.again.pop_if(|again| again.is_empty());
        self.rest.take_if(|rest| rest.is_empty());
    }

    /// The first error ends it: nothing more is asked for.
    fn fail(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
        self.ask_no_more();
    }

    fn ask_no_more(&mut self) {
        self.is_ending = true;
        self.rest = None;
        self.again.clear();
    }
}

/// The longest request for a part of a transfer, in bytes.
fn longest_piece(terms: RequestInfo, session: &Session) -> u64 {
    let longest = u64::from(session.longest_payload());
    match terms.command {
        // one request where the caller has made it short enough
        Command::Read | Command::Write => PIECE.min(longest),
        Command::Cache => SLOW_EFFECT.min(longest),
        _ if terms.has(command_flag::FAST_ZERO) => QUICK_EFFECT,
        _ => SLOW_EFFECT,
    }
}

/// The length of bytes that are in memory, or will be.
pub(crate) fn in_memory(length: u64) -> usize {
    debug_assert!(usize::try_from(length).is_ok(), "{length} bytes are more than memory");
    usize::try_from(length).unwrap_or(usize::MAX)
}
