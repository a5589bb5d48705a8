//! The actions that a plan reads: from its position on, without a gap, to the end of the disk.

use core::ops::Range;

use crate::action::Action;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::stream::ExtentStream;

/// A stream of actions that is used piece by piece and must cover the rest of the disk exactly.
/// Actions before the position are dropped.
#[derive(Clone, Debug)]
pub(super) struct ActionSource<S> {
    stream: S,
    head: Option<Extent<Action>>,
    /// All bytes before it have been used.
    position: u64,
    /// The size of the disk.
    end: u64,
    /// The end of the last extent that was read.
    read_to: u64,
    /// The stream has ended and is not read again.
    ended: bool,
}

impl<S: ExtentStream<Status = Action>> ActionSource<S> {
    pub(super) fn new(stream: S, range: Range<u64>) -> Self {
        Self { stream, head: None, position: range.start, end: range.end, read_to: 0, ended: false }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The rest of the current extent, or the next one; it starts at the position. `None` at the
    /// end of the disk.
    pub(super) fn head(&mut self) -> Result<Option<Extent<Action>>, S::Error> {
        while self.head.is_none() && !self.ended {
            match self.stream.next_extent()? {
                Some(extent) => self.head = self.check(extent)?,
                None => {
                    self.ended = true;
                    self.check_gap(self.end)?;
                }
            }
        }
        Ok(self.head)
    }

    /// Uses the current extent up to `offset`, which lies in it or at its end.
    pub(super) fn use_up_to(&mut self, offset: u64) {
        self.head = self.head.take().and_then(|extent| extent.starting_at(offset));
        self.position = offset;
    }

    /// Checks the order of a new extent and returns the part that the plan needs.
    fn check(&mut self, extent: Extent<Action>) -> Result<Option<Extent<Action>>, StreamError> {
        if extent.start() < self.read_to {
            return Err(StreamError::Overlap { start: extent.start(), expected: self.read_to });
        }
        self.read_to = extent.end();
        let needed = extent.starting_at(self.position);
        if let Some(needed) = &needed {
            self.check_gap(needed.start().min(self.end))?;
        }
        if extent.end() > self.end {
            return Err(StreamError::OutOfRange { extent: extent.range(), range: 0..self.end });
        }
        Ok(needed)
    }

    fn check_gap(&self, next: u64) -> Result<(), StreamError> {
        if self.position < next {
            return Err(StreamError::Gap { range: self.position..next });
        }
        Ok(())
    }
}
