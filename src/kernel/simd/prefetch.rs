//! Asks for memory before it is needed. A processor that sees a list being read looks ahead by
//! itself, but not beyond the page, and a merge reads two lists in turns. Only with the feature
//! `simd`: the instruction is `unsafe` in Rust.

/// The distance, in bytes.
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
const AHEAD: usize = 2048;

/// Asks for the memory [`AHEAD`] of a part of a list.
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[inline(always)]
#[allow(unsafe_code, reason = "the feature `simd`: a hint to the processor")]
pub(crate) fn prefetch<T>(block: &[T]) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    let start = block.as_ptr().wrapping_byte_add(AHEAD).cast::<i8>();
    for line in (0..size_of_val(block)).step_by(LINE) {
        // SAFETY: every x86-64 has this instruction, and it is a hint: it ignores an address that
        // is not mapped.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_byte_add(line)) }
    }
}

/// Does nothing without the feature.
#[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
#[inline(always)]
pub(crate) const fn prefetch<T>(block: &[T]) {
    let _ = block;
}
