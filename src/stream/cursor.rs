//! A stream that is consumed piece by piece: the step of every merge.

use core::ops::Range;

use super::ExtentStream;
use crate::extent::Extent;
use crate::kernel::{Consumed, Side};

/// A stream, and its current extent. The merge knows how much of that has been consumed: up to its
/// position.
///
/// The extent itself keeps its start, so that a step of a merge writes nothing but a new position.
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

    /// The current extent; `None` at the end, if [`fill`](Self::fill) was called before.
    #[inline(always)]
    pub(super) fn head(&self) -> Option<&Extent<S::Status>> {
        self.head.as_ref()
    }

    /// Reads the next extent where the current one has been consumed. Returns whether the stream
    /// goes on at `position`, and `true` at the end.
    #[inline(always)]
    pub(super) fn fill(&mut self, position: u64) -> Result<bool, S::Error> {
        if self.head.is_some() || self.ended {
            return Ok(true);
        }
        self.head = self.stream.next_extent()?;
        self.ended = self.head.is_none();
        Ok(self.head.as_ref().is_none_or(|head| head.start() == position))
    }

    /// The part of the current extent that has not been consumed.
    pub(super) fn rest(&self, position: u64) -> Option<Range<u64>> {
        self.head.as_ref().map(|head| head.start().max(position)..head.end())
    }

    /// Drops the current extent if it ends at `position`.
    #[inline(always)]
    pub(super) fn consume_to(&mut self, position: u64) {
        if self.head.as_ref().is_some_and(|head| head.end() == position) {
            self.head = None;
        }
    }

    /// The side of a merge that a kernel can read, from where this cursor stands.
    pub(super) fn side(&mut self, position: u64) -> Option<Side<'_>> {
        if self.ended {
            return None;
        }
        let rest = self.rest(position);
        let wire = self.stream.lists()?.wire();
        Some(Side { wire, start: rest.map_or(wire.position, |rest| rest.start) })
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
