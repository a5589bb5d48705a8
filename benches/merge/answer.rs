//! The answers of the contenders: hashes that see the end and the status of every segment, so that
//! no contender can leave out work unnoticed.
//!
//! A hash is a sum of products: the sum lets a kernel fold several lanes at once and add them up,
//! and the products are not linear in anything, so that a sum over the inputs cannot stand in for
//! the merge.
#![allow(dead_code, reason = "another bench includes this file and uses a part of it")]

/// One merged segment in 16 bytes, as the `merge-write` contenders store it. It starts at the end
/// of the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) end: u64,
    /// Bit 0 hole, bit 1 zero, bit 2 dirty.
    pub(crate) status: u64,
}

impl Segment {
    /// Fills a buffer before it is written: no segment of any workload.
    pub(crate) const NONE: Self = Self { end: u64::MAX, status: u64::MAX };
}

/// The status in three bits: hole, zero, dirty.
#[inline]
pub(crate) fn shown(hole: bool, zero: bool, dirty: bool) -> u8 {
    u8::from(hole) | u8::from(zero) << 1 | u8::from(dirty) << 2
}

/// The hash of `merge` and `merge-coalesced`: adds one segment, which starts at the end of the
/// previous one.
#[inline]
pub(crate) fn add_segment(hash: u64, end: u64, status: u8) -> u64 {
    let key = end << 3 | u64::from(status);
    hash.wrapping_add(product(key, key))
}

/// The hash of `merge-filtered`: adds one range.
#[inline]
pub(crate) fn add_range(hash: u64, start: u64, end: u64) -> u64 {
    hash.wrapping_add(product(start, end))
}

#[inline]
fn product(x: u64, y: u64) -> u64 {
    (x ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(y.rotate_left(32) ^ 0xd1b5_4a32_d192_ed03)
}

/// The hash of the buffer that a `merge-write` contender filled. Not timed, so it sees the order
/// too.
pub(crate) fn hash_written(written: &[Segment]) -> u64 {
    written.iter().fold(0, |hash: u64, segment| {
        hash.rotate_left(5).wrapping_add(product(segment.end << 3 | segment.status, segment.end))
    })
}
