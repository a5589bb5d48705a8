//! What a caller of this crate writes, once for each sink: payload, `place`, `map_status`, `merge`, sink.

use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::{Allocation, Dirtiness, StreamError};
use range_set_blaze::RangeSetBlaze;

use crate::answer::{Segment, add_range, add_segment, shown};
use crate::workloads::Workload;

pub(crate) fn fold(workload: &Workload, _: &mut [Segment]) -> u64 {
    merged(workload).fold(0, |hash, extent| add_segment(hash, extent.end(), *extent.status())).unwrap()
}

/// Returns how many segments it wrote.
pub(crate) fn write(workload: &Workload, out: &mut [Segment]) -> u64 {
    let (mut slots, mut written) = (out.iter_mut(), 0);
    let write = |extent: nbd_extents::Extent<u8>| {
        let slot = slots.next().unwrap();
        *slot = Segment { end: extent.end(), status: u64::from(*extent.status()) };
        written += 1;
    };
    merged(workload).for_each(write).unwrap();
    written
}

pub(crate) fn coalesce(workload: &Workload, _: &mut [Segment]) -> u64 {
    let joined = merged(workload).coalesce();
    joined.fold(0, |hash, extent| add_segment(hash, extent.end(), *extent.status())).unwrap()
}

pub(crate) fn filter(workload: &Workload, _: &mut [Segment]) -> u64 {
    wanted(workload).fold(0, |hash, extent| add_range(hash, extent.start(), extent.end())).unwrap()
}

/// What [`filter`] reports, as a set to compare with.
pub(crate) fn wanted_set(workload: &Workload) -> RangeSetBlaze<u64> {
    wanted(workload)
        .iter()
        .map(|extent| extent.unwrap())
        .map(|extent| extent.start()..=extent.end() - 1)
        .collect()
}

fn merged(workload: &Workload) -> impl ExtentStream<Status = u8, Error = StreamError> {
    allocation(workload).merge(bitmap(workload), |allocation, dirtiness| {
        shown(allocation.is_hole(), allocation.is_zero(), dirtiness.is_dirty())
    })
}

/// The ranges to read: dirty and not zero, touching ones joined.
fn wanted(workload: &Workload) -> impl ExtentStream<Status = bool, Error = StreamError> {
    allocation(workload)
        .merge(bitmap(workload), |allocation, dirtiness| dirtiness.is_dirty() && !allocation.is_zero())
        .filter(|&wanted| wanted)
        .coalesce()
}

fn allocation(workload: &Workload) -> impl ExtentStream<Status = Allocation, Error = StreamError> {
    place(workload.allocation(), 0).map_status(Allocation::from_flags)
}

fn bitmap(workload: &Workload) -> impl ExtentStream<Status = Dirtiness, Error = StreamError> {
    place(workload.bitmap(), 0).map_status(Dirtiness::from_flags)
}
