//! The target's answer to the question of which parts of a range read as zero already.

use core::ops::Range;

use nbd_extents::Allocation;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Descriptors, RawDescriptor, parse_compact, parse_extended};

use crate::frame::Headers;

/// The most parts of one answer that are told apart; those after them are made zero as well.
const MOST: usize = 1024;

/// The parts of `range` that a status payload calls zero, in order. An answer that breaks the
/// protocol calls nothing zero from its fault on: zeroes written over zeroes do no harm.
pub(super) fn zero_ranges(range: &Range<u64>, payload: &[u8], headers: Headers) -> Vec<Range<u64>> {
    if headers == Headers::Extended {
        parse_extended(payload).map_or_else(|_| Vec::new(), |status| zeroes(range, status.descriptors()))
    } else {
        parse_compact(payload).map_or_else(|_| Vec::new(), |status| zeroes(range, status.descriptors()))
    }
}

fn zeroes<R: RawDescriptor>(range: &Range<u64>, descriptors: Descriptors<'_, R>) -> Vec<Range<u64>> {
    let mut extents = place(descriptors, range.start);
    let mut zeroes: Vec<Range<u64>> = Vec::new();
    while let Ok(Some(extent)) = extents.next_extent() {
        let (start, end) = (extent.start(), extent.end().min(range.end));
        if start >= range.end || zeroes.len() >= MOST {
            break;
        }
        if !Allocation::from_flags(*extent.status()).is_zero() {
            continue;
        }
        match zeroes.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => zeroes.push(start..end),
        }
    }
    zeroes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_zero_bit_counts_and_a_fault_ends_the_answer() {
        let payload = |list: &[(u32, u32)]| {
            let mut bytes = vec![0; 4];
            for (length, flags) in list {
                bytes.extend(length.to_be_bytes());
                bytes.extend(flags.to_be_bytes());
            }
            bytes
        };
        let ask = |list: &[(u32, u32)]| zero_ranges(&(4096..65536), &payload(list), Headers::Structured);
        // a hole without the bit, data, and an answer that goes beyond the range
        assert_eq!(
            ask(&[(4096, 1), (4096, 3), (4096, 2), (4096, 0), (1 << 20, 3)]),
            [8192..16384, 20480..65536]
        );
        assert_eq!(ask(&[(4096, 3), (0, 3), (4096, 3)]), vec![4096..8192; 1]);
        assert_eq!(ask(&[]), []);
    }
}
