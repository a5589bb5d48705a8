//! `merge`: two lists of entries into one map.

use std::sync::Arc;

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Descriptor, Descriptors, RawDescriptor};
use nbd_extents::{Allocation, BitmapIndex, Dirtiness, ExtentError, MAX_END, Status, StreamError};
use pyo3::prelude::*;

use crate::entries::Entries;
use crate::errors::Failure;
use crate::map::PyMap;

/// Merges two lists of entries that describe the same bytes: one of a dirty bitmap, one of
/// `base:allocation`. The first entry of both starts at byte `start`.
///
/// Entries are (length, flags) pairs in any shape in which libnbd, NumPy and others have them: a
/// flat list, a list of tuples, a buffer of 32-bit or 64-bit integers (flat or of two columns), or
/// a pair of buffers `(lengths, flags)`.
///
/// Raises ValueError where one list describes bytes that the other leaves out, and for a length of
/// 0; OverflowError for a number below 0 or above 2^64 - 1, and where the lengths exceed 2^63 - 1.
///
/// >>> map = merge(dirty=[(1 << 30, 0), (9 << 30, 1)], zero=[(2 << 30, 0), (8 << 30, 3)])
/// >>> [(extent.length >> 30, extent.dirty, extent.zero) for extent in map]
/// [(1, False, False), (1, True, False), (8, True, True)]
#[pyfunction]
#[pyo3(signature = (dirty, zero, *, start=0))]
pub(crate) fn merge(
    py: Python<'_>,
    dirty: &Bound<'_, PyAny>,
    zero: &Bound<'_, PyAny>,
    start: u64,
) -> PyResult<PyMap> {
    let (dirty, zero) = (Entries::read(dirty)?, Entries::read(zero)?);
    let map = py.detach(|| match (&dirty, &zero) {
        (Entries::Narrow(dirty), Entries::Narrow(zero)) => merged(dirty, zero, start),
        (Entries::Narrow(dirty), Entries::Wide(zero)) => merged(dirty, zero, start),
        (Entries::Wide(dirty), Entries::Narrow(zero)) => merged(dirty, zero, start),
        (Entries::Wide(dirty), Entries::Wide(zero)) => merged(dirty, zero, start),
    });
    let map = map.map_err(Failure::from)?;
    let end = map.range().end;
    Ok(PyMap::new(map, Arc::from([String::from("dirty")]), end))
}

fn merged<D: RawDescriptor, Z: RawDescriptor>(
    dirty: &[D],
    zero: &[Z],
    start: u64,
) -> Result<ExtentMap<Status>, StreamError> {
    let end = end_of(dirty, start)?.max(end_of(zero, start)?);
    let dirty = place(Descriptors::new(dirty), start).map_status(Dirtiness::from_flags);
    let zero = place(Descriptors::new(zero), start).map_status(Allocation::from_flags);
    let both = dirty.merge(zero, |&dirty, &zero| {
        Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, dirty).with_allocation(zero)
    });
    ExtentMap::covering(both, start..end)
}

/// The end of a list. One that is too long for any disk is refused before it is merged.
fn end_of<R: RawDescriptor>(list: &[R], start: u64) -> Result<u64, StreamError> {
    // the usual list in one quick pass; the sum saturates, so none that is too long slips through
    let end = Descriptors::new(list).fold(start, |end, entry| end.saturating_add(entry.length));
    if end <= MAX_END {
        return Ok(end);
    }
    let mut end = start;
    for Descriptor { length, .. } in Descriptors::new(list) {
        let too_large = ExtentError::TooLarge { start: end, length };
        end = end.checked_add(length).filter(|&end| end <= MAX_END).ok_or(too_large)?;
    }
    Ok(end)
}
