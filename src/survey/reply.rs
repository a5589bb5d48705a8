//! The reply to one request while its chunks arrive, in any order. Nothing of it is visible until
//! it is complete and checked.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

use smallvec::SmallVec;

use super::budget::Payload;
use super::error::ReplyFault;
use super::layer::Layer;
use super::options::SurveyOptions;
use super::pass::PassContext;
use super::request::{Admission, RequestId};
use super::rules::Rules;
use super::stats::Forgiven;
use super::window::ReplyLayers;
use crate::contexts::GrantedContext;
use crate::wire::{self, Form};

/// A reply that is not yet complete.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) id: RequestId,
    /// The bytes requested.
    pub(super) asked: Range<u64>,
    /// The chunks received, one place per context.
    chunks: SmallVec<[Option<(Payload, Form)>; 2]>,
    /// A chunk was drained because it did not fit the budget.
    over_budget: bool,
    /// A chunk was drained although no other pass and no earlier request held any of the
    /// budget: to wait is no use.
    pub(super) hopeless: bool,
    /// The chunks received were dropped in favour of an earlier request.
    pub(super) evicted: bool,
    /// The reply needs at least this number of bytes of payload. Drained chunks are not added up.
    pub(super) wanted: u64,
    /// The length of a chunk that was drained because it exceeded the limit on descriptors.
    too_long: Option<u64>,
    unknown_contexts: u64,
}

impl Reply {
    /// Creates the reply to a request of which nothing has arrived.
    pub(super) fn new(id: RequestId, asked: Range<u64>, contexts: usize) -> Self {
        Self {
            id,
            asked,
            chunks: (0..contexts).map(|_| None).collect(),
            over_budget: false,
            hopeless: false,
            evicted: false,
            wanted: 0,
            too_long: None,
            unknown_contexts: 0,
        }
    }

    /// True if the reply was drained and its range must be requested again.
    pub(super) fn is_given_up(&self) -> bool {
        self.over_budget || self.evicted
    }

    /// The bytes of payload held.
    pub(super) fn held(&self) -> u64 {
        self.chunks.iter().flatten().map(|(payload, _)| payload.as_slice().len() as u64).sum()
    }

    /// Drops the chunks received. The range must be requested again.
    pub(super) fn evict(&mut self) {
        if self.chunks.iter().any(Option::is_some) {
            self.chunks.fill_with(|| None);
            self.evicted = true;
        }
    }

    /// Decides whether a chunk of `length` bytes may be taken, and records a refusal.
    pub(super) fn admit(
        &mut self,
        length: u64,
        form: Form,
        has_room: bool,
        options: &SurveyOptions,
    ) -> Admission {
        let longest = wire::encoded_size(form, options.max_descriptors);
        if longest.is_some_and(|longest| length > longest as u64) {
            self.too_long = Some(length);
            return Admission::Drain;
        }
        self.wanted = self.wanted.max(self.held().saturating_add(length));
        self.over_budget |= !has_room;
        if self.is_given_up() { Admission::Drain } else { Admission::Take }
    }

    /// Takes one chunk.
    pub(super) fn chunk(
        &mut self,
        payload: Vec<u8>,
        form: Form,
        slots: &[GrantedContext],
        cx: &mut PassContext,
    ) -> Result<(), ReplyFault> {
        let id = match form {
            Form::Compact => wire::parse_compact(&payload)?.context(),
            Form::Extended => wire::parse_extended(&payload)?.context(),
        };
        let Some((slot, chunk)) = slots.iter().zip(&mut self.chunks).find(|(slot, _)| slot.id == id) else {
            if cx.options.strictness.is_strict() {
                return Err(ReplyFault::UnknownContext { id });
            }
            self.unknown_contexts += 1;
            return Ok(());
        };
        if chunk.is_some() {
            return Err(ReplyFault::Twice { context: slot.name.to_string() });
        }
        *chunk = Some((cx.budget.hold(payload), form));
        Ok(())
    }

    /// Checks the complete reply and returns a layer for each context, in the contexts' order.
    pub(super) fn take_layers(
        &mut self,
        slots: &[GrantedContext],
        options: &SurveyOptions,
        forgiven: &mut Forgiven,
    ) -> Result<ReplyLayers, ReplyFault> {
        if let Some(got) = self.too_long {
            return Err(ReplyFault::TooLong { got, limit: options.max_descriptors });
        }
        forgiven.unknown_contexts += self.unknown_contexts;
        let mut layers = ReplyLayers::new();
        for (slot, chunk) in slots.iter().zip(&mut self.chunks) {
            let missing = || ReplyFault::Missing { context: slot.name.to_string() };
            let (payload, form) = chunk.take().ok_or_else(missing)?;
            let mut rules = Rules { options, asked: self.asked.clone(), slot, forgiven };
            let usable = match form {
                Form::Compact => rules.check(wire::parse_compact(payload.as_slice())?.descriptors()),
                Form::Extended => rules.check(wire::parse_extended(payload.as_slice())?.descriptors()),
            };
            layers.push(Layer::new(payload, form, slot.kind, self.asked.start, usable?));
        }
        Ok(layers)
    }
}
