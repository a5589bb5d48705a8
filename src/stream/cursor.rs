//! A stream being consumed piece by piece: what every merge is made of.

use super::ExtentStream;
use crate::extent::Extent;
use crate::kernel::{Input, Taken};

/// A stream and the part of its current extent that has not been used yet.
#[derive(Clone, Debug)]
pub(super) struct Cursor<S: ExtentStream> {
    stream: S,
    head: Option<Extent<S::Status>>,
    /// The stream has ended; it is not asked again.
    ended: bool,
}

impl<S: ExtentStream> Cursor<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, head: None, ended: false }
    }

    /// What is left of the current extent, or the next one; `None` at the end.
    #[inline]
    pub(super) fn head(&mut self) -> Result<Option<&Extent<S::Status>>, S::Error> {
        if self.head.is_none() && !self.ended {
            self.head = self.stream.next_extent()?;
            self.ended = self.head.is_none();
        }
        Ok(self.head.as_ref())
    }

    /// Uses the current extent up to `offset`.
    #[inline]
    pub(super) fn consume_to(&mut self, offset: u64) {
        self.head = self.head.take().and_then(|extent| extent.starting_at(offset));
    }

    /// What a kernel can read, from where this cursor stands.
    pub(super) fn input(&self) -> Option<Input<'_>> {
        let wire = self.stream.wire().filter(|_| !self.ended)?;
        let start = self.head.as_ref().map_or(wire.position, Extent::start);
        Some(Input { wire, start })
    }

    /// Passes over what a kernel has used, up to `position`.
    pub(super) fn pass(&mut self, taken: Taken, position: u64) {
        let Taken { count, end, flags } = taken;
        self.stream.pass(count, end, flags);
        let status = if position < end { self.stream.status_of(flags) } else { None };
        self.head = status.map(|status| Extent::trusted(position, end, status));
    }

    /// What the stream makes of a descriptor's flags.
    #[inline]
    pub(super) fn status_of(&self, flags: u64) -> Option<S::Status> {
        self.stream.status_of(flags)
    }
}
