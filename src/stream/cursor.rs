//! A stream that is consumed piece by piece: the step of every merge.

use super::ExtentStream;
use crate::extent::Extent;
use crate::kernel::{Consumed, Side};

/// A stream, and the part of its current extent that has not been consumed.
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

    /// The rest of the current extent, or the next one; `None` at the end.
    #[inline]
    pub(super) fn head(&mut self) -> Result<Option<&Extent<S::Status>>, S::Error> {
        if self.head.is_none() && !self.ended {
            self.head = self.stream.next_extent()?;
            self.ended = self.head.is_none();
        }
        Ok(self.head.as_ref())
    }

    /// Consumes the current extent up to `offset`.
    #[inline]
    pub(super) fn consume_to(&mut self, offset: u64) {
        self.head = self.head.take().and_then(|extent| extent.starting_at(offset));
    }

    /// The side of a merge that a kernel can read, from where this cursor stands.
    pub(super) fn side(&mut self) -> Option<Side<'_>> {
        if self.ended {
            return None;
        }
        let wire = self.stream.lists()?.wire();
        let start = self.head.as_ref().map_or(wire.position, Extent::start);
        Some(Side { wire, start })
    }

    /// Skips the descriptors that a kernel has consumed; the merge stands at `position`.
    pub(super) fn skip(&mut self, consumed: Consumed, position: u64) {
        let Consumed { end, flags, .. } = consumed;
        if let Some(lists) = self.stream.lists() {
            lists.skip(consumed);
        }
        let status = if position < end { self.stream.status_of(flags) } else { None };
        self.head = status.map(|status| Extent::trusted(position, end, status));
    }

    /// The status that the stream gives to a descriptor's flags.
    #[inline]
    pub(super) fn status_of(&self, flags: u64) -> Option<S::Status> {
        self.stream.status_of(flags)
    }
}
