//! One pass over a range with one set of contexts: what to ask next, and the window that each reply becomes.

use alloc::vec::Vec;
use core::ops::Range;

use super::budget::Budget;
use super::contexts::Negotiated;
use super::error::{ReplyFault, SurveyError};
use super::layer::{Answer, Layer};
use super::options::SurveyOptions;
use super::reply::Reply;
use super::request::{Admission, Request, RequestId, Topic};
use super::rests::Rests;
use super::stats::{Forgiven, SurveyStats};
use super::window::Window;
use crate::status::Status;

/// Replies that advance by less than this many bytes, without reaching the end of what was asked, are crumbs; so are those that did not
/// fit the budget.
const CRUMB: u64 = 512;
/// A reply that advances by so many bytes makes up for the crumbs before it.
const STRIDE: u64 = 64 << 10;
/// After a reply that did not fit the budget, so many must fit before more is asked again.
const CAUTION: u32 = 8;

/// What every step of a pass needs to see and to count.
pub(super) struct Scene<'a> {
    pub(super) options: &'a SurveyOptions,
    pub(super) budget: &'a mut Budget,
    pub(super) stats: &'a mut SurveyStats,
}

/// The state of one pass.
#[derive(Debug)]
pub(super) struct Pass {
    topic: Topic,
    contexts: Negotiated,
    /// What no window has covered yet.
    todo: Range<u64>,
    /// How many bytes to ask about next.
    step: u64,
    /// The request in flight, and what has come of its reply.
    reply: Option<Reply>,
    /// So many replies must fit before the step grows again.
    caution: u32,
    /// On a writable export: what earlier replies said of bytes that are still to do.
    rests: Rests,
    crumbs: u32,
}

impl Pass {
    pub(super) fn new(topic: Topic, contexts: Negotiated, todo: Range<u64>, options: &SurveyOptions) -> Self {
        let step = options.max_request;
        Self { topic, contexts, todo, step, reply: None, caution: 0, rests: Rests::default(), crumbs: 0 }
    }

    /// Goes over another range. What was learned of the size of the server's replies stays, and what it said of that
    /// range already.
    pub(super) fn restart(&mut self, todo: Range<u64>) {
        self.rests.skip_to(todo.start);
        self.todo = todo;
    }

    pub(super) fn is_over(&self) -> bool {
        self.todo.is_empty()
    }

    pub(super) fn awaits(&self, id: RequestId) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.id == id)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.reply.is_some()
    }

    /// The next request, unless one is in flight or all is done.
    pub(super) fn next_request(&mut self, id: RequestId, options: &SurveyOptions) -> Option<Request> {
        if self.is_waiting() || self.is_over() {
            return None;
        }
        let asked = self.aligned(options);
        self.reply = Some(Reply::new(id, asked.clone(), self.contexts.slots().len()));
        Some(Request {
            id,
            topic: self.topic,
            offset: asked.start,
            length: asked.end - asked.start,
            context_ids: self.contexts.ids().collect(),
            one_extent: options.one_extent,
        })
    }

    /// Whole blocks, from the one that holds the first byte to do: as many as the step allows, none past what is to do.
    fn aligned(&self, options: &SurveyOptions) -> Range<u64> {
        let block = u64::from(options.connection.min_block);
        let start = self.todo.start - self.todo.start % block;
        let step = (self.step - self.step % block).max(block);
        let end = self.todo.end.next_multiple_of(block).min(options.connection.size);
        start..end.min(start.saturating_add(step))
    }

    /// Whether a chunk of so many bytes may be taken, by the limits.
    pub(super) fn admit(&mut self, length: u64, scene: &mut Scene<'_>) -> Admission {
        // the bitmaps' answer is held while the details are asked: it must leave them half of the budget
        let whole = scene.budget.limit();
        let share = if self.topic == Topic::Bitmaps { whole / 2 } else { whole };
        let has_room = scene.budget.has_room_for(length, share);
        match &mut self.reply {
            Some(reply) => reply.admit(length, has_room, scene.options),
            None => Admission::Drain,
        }
    }

    /// Takes one chunk of the reply in flight.
    pub(super) fn chunk(&mut self, payload: Vec<u8>, scene: &mut Scene<'_>) -> Result<(), SurveyError> {
        let Some(reply) = &mut self.reply else {
            return Ok(());
        };
        let slots = self.contexts.slots();
        reply.chunk(payload, slots, scene.options, scene.budget).map_err(|fault| self.failed(fault, scene))
    }

    /// Forgets the request in flight; nothing of its reply remains.
    pub(super) fn abandon(&mut self, scene: &mut Scene<'_>) {
        scene.stats.failed += u64::from(self.reply.take().is_some());
    }

    fn failed(&mut self, fault: ReplyFault, scene: &mut Scene<'_>) -> SurveyError {
        let offset = self.reply.as_ref().map_or(self.todo.start, |reply| reply.asked.start);
        self.abandon(scene);
        SurveyError::Reply { offset, fault }
    }

    /// Turns the complete reply into a window over what all its contexts describe, in which `known` holds besides. `None` when the reply did
    /// not fit the budget and smaller requests come next.
    pub(super) fn finish(
        &mut self,
        known: Answer,
        scene: &mut Scene<'_>,
    ) -> Result<Option<Window>, SurveyError> {
        let Some(reply) = self.reply.take() else {
            return Ok(None);
        };
        let asked = reply.asked.clone();
        if reply.over_budget {
            drop(reply);
            scene.stats.failed += 1;
            return self.ask_smaller(&asked, scene).map(|()| None);
        }
        let mut forgiven = Forgiven::default();
        let checked = reply.into_layers(self.contexts.slots(), scene.options, &mut forgiven);
        let layers = checked.map_err(|fault| {
            scene.stats.failed += 1;
            SurveyError::Reply { offset: asked.start, fault }
        })?;
        let window = self.cover(&asked, layers.as_slice(), known, &mut forgiven, scene)?;
        scene.stats.replies += 1;
        scene.stats.payload_bytes += layers.iter().map(|layer| layer.bytes() as u64).sum::<u64>();
        scene.stats.descriptors += layers.iter().map(|layer| layer.descriptors() as u64).sum::<u64>();
        scene.stats.forgiven.add(&forgiven);
        Ok(Some(window))
    }

    /// Halves the step. When a single block was too much already, makes room, or fails.
    fn ask_smaller(&mut self, asked: &Range<u64>, scene: &mut Scene<'_>) -> Result<(), SurveyError> {
        self.count_crumb(0, scene)?;
        let length = asked.end - asked.start;
        let block = u64::from(scene.options.connection.min_block);
        if length <= block {
            let coarsened = self.rests.coarsen(self.contexts.slots(), self.todo.start);
            scene.stats.rests_coarsened += coarsened;
            if coarsened > 0 {
                return Ok(());
            }
            return Err(SurveyError::OverBudget {
                offset: asked.start,
                length,
                budget: scene.budget.limit(),
            });
        }
        self.step = length / 2;
        self.caution = CAUTION;
        Ok(())
    }

    /// The window up to where the shortest of the layers ends.
    fn cover(
        &mut self,
        asked: &Range<u64>,
        layers: &[Layer],
        known: Answer,
        forgiven: &mut Forgiven,
        scene: &mut Scene<'_>,
    ) -> Result<Window, SurveyError> {
        let shortest = layers.iter().map(Layer::end).min().unwrap_or(asked.start);
        let mut end = shortest.min(self.todo.end);
        if end <= self.todo.start {
            // all that was said lies in the part of the block that is done: the rest of it gets the safe status
            let block = u64::from(scene.options.connection.min_block);
            end = (self.todo.start + 1).next_multiple_of(block).min(self.todo.end);
            forgiven.split_blocks += 1;
        }
        if end < asked.end.min(self.todo.end) || end - self.todo.start >= STRIDE {
            self.count_crumb(end - self.todo.start, scene)?;
        }
        let range = self.todo.start..end;
        let rests = self.rests.layers().map(|rest| (rest, Status::UNKNOWN));
        let fresh = layers.iter().cloned().zip(self.contexts.slots());
        let fresh = fresh.map(|(layer, slot)| (layer, slot.meaning.safe_status()));
        let window = Window::new(&range, fresh.chain(rests), known);
        self.todo.start = end;
        self.caution = self.caution.saturating_sub(1);
        if self.caution == 0 {
            self.step = self.step.saturating_mul(2).min(scene.options.max_request);
        }
        self.keep_rests(layers, scene);
        Ok(window)
    }

    /// Counts a reply that advanced by so little that a server which goes on like this is not worth waiting for.
    fn count_crumb(&mut self, advanced: u64, scene: &Scene<'_>) -> Result<(), SurveyError> {
        match advanced {
            STRIDE.. => self.crumbs = 0,
            CRUMB.. => {}
            _ => self.crumbs += 1,
        }
        if self.crumbs > scene.options.max_crumbs {
            return Err(SurveyError::Stalled { offset: self.todo.start, replies: self.crumbs });
        }
        Ok(())
    }

    /// On a writable export, keeps what was said of bytes still to do, to hold it against the next answer about them. Elsewhere the next
    /// answer replaces it: every reply carries every context.
    fn keep_rests(&mut self, layers: &[Layer], scene: &mut Scene<'_>) {
        if !scene.options.connection.read_only {
            let slots = self.contexts.slots();
            scene.stats.rests_coarsened += self.rests.add(layers, slots, self.todo.start, scene.budget);
        }
    }
}
