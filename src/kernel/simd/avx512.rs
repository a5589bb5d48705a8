//! Decodes eight descriptors at a time, in 512-bit registers. The twin in safe Rust
//! (`kernel/decode.rs`) does the same one by one; a compiler makes a chain of additions of it,
//! since it does not find that eight sums are three steps.
//!
//! ```text
//! lengths   a    b    c    d    e    f    g    h
//! + 1 back  a   a+b  b+c  c+d  d+e  e+f  f+g  g+h
//! + 2 back  a   a+b  abc  abcd bcde ...
//! + 4 back  a   a+b  abc  abcd ...        a+b+..+h    plus the end before them
//! ```

#![allow(unsafe_code, reason = "the feature `simd`: whole registers are loaded and stored through pointers")]

use core::arch::x86_64::{
    __m512i, _mm_cvtsi64_si128, _mm512_add_epi64, _mm512_alignr_epi64, _mm512_and_si512, _mm512_loadu_si512,
    _mm512_min_epu64, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_permutexvar_epi64,
    _mm512_reduce_min_epu64, _mm512_reduce_or_epi64, _mm512_set1_epi64, _mm512_setr_epi64,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_sll_epi64, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512,
};

use super::super::decode::Decoded;
use super::super::key::{CODE_BITS, FLAGS, LONGEST};
use super::prefetch::prefetch;

/// The number of descriptors that fill one register, or two if they are wide.
pub(super) const EIGHT: usize = 8;

/// The layout of a descriptor in memory.
pub(super) trait Eight {
    /// Whether length and flags have 8 bytes each, and not 4.
    const WIDE: bool;
    /// Whether they are big-endian.
    const SWAPPED: bool;
}

impl Eight for crate::wire::Compact {
    const WIDE: bool = false;
    const SWAPPED: bool = true;
}

impl Eight for crate::wire::Extended {
    const WIDE: bool = true;
    const SWAPPED: bool = true;
}

impl Eight for crate::wire::Pair32 {
    const WIDE: bool = false;
    const SWAPPED: bool = false;
}

/// The lengths and the flags of eight descriptors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn load<T: Eight>(list: &[T; EIGHT]) -> (__m512i, __m512i) {
    const { assert!(size_of::<T>() == if T::WIDE { 16 } else { 8 }, "`WIDE` is the layout") };
    let start = list.as_ptr().cast::<__m512i>();
    prefetch(list);
    // SAFETY: the list has at least 64 bytes, and an unaligned load needs no alignment.
    let first = unsafe { _mm512_loadu_si512(start) };
    if !T::WIDE {
        let both = if T::SWAPPED { swap::<4>(first) } else { first };
        let low = _mm512_set1_epi64(i64::from(u32::MAX));
        return (_mm512_and_si512(both, low), _mm512_srli_epi64(both, 32));
    }
    // SAFETY: eight wide descriptors have 128 bytes.
    let second = unsafe { _mm512_loadu_si512(start.add(1)) };
    let (first, second) = if T::SWAPPED { (swap::<8>(first), swap::<8>(second)) } else { (first, second) };
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

/// The bits that all descriptors of a block have in common.
#[derive(Clone, Copy)]
struct Check {
    /// The shortest length, by place in the register.
    shortest: __m512i,
    lengths: __m512i,
    flags: __m512i,
}

impl Check {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    #[inline]
    fn new() -> Self {
        Self {
            shortest: _mm512_set1_epi64(-1),
            lengths: _mm512_setzero_si512(),
            flags: _mm512_setzero_si512(),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    #[inline]
    fn see(&mut self, lengths: __m512i, flags: __m512i) {
        self.shortest = _mm512_min_epu64(self.shortest, lengths);
        self.lengths = _mm512_or_si512(self.lengths, lengths);
        self.flags = _mm512_or_si512(self.flags, flags);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    #[inline]
    fn decoded(&self, end: u64) -> Option<Decoded> {
        let lengths = _mm512_reduce_or_epi64(self.lengths).cast_unsigned();
        let flags = _mm512_reduce_or_epi64(self.flags).cast_unsigned();
        (_mm512_reduce_min_epu64(self.shortest) > 0 && lengths < LONGEST && flags < FLAGS)
            .then_some(Decoded { end, flags })
    }
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

/// The last of eight numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
#[inline]
fn last(numbers: __m512i) -> u64 {
    let mut all = [0_u64; EIGHT];
    store(numbers, &mut all);
    let [.., last] = all;
    last
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
pub(super) fn decode<T: Eight>(
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
    let mut check = Check::new();
    for (eight, keys) in front.iter().zip(keys.as_chunks_mut().0) {
        let (lengths, flags) = load(eight);
        check.see(lengths, flags);
        ends = sums(_mm512_slli_epi64(lengths, CODE_BITS), ends);
        let flags = _mm512_or_si512(_mm512_sll_epi64(flags, shift), code);
        store(_mm512_or_si512(ends, flags), keys);
    }
    Some((front.len() * EIGHT, check.decoded(last(ends) >> CODE_BITS)?))
}
