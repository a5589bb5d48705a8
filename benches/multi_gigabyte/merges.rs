//! The merge of a disk's payloads: as a caller of this crate writes it, and as the loop by hand
//! that it is compared with.

use nbd_extents::stream::{ExtentStream, place_all};
use nbd_extents::wire::{Compact, Descriptors, parse_compact};
use nbd_extents::{Allocation, Dirtiness, Extent, StreamError};

use crate::answer::{add_segment, shown};
use crate::disk::Disk;

/// The hash of all segments.
pub(crate) fn fold(disk: &Disk) -> u64 {
    let merged = allocation(&disk.allocation).merge(bitmap(&disk.bitmap), both);
    merged.fold(0, add).unwrap()
}

/// As [`fold`], by one `next_extent` after the other.
pub(crate) fn step(disk: &Disk) -> u64 {
    let mut merged = allocation(&disk.allocation).merge(bitmap(&disk.bitmap), both);
    let mut hash = 0;
    while let Some(extent) = merged.next_extent().unwrap() {
        hash = add(hash, extent);
    }
    hash
}

/// The hash of the segments up to the end of the shorter side.
pub(crate) fn shortest(left: &[Vec<u8>], right: &[Vec<u8>]) -> u64 {
    allocation(left).merge_shortest(bitmap(right), both).fold(0, add).unwrap()
}

/// The number of extents that come out of the lazy adapters, one after the other.
pub(crate) fn adapters(left: &[Vec<u8>], right: &[Vec<u8>]) -> u64 {
    let range = 1 << 20..1 << 60;
    let zero = allocation(left).map_status(Allocation::is_zero).clip(range.clone());
    let zero = zero.fill(range.clone(), false).within(range.clone());
    let dirty = bitmap(right).map_status(Dirtiness::is_dirty).filter(|&dirty| dirty);
    let dirty = dirty.clip(range.clone()).fill(range.clone(), false).covering(range);
    zero.merge(dirty, |&zero, &dirty| dirty && !zero).coalesce().fold(0, |count, _| count + 1).unwrap()
}

fn both(allocation: &Allocation, dirtiness: &Dirtiness) -> u8 {
    shown(allocation.is_hole(), allocation.is_zero(), dirtiness.is_dirty())
}

fn add(hash: u64, extent: Extent<u8>) -> u64 {
    add_segment(hash, extent.end(), *extent.status())
}

fn allocation(payloads: &[Vec<u8>]) -> impl ExtentStream<Status = Allocation, Error = StreamError> {
    place_all(descriptors(payloads), 0).map_status(Allocation::from_flags)
}

fn bitmap(payloads: &[Vec<u8>]) -> impl ExtentStream<Status = Dirtiness, Error = StreamError> {
    place_all(descriptors(payloads), 0).map_status(Dirtiness::from_flags)
}

fn descriptors(payloads: &[Vec<u8>]) -> impl Iterator<Item = Descriptors<'_, Compact>> {
    payloads.iter().map(|payload| parse_compact(payload).unwrap().descriptors())
}

/// The least work of any merge: one pass over both inputs, which only sums the lengths.
pub(crate) fn floor(disk: &Disk) -> u128 {
    let sum = |payload: &[u8]| -> u64 { raw(payload).map(|(length, _)| u64::from(length)).sum() };
    disk.allocation.iter().chain(&disk.bitmap).map(|payload| u128::from(sum(payload))).sum()
}

/// The hash by an obvious merge that shares no code with the crate, not even the decoder.
pub(crate) fn reference(disk: &Disk) -> u64 {
    let mut a = disk.allocation.iter().flat_map(|payload| raw(payload));
    let mut b = disk.bitmap.iter().flat_map(|payload| raw(payload));
    let (mut left, mut right) = (a.next(), b.next());
    let (mut hash, mut end) = (0, 0);
    while let (Some((left_rest, allocation)), Some((right_rest, dirtiness))) = (&mut left, &mut right) {
        let length = u32::min(*left_rest, *right_rest);
        end += u64::from(length);
        hash = add_segment(hash, end, shown(*allocation & 1 != 0, *allocation & 2 != 0, *dirtiness & 1 != 0));
        *left_rest -= length;
        *right_rest -= length;
        if *left_rest == 0 {
            left = a.next();
        }
        if *right_rest == 0 {
            right = b.next();
        }
    }
    assert!(left.is_none() && right.is_none(), "the two sides describe different bytes");
    hash
}

/// The (length, flags) pairs after the context id of a payload.
fn raw(payload: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    payload[4..]
        .as_chunks()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}
