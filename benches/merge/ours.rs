//! The code of a caller of this crate, once for each sink: payload, `place`, `map_status`, `merge`,
//! sink. `R` is the form of the descriptors.
#![allow(dead_code, reason = "another bench includes this file and uses a part of it")]

use core::ops::Range;

use nbd_extents::action::{Baseline, Incremental, StatusStream};
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::{
    Action, Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, MAX_END, Status, StreamError,
};

use crate::answer::{Segment, add_range, add_segment, shown};
use crate::workloads::{Raw, Workload};

pub(crate) fn fold<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    merged::<R>(workload).fold(0, add).unwrap()
}

/// As [`fold`], by hand: one `next_extent` after the other, the only way for a caller who wants to
/// stop in the middle.
pub(crate) fn step<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    let mut merged = merged::<R>(workload);
    let mut hash = 0;
    while let Some(extent) = merged.next_extent().unwrap() {
        hash = add(hash, extent);
    }
    hash
}

/// Returns the number of segments written.
pub(crate) fn write<R: Raw>(workload: &Workload, out: &mut [Segment]) -> u64 {
    let (mut slots, mut written) = (out.iter_mut(), 0);
    let write = |extent: Extent<u8>| {
        let slot = slots.next().unwrap();
        *slot = Segment { end: extent.end(), status: u64::from(*extent.status()) };
        written += 1;
    };
    merged::<R>(workload).for_each(write).unwrap();
    written
}

pub(crate) fn coalesce<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    merged::<R>(workload).coalesce().fold(0, add).unwrap()
}

pub(crate) fn filter<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    wanted::<R>(workload).fold(0, |hash, extent| add_range(hash, extent.start(), extent.end())).unwrap()
}

/// The ranges that [`filter`] reports, one by one.
pub(crate) fn wanted_ranges<R: Raw>(workload: &Workload) -> impl Iterator<Item = Range<u64>> {
    wanted::<R>(workload).into_iter().map(|extent| extent.unwrap().range())
}

/// The merge that a policy decides about, read as it is.
pub(crate) fn fold_statuses<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    statuses::<R>(workload)
        .fold(0, |hash, extent| {
            let status = extent.status();
            let [hole, zero, dirty] =
                [status.hole(), status.zero(), status.dirty()].map(|it| it == Some(true));
            add_segment(hash, extent.end(), shown(hole, zero, dirty))
        })
        .unwrap()
}

/// The ranges that an incremental copies: dirty and not zero.
pub(crate) fn decide<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    copied(statuses::<R>(workload))
}

/// As [`decide`], with a check in between that every byte of the disk is described.
pub(crate) fn decide_covering<R: Raw>(workload: &Workload, _: &mut [Segment]) -> u64 {
    copied(statuses::<R>(workload).covering(0..workload.size))
}

fn copied(statuses: impl ExtentStream<Status = Status, Error = StreamError>) -> u64 {
    let policy = Incremental::new(Baseline::new(MAX_END, Bitmaps::FIRST), MAX_END).unwrap();
    // without a branch: no processor foretells the next action
    let add = |hash: u64, extent: Extent<Action>| {
        let copied = u64::from(*extent.status() == Action::Copy);
        hash.wrapping_add(copied.wrapping_mul(add_range(0, extent.start(), extent.end())))
    };
    statuses.decide(policy).fold(0, add).unwrap()
}

fn statuses<R: Raw>(workload: &Workload) -> impl ExtentStream<Status = Status, Error = StreamError> {
    allocation::<R>(workload).merge(bitmap::<R>(workload), |&allocation, &dirtiness| {
        Status::from(allocation).with_bitmap(BitmapIndex::FIRST, dirtiness)
    })
}

fn add(hash: u64, extent: Extent<u8>) -> u64 {
    add_segment(hash, extent.end(), *extent.status())
}

fn merged<R: Raw>(workload: &Workload) -> impl ExtentStream<Status = u8, Error = StreamError> {
    allocation::<R>(workload).merge(bitmap::<R>(workload), |allocation, dirtiness| {
        shown(allocation.is_hole(), allocation.is_zero(), dirtiness.is_dirty())
    })
}

/// The ranges to read: dirty and not zero, touching ones joined.
fn wanted<R: Raw>(workload: &Workload) -> impl ExtentStream<Status = bool, Error = StreamError> {
    allocation::<R>(workload)
        .merge(bitmap::<R>(workload), |allocation, dirtiness| dirtiness.is_dirty() && !allocation.is_zero())
        .filter(|&wanted| wanted)
        .coalesce()
}

fn allocation<R: Raw>(workload: &Workload) -> impl ExtentStream<Status = Allocation, Error = StreamError> {
    place(workload.allocation::<R>(), 0).map_status(Allocation::from_flags)
}

fn bitmap<R: Raw>(workload: &Workload) -> impl ExtentStream<Status = Dirtiness, Error = StreamError> {
    place(workload.bitmap::<R>(), 0).map_status(Dirtiness::from_flags)
}
