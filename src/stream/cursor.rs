//! A stream that is consumed piece by piece: the step of every merge.

use core::ops::Range;

use super::ExtentStream;
use crate::error::StreamError;
use crate::kernel::{Consumed, Side};

/// A stream, and its current extent: the last that was read. The merge knows how much of it has
/// been consumed: up to its position.
///
/// So a step of a merge writes nothing here but the extents that it reads. An extent that ends at
/// the position has been consumed, and the next one is due. `T` is the status; a parameter, so that
/// a type with a cursor can derive `Clone`.
#[derive(Clone, Debug)]
pub(super) struct Cursor<S, T> {
    stream: S,
    /// The range of the current extent; empty before the first, [`ENDED`] after the last. After a
    /// block it starts where the merge stands in the extent.
    start: u64,
    end: u64,
    /// Its status; `None` before the first extent and after the last.
    status: Option<T>,
}

/// The end of a cursor whose stream has ended. No extent reaches it, so the stream is not asked
/// again.
const ENDED: u64 = u64::MAX;

impl<S: ExtentStream> Cursor<S, S::Status> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, start: 0, end: 0, status: None }
    }

    /// Reads the next extent where the current one has been consumed.
    #[inline(always)]
    pub(super) fn fill(&mut self, position: u64) -> Result<(), S::Error> {
        if self.end == position {
            match self.stream.next_extent()? {
                Some(next) => {
                    (self.start, self.end) = (next.start(), next.end());
                    self.status = Some(next.into_status());
                }
                None => (self.end, self.status) = (ENDED, None),
            }
        }
        Ok(())
    }

    /// The start of the current extent, or after a block the position of the merge in it.
    #[inline(always)]
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The end of the current extent.
    #[inline(always)]
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The status of the current extent; `None` at the end, if [`fill`](Self::fill) was called
    /// before.
    #[inline(always)]
    pub(super) fn status(&self) -> Option<&S::Status> {
        self.status.as_ref()
    }

    /// The part of the current extent that has not been consumed.
    pub(super) fn rest(&self, position: u64) -> Option<Range<u64>> {
        let rest = self.start.max(position)..self.end;
        (self.status.is_some() && !rest.is_empty()).then_some(rest)
    }

    /// The side of a merge that a kernel can read, from where this cursor stands.
    pub(super) fn side(&mut self, position: u64) -> Option<Side<'_>> {
        if self.end == ENDED {
            return None;
        }
        let rest = self.rest(position);
        let wire = self.stream.lists()?.wire();
        Some(Side { wire, start: rest.map_or(wire.position, |rest| rest.start) })
    }

    /// Skips the descriptors that a kernel has consumed; the merge stands at `position`.
    pub(super) fn skip(&mut self, consumed: Consumed, position: u64) {
        if let Some(lists) = self.stream.lists() {
            lists.skip(consumed);
        }
        (self.start, self.end) = (position, consumed.end);
        self.status = self.stream.status_of(consumed.flags);
    }

    /// The status that the stream gives to a descriptor's flags.
    #[inline]
    pub(super) fn status_of(&self, flags: u64) -> Option<S::Status> {
        self.stream.status_of(flags)
    }
}

/// For an extent that starts beyond the position of the merge: the byte at which all go on, if
/// they share the gap. Otherwise an error about the first bytes that one stream describes and another
/// leaves out.
pub(super) fn beyond_gap(
    position: u64,
    rests: impl Iterator<Item = Option<Range<u64>>> + Clone,
) -> Result<u64, StreamError> {
    let lowest = rests.clone().flatten().min_by_key(|rest| rest.start).unwrap_or(position..position);
    for (silent, rest) in rests.enumerate() {
        if let Some(rest) = rest.filter(|rest| rest.start != lowest.start) {
            return Err(StreamError::Uneven { range: lowest.start..lowest.end.min(rest.start), silent });
        }
    }
    Ok(lowest.start)
}

/// The error where one stream has ended and another goes on.
pub(super) fn one_goes_on(rests: impl Iterator<Item = Option<Range<u64>>> + Clone) -> Option<StreamError> {
    let silent = rests.clone().position(|rest| rest.is_none())?;
    Some(StreamError::Uneven { range: rests.flatten().next()?, silent })
}
