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
//! one answered piece. The two orders are in `Survey` itself and in `bitmap_first`.

mod bitmap_first;
mod budget;
mod contexts;
mod entries;
mod error;
mod failures;
mod layer;
mod options;
mod output_queue;
mod pass;
mod pieces;
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

pub use contexts::{Context, Contexts, Negotiated};
pub use error::{ContextError, ReplyFault, SurveyError};
pub use options::{ExportParams, Strictness, SurveyOptions};
pub use request::{Admission, Request, RequestId, Topic};
pub use resume::ResumePoint;
pub use stats::{Forgiven, SurveyStats};

use bitmap_first::BitmapFirst;
use budget::Budget;
use contexts::ContextKind;
use layer::Answer;
use output_queue::OutputQueue;
use pass::{Pass, PassContext};
use window::ExtentSink;

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
    options: SurveyOptions,
    order: Order,
    budget: Budget,
    stats: SurveyStats,
    next_id: u64,
    /// All bytes before this one have been read.
    position: u64,
    /// Extents read but not yet yielded.
    ready: OutputQueue,
    /// The error that ended the survey.
    failed: Option<StreamError>,
}

#[derive(Debug)]
enum Order {
    Together(Box<Pass>),
    BitmapFirst(Box<BitmapFirst>),
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
        Self::start(options, Order::Together(Box::new(pass)))
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
    /// [`Contexts::bitmaps`] and one that negotiates [`Contexts::details`], and send each request
    /// on the connection that its topic names.
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
        let is_bitmap = |slot: &contexts::GrantedContext| matches!(slot.kind, ContextKind::Bitmap(_));
        let parted = bitmaps.slots().iter().all(is_bitmap) && !details.slots().iter().any(is_bitmap);
        if bitmaps.is_empty() || details.is_empty() || !parted {
            return Err(SurveyError::NotBitmapFirst);
        }
        let bitmaps = Pass::new(Topic::Bitmaps, bitmaps, &options).over(options.range.clone());
        let details = Pass::new(Topic::Details, details, &options);
        Self::start(options, Order::BitmapFirst(Box::new(BitmapFirst::new(bitmaps, details))))
    }

    fn start(options: SurveyOptions, order: Order) -> Result<Self, SurveyError> {
        if !options.export.read_only && !options.writable {
            return Err(SurveyError::Writable);
        }
        Ok(Self {
            budget: Budget::new(options.budget),
            position: options.range.start,
            options,
            order,
            stats: SurveyStats::default(),
            next_id: 0,
            ready: OutputQueue::default(),
            failed: None,
        })
    }

    /// Returns the next request to send, or `None` if there is none at the moment.
    ///
    /// It is `None` while enough requests are in flight and after the whole range has been
    /// requested. Call it until it is `None`, before the first reply and after each, to keep as
    /// many requests on the wire as [`in_flight`](SurveyOptions::in_flight) allows.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Failing`] when the next range has failed too often, [`SurveyError::Stream`]
    /// when the survey has already failed.
    pub fn next_request(&mut self) -> Result<Option<Request>, SurveyError> {
        self.check_alive()?;
        if let Order::BitmapFirst(order) = &mut self.order
            && let Err(error) = order.follow_up()
        {
            return Err(self.fail(error));
        }
        let id = RequestId(self.next_id);
        let mut cx = PassContext {
            options: &self.options,
            budget: &mut self.budget,
            stats: &mut self.stats,
            elsewhere: 0,
            alone: true,
        };
        let request = match &mut self.order {
            Order::Together(pass) => pass.next_request(id, &mut cx)?,
            Order::BitmapFirst(order) => order.next_request(id, &mut cx)?,
        };
        if let Some(request) = &request {
            self.next_id += 1;
            self.count(request);
        }
        Ok(request)
    }

    fn count(&mut self, request: &Request) {
        let details = if request.topic == Topic::Details { request.length } else { 0 };
        let stats = &mut self.stats;
        stats.requests += 1;
        stats.asked_bytes = stats.asked_bytes.saturating_add(request.length);
        stats.detail_bytes = stats.detail_bytes.saturating_add(details);
        stats.peak_in_flight = stats.peak_in_flight.max(match &self.order {
            Order::Together(pass) => pass.in_flight(),
            Order::BitmapFirst(order) => order.bitmaps.in_flight() + order.details.in_flight(),
        });
    }

    /// Decides whether to read a status chunk of `length` bytes of payload.
    ///
    /// Call it when the chunk's header has arrived, before you allocate memory for the payload.
    ///
    /// The result is [`Admission::Drain`] when the budget is used up. Then read the rest of the
    /// reply as usual: the survey will make smaller requests. A caller that already has the payload
    /// in memory need not call this; [`chunk`](Self::chunk) does.
    pub fn admit(&mut self, id: RequestId, length: u64) -> Admission {
        let form = self.options.export.form;
        match self.awaiting(id) {
            Some((pass, mut cx)) => pass.admit(id, length, form, &mut cx),
            None => Admission::Drain,
        }
    }

    /// Takes the payload of one status chunk, in the connection's [`Form`](crate::wire::Form).
    ///
    /// Chunks may come in any order. A `Vec` is kept, a slice is copied.
    ///
    /// # Errors
    ///
    /// [`SurveyError::UnknownRequest`] when no such request is outstanding, [`SurveyError::Reply`]
    /// when the chunk breaks the protocol. In that case the request is over and nothing of its
    /// reply remains; a caller that continues the survey gets a new request for the range.
    pub fn chunk(
        &mut self,
        id: RequestId,
        payload: impl AsRef<[u8]> + Into<Vec<u8>>,
    ) -> Result<(), SurveyError> {
        let form = self.options.export.form;
        let (pass, mut cx) = self.awaiting(id).ok_or(SurveyError::UnknownRequest(id))?;
        match pass.admit(id, payload.as_ref().len() as u64, form, &mut cx) {
            Admission::Take => pass.chunk(id, payload.into(), form, &mut cx),
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
        let (pass, mut cx) = self.awaiting(id).ok_or(SurveyError::UnknownRequest(id))?;
        pass.finish(id, &mut cx)
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
        let (pass, mut cx) = self.awaiting(id).ok_or(SurveyError::UnknownRequest(id))?;
        pass.abandon(id, &mut cx)
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
    pub fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyError> {
        if self.failed.is_none()
            && let Some(whole) = self.ready.take_whole()
        {
            self.stats.extents += 1;
            return Ok(Some(whole));
        }
        self.read_on()
    }

    /// The first byte that has not been yielded.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.ready.first().map_or(self.position, Extent::start)
    }

    /// Returns the point from which a new survey can resume this one: see
    /// [`SurveyOptions::resume`].
    #[must_use]
    pub fn resume_point(&self) -> ResumePoint {
        ResumePoint {
            offset: self.position(),
            end: self.options.range.end,
            export_size: self.options.export.size,
        }
    }

    /// The counters of the survey up to now.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        let assumed_bytes = match &self.order {
            Order::Together(pass) => pass.assumed_bytes(),
            Order::BitmapFirst(order) => order.bitmaps.assumed_bytes() + order.details.assumed_bytes(),
        };
        SurveyStats { peak_bytes: self.budget.peak(), assumed_bytes, ..self.stats }
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
        let (position, end) = (self.position(), self.options.range.end);
        if position < end { Err(SurveyError::Incomplete { position, end }) } else { Ok(()) }
    }

    fn check_alive(&self) -> Result<(), SurveyError> {
        self.failed.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn fail(&mut self, error: StreamError) -> SurveyError {
        self.failed = Some(error.clone());
        error.into()
    }

    /// The pass that awaits this reply.
    fn awaiting(&mut self, id: RequestId) -> Option<(&mut Pass, PassContext<'_>)> {
        let (pass, alone) = match &mut self.order {
            Order::Together(pass) => (&mut **pass, true),
            Order::BitmapFirst(order) => {
                let alone = order.is_down_to_bitmaps();
                if order.bitmaps.awaits(id) {
                    (&mut order.bitmaps, alone)
                } else {
                    (&mut order.details, true)
                }
            }
        };
        let cx = PassContext {
            options: &self.options,
            budget: &mut self.budget,
            stats: &mut self.stats,
            elsewhere: 0,
            alone,
        };
        pass.awaits(id).then_some((pass, cx))
    }

    /// Returns the next complete extent, reading more if necessary.
    #[inline(never)]
    fn read_on(&mut self) -> Result<Option<Extent<Status>>, SurveyError> {
        self.check_alive()?;
        match self.advance() {
            Ok(next) => {
                self.stats.extents += u64::from(next.is_some());
                Ok(next)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Reads until an extent is known to be complete.
    fn advance(&mut self) -> Result<Option<Extent<Status>>, StreamError> {
        self.ready.make_room();
        while self.read()? {
            if let Some(whole) = self.ready.take_whole() {
                return Ok(Some(whole));
            }
        }
        let all_read = self.position == self.options.range.end;
        Ok(if all_read { self.ready.take_last() } else { None })
    }

    /// Reads the next piece, or as much of it as there is room for. Returns `false` when there is
    /// none.
    fn read(&mut self) -> Result<bool, StreamError> {
        let Self { order, ready, position, stats, .. } = self;
        let mut sink = Output { ready, position, stats, fault: None };
        let read = match order {
            Order::Together(pass) => pass.read(&mut sink)?,
            Order::BitmapFirst(order) => order.read(&mut sink)?,
        };
        sink.fault.map_or(Ok(read), Err)
    }
}

/// The output queue, and what is counted and checked on the way to it.
struct Output<'a> {
    ready: &'a mut OutputQueue,
    position: &'a mut u64,
    stats: &'a mut SurveyStats,
    fault: Option<StreamError>,
}

impl ExtentSink for Output<'_> {
    #[inline(always)]
    fn take(&mut self, extent: Extent<Answer>) -> bool {
        // A second guard after the merge: a gap or an overlap here would lose data.
        if extent.start() != *self.position {
            self.misplaced(extent.start());
        }
        *self.position = extent.end();
        self.stats.disagreements += u64::from(extent.status().disputed);
        self.ready.push(extent.map(|answer| answer.status))
    }
}

impl Output<'_> {
    /// Notes the first extent that does not start where the one before it ended.
    #[cold]
    fn misplaced(&mut self, start: u64) {
        let expected = *self.position;
        self.fault.get_or_insert(if start > expected {
            StreamError::Gap { range: expected..start }
        } else {
            StreamError::Overlap { start, expected }
        });
    }
}
