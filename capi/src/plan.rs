//! Plans: the requests that carry out a policy on a map.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;
use std::collections::VecDeque;
use std::sync::Arc;

use nbd_extents::action::{Decide, StatusStream};
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanOptions, PlanPosition, PlanStep};
use nbd_extents::stream::ExtentSource;
use nbd_extents::{Extent, Status, StreamError};

use super::border::{self, CallFailure, Journal, Object};
use super::layout::{NBDX_COPY, NBDX_MAY_UNMAP, NBDX_WRITE_ZEROES, nbdx_action, nbdx_totals};
use super::map::nbdx_map;
use super::policy::{PolicyKind, nbdx_policy};

/// The extents that are taken out of a map at one time.
const BATCH: usize = 256;

/// A plan, which is made when its first step is read: until then its options can change.
#[derive(Debug)]
pub struct nbdx_plan {
    journal: Journal,
    map: Arc<ExtentMap<Status>>,
    policy: PolicyKind,
    options: PlanOptions,
    plan: Option<Plan<Decide<Walk, PolicyKind>>>,
    /// Why the plan is over, if it failed.
    failed: Option<CallFailure>,
}

impl Object for nbdx_plan {
    const NAME: &'static str = "plan";

    fn journal(&self) -> &Journal {
        &self.journal
    }
}

/// A shared map as a stream: the map lives as long as the plan, whatever C frees.
#[derive(Clone, Debug)]
struct Walk {
    map: Arc<ExtentMap<Status>>,
    /// Everything before this byte has been taken out.
    position: u64,
    ready: VecDeque<Extent<Status>>,
}

impl ExtentSource for Walk {
    type Status = Status;
    type Error = StreamError;

    fn pull(&mut self) -> Result<Option<Extent<Status>>, StreamError> {
        if self.ready.is_empty() {
            // a look-up takes O(log n), so extents are taken out in batches
            self.ready.extend(self.map.slice(self.position..).extents().take(BATCH));
            self.position = self.ready.back().map_or(self.position, Extent::end);
        }
        Ok(self.ready.pop_front())
    }
}

impl nbdx_plan {
    fn new(map: &nbdx_map, policy: PolicyKind, block_size: u64) -> Result<Self, CallFailure> {
        let map = map.share();
        let range = map.range();
        let start = PlanPosition { offset: range.start, size: range.end };
        let options = PlanOptions::new(range.end, BlockSize::new(block_size)?)?.resume(start)?;
        Ok(Self { journal: Journal::default(), map, policy, options, plan: None, failed: None })
    }

    fn change(
        &mut self,
        change: impl FnOnce(PlanOptions) -> Result<PlanOptions, CallFailure>,
    ) -> Result<c_int, CallFailure> {
        if self.plan.is_some() {
            return Err(CallFailure::new(
                "the options of a plan cannot change after its first step was read",
            ));
        }
        self.options = change(self.options)?;
        Ok(0)
    }

    fn plan(&mut self) -> &mut Plan<Decide<Walk, PolicyKind>> {
        self.plan.get_or_insert_with(|| {
            // the plan drops what lies before its own position
            let position = self.map.range().start;
            let walk = Walk { map: Arc::clone(&self.map), position, ready: VecDeque::new() };
            Plan::new(walk.decide(self.policy), self.options)
        })
    }

    /// Fills `out` with steps. Steps before an error are still handed out, because the plan has gone
    /// beyond them; every later call returns the error.
    fn read(&mut self, out: &mut [MaybeUninit<nbdx_action>]) -> Result<isize, CallFailure> {
        if out.is_empty() {
            return Err(CallFailure::new("the capacity is 0"));
        }
        let mut written = 0;
        for place in out {
            if self.failed.is_some() {
                break;
            }
            match self.plan().next_step() {
                Ok(Some(next)) => place.write(step(&next)),
                Ok(None) => break,
                Err(error) => {
                    self.failed = Some(error.into());
                    break;
                }
            };
            written += 1;
        }
        match &self.failed {
            Some(failure) if written == 0 => Err(failure.clone()),
            _ => Ok(written),
        }
    }
}

fn step(step: &PlanStep) -> nbdx_action {
    let (action, flags) = match step {
        PlanStep::Copy { .. } => (NBDX_COPY, 0),
        PlanStep::Zero { may_unmap, .. } => (NBDX_WRITE_ZEROES, if *may_unmap { NBDX_MAY_UNMAP } else { 0 }),
    };
    nbdx_action { start: step.start(), length: step.length(), action, flags }
}

/// A plan for a policy on what a map describes now.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_new(
    map: *const nbdx_map,
    policy: *const nbdx_policy,
    block_size: u64,
) -> *mut nbdx_plan {
    border::make(|| {
        // SAFETY: as the header says
        let (map, policy) = unsafe { (border::other(map)?, border::other(policy)?) };
        nbdx_plan::new(map, policy.kind, block_size)
    })
}

/// Limits the bytes that one request copies.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_max_copy(plan: *mut nbdx_plan, bytes: u64) -> c_int {
    let work = |plan: &mut nbdx_plan| plan.change(|options| Ok(options.max_copy(bytes)?));
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// Limits the bytes that one request zeroes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_max_zero(plan: *mut nbdx_plan, bytes: u64) -> c_int {
    let work = |plan: &mut nbdx_plan| plan.change(|options| Ok(options.max_zero(bytes)?));
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// Reads through gaps of at most this many bytes.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_join_gaps(plan: *mut nbdx_plan, bytes: u64) -> c_int {
    let work = |plan: &mut nbdx_plan| plan.change(|options| Ok(options.join_gaps(bytes)));
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// Touches no byte that is skipped, not even to fill a block.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_dirty_only(plan: *mut nbdx_plan) -> c_int {
    let work = |plan: &mut nbdx_plan| plan.change(|options| Ok(options.access(Access::DirtyOnly)));
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// Starts at a saved position.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_resume(plan: *mut nbdx_plan, offset: u64, size: u64) -> c_int {
    let work =
        |plan: &mut nbdx_plan| plan.change(|options| Ok(options.resume(PlanPosition { offset, size })?));
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// Reads steps.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_read(
    plan: *mut nbdx_plan,
    out: *mut nbdx_action,
    capacity: usize,
) -> isize {
    let work = |plan: &mut nbdx_plan| {
        // SAFETY: as the header says
        let out = unsafe { border::room(out, capacity, "out") }?;
        plan.read(out)
    };
    // SAFETY: as the header says
    unsafe { border::change(plan, work) }
}

/// The end of the last step that was read.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_position(
    plan: *const nbdx_plan,
    offset: *mut u64,
    size: *mut u64,
) -> c_int {
    let work = |plan: &nbdx_plan| {
        // SAFETY: as the header says
        let (offset, size) = unsafe { (border::place(offset, "offset")?, border::place(size, "size")?) };
        let Some(plan) = &plan.plan else {
            return Err(CallFailure::new("no step of the plan has been read yet"));
        };
        let position = plan.position();
        offset.write(position.offset);
        size.write(position.size);
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(plan, work) }
}

/// The bytes and requests of the steps that were read.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_totals(plan: *const nbdx_plan, totals: *mut nbdx_totals) -> c_int {
    let work = |plan: &nbdx_plan| {
        let totals_of = |plan: &Plan<_>| plan.totals();
        let from = plan.plan.as_ref().map(totals_of).unwrap_or_default();
        // SAFETY: as the header says
        unsafe { border::place(totals, "totals") }?.write(nbdx_totals {
            copy: from.bytes.copy,
            zero: from.bytes.zero,
            skip: from.bytes.skip,
            absent: from.bytes.absent,
            copies: from.copies,
            zeroes: from.zeroes,
        });
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(plan, work) }
}

/// The message of the last call on the plan.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_error(plan: *const nbdx_plan) -> *const c_char {
    // SAFETY: as the header says
    unsafe { border::message(plan) }
}

/// Frees a plan.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_plan_free(plan: *mut nbdx_plan) {
    // SAFETY: as the header says
    unsafe { border::destroy(plan) }
}
