//! The way into `avx512.rs` for a merged block, where the processor has such registers. The twins in
//! `kernel/keep.rs` and `kernel/block.rs` are used elsewhere.

#![cfg_attr(feature = "simd", allow(unsafe_code, reason = "calls of functions that need an instruction set"))]

use super::super::block::CUTS;
use super::super::keep::Keep;

/// Drops the cuts that the reader does not want, and ties. Returns the number that is left; `None`
/// where the processor has no registers for it.
#[inline(always)]
pub(crate) fn drop_cuts(
    keep: Option<&Keep>,
    cuts: &mut [u64; CUTS],
    len: usize,
    may_have_ties: bool,
) -> Option<usize> {
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    if super::Processor::found() == super::Processor::Avx512 {
        // SAFETY: the processor has what the function is compiled for.
        return Some(unsafe { super::avx512::drop_cuts(keep, cuts, len, may_have_ties) });
    }
    let _ = (keep, cuts, len, may_have_ties);
    None
}
