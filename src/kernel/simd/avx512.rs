//! Decodes eight descriptors at a time, in 512-bit registers, and drops cuts eight at a time. The
//! twins in safe Rust (`kernel/decode.rs`, `kernel/keep.rs`, `kernel/block.rs`) do the same one by
//! one. A compiler cannot vectorize them: it makes eight additions in a row where three steps are
//! enough, and it has no wider form of a loop that keeps only some of its input.
//!
//! ```text
//! decode:
//! lengths   a    b    c    d    e    f    g    h
//! + 1 back  a   a+b  b+c  c+d  d+e  e+f  f+g  g+h
//! + 2 back  a   a+b  abc  abcd bcde ...
//! + 4 back  a   a+b  abc  abcd ...        a+b+..+h    plus the end before them
//!
//! drop_cuts:
//! cuts      10.a  25.b  25.c  30.b  40.d              b and c are of one class, d of another
//! no ties   10.a  25.b  25.b  30.b  40.d              a tie becomes the cut before it
//! next is of another class, or the end
//!            yes   no    no   yes   yes
//! kept      10.a  30.b  40.d                          moved together by one instruction
//! ```

#![allow(unsafe_code, reason = "the feature `simd`: whole registers are loaded and stored through pointers")]

use core::arch::x86_64::*;

use super::super::block::CUTS;
use super::super::decode::Decoded;
use super::super::keep::Keep;
use super::super::key::{CODE, CODE_BITS, FLAGS, LONGEST};
use super::prefetch::prefetch;

/// The number of descriptors that fill one register, or two if they are wide.
pub(super) const EIGHT: usize = 8;

/// The lengths and the flags of eight descriptors: of 8 bytes each if they are `WIDE`, otherwise of 4;
/// big-endian if they are `SWAPPED`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn load<T, const WIDE: bool, const SWAPPED: bool>(list: &[T; EIGHT]) -> (__m512i, __m512i) {
    const { assert!(size_of::<T>() == if WIDE { 16 } else { 8 }, "`WIDE` is the layout") };
    let start = list.as_ptr().cast::<__m512i>();
    prefetch(list);
    // SAFETY: the list has at least 64 bytes, and an unaligned load needs no alignment.
    let first = unsafe { _mm512_loadu_si512(start) };
    if !WIDE {
        let both = if SWAPPED { swap::<4>(first) } else { first };
        let low = _mm512_set1_epi64(i64::from(u32::MAX));
        return (_mm512_and_si512(both, low), _mm512_srli_epi64(both, 32));
    }
    // SAFETY: eight wide descriptors have 128 bytes.
    let second = unsafe { _mm512_loadu_si512(start.add(1)) };
    let (first, second) = if SWAPPED { (swap::<8>(first), swap::<8>(second)) } else { (first, second) };
    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    (_mm512_permutex2var_epi64(first, even, second), _mm512_permutex2var_epi64(first, odd, second))
}

/// Reverses the bytes of each number.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn swap<const BYTES: i64>(numbers: __m512i) -> __m512i {
    let (low, high) = if BYTES == 4 {
        (0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b)
    } else {
        (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f)
    };
    _mm512_shuffle_epi8(numbers, _mm512_setr_epi64(low, high, low, high, low, high, low, high))
}

/// Adds to each number all before it, and the last of `before`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn sums(numbers: __m512i, before: __m512i) -> __m512i {
    let none = _mm512_setzero_si512();
    let one = _mm512_add_epi64(numbers, _mm512_alignr_epi64(numbers, none, 7));
    let two = _mm512_add_epi64(one, _mm512_alignr_epi64(one, none, 6));
    let four = _mm512_add_epi64(two, _mm512_alignr_epi64(two, none, 4));
    _mm512_add_epi64(four, _mm512_permutexvar_epi64(_mm512_set1_epi64(7), before))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn store(numbers: __m512i, place: &mut [u64; EIGHT]) {
    // SAFETY: the place has 64 bytes, and such a store needs no alignment.
    unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), numbers) }
}

/// Decodes the front of a list, as far as it fills registers. Returns the number of its
/// descriptors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
pub(super) fn decode<T, const WIDE: bool, const SWAPPED: bool>(
    list: &[T],
    end: u64,
    code: u64,
    shift: u32,
    keys: &mut [u64],
) -> Option<(usize, Decoded)> {
    let (front, _) = list.as_chunks();
    let shift = _mm_cvtsi64_si128(i64::from(shift));
    let code = _mm512_set1_epi64(code.cast_signed());
    let mut ends = _mm512_set1_epi64((end << CODE_BITS).cast_signed());
    let (mut shortest, mut all_lengths, mut all_flags) =
        (_mm512_set1_epi64(-1), _mm512_setzero_si512(), _mm512_setzero_si512());
    for (eight, keys) in front.iter().zip(keys.as_chunks_mut().0) {
        let (lengths, flags) = load::<T, WIDE, SWAPPED>(eight);
        shortest = _mm512_min_epu64(shortest, lengths);
        all_lengths = _mm512_or_si512(all_lengths, lengths);
        all_flags = _mm512_or_si512(all_flags, flags);
        ends = sums(_mm512_slli_epi64(lengths, CODE_BITS), ends);
        let flags = _mm512_or_si512(_mm512_sll_epi64(flags, shift), code);
        store(_mm512_or_si512(ends, flags), keys);
    }
    let flags = _mm512_reduce_or_epi64(all_flags).cast_unsigned();
    let fits = _mm512_reduce_min_epu64(shortest) > 0
        && _mm512_reduce_or_epi64(all_lengths).cast_unsigned() < LONGEST
        && flags < FLAGS;
    // Where all fits, the ends ascend: the highest is the last.
    let end = _mm512_reduce_max_epu64(ends) >> CODE_BITS;
    fits.then_some((front.len() * EIGHT, Decoded { end, flags }))
}

/// Drops ties, and what the reader does not want, of one cut or more. Returns the number that is
/// left.
///
/// Places of an output are written only after they have been read, since no cut moves back.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
pub(super) fn drop_cuts(
    keep: Option<&Keep>,
    cuts: &mut [u64; CUTS],
    len: usize,
    may_have_ties: bool,
) -> usize {
    debug_assert!((1..CUTS).contains(&len), "the last cut is stored by the round after it");
    // By code: both classes, in the low two bytes of a place of either register.
    let table = keep.map(|keep| keep.classes.as_ptr().cast());
    // SAFETY: 64 times two bytes are two registers, and such a load needs no alignment.
    let table = table.map(|table| unsafe { (_mm512_loadu_si512(table), _mm512_loadu_si512(table.add(1))) });
    let one_back = |numbers, before| _mm512_alignr_epi64(numbers, before, 7);
    let code = _mm512_set1_epi64(CODE.cast_signed());
    let (mut before, mut cuts_before, mut classes_before) =
        (_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512());
    let mut kept = 0;
    for nth in 0..=len / EIGHT {
        let Some(eight) = cuts.as_chunks::<EIGHT>().0.get(nth) else { break };
        // SAFETY: eight cuts have 64 bytes, and such a load needs no alignment.
        let mut next = unsafe { _mm512_loadu_si512(eight.as_ptr().cast()) };
        // Before the first cut there is none to keep.
        let mut unwanted = u8::from(nth == 0);
        if may_have_ties {
            let earlier = one_back(next, before);
            before = next;
            // A tie takes the flags of the cut before it, in whose place it is kept.
            let ties = _mm512_cmple_epu64_mask(_mm512_xor_si512(next, earlier), code);
            unwanted |= ties;
            next = _mm512_mask_mov_epi64(next, ties, earlier);
        }
        let cut = one_back(next, cuts_before);
        cuts_before = next;
        let differ = table.map_or(u8::MAX, |(low, high)| {
            // An index has six bits, as a code has; the others of a cut do not count.
            let class = _mm512_permutex2var_epi16(low, next, high);
            let class_before = _mm512_srli_epi64(one_back(class, classes_before), 8);
            classes_before = class;
            _mm512_test_epi64_mask(_mm512_xor_si512(class, class_before), _mm512_set1_epi64(0xff))
        });
        // The last cut is kept.
        let end = 1_u16 << (len - nth * EIGHT).min(EIGHT);
        let [wanted, _] = ((u16::from(differ & !unwanted) | end) & (2 * end - 1)).to_le_bytes();
        if let Some(place) = cuts.get_mut(kept..).and_then(|rest| rest.first_chunk_mut()) {
            store(_mm512_maskz_compress_epi64(wanted, cut), place);
        }
        kept += wanted.count_ones() as usize;
    }
    kept
}
