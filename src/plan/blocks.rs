//! Aligns actions to the grid of blocks: copies grow to whole blocks, zeroes shrink to them.

use super::source::ActionSource;
use super::{Access, BlockSize};
use crate::action::Action;
use crate::extent::Extent;
use crate::stream::{ExtentSource, ExtentStream};

/// A stream of actions aligned to blocks. Copies and zeroes are whole blocks, except beside the end
/// of the disk and beside bytes that must not be touched.
#[derive(Clone, Debug)]
pub(super) struct BlockGrid<S> {
    source: ActionSource<S>,
    block: BlockSize,
    access: Access,
}

impl<S: ExtentStream<Status = Action>> BlockGrid<S> {
    pub(super) fn new(source: ActionSource<S>, block: BlockSize, access: Access) -> Self {
        Self { source, block, access }
    }

    /// The end of the whole blocks at the front of an extent; not above its start if there are
    /// none.
    fn end_of_whole_blocks(&self, head: &Extent<Action>) -> u64 {
        let block = self.block;
        if block.is_aligned(head.start()) { block.floor(head.end()) } else { head.start() }
    }

    /// Gives one action to a block, to the tail of the disk, or to the piece of a block before a
    /// byte that must not be touched.
    fn mixed(&mut self, start: u64) -> Result<Extent<Action>, S::Error> {
        let block_end = self.block.end_of(start).min(self.source.end());
        let mut mix = Mix::default();
        while self.source.position() < block_end
            && let Some(head) = self.source.head()?
            && self.access.may_touch(*head.status())
        {
            mix.add(*head.status());
            self.source.use_up_to(head.end().min(block_end));
        }
        let end = self.source.position();
        let whole = self.block.is_aligned(start) && end == block_end;
        Ok(Extent::trusted(start, end, mix.action(whole)))
    }
}

impl<S: ExtentStream<Status = Action>> ExtentSource for BlockGrid<S> {
    type Status = Action;
    type Error = S::Error;

    fn pull(&mut self) -> Result<Option<Extent<Action>>, S::Error> {
        let Some(head) = self.source.head()? else {
            return Ok(None);
        };
        let untouched = !self.access.may_touch(*head.status());
        let end = if untouched { head.end() } else { self.end_of_whole_blocks(&head) };
        if end <= head.start() {
            return self.mixed(head.start()).map(Some);
        }
        self.source.use_up_to(end);
        Ok(Some(Extent::trusted(head.start(), end, *head.status())))
    }
}

/// The actions within one block.
#[derive(Default)]
struct Mix {
    copy: bool,
    skip: bool,
    /// `Some` if some bytes are zero; the value is true if all of these may be unmapped.
    zero: Option<bool>,
}

impl Mix {
    fn add(&mut self, action: Action) {
        match action {
            Action::Copy => self.copy = true,
            Action::Zero { may_unmap } => self.zero = Some(self.zero.unwrap_or(true) && may_unmap),
            Action::Skip | Action::Absent => self.skip = true,
        }
    }

    /// The action for all of it; `whole` if it is the whole of its block.
    fn action(&self, whole: bool) -> Action {
        match self.zero {
            _ if self.copy => Action::Copy,
            Some(may_unmap) if whole && !self.skip => Action::Zero { may_unmap },
            Some(_) => Action::Copy,
            None => Action::Skip,
        }
    }
}
