//! Actions brought onto the grid of blocks: outwards for copies, inwards for zeroes.

use super::source::ActionSource;
use super::{Access, BlockSize};
use crate::action::Action;
use crate::extent::Extent;
use crate::stream::ExtentStream;

/// Actions in, actions out. Of the extents that come out, those that are copied or zeroed are whole blocks, except beside the end of the disk and
/// beside bytes that must not be touched.
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

    /// The end of the whole blocks at the front of an extent; not above its start when there are none.
    fn end_of_whole_blocks(&self, head: &Extent<Action>) -> u64 {
        let block = self.block;
        if block.is_aligned(head.start()) { block.floor(head.end()) } else { head.start() }
    }

    /// One block, or the tail of the disk, or the piece of a block up to a byte that must not be touched: all of it gets one action.
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

impl<S: ExtentStream<Status = Action>> ExtentStream for BlockGrid<S> {
    type Status = Action;
    type Error = S::Error;

    fn next_extent(&mut self) -> Result<Option<Extent<Action>>, S::Error> {
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

/// What there is in one block.
#[derive(Default)]
struct Mix {
    copy: bool,
    skip: bool,
    /// Some bytes are zero, and the value says whether all of these may be unmapped.
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

    /// What to do with all of it; `whole` when it is all of its block.
    fn action(&self, whole: bool) -> Action {
        match self.zero {
            _ if self.copy => Action::Copy,
            Some(may_unmap) if whole && !self.skip => Action::Zero { may_unmap },
            Some(_) => Action::Copy,
            None => Action::Skip,
        }
    }
}
