//! From actions to requests: aligned to blocks, joined over small gaps, split at a maximum, none
//! beyond the end.
//!
//! ```text
//! blocks   |       |       |       |       |       |       |       |  |   the end of the disk cuts the last
//! actions  |--skip---|copy-|-------zero--------|-----skip------|-copy-|
//! plan             |-copy--|--zero-|-copy------|       |       |-copy-|   copies grow, zeroes shrink
//! ```
//!
//! A [`Plan`] reads a stream of [`Action`]s once, holds a few extents, and yields [`PlanStep`]s. It
//! pulls extent by extent and not in blocks, since its caller moves bytes after each step. Of a
//! merge that is decided this takes 11 to 18 ns more for each descriptor (a million a side, 29
//! November 2026), and moving the bytes of a step takes many microseconds:
//!
//! ```
//! use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
//! use nbd_extents::stream::from_iter;
//! use nbd_extents::{Action, Extent};
//!
//! let actions = [
//!     Extent::new(0, 5000, Action::Skip)?,
//!     Extent::new(5000, 100, Action::Copy)?,
//!     Extent::new(5100, 14000, Action::Zero { may_unmap: true })?,
//!     Extent::new(19100, 900, Action::Skip)?,
//! ];
//! let options = PlanOptions::new(20000, BlockSize::new(4096)?)?;
//! let steps: Vec<_> = Plan::new(from_iter(actions), options)
//!     .map(|step| step.unwrap().to_string())
//!     .collect();
//! assert_eq!(steps, ["copy 4096..8192", "zero 8192..16384", "copy 16384..20000"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules
//!
//! - The bytes that a plan moves, applied to the old target, give the new disk.
//! - A block with one byte to copy is copied whole. So is a block that is only partly zero, since a
//!   zero may shrink and never grow. A block is zeroed when every byte of it is zero; it may lose
//!   its space when every byte of it may.
//! - Requests ascend and do not overlap. They start and end on block boundaries, at the end of the
//!   disk, or beside a byte that must not be touched.
//! - Some bytes must not be touched. [Absent](Action::Absent) bytes never, since a read returns
//!   content that the layer does not hold; [skipped](Action::Skip) bytes under
//!   [`Access::DirtyOnly`]. A request ends at such a byte, even within a block, and is not joined
//!   over it.
//! - A gap between two copies, whether skipped or zero, is read through when it is no longer than
//!   [`PlanOptions::join_gaps`] allows and the request still has room for bytes beyond it. A
//!   request never ends in a gap.
//! - The actions must cover the disk from the plan's position to its end, exactly. A byte without
//!   an action is an error, never a skip.
//!
//! # Interrupted and taken up again
//!
//! After each completed step, save [`Plan::position`]. [`PlanOptions::resume`] with the same
//! options gives the remaining steps, equal to those of the first plan, from a stream of the same
//! actions, which may start at 0 or at the position. With several steps in flight, save the start
//! of the first incomplete step: a step's start and end are positions as well.

mod block;
mod blocks;
mod error;
mod held;
mod options;
mod position;
mod source;
mod step;
mod totals;

pub use block::BlockSize;
pub use error::PlanError;
pub use options::{Access, PlanOptions};
pub use position::PlanPosition;
pub use step::PlanStep;
pub use totals::PlanTotals;

use core::iter::FusedIterator;

use blocks::BlockGrid;
use held::Held;
use source::ActionSource;

use crate::action::Action;
use crate::extent::Extent;
use crate::stream::ExtentStream;

/// The requests that carry out a stream of actions, in order.
///
/// It is an iterator; [`next_step`](Self::next_step) is the same for callers that save the position
/// in between. After an error the plan is over: the steps already yielded are valid, and
/// [`position`](Self::position) is the point to resume from.
///
/// ```
/// use nbd_extents::plan::{BlockSize, Plan, PlanOptions, PlanStep};
/// use nbd_extents::stream::from_iter;
/// use nbd_extents::{Action, Extent};
///
/// let actions = || from_iter([Extent::new(0, 3072, Action::Copy).unwrap()]);
/// let options = PlanOptions::new(3072, BlockSize::new(512)?)?.max_copy(1024)?;
///
/// let mut plan = Plan::new(actions(), options);
/// assert_eq!(plan.next_step()?, Some(PlanStep::Copy { range: 0..1024 }));
/// let saved = plan.position();
/// // ... the job is stopped here, and started again
/// let mut rest = Plan::new(actions(), options.resume(saved)?);
/// assert_eq!(rest.next_step()?, Some(PlanStep::Copy { range: 1024..2048 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a plan does nothing unless it is read"]
pub struct Plan<S: ExtentStream<Status = Action>> {
    cells: BlockGrid<BlockGrid<S>>,
    options: PlanOptions,
    /// The rest of a cell that a request did not use up.
    rest: Option<Extent<Action>>,
    /// Cells that were read ahead for a gap to join, and come next.
    held: Held,
    /// The end of the last step.
    position: u64,
    totals: PlanTotals,
    /// The plan has ended or failed.
    over: bool,
}

impl<S: ExtentStream<Status = Action>> Plan<S> {
    /// Creates a plan for these actions.
    pub fn new(actions: S, options: PlanOptions) -> Self {
        let position = options.start;
        let range = position..options.size;
        // the server's blocks come first: a block of the plan consists of whole ones
        let source = ActionSource::new(actions, range.clone());
        let whole = BlockGrid::new(source, options.min_block, Access::All);
        let source = ActionSource::new(whole, range);
        Self {
            cells: BlockGrid::new(source, options.block, options.access),
            options,
            rest: None,
            held: Held::default(),
            position,
            totals: PlanTotals::default(),
            over: false,
        }
    }

    /// Returns the next request, or `None` after the last.
    ///
    /// # Errors
    ///
    /// The stream's first error, and a [`StreamError`](crate::StreamError) where the actions leave
    /// a gap, overlap, or exceed the end of the disk. The plan is then over.
    ///
    /// ```
    /// # use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
    /// # use nbd_extents::stream::from_iter;
    /// # use nbd_extents::{Action, Extent};
    /// let options = PlanOptions::new(8192, BlockSize::new(4096)?)?;
    /// let mut plan = Plan::new(from_iter([Extent::new(0, 4096, Action::Copy)?]), options);
    /// assert!(plan.next_step().is_err(), "the actions say nothing of the second block");
    /// assert_eq!(plan.next_step()?, None, "the plan is over");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_step(&mut self) -> Result<Option<PlanStep>, S::Error> {
        if self.over {
            return Ok(None);
        }
        let step = self.advance();
        self.over = !matches!(step, Ok(Some(_)));
        match &step {
            Ok(Some(step)) => {
                self.position = step.end();
                self.totals.add(step);
            }
            Ok(None) => self.position = self.options.size,
            Err(_) => {}
        }
        step
    }

    /// The end of the last step, from which an interrupted plan can resume.
    ///
    /// After the last step it is the size of the disk.
    ///
    /// ```
    /// # use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
    /// # use nbd_extents::stream::from_iter;
    /// # use nbd_extents::{Action, Extent};
    /// let actions =
    ///     [Extent::new(0, 4096, Action::Copy)?, Extent::new(4096, 4096, Action::Skip)?];
    /// let mut plan =
    ///     Plan::new(from_iter(actions), PlanOptions::new(8192, BlockSize::new(4096)?)?);
    /// plan.next_step()?;
    /// assert_eq!((plan.position().offset, plan.position().is_end()), (4096, false));
    /// assert_eq!(plan.next_step()?, None);
    /// assert!(plan.position().is_end());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn position(&self) -> PlanPosition {
        PlanPosition { offset: self.position, size: self.options.size }
    }

    /// The bytes and requests yielded until now, and the bytes passed over.
    ///
    /// ```
    /// # use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
    /// # use nbd_extents::stream::from_iter;
    /// # use nbd_extents::{Action, Extent};
    /// let actions =
    ///     [Extent::new(0, 4096, Action::Skip)?, Extent::new(4096, 4096, Action::Copy)?];
    /// let mut plan =
    ///     Plan::new(from_iter(actions), PlanOptions::new(8192, BlockSize::new(4096)?)?);
    /// assert_eq!(plan.totals().requests(), 0);
    /// plan.next_step()?;
    /// assert_eq!((plan.totals().bytes.skip, plan.totals().bytes.copy), (4096, 4096));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn totals(&self) -> PlanTotals {
        self.totals
    }

    /// Reads the plan to its end and returns its totals.
    ///
    /// To know them before the first byte moves, measure a clone of the plan. A survey of a server
    /// cannot be read twice: keep its actions in an [`ExtentMap`](crate::map::ExtentMap), and plan
    /// from that.
    ///
    /// # Errors
    ///
    /// As [`next_step`](Self::next_step).
    ///
    /// ```
    /// use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let actions = [Extent::new(0, 100, Action::Copy)?, Extent::new(100, 9900, Action::Skip)?];
    /// let plan = Plan::new(from_iter(actions), PlanOptions::new(10000, BlockSize::new(4096)?)?);
    /// let totals = plan.clone().measure()?;
    /// assert_eq!((totals.bytes.copy, totals.bytes.skip, totals.requests()), (4096, 5904, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn measure(mut self) -> Result<PlanTotals, S::Error> {
        while self.next_step()?.is_some() {}
        Ok(self.totals)
    }

    fn advance(&mut self) -> Result<Option<PlanStep>, S::Error> {
        while let Some(cell) = self.next_cell()? {
            match *cell.status() {
                Action::Copy => return self.copy(&cell).map(Some),
                Action::Zero { may_unmap } => return self.zero(&cell, may_unmap).map(Some),
                Action::Skip | Action::Absent => self.totals.bytes.add(&cell),
            }
        }
        Ok(None)
    }

    fn next_cell(&mut self) -> Result<Option<Extent<Action>>, S::Error> {
        match self.rest.take().or_else(|| self.held.pop()) {
            Some(cell) => Ok(Some(cell)),
            None => self.cells.next_extent(),
        }
    }

    /// The longest possible zero request: up to the maximum, over neighbours with the same kind of
    /// zero.
    fn zero(&mut self, first: &Extent<Action>, may_unmap: bool) -> Result<PlanStep, S::Error> {
        let start = first.start();
        let limit = self.options.limit(start, self.options.max_zero);
        let mut end = self.use_up_to(limit, first);
        while end < limit && self.fill(0)?.is_some_and(|next| next.status() == first.status()) {
            let Some(next) = self.held.pop() else { break };
            end = self.use_up_to(limit, &next);
        }
        Ok(PlanStep::Zero { range: start..end, may_unmap })
    }

    /// The longest possible copy: up to the maximum, over gaps that may be joined.
    fn copy(&mut self, first: &Extent<Action>) -> Result<PlanStep, S::Error> {
        let start = first.start();
        let limit = self.options.limit(start, self.options.max_copy);
        let mut end = self.use_up_to(limit, first);
        while end < limit {
            let Some(next) = self.next_copy(end, limit)? else { break };
            end = self.use_up_to(limit, &next);
        }
        Ok(PlanStep::Copy { range: start..end })
    }

    /// Uses a cell up to `limit` and keeps the rest. Returns the end of the used part.
    fn use_up_to(&mut self, limit: u64, cell: &Extent<Action>) -> u64 {
        self.rest = cell.starting_at(limit);
        cell.end().min(limit)
    }

    /// Takes the next copy if it touches the current one, which ends at `end`, or follows a gap
    /// that may be joined. The gap is then dropped.
    fn next_copy(&mut self, end: u64, limit: u64) -> Result<Option<Extent<Action>>, S::Error> {
        let reach = end.saturating_add(self.options.join_gaps).min(limit - 1);
        let mut nth = 0;
        while let Some(cell) = self.fill(nth)? {
            if cell.start() > reach {
                return Ok(None);
            }
            if *cell.status() == Action::Copy {
                return Ok(self.held.take(nth));
            }
            if cell.end() > reach || !self.options.access.may_touch(*cell.status()) {
                return Ok(None);
            }
            nth += 1;
        }
        Ok(None)
    }

    /// Cell `nth` from now, read if necessary. `None` at the end of the disk, and beyond the room
    /// of the ring.
    fn fill(&mut self, nth: usize) -> Result<Option<Extent<Action>>, S::Error> {
        while self.held.len() <= nth && nth < Held::ROOM {
            let Some(cell) = self.cells.next_extent()? else { break };
            self.held.push(cell);
        }
        Ok(self.held.get(nth))
    }
}

impl<S: ExtentStream<Status = Action>> Iterator for Plan<S> {
    type Item = Result<PlanStep, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_step().transpose()
    }
}

impl<S: ExtentStream<Status = Action>> FusedIterator for Plan<S> {}
