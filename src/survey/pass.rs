//! One pass over a range with one set of contexts: its requests, and the answers from each reply.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::budget::Budget;
use super::error::{ReplyFault, SurveyError, bug};
use super::layer::{Answer, Layer};
use super::options::{FIRST_EXTENDED_REQUEST, SurveyOptions};
use super::pieces::{Piece, PieceState, Pieces};
use super::queue::Queue;
use super::reply::Reply;
use super::request::{Admission, Request, RequestId, Topic};
use super::request_sizer::RequestSizer;
use super::retained::Retained;
use super::stats::{Forgiven, SurveyStats};
use super::window::{ReplyLayers, Window};
use crate::contexts::Negotiated;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::wire::Form;

/// A reply stalls if it advances by less than this many bytes without reaching the end of the
/// request, or if it did not fit the budget.
const PROGRESS: u64 = 512;
/// A reply that advances by this many bytes resets the count of stalled replies.
pub(super) const STRIDE: u64 = 64 << 10;
/// The limit on pieces, requested or not. Beyond it, a pass requests only the first missing range.
const MOST_PIECES: usize = 128;

/// The parts of a survey that its passes share.
#[derive(Debug)]
pub(super) struct PassContext {
    pub(super) options: SurveyOptions,
    pub(super) budget: Budget,
    pub(super) stats: SurveyStats,
    /// The requests in flight of other passes.
    pub(super) elsewhere: usize,
    /// True if no other pass can free budget: no room now means never.
    pub(super) alone: bool,
    /// True if budget becomes free when the caller reads on.
    pub(super) unread: bool,
}

/// The state of one pass.
#[derive(Debug)]
pub(super) struct Pass {
    topic: Topic,
    contexts: Negotiated,
    /// The ranges still to request, and the answers not yet read.
    pieces: Pieces,
    window: Window,
    /// The requests in flight, with the chunks received.
    flight: Vec<Reply>,
    sizer: RequestSizer,
    /// On a writable export: earlier answers about bytes that are still to be requested.
    retained: Retained,
    stalled_replies: u32,
    /// The number of failures of the request that starts at an offset, until it is answered or
    /// given up. The first unanswered range is always requested next, so it is one of the two before
    /// long, and there are never more entries than requests were in flight.
    failures: BTreeMap<u64, u32>,
    /// No request may reach beyond this byte.
    reachable: u64,
    /// See [`SurveyStats::assumed_bytes`].
    pub(super) assumed_bytes: u64,
}

impl Pass {
    /// Creates a pass without any range.
    pub(super) fn new(topic: Topic, contexts: Negotiated, options: &SurveyOptions) -> Self {
        Self {
            topic,
            contexts,
            pieces: Pieces::default(),
            window: Window::default(),
            flight: Vec::new(),
            sizer: RequestSizer::new(options.max_request.min(FIRST_EXTENDED_REQUEST)),
            retained: Retained::default(),
            stalled_replies: 0,
            failures: BTreeMap::new(),
            reachable: options.export.reachable(),
            assumed_bytes: 0,
        }
    }

    /// Adds a first range to request.
    pub(super) fn over(mut self, range: Range<u64>) -> Self {
        self.ask_about(range, Answer::new(Status::UNKNOWN));
        self
    }

    /// Adds a range to request after all others. `known` holds for all of it.
    fn ask_about(&mut self, range: Range<u64>, known: Answer) {
        // no request can cover the bytes beyond the last whole block
        let end = self.reachable.clamp(range.start, range.end);
        self.pieces.push(range.start..end, known, PieceState::Open);
        self.assumed_bytes += range.end - end;
        self.pieces.push(end..range.end, known.combine(self.safe_status()), PieceState::Settled);
    }

    /// The combined safe status of all contexts of the pass.
    fn safe_status(&self) -> Status {
        let each = self.contexts.slots().iter().map(|slot| slot.kind.safe_status());
        each.fold(Status::UNKNOWN, Status::combine)
    }

    /// Adds an answer of the bitmaps: a dirty range to request, a clean one as settled.
    pub(super) fn follow_up(&mut self, answer: &Extent<Answer>) {
        if answer.status().status.dirty() == Some(true) {
            self.ask_about(answer.range(), *answer.status());
        } else {
            self.pieces.push(answer.range(), *answer.status(), PieceState::Settled);
        }
    }

    /// True if nothing is left to request, to await or to read but the open window.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// True if budget becomes free when the pass is read.
    pub(super) fn is_unread(&self) -> bool {
        let is_answered = |piece: &Piece| matches!(piece.state, PieceState::Answered(_));
        self.window.is_unread() || self.pieces.iter().take_while(|piece| piece.is_ready()).any(is_answered)
    }

    /// The number of pieces that the pass may still take.
    pub(super) fn room(&self) -> usize {
        MOST_PIECES.saturating_sub(self.pieces.len())
    }

    /// True if something can be read, or will be without another request.
    pub(super) fn is_provided(&self) -> bool {
        self.pieces.iter().next().is_some_and(|first| !first.is_open())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flight.len()
    }

    pub(super) fn awaits(&self, id: RequestId) -> bool {
        self.flight.iter().any(|reply| reply.id == id)
    }

    /// Moves extents to the queue, until it has `most`: those left in the open window, or else those of
    /// the next piece. Returns `false` if neither is there, because the next bytes have no answer yet.
    pub(super) fn read(&mut self, queue: &mut Queue, most: usize) -> Result<bool, StreamError> {
        if self.window.read(queue, most)? {
            return Ok(true);
        }
        match self.pieces.pop_ready() {
            Some(Piece { range, known, state: PieceState::Answered(layers) }) => {
                self.window.open(range, layers, known);
                self.window.read(queue, most)
            }
            Some(Piece { range, known, .. }) => {
                let mut filling = queue.fill_from(range.start, most)?;
                filling.push::<true>(range.end, known.pack());
                filling.finish(range.end);
                Ok(true)
            }
            None => {
                self.window.release_unused();
                Ok(false)
            }
        }
    }

    /// Returns the next request, unless everything is requested or enough is in flight.
    ///
    /// Fails when the next range has already failed too often.
    pub(super) fn next_request(
        &mut self,
        id: RequestId,
        cx: &mut PassContext,
    ) -> Result<Option<Request>, SurveyError> {
        let Some((place, awaits)) = self.pieces.first_open() else {
            return Ok(None);
        };
        if !self.may_ask(awaits, cx) {
            return Ok(None);
        }
        let asked = self.span(place, &cx.options)?;
        self.check_failures(&asked, cx)?;
        self.retained.skip_to(asked.start);
        self.pieces.ask(place, asked.end, id);
        self.flight.push(Reply::new(id, asked.clone(), self.contexts.slots().len()));
        Ok(Some(Request {
            id,
            topic: self.topic,
            offset: asked.start,
            length: asked.end - asked.start,
            context_ids: self.contexts.ids().collect(),
            one_extent: cx.options.one_extent,
        }))
    }

    /// Decides whether a request may go out now. `awaits` says that an earlier range is awaited already.
    ///
    /// With nothing in flight and nothing to read it always may. Otherwise the number of requests is
    /// limited, and all but the request for the first missing range must also expect a reply that fits
    /// the budget; this one too, while there is something to read.
    fn may_ask(&self, awaits: bool, cx: &PassContext) -> bool {
        let flying = self.flight.len() + cx.elsewhere;
        if flying == 0 && !cx.unread {
            return true;
        }
        // the first reply shows which range one reply covers
        let known = self.flight.is_empty() || self.sizer.known;
        if flying >= cx.options.width() || !known {
            return false;
        }
        let first = !awaits && cx.alone && !cx.unread;
        let expected = self.sizer.expected.saturating_mul(self.flight.len() as u64 + 1);
        first || self.room() > 0 && cx.budget.has_room_for(expected, self.share(&cx.budget))
    }

    /// The bytes of the next request: whole blocks from the first byte to ask about, as many as the
    /// sizer allows, none beyond the open pieces.
    fn span(&self, place: usize, options: &SurveyOptions) -> Result<Range<u64>, SurveyError> {
        let block = options.export.block();
        let first = self.pieces.iter().nth(place).ok_or_else(|| bug("a range to ask about is not there"))?;
        let start = first.range.start - first.range.start % block;
        let most = self.sizer.length;
        let most = start.saturating_add((most - most % block).max(block));
        // retained answers about bytes ahead exist for one range only
        let end = self.pieces.span_end(place, most, options.export.read_only, options.join_details);
        let end = end.ok_or_else(|| bug("a range to ask about has no end"))?;
        Ok(start..end.next_multiple_of(block).min(self.reachable))
    }

    /// The part of the budget that this pass may fill. The answers of the bitmaps are held while
    /// the details are requested, so they must leave half of it.
    fn share(&self, budget: &Budget) -> usize {
        let whole = budget.limit;
        if self.topic == Topic::Bitmaps { whole / 2 } else { whole }
    }

    /// Decides whether a chunk of `length` bytes is within the limits.
    pub(super) fn admit(
        &mut self,
        id: RequestId,
        length: u64,
        form: Form,
        cx: &mut PassContext,
    ) -> Admission {
        let share = self.share(&cx.budget);
        let has_room = cx.budget.has_room_for(length, share) || self.make_room(id, length, share, cx);
        let waited_for = cx.alone && !cx.unread && self.pieces.is_first(id);
        let Some(reply) = self.flight.iter_mut().find(|reply| reply.id == id) else {
            return Admission::Drain;
        };
        reply.hopeless |= waited_for && !has_room;
        reply.admit(length, form, has_room, &cx.options)
    }

    /// Drops answers after this request until `length` more bytes fit; they will be requested
    /// again. Drops nothing if that would not be enough.
    fn make_room(&mut self, id: RequestId, length: u64, share: usize, cx: &mut PassContext) -> bool {
        let spare = self.held_after(id);
        if spare == 0 || !cx.budget.has_room_for(length.saturating_sub(spare), share) {
            return false;
        }
        let flying: Vec<RequestId> = self.pieces.after(id).filter_map(Piece::asked_in).collect();
        for reply in self.flight.iter_mut().filter(|reply| flying.contains(&reply.id)) {
            reply.evict();
        }
        while !cx.budget.has_room_for(length, share) && self.pieces.reopen_last_after(id) {
            cx.stats.dropped += 1;
        }
        cx.budget.has_room_for(length, share)
    }

    /// The bytes of payload held for ranges after this request.
    fn held_after(&self, id: RequestId) -> u64 {
        let mut held = 0;
        let mut last: Option<&Arc<ReplyLayers>> = None;
        for piece in self.pieces.after(id) {
            match &piece.state {
                PieceState::Answered(layers) if last.is_none_or(|last| !Arc::ptr_eq(last, layers)) => {
                    held += payload_bytes(layers);
                    last = Some(layers);
                }
                PieceState::Asked(other) => {
                    let reply = self.flight.iter().find(|reply| reply.id == *other);
                    held += reply.map_or(0, Reply::held);
                }
                _ => {}
            }
        }
        held
    }

    /// Takes one chunk of a reply in flight.
    pub(super) fn chunk(
        &mut self,
        id: RequestId,
        payload: Vec<u8>,
        form: Form,
        cx: &mut PassContext,
    ) -> Result<(), SurveyError> {
        let Some(reply) = self.flight.iter_mut().find(|reply| reply.id == id) else {
            return Err(bug("a chunk belongs to a reply that nobody awaits"));
        };
        let taken = reply.chunk(payload, form, self.contexts.slots(), cx);
        taken.map_err(|fault| self.refuse(id, fault, cx))
    }

    /// Ends a request in flight whose reply breaks the protocol.
    pub(super) fn refuse(&mut self, id: RequestId, fault: ReplyFault, cx: &mut PassContext) -> SurveyError {
        match self.take_reply(id) {
            Ok(reply) => self.refuse_taken(&reply, fault, cx),
            Err(bug) => bug,
        }
    }

    fn refuse_taken(&mut self, reply: &Reply, fault: ReplyFault, cx: &mut PassContext) -> SurveyError {
        self.give_up(reply, cx);
        SurveyError::Reply { offset: reply.asked.start, fault }
    }

    /// The offset at which a request in flight starts.
    pub(super) fn offset_of(&self, id: RequestId) -> Option<u64> {
        self.flight.iter().find(|reply| reply.id == id).map(|reply| reply.asked.start)
    }

    /// The id of the context with this name, if the pass asks about it.
    pub(super) fn context_id(&self, name: &str) -> Option<u32> {
        self.contexts.slots().iter().find(|slot| slot.name == name).map(|slot| slot.id)
    }

    /// Discards a request that the server has failed. Nothing of its reply remains, and its range
    /// is open again.
    ///
    /// Fails when the same range has failed too often.
    pub(super) fn abandon(&mut self, id: RequestId, cx: &mut PassContext) -> Result<(), SurveyError> {
        let reply = self.take_reply(id)?;
        self.give_up(&reply, cx);
        self.check_failures(&reply.asked, cx)
    }

    /// Fails if a range has failed too often.
    fn check_failures(&self, asked: &Range<u64>, cx: &PassContext) -> Result<(), SurveyError> {
        match self.failures.get(&asked.start) {
            Some(&failures) if failures > cx.options.max_retries => {
                Err(SurveyError::Failing { range: asked.clone(), failures })
            }
            _ => Ok(()),
        }
    }

    /// Counts a failed request. Opens its range again, or gives it the safe status if the caller
    /// prefers that to an error.
    fn give_up(&mut self, reply: &Reply, cx: &mut PassContext) {
        cx.stats.failed += 1;
        let start = reply.asked.start;
        let failures = self.failures.entry(start).or_default();
        *failures = failures.saturating_add(1);
        if *failures > cx.options.max_retries && cx.options.safe_on_failure {
            self.assumed_bytes += self.pieces.settle(reply.id, self.safe_status());
            self.failures.remove(&start);
        } else {
            self.pieces.reopen(reply.id);
        }
    }

    fn take_reply(&mut self, id: RequestId) -> Result<Reply, SurveyError> {
        let place = self.flight.iter().position(|reply| reply.id == id);
        place.map(|place| self.flight.remove(place)).ok_or_else(|| bug("nobody awaits this reply"))
    }

    /// Turns a complete reply into an answer, up to the end that all its contexts describe. A reply
    /// that did not fit the budget is requested again.
    pub(super) fn finish(&mut self, id: RequestId, cx: &mut PassContext) -> Result<(), SurveyError> {
        let mut reply = self.take_reply(id)?;
        self.sizer.expect(reply.wanted.min(cx.budget.limit as u64));
        if reply.is_given_up() {
            return self.ask_again(&reply, cx);
        }
        let mut forgiven = cx.stats.forgiven;
        let layers = reply.take_layers(self.contexts.slots(), &cx.options, &mut forgiven);
        let layers = layers.map_err(|fault| self.refuse_taken(&reply, fault, cx))?;
        self.failures.remove(&reply.asked.start);
        let payload_bytes = payload_bytes(&layers);
        let descriptors: usize = layers.iter().map(Layer::descriptors).sum();
        self.accept(id, layers, &mut forgiven, cx)?;
        cx.stats.replies += 1;
        cx.stats.payload_bytes += payload_bytes;
        cx.stats.descriptors += descriptors as u64;
        cx.stats.forgiven = forgiven;
        Ok(())
    }

    /// Opens the range of a reply that did not fit, to request it again.
    ///
    /// Where nothing will become free, the next request must be shorter, or, if this one was about
    /// a single block, retained answers make room. If there are none either, the survey fails.
    fn ask_again(&mut self, reply: &Reply, cx: &mut PassContext) -> Result<(), SurveyError> {
        cx.stats.failed += 1;
        self.pieces.reopen(reply.id);
        if reply.evicted {
            // it was dropped for one that is read earlier, and is no sign of a stall
            return Ok(());
        }
        if !cx.unread {
            self.count_progress(0, cx)?;
        }
        let Reply { asked, wanted, hopeless, .. } = reply;
        let (length, block) = (asked.end - asked.start, cx.options.export.block());
        if !hopeless && *wanted <= self.share(&cx.budget) as u64 {
            // it fits as soon as other payloads have been read
            return Ok(());
        }
        if length > block {
            self.sizer.halve(length);
            return Ok(());
        }
        let coarsened = self.retained.coarsen(self.contexts.slots(), asked.start);
        cx.stats.retained_coarsened += coarsened;
        if coarsened > 0 || !hopeless {
            return Ok(());
        }
        Err(SurveyError::OverBudget { offset: asked.start, length, budget: cx.budget.limit })
    }

    /// Takes the answers of the layers, up to the end of the shortest.
    fn accept(
        &mut self,
        id: RequestId,
        mut layers: ReplyLayers,
        forgiven: &mut Forgiven,
        cx: &mut PassContext,
    ) -> Result<(), SurveyError> {
        let question = self.pieces.in_question(id);
        let (question, most) = question.ok_or_else(|| bug("a reply answers no question"))?;
        let shortest = layers.iter().map(Layer::end).min();
        let shortest = shortest.ok_or_else(|| bug("a reply has no context"))?;
        let mut end = shortest.min(most);
        if end <= question.start {
            // the reply covers only bytes of the block that are already done: the rest of the block
            // gets the safe status
            let block = cx.options.export.block();
            end = (question.start + 1).next_multiple_of(block).min(most);
            forgiven.split_blocks += 1;
        }
        let advanced = end - question.start;
        // a short request that is answered whole says nothing about the server's progress
        if end < question.end || advanced >= STRIDE {
            self.count_progress(advanced, cx).inspect_err(|_| self.pieces.reopen(id))?;
        }
        let unused = layers.iter().filter(|one| one.end() > end).map(|one| one.bytes_beyond(end)).sum();
        let asked = question.end - question.start;
        self.sizer.learn(advanced, asked, payload_bytes(&layers), unused, &cx.options);
        let fresh = layers.len();
        layers.extend(self.retained.layers());
        // On a writable export the answers about bytes not yet done are compared with the next reply.
        // Elsewhere the next reply replaces them: every reply carries every context.
        if let Some(fresh) = layers.get(..fresh).filter(|_| !cx.options.export.read_only) {
            cx.stats.retained_coarsened +=
                self.retained.add(fresh, self.contexts.slots(), end, &mut cx.budget);
        }
        self.pieces.answer(id, question.end, end, &Arc::new(layers));
        Ok(())
    }

    /// Counts replies that made almost no progress, until one advances by a [`STRIDE`]. Too many of
    /// them end the survey.
    fn count_progress(&mut self, advanced: u64, cx: &PassContext) -> Result<(), SurveyError> {
        match advanced {
            STRIDE.. => self.stalled_replies = 0,
            PROGRESS.. => {}
            _ => self.stalled_replies += 1,
        }
        if self.stalled_replies > cx.options.max_stalled_replies {
            let offset = self.pieces.unanswered().unwrap_or(cx.options.range.start);
            return Err(SurveyError::Stalled { offset, replies: self.stalled_replies });
        }
        Ok(())
    }
}

fn payload_bytes(layers: &[Layer]) -> u64 {
    layers.iter().map(|layer| layer.bytes() as u64).sum()
}
