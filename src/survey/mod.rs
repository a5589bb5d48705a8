//! Plans the requests of a survey, takes the replies and yields the merged extents.
//!
//! This is the part that is easy to get wrong. The contexts of one reply cover different ranges. A
//! reply may be short, long, cut anywhere, or hold one extent at a time. Bytes that only one
//! context described must be requested again, and must not be counted twice. A [`Survey`] does all
//! of that without any I/O:
//!
//! ```text
//! range asked     |----------------------------------------|
//! base:allocation |== data ==|== zero ==|                        the shortest decides
//! dirty bitmap    |===== dirty =====|======= clean =======|====  longer than the request
//!                 |          |      |   |
//! yielded         |==========|======|===|
//! next request                          |------------------->
//! ```
//!
//! Where replies take long (a network, a fragmented image), the survey requests the next ranges
//! before the last reply has come, up to [`SurveyOptions::in_flight`] at a time. Replies may come
//! in any order, and each may be short. An early reply waits, and missing bytes are requested
//! again:
//!
//! ```text
//! asked           |--- 0 ---|--- 1 ---|--- 2 ---|--- 3 ---|
//! answered        |=========|         |=====|   |=========|      1 is missing, 2 was short
//! yielded         |=========|
//! held                                |=====|   |=========|      the farthest is dropped first
//! next request                              |---|
//! ```
//!
//! On a writable export there is one request at a time, since each reply is compared with earlier
//! replies about the same bytes.
//!
//! `rules` holds the rules for one list, `reply` one reply, `pass` one pass over the disk, `pieces`
//! the ranges of a pass that are not yet read, `request_sizer` the length of a request, `window`
//! one answered piece, `passes` the order of two passes.

mod budget;
mod entries;
mod error;
mod layer;
mod options;
mod pass;
mod passes;
mod pieces;
mod queue;
mod reply;
mod request;
mod request_sizer;
mod resume;
mod retained;
mod rules;
mod stats;
#[cfg(test)]
mod tests;
mod window;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub use error::{ReplyFault, SurveyError};
pub use options::{ExportParams, Strictness, SurveyOptions};
pub use request::{Admission, Request, RequestId, Topic};
pub use resume::ResumePoint;
pub use stats::{Forgiven, SurveyStats};

use budget::Budget;
use pass::{Pass, PassContext};
use passes::{BitmapPass, Passes};
use queue::Queue;

use crate::contexts::{GrantedContext, Negotiated};
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;

/// Surveys a range of an export: plans requests, takes replies and yields the merged extents.
///
/// The caller owns the connection. It sends the request that [`next_request`](Self::next_request)
/// returns, gives each status chunk of the reply to [`chunk`](Self::chunk) in the order of arrival,
/// calls [`reply_done`](Self::reply_done), and reads [`next_extent`](Self::next_extent) until it is
/// `None`. When `next_request` is `None` and no reply is awaited, the survey is over, and
/// [`complete`](Self::complete) proves it.
///
/// The extents cover the range exactly once, in order, with equal neighbours joined across replies;
/// or the survey fails. Nothing of a failed reply is ever visible. The payloads held never exceed
/// the budget, whatever the size of the disk.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
///
/// # let server = |offset: u64, length: u64| {
/// #     let length = u32::try_from(length.min(4096)).unwrap().to_be_bytes();
/// #     let flags = |flags: u8| [0, 0, 0, flags];
/// #     let zero = if offset == 0 { 2 } else { 0 };
/// #     [[flags(0), length, flags(zero)].concat(), [flags(2), length, flags(1)].concat()]
/// # };
/// let wanted =
///     Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
/// // negotiate with your own client: send wanted.names(), and take the ids that the server gives
/// let contexts = wanted.negotiate([(0, "base:allocation"), (2, "qemu:dirty-bitmap:b0")])?;
///
/// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// let mut extents = Vec::new();
/// while let Some(request) = survey.next_request()? {
///     // this server answers 4096 bytes at a time
///     for payload in server(request.offset(), request.length()) {
///         survey.chunk(request.id(), payload)?;
///     }
///     survey.reply_done(request.id())?;
///     while let Some(extent) = survey.next_extent()? {
///         extents.push(extent.to_string());
///     }
/// }
/// let stats = survey.complete()?;
/// assert_eq!(extents, ["0..4096 dirty,zero", "4096..8192 dirty,data"]);
/// assert_eq!(stats.requests, 2);
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Debug)]
pub struct Survey {
    cx: PassContext,
    passes: Passes,
    next_id: u64,
    /// Extents read but not yet yielded.
    ready: Queue,
    /// The error that ended the survey.
    failed: Option<StreamError>,
}

impl Survey {
    /// Creates a survey that asks about all contexts in each request.
    ///
    /// Use this order unless requests must avoid clean ranges.
    ///
    /// # Errors
    ///
    /// [`SurveyError::NoContext`] without any context, [`SurveyError::Writable`] when the export is
    /// writable and [`allow_writable`](SurveyOptions::allow_writable) was not called.
    pub fn together(options: SurveyOptions, contexts: Negotiated) -> Result<Self, SurveyError> {
        if contexts.is_empty() {
            return Err(SurveyError::NoContext);
        }
        let pass = Pass::new(Topic::All, contexts, &options).over(options.range.clone());
        Self::start(options, Passes { main: Box::new(pass), bitmaps: None })
    }

    /// Creates a survey that asks about other contexts only inside dirty ranges.
    ///
    /// It requests the bitmaps over the whole range first. Outside dirty ranges the other contexts
    /// are `None`, so the cost follows the change, not the disk.
    ///
    /// This is the only order that works on qemu's snapshot-access exports, where a request that
    /// touches a clean byte fails. Each request has a [`Topic`]. With extended headers and
    /// `NBD_FLAG_BLOCK_STATUS_PAYLOAD`, send the payload form with its
    /// [`context_ids`](Request::context_ids), and give this function both halves of
    /// [`Negotiated::split`]. Otherwise open two connections, one that negotiates
    /// [`Contexts::bitmaps`](crate::Contexts::bitmaps) and one that negotiates
    /// [`Contexts::details`](crate::Contexts::details), and send each request on the connection
    /// that its topic names.
    ///
    /// # Errors
    ///
    /// [`SurveyError::NotBitmapFirst`] unless `bitmaps` holds bitmaps only and `details` other
    /// contexts only, at least one each; [`SurveyError::Writable`] as for
    /// [`together`](Self::together).
    pub fn bitmap_first(
        options: SurveyOptions,
        bitmaps: Negotiated,
        details: Negotiated,
    ) -> Result<Self, SurveyError> {
        let is_bitmap = |slot: &GrantedContext| slot.kind.bitmap().is_some();
        let parted = bitmaps.slots().iter().all(is_bitmap) && !details.slots().iter().any(is_bitmap);
        if bitmaps.is_empty() || details.is_empty() || !parted {
            return Err(SurveyError::NotBitmapFirst);
        }
        let bitmaps = Pass::new(Topic::Bitmaps, bitmaps, &options).over(options.range.clone());
        let details = Pass::new(Topic::Details, details, &options);
        let answers = Queue::new(options.range.start, true);
        let bitmaps = Some(BitmapPass { pass: Box::new(bitmaps), answers });
        Self::start(options, Passes { main: Box::new(details), bitmaps })
    }

    fn start(options: SurveyOptions, passes: Passes) -> Result<Self, SurveyError> {
        if !options.export.read_only && !options.writable {
            return Err(SurveyError::Writable);
        }
        let (budget, ready) = (Budget::new(options.budget), Queue::new(options.range.start, false));
        let cx = PassContext {
            options,
            budget,
            stats: SurveyStats::default(),
            elsewhere: 0,
            alone: true,
            unread: false,
        };
        Ok(Self { cx, passes, next_id: 0, ready, failed: None })
    }

    /// Returns the next request to send, or `None` if there is none at the moment.
    ///
    /// It is `None` while enough requests are in flight, while answers that are not read leave no room
    /// for another, and after the whole range has been requested. Call it until it is `None`, before
    /// the first reply and after each, to keep as many requests on the wire as
    /// [`in_flight`](SurveyOptions::in_flight) allows. A caller that leaves extents unread calls it
    /// again once [`next_extent`](Self::next_extent) has returned `None`.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Failing`] when the next range has failed too often, [`SurveyError::Stream`]
    /// when the survey has already failed.
    pub fn next_request(&mut self) -> Result<Option<Request>, SurveyError> {
        self.check_alive()?;
        if let Err(error) = self.passes.follow_up() {
            return Err(self.fail(error));
        }
        let request = self.passes.next_request(RequestId(self.next_id), &mut self.cx)?;
        if let Some(request) = &request {
            self.next_id += 1;
            self.count(request);
        }
        Ok(request)
    }

    fn count(&mut self, request: &Request) {
        let details = if request.topic == Topic::Details { request.length } else { 0 };
        let in_flight = self.passes.iter().map(Pass::in_flight).sum();
        let stats = &mut self.cx.stats;
        stats.requests += 1;
        stats.asked_bytes = stats.asked_bytes.saturating_add(request.length);
        stats.detail_bytes = stats.detail_bytes.saturating_add(details);
        stats.peak_in_flight = stats.peak_in_flight.max(in_flight);
    }

    /// Decides whether to read a status chunk of `length` bytes of payload.
    ///
    /// Call it when the chunk's header has arrived, before you allocate memory for the payload.
    ///
    /// The result is [`Admission::Drain`] when the budget is used up. Then read the rest of the
    /// reply as usual: the survey will make smaller requests. A caller that already has the payload
    /// in memory need not call this; [`chunk`](Self::chunk) does.
    pub fn admit(&mut self, id: RequestId, length: u64) -> Admission {
        let form = self.cx.options.export.form;
        match self.awaiting(id) {
            Ok((pass, cx)) => pass.admit(id, length, form, cx),
            Err(_) => Admission::Drain,
        }
    }

    /// Takes the payload of one status chunk, in the connection's [`Form`](crate::wire::Form).
    ///
    /// Chunks may come in any order. A `Vec` is kept, a slice is copied. A chunk that
    /// [`admit`](Self::admit) would drain is dropped.
    ///
    /// # Errors
    ///
    /// [`SurveyError::UnknownRequest`] when no such request is outstanding, [`SurveyError::Reply`]
    /// when the chunk breaks the protocol. After the latter the request is over and nothing of its
    /// reply remains; a caller that continues the survey gets a new request for the range.
    pub fn chunk(
        &mut self,
        id: RequestId,
        payload: impl AsRef<[u8]> + Into<Vec<u8>>,
    ) -> Result<(), SurveyError> {
        let form = self.cx.options.export.form;
        let (pass, cx) = self.awaiting(id)?;
        match pass.admit(id, payload.as_ref().len() as u64, form, cx) {
            Admission::Take => pass.chunk(id, payload.into(), form, cx),
            Admission::Drain => Ok(()),
        }
    }

    /// Marks a reply as complete. Its extents can be read from now on.
    ///
    /// # Errors
    ///
    /// [`SurveyError::UnknownRequest`] when no such request is outstanding; [`SurveyError::Reply`]
    /// when a context was not answered or a list breaks the protocol; [`SurveyError::OverBudget`]
    /// and [`SurveyError::Stalled`] when the survey cannot make progress. Nothing of the reply is
    /// visible then.
    pub fn reply_done(&mut self, id: RequestId) -> Result<(), SurveyError> {
        let (pass, cx) = self.awaiting(id)?;
        pass.finish(id, cx)
    }

    /// Marks a request as failed: the server answered it with an error. Nothing of its reply
    /// remains.
    ///
    /// The survey requests the range again, at most [`max_retries`](SurveyOptions::max_retries)
    /// times. If the range still fails, the survey ends with an error, or takes the safe status
    /// with [`safe_on_failure`](SurveyOptions::safe_on_failure).
    ///
    /// # Errors
    ///
    /// [`SurveyError::UnknownRequest`] when no such request is outstanding;
    /// [`SurveyError::Failing`] when the range has failed too often.
    pub fn reply_failed(&mut self, id: RequestId) -> Result<(), SurveyError> {
        let (pass, cx) = self.awaiting(id)?;
        pass.abandon(id, cx)
    }

    /// Returns the next merged extent, or `None` until more replies have come.
    ///
    /// Call it until it is `None` after each reply.
    ///
    /// An extent is yielded once it can no longer grow, so the last extent read is held back until
    /// its neighbour is known or the range has ended.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Stream`] when the extents would not cover the range exactly once. Only a
    /// fault of this library can cause it; the survey then ends before data can be lost.
    #[inline]
    pub fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyError> {
        // of a survey that has failed nothing is left there
        if let Some(whole) = self.ready.pop_whole() {
            return Ok(Some(whole));
        }
        self.read_on()
    }

    /// The first byte that has not been yielded.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.ready.start
    }

    /// Returns the point from which a new survey can resume this one: see
    /// [`SurveyOptions::resume`].
    #[must_use]
    pub fn resume_point(&self) -> ResumePoint {
        ResumePoint {
            offset: self.position(),
            end: self.cx.options.range.end,
            export_size: self.cx.options.export.size,
        }
    }

    /// The counters of the survey up to now.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        let assumed_bytes = self.passes.iter().map(|pass| pass.assumed_bytes).sum();
        let (peak_bytes, disagreements) = (self.cx.budget.peak, self.ready.disputed);
        let extents = self.ready.taken();
        SurveyStats { peak_bytes, disagreements, assumed_bytes, extents, ..self.cx.stats }
    }

    /// Ends the survey: proves that it yielded every byte of the range exactly once.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Incomplete`] when part of the range was not yielded.
    pub fn complete(self) -> Result<SurveyStats, SurveyError> {
        self.check_complete()?;
        Ok(self.stats())
    }

    /// Like [`complete`](Self::complete), without ending the survey.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Incomplete`] when part of the range was not yielded.
    pub fn check_complete(&self) -> Result<(), SurveyError> {
        self.check_alive()?;
        let (position, end) = (self.position(), self.cx.options.range.end);
        if position < end { Err(SurveyError::Incomplete { position, end }) } else { Ok(()) }
    }

    fn check_alive(&self) -> Result<(), SurveyError> {
        self.failed.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn fail(&mut self, error: StreamError) -> SurveyError {
        self.failed = Some(error.clone());
        self.ready.clear();
        error.into()
    }

    /// The pass that awaits this reply.
    fn awaiting(&mut self, id: RequestId) -> Result<(&mut Pass, &mut PassContext), SurveyError> {
        let pass = self.passes.awaiting(id, &mut self.cx).ok_or(SurveyError::UnknownRequest(id))?;
        Ok((pass, &mut self.cx))
    }

    /// Returns the next complete extent, reading more if necessary.
    #[inline(never)]
    fn read_on(&mut self) -> Result<Option<Extent<Status>>, SurveyError> {
        self.check_alive()?;
        self.advance().map_err(|error| self.fail(error))
    }

    /// Reads until an extent is known to be complete.
    fn advance(&mut self) -> Result<Option<Extent<Status>>, StreamError> {
        while self.passes.read(&mut self.ready)? {
            if let Some(whole) = self.ready.pop_whole() {
                return Ok(Some(whole));
            }
        }
        let all_read = self.ready.end == self.cx.options.range.end;
        Ok(if all_read { self.ready.pop().map(|last| last.map(|answer| answer.status)) } else { None })
    }
}
