//! Memory asked for before it is needed. A processor that sees a list being read looks ahead by itself, but not beyond the page, and a merge reads two lists
//! in turns. Only with the feature `simd`: to ask is `unsafe` in Rust, though it can do no harm.

/// So many bytes ahead.
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
const AHEAD: usize = 2048;

/// Asks for what comes a little behind a block of a list.
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[inline(always)]
#[allow(unsafe_code, reason = "the feature `simd`: a hint to the processor")]
pub(super) fn prefetch<T>(block: &[T]) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    let start = block.as_ptr().wrapping_byte_add(AHEAD).cast::<i8>();
    for line in (0..size_of_val(block)).step_by(LINE) {
        // SAFETY: every x86-64 has this instruction, and it is a hint: of an address where nothing is it makes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_byte_add(line)) }
    }
}

/// Without the feature nothing is asked for.
#[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
#[inline(always)]
pub(super) const fn prefetch<T>(block: &[T]) {
    let _ = block;
}
