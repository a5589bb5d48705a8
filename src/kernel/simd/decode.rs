//! The way into `avx512.rs`: the front of a list, as far as it fills registers, where the processor
//! has them. The twin in `kernel/decode.rs` reads the rest, which is all of it elsewhere and
//! without the feature `simd`.

#![cfg_attr(feature = "simd", allow(unsafe_code, reason = "calls of functions that need an instruction set"))]

use super::super::decode::Decoded;
use crate::wire::RawDescriptor;

/// Decodes the front of a list that starts at `end`. Returns the number of its descriptors; `None`
/// where a number does not fit a key.
#[inline(always)]
pub(crate) fn decode<R: RawDescriptor>(
    list: &[R],
    end: u64,
    code: u64,
    shift: u32,
    keys: &mut [u64],
) -> Option<(usize, Decoded)> {
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    if super::Processor::found() == super::Processor::Avx512 {
        use super::avx512;
        use crate::wire::RawList;
        match R::raw_list(list) {
            // SAFETY: the processor has what the function is compiled for.
            RawList::Compact(list) => {
                return unsafe { avx512::decode::<_, false, true>(list, end, code, shift, keys) };
            }
            // SAFETY: as above.
            RawList::Extended(list) => {
                return unsafe { avx512::decode::<_, true, true>(list, end, code, shift, keys) };
            }
            // SAFETY: as above.
            RawList::Pair32(list) => {
                return unsafe { avx512::decode::<_, false, false>(list, end, code, shift, keys) };
            }
            RawList::Pair64(_) => {}
        }
    }
    let _ = (list, code, shift, keys);
    Some((0, Decoded { end, flags: 0 }))
}
