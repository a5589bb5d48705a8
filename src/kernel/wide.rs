//! The ways into `avx512.rs`: the front of a list, as far as it fills registers, where the processor has them. The rest is for the twin, which is all of it
//! elsewhere, and without the feature `simd`.

#![cfg_attr(feature = "simd", allow(unsafe_code, reason = "calls of functions that need an instruction set"))]

use super::decode::Block;
use super::intervals::INTERVALS;
use super::verdicts::Classes;
use crate::wire::RawDescriptor;

/// Where intervals start and end: as `Intervals` has them.
#[derive(Debug)]
#[cfg_attr(not(feature = "simd"), allow(dead_code, reason = "only wide registers write to it"))]
pub(super) struct Edges<'a> {
    pub(super) starts: &'a mut [u64; INTERVALS],
    pub(super) ends: &'a mut [u64; INTERVALS],
    pub(super) opened: usize,
    pub(super) closed: usize,
}

/// The front of a list of which the intervals were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    /// So many descriptors.
    pub(super) count: usize,
    pub(super) block: Block,
    /// The class of the last.
    pub(super) class: u64,
}

/// Decodes the front of a block that starts at `end`. Returns how much of it; `None` where something does not fit a key.
#[inline(always)]
pub(super) fn decode<R: RawDescriptor>(
    block: &[R],
    end: u64,
    code: u64,
    shift: u32,
    keys: &mut [u64],
) -> Option<(usize, Block)> {
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    if found() {
        match R::raw_list(block) {
            // SAFETY: the processor has what the function is compiled for.
            RawList::Compact(list) => return unsafe { avx512::decode(list, end, code, shift, keys) },
            // SAFETY: as above.
            RawList::Extended(list) => return unsafe { avx512::decode(list, end, code, shift, keys) },
            // SAFETY: as above.
            RawList::Pair32(list) => return unsafe { avx512::decode(list, end, code, shift, keys) },
            RawList::Pair64(_) => {}
        }
    }
    let _ = (block, code, shift, keys);
    Some((0, Block { end, flags: 0 }))
}

/// The intervals of the front of a list, which starts at `end` behind a descriptor of `class`. `None` where something does not fit a key.
#[inline(always)]
pub(super) fn intervals<R: RawDescriptor, const JOINING: u8>(
    list: &[R],
    end: u64,
    class: u64,
    classes: &Classes,
    edges: &mut Edges<'_>,
) -> Option<Front> {
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    if found() {
        match R::raw_list(list) {
            RawList::Compact(list) => {
                // SAFETY: the processor has what the function is compiled for.
                return unsafe { avx512::intervals::<_, JOINING>(list, end, class, classes, edges) };
            }
            RawList::Extended(list) => {
                // SAFETY: as above.
                return unsafe { avx512::intervals::<_, JOINING>(list, end, class, classes, edges) };
            }
            RawList::Pair32(list) => {
                // SAFETY: as above.
                return unsafe { avx512::intervals::<_, JOINING>(list, end, class, classes, edges) };
            }
            RawList::Pair64(_) => {}
        }
    }
    let _ = (list, classes, edges);
    Some(Front { count: 0, block: Block { end, flags: 0 }, class })
}

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
use {super::Processor, super::avx512, crate::wire::RawList};

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[inline(always)]
fn found() -> bool {
    Processor::found() == Processor::Avx512
}
