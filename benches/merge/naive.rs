//! The merge that one would write without this crate: an obvious one with branches, which pushes
//! 24-byte extents to a growing `Vec`, and then a pass over that. It shares no code with the crate,
//! not even the decoder, so its answers are the reference for all others.
#![allow(dead_code, reason = "another bench includes this file and uses a part of it")]

use nbd_extents::wire::Form;

use crate::answer::{Segment, add_range, add_segment, shown};
use crate::workloads::Workload;

struct Extent {
    start: u64,
    length: u64,
    status: u8,
}

const _: () = assert!(size_of::<Extent>() == 24);

pub(crate) fn fold(workload: &Workload, _: &mut [Segment]) -> u64 {
    hash(&merge(workload))
}

/// Returns the number of segments written.
pub(crate) fn write(workload: &Workload, out: &mut [Segment]) -> u64 {
    let extents = merge(workload);
    for (slot, extent) in out.iter_mut().zip(&extents) {
        *slot = Segment { end: extent.start + extent.length, status: u64::from(extent.status) };
    }
    extents.len() as u64
}

pub(crate) fn coalesce(workload: &Workload, _: &mut [Segment]) -> u64 {
    hash(&join(merge(workload)))
}

pub(crate) fn filter(workload: &Workload, _: &mut [Segment]) -> u64 {
    let mut extents = merge(workload);
    extents.retain_mut(|extent| {
        let wanted = extent.status & shown(false, true, true) == shown(false, false, true);
        extent.status = 1;
        wanted
    });
    join(extents).iter().fold(0, |hash, extent| add_range(hash, extent.start, extent.start + extent.length))
}

fn hash(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |hash, extent| add_segment(hash, extent.start + extent.length, extent.status))
}

fn merge(workload: &Workload) -> Vec<Extent> {
    match workload.form {
        Form::Compact => merge_lists(compact(&workload.allocation), compact(&workload.bitmap)),
        Form::Extended => merge_lists(extended(&workload.allocation), extended(&workload.bitmap)),
    }
}

/// Merges two lists of (length, flags) pairs.
fn merge_lists(
    mut a: impl Iterator<Item = (u64, u64)>,
    mut b: impl Iterator<Item = (u64, u64)>,
) -> Vec<Extent> {
    let (mut left, mut right) = (a.next(), b.next());
    let mut extents = Vec::new();
    let mut start = 0;
    while let (Some((left_rest, allocation)), Some((right_rest, dirtiness))) = (&mut left, &mut right) {
        let length = u64::min(*left_rest, *right_rest);
        let status = shown(*allocation & 1 != 0, *allocation & 2 != 0, *dirtiness & 1 != 0);
        extents.push(Extent { start, length, status });
        start += length;
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
    extents
}

/// Joins neighbours that touch and are equal.
fn join(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.dedup_by(|next, grown| {
        let same = next.status == grown.status && next.start == grown.start + grown.length;
        if same {
            grown.length += next.length;
        }
        same
    });
    extents
}

/// The (length, flags) pairs after the context id of a payload.
fn compact(payload: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    payload[4..].as_chunks().0.iter().map(|&[a, b, c, d, e, f, g, h]| {
        (u32::from_be_bytes([a, b, c, d]).into(), u32::from_be_bytes([e, f, g, h]).into())
    })
}

/// The (length, flags) pairs after the context id and the count of a payload.
fn extended(payload: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let (numbers, _) = payload[8..].as_chunks();
    numbers
        .as_chunks()
        .0
        .iter()
        .map(|&[length, flags]| (u64::from_be_bytes(length), u64::from_be_bytes(flags)))
}
