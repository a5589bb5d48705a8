//! Maps: a whole disk in memory, to be asked anywhere and any number of times.
//!
//! Reading functions take the byte to start from and keep no cursor, so a map can be read by several
//! loops at once.

use core::ffi::{c_char, c_int};
use std::sync::Arc;

use nbd_extents::action::{StatusStream, Totals};
use nbd_extents::map::{Change, ExtentMap};
use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::{Bitmaps, Extent, MAX_END, Status};

use super::border::{self, CallFailure, Journal, Object};
use super::layout::{nbdx_action, nbdx_change, nbdx_extent, nbdx_total, nbdx_totals};
use super::policy::nbdx_policy;
use super::status::{self, Columns, Masks};
use super::survey::nbdx_survey;

/// The extents that are added to a map at one time while it reads a survey.
const BATCH: usize = 4096;

/// A map that grows at its end.
#[derive(Debug)]
pub struct nbdx_map {
    journal: Journal,
    /// Shared with the plans that were made of it: they keep what the map was.
    map: Arc<ExtentMap<Status>>,
    /// The bitmaps that were asked, for extents that come from C.
    bitmaps: Bitmaps,
}

impl Object for nbdx_map {
    const NAME: &'static str = "map";

    fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl nbdx_map {
    fn new(start: u64, bitmaps: u32) -> Result<Self, CallFailure> {
        if start > MAX_END {
            return Err(CallFailure::new(format_args!("a map cannot start at byte {start}")));
        }
        let map = ExtentMap::covering(from_iter([]), start..start)?;
        Ok(Self { journal: Journal::default(), map: Arc::new(map), bitmaps: status::bitmaps(bitmaps) })
    }

    /// The map as it is now, shared with a plan.
    pub(crate) fn share(&self) -> Arc<ExtentMap<Status>> {
        Arc::clone(&self.map)
    }

    /// Adds extents that follow the end of the map and each other; all or none.
    fn append(&mut self, extents: &[Extent<Status>]) -> Result<(), CallFailure> {
        let Some(last) = extents.last() else { return Ok(()) };
        let range = self.map.range().end..last.end();
        let part = ExtentMap::covering(from_iter(extents.iter().copied()), range)?;
        Ok(Arc::make_mut(&mut self.map).append(part.as_slice())?)
    }

    /// Adds what a survey has ready.
    fn read(&mut self, survey: &mut nbdx_survey) -> Result<isize, CallFailure> {
        let (from, end) = (survey.survey().position(), self.map.range().end);
        if from != end {
            return Err(CallFailure::new(format_args!(
                "the survey goes on at byte {from}, but the map ends at byte {end}"
            )));
        }
        let mut number = 0;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let next = match survey.survey().next_extent() {
                Ok(next) => next,
                Err(error) => {
                    // what the survey has given is not lost
                    self.append(&batch)?;
                    return Err(error.into());
                }
            };
            let over = next.is_none();
            number += isize::from(!over);
            batch.extend(next);
            if over || batch.len() == BATCH {
                self.append(&batch)?;
                batch.clear();
            }
            if over {
                return Ok(number);
            }
        }
    }
}

/// An empty map that starts at byte `start`.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_map_new(start: u64, bitmaps: u32) -> *mut nbdx_map {
    border::make(|| nbdx_map::new(start, bitmaps))
}

/// Adds extents to the end of the map.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_append(
    map: *mut nbdx_map,
    extents: *const nbdx_extent,
    nr_extents: usize,
) -> c_int {
    let work = |map: &mut nbdx_map| {
        // SAFETY: as the header says
        let extents = unsafe { border::list(extents, nr_extents, "extents") }?;
        let typed = extents.iter().map(|extent| {
            let &nbdx_extent { start, length, flags, depth, bitmaps, .. } = extent;
            let status = Columns { flags, depth, bitmaps }.status(map.bitmaps)?;
            Ok(Extent::new(start, length, status)?)
        });
        let typed = typed.collect::<Result<Vec<_>, CallFailure>>()?;
        map.append(&typed).map(|()| 0)
    };
    // SAFETY: as the header says
    unsafe { border::change(map, work) }
}

/// Reads a survey's extents into the map.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_read_survey(map: *mut nbdx_map, survey: *mut nbdx_survey) -> isize {
    let work = |map: &mut nbdx_map| {
        // SAFETY: as the header says; a map is not a survey, so the references do not overlap
        let survey = unsafe { border::other_mut(survey) }?;
        border::suspect(survey, |survey| map.read(survey))
    };
    // SAFETY: as the header says
    unsafe { border::change(map, work) }
}

/// Whether the map describes every byte of a range.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_covers(map: *const nbdx_map, start: u64, end: u64) -> c_int {
    let work = |map: &nbdx_map| {
        if start > end {
            return Err(CallFailure::new(format_args!("the range {start}..{end} ends before it starts")));
        }
        map.map.slice(start..end).covers(start..end)?;
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The extent over a byte.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_get(map: *const nbdx_map, offset: u64, out: *mut nbdx_extent) -> c_int {
    let work = |map: &nbdx_map| {
        // SAFETY: as the header says
        let out = unsafe { border::place(out, "out") }?;
        let Some(extent) = map.map.get(offset) else { return Ok(0) };
        out.write(status::extent(&extent));
        Ok(1)
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The extents from a byte on.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_read(
    map: *const nbdx_map,
    from: u64,
    out: *mut nbdx_extent,
    capacity: usize,
) -> isize {
    let work = |map: &nbdx_map| {
        // SAFETY: as the header says
        let out = unsafe { border::room(out, capacity, "out") }?;
        let slice = map.map.slice(from..);
        let mut extents = slice.extents();
        let mut masks = Masks::default();
        border::fill(out, || Ok(extents.next().map(|extent| masks.extent(&extent))))
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The actions of a policy for the bytes from a byte on.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_actions(
    map: *const nbdx_map,
    policy: *const nbdx_policy,
    from: u64,
    out: *mut nbdx_action,
    capacity: usize,
) -> isize {
    let work = |map: &nbdx_map| {
        // SAFETY: as the header says
        let (out, policy) = unsafe { (border::room(out, capacity, "out")?, border::other(policy)?) };
        let mut actions = map.map.slice(from..).stream().decide(policy.kind);
        border::fill(out, || Ok(actions.next_extent()?.as_ref().map(status::action)))
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// How many bytes each action of a policy is about.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_action_totals(
    map: *const nbdx_map,
    policy: *const nbdx_policy,
    totals: *mut nbdx_totals,
) -> c_int {
    let work = |map: &nbdx_map| {
        // SAFETY: as the header says
        let (out, policy) = unsafe { (border::place(totals, "totals")?, border::other(policy)?) };
        let totals = Totals::of(map.map.stream().decide(policy.kind))?;
        let Totals { copy, zero, skip, absent, .. } = totals;
        out.write(nbdx_totals { copy, zero, skip, absent, copies: 0, zeroes: 0 });
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The bytes and extents of each status.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_totals(
    map: *const nbdx_map,
    out: *mut nbdx_total,
    capacity: usize,
) -> isize {
    let work = |map: &nbdx_map| {
        // SAFETY: as the header says
        let out = unsafe { border::room(out, capacity, "out") }?;
        let rows = map.map.totals().into_iter().map(|total| {
            let Columns { flags, depth, bitmaps } = Columns::of(&total.status);
            let (bytes, extents) = (total.bytes, total.extents);
            nbdx_total { bytes, extents, flags, depth, bitmaps, reserved: 0 }
        });
        Ok(border::table(out, rows))
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The differences of two maps, from a byte on.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_diff(
    before: *const nbdx_map,
    after: *const nbdx_map,
    from: u64,
    out: *mut nbdx_change,
    capacity: usize,
) -> isize {
    let work = |before: &nbdx_map| {
        // SAFETY: as the header says
        let (out, after) = unsafe { (border::room(out, capacity, "out")?, border::other(after)?) };
        let mut changes = before.map.slice(from..).diff(after.map.slice(from..));
        border::fill(out, || Ok(changes.next().as_ref().map(change)))
    };
    // SAFETY: as the header says
    unsafe { border::read(before, work) }
}

fn change(change: &Extent<Change<Status>>) -> nbdx_change {
    let Change { before, after } = change.status();
    let columns = |side: &Option<Status>| side.as_ref().map(Columns::of).unwrap_or_default();
    let (old, new) = (columns(before), columns(after));
    nbdx_change {
        start: change.start(),
        length: change.length(),
        before_flags: old.flags,
        before_depth: old.depth,
        before_bitmaps: old.bitmaps,
        in_before: before.is_some().into(),
        after_flags: new.flags,
        after_depth: new.depth,
        after_bitmaps: new.bitmaps,
        in_after: after.is_some().into(),
    }
}

/// The bytes that the map describes, its extents, and its memory.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_measure(
    map: *const nbdx_map,
    start: *mut u64,
    end: *mut u64,
    nr_extents: *mut u64,
    memory: *mut u64,
) -> c_int {
    let work = |map: &nbdx_map| {
        let range = map.map.range();
        // SAFETY: as the header says
        unsafe {
            border::place(start, "start")?.write(range.start);
            border::place(end, "end")?.write(range.end);
            border::place(nr_extents, "nr_extents")?.write(map.map.run_count() as u64);
            border::place(memory, "memory")?.write(map.map.memory_usage() as u64);
        }
        Ok(0)
    };
    // SAFETY: as the header says
    unsafe { border::read(map, work) }
}

/// The message of the last call on the map.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_error(map: *const nbdx_map) -> *const c_char {
    // SAFETY: as the header says
    unsafe { border::message(map) }
}

/// Frees a map.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nbdx_map_free(map: *mut nbdx_map) {
    // SAFETY: as the header says
    unsafe { border::destroy(map) }
}
