//! `kernel`: the input is two lists of descriptors, as runs. Asserts that a merge read as a whole
//! equals the same merge read extent by extent: in every form of descriptors, with every sink,
//! including the error.
//!
//! ```text
//! start:1     0: at 0, 1: near the highest end, else at 4096
//! even:1      bit 0: both end at the same byte
//! skip:1      extents read one by one first
//! two lists   runs:1 (modulo 8) {length:4 count:1 flags:1}*, of the flags
//!             the low 4 bits in even places, the high 4 bits in odd ones
//! a fault     kind:1 (modulo 8; above 5: none) place:2, one descriptor of the left list
//! ```

#[path = "../../../tests/support/kernel.rs"]
mod kit;

use super::bytes::Bytes;
use kit::{List, every_kernel};
use nbd_extents::MAX_END;

pub fn kernel(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let start = match bytes.u8() {
        0 => 0,
        1 => MAX_END - 100_000,
        _ => 4096,
    };
    let (even, skip) = (bytes.u8() & 1 == 1, usize::from(bytes.u8()));
    let (mut left, mut right) = (list(&mut bytes), list(&mut bytes));
    let odd = [(0, 0), (1, 8), (1 << 46, 1), (MAX_END, 0), (u64::MAX, 3), (1, 1 << 32)];
    if let Some(&odd) = odd.get(usize::from(bytes.u8() % 8)) {
        left.insert(bytes.below(left.len() + 1), odd);
    }
    if even {
        level(&mut left, &mut right);
    }
    every_kernel(&left, &right, (start, start), skip);
}

fn list(bytes: &mut Bytes<'_>) -> List {
    let runs = bytes.u8() % 8;
    let mut list = List::new();
    for _ in 0..runs {
        let (length, count, flags) = (u64::from(bytes.u32()), u64::from(bytes.u8()), u64::from(bytes.u8()));
        list.extend((0..count).map(|nth| (length, if nth & 1 == 0 { flags & 15 } else { flags >> 4 })));
    }
    list
}

/// Ends the shorter list where the longer one ends.
fn level(left: &mut List, right: &mut List) {
    let span = |list: &List| list.iter().map(|&(length, _)| u128::from(length)).sum::<u128>();
    let (a, b) = (span(left), span(right));
    let missing = u64::try_from(a.abs_diff(b)).unwrap_or(u64::MAX);
    if a < b { left.push((missing, 1)) } else { right.push((missing, 1)) }
}
