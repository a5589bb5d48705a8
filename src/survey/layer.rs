//! One context's checked answer, as a stream of extents read straight from its payload.

use alloc::sync::Arc;
use core::ops::Range;

use super::budget::Payload;
use super::contexts::Meaning;
use super::rules::Usable;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::ExtentStream;
use crate::wire::{Descriptor, Form, RawDescriptor};

/// What is known of some bytes, and whether two replies disagreed about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) disputed: bool,
}

impl Answer {
    pub(super) fn new(status: Status) -> Self {
        Self { status, disputed: false }
    }

    /// Joins two answers about the same bytes; the safer one holds.
    pub(super) fn join(self, other: &Self) -> Self {
        Self {
            status: self.status.combine(other.status),
            disputed: self.disputed || other.disputed || self.status.contradicts(other.status),
        }
    }
}

/// Where a payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A reply.
    Server,
    /// Joined from the rests of earlier replies: flags may carry [`DISPUTED`].
    Rests,
}

/// Marks, in joined rests, bytes about which replies disagreed.
pub(super) const DISPUTED: u64 = 1 << 63;

/// The usable descriptors of one payload at their offsets. Cloning shares the payload.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    payload: Arc<Payload>,
    origin: Origin,
    form: Form,
    meaning: Meaning,
    usable: Usable,
    /// The next descriptor.
    next: usize,
    /// Where it starts.
    position: u64,
}

impl Layer {
    /// A context's answer in a reply about bytes from `start` on.
    pub(super) fn new(payload: Payload, form: Form, meaning: Meaning, start: u64, usable: Usable) -> Self {
        let origin = Origin::Server;
        Self { payload: Arc::new(payload), origin, form, meaning, usable, next: 0, position: start }
    }

    /// Joined rests, in the extended form.
    pub(super) fn of_rests(payload: Payload, meaning: Meaning, start: u64, usable: Usable) -> Self {
        Self { origin: Origin::Rests, ..Self::new(payload, Form::Extended, meaning, start, usable) }
    }

    /// The flags of a descriptor, without what has no meaning but with the mark.
    pub(super) fn known_flags(&self, flags: u64) -> u64 {
        match self.origin {
            Origin::Server => self.meaning.known_flags(flags),
            Origin::Rests => flags,
        }
    }

    /// The byte behind the last that is described.
    pub(super) fn end(&self) -> u64 {
        self.usable.end
    }

    /// Whether its payload counts against the budget.
    pub(super) fn is_counted(&self) -> bool {
        self.payload.is_counted()
    }

    /// The bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        self.payload.as_slice().len()
    }

    /// The descriptors that are used.
    pub(super) fn descriptors(&self) -> usize {
        self.usable.descriptors
    }

    /// The descriptors that are still to be read.
    pub(super) fn left(&self) -> usize {
        self.usable.descriptors - self.next
    }

    /// Passes over the descriptors that end at or before `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        while let Some(descriptor) = self.peek() {
            let end = self.end_of(descriptor);
            if end > offset {
                break;
            }
            self.position = end;
            self.next += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<Descriptor> {
        if self.next >= self.usable.descriptors {
            return None;
        }
        let list = self.payload.as_slice().get(self.form.header_size()..)?;
        match self.form {
            Form::Compact => list.as_chunks().0.get(self.next).map(|raw: &[u8; 8]| raw.read()),
            Form::Extended => list.as_chunks().0.get(self.next).map(|raw: &[u8; 16]| raw.read()),
        }
    }

    /// The next extent, cut to `range`; what lies before it is passed over. `None` when the layer ends before.
    #[inline]
    pub(super) fn next_within(&mut self, range: &Range<u64>) -> Option<Extent<u64>> {
        while let Some(descriptor) = self.peek() {
            let start = self.position;
            self.position = self.end_of(descriptor);
            self.next += 1;
            if self.position > range.start {
                return Extent::from_range(start..self.position, descriptor.flags).ok()?.clip(range);
            }
        }
        None
    }

    /// What flags mean.
    #[inline]
    pub(super) fn answer(&self, flags: u64) -> Answer {
        match self.origin {
            Origin::Server => Answer::new(self.meaning.status(flags)),
            Origin::Rests => {
                Answer { status: self.meaning.status(flags & !DISPUTED), disputed: flags & DISPUTED != 0 }
            }
        }
    }

    #[inline]
    fn end_of(&self, descriptor: Descriptor) -> u64 {
        self.position.saturating_add(descriptor.length).min(self.usable.end)
    }
}

/// The raw flags: [`Layer::answer`] gives them their meaning.
impl ExtentStream for Layer {
    type Status = u64;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        let Some(descriptor) = self.peek() else {
            return Ok(None);
        };
        let end = self.end_of(descriptor);
        let extent = Extent::from_range(self.position..end, descriptor.flags)?;
        self.position = end;
        self.next += 1;
        Ok(Some(extent))
    }
}
