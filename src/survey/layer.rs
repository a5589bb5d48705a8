//! One context's checked answer, as a stream of extents read straight from its payload.

use alloc::sync::Arc;

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

/// The usable descriptors of one payload at their offsets. Cloning shares the payload.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    payload: Arc<Payload>,
    form: Form,
    meaning: Meaning,
    usable: Usable,
    /// The next descriptor.
    next: usize,
    /// Where it starts.
    position: u64,
}

impl Layer {
    pub(super) fn new(payload: Payload, form: Form, meaning: Meaning, start: u64, usable: Usable) -> Self {
        Self { payload: Arc::new(payload), form, meaning, usable, next: 0, position: start }
    }

    /// The byte behind the last that is described.
    pub(super) fn end(&self) -> u64 {
        self.usable.end
    }

    /// The bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        self.payload.as_slice().len()
    }

    /// The descriptors that are used.
    pub(super) fn descriptors(&self) -> usize {
        self.usable.descriptors
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

    #[inline]
    fn end_of(&self, descriptor: Descriptor) -> u64 {
        self.position.saturating_add(descriptor.length).min(self.usable.end)
    }
}

impl ExtentStream for Layer {
    type Status = Answer;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<Answer>>, StreamError> {
        let Some(descriptor) = self.peek() else {
            return Ok(None);
        };
        let end = self.end_of(descriptor);
        let answer = Answer::new(self.meaning.status(descriptor.flags));
        let extent = Extent::from_range(self.position..end, answer)?;
        self.position = end;
        self.next += 1;
        Ok(Some(extent))
    }
}
