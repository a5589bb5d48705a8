//! Two maps of a gigabyte each on the wire, merged straight from the borrowed payloads: 128 of them
//! per side, with 2^20 compact descriptors each. A survey of a disk of half a petabyte in 64 KiB
//! clusters gets as much. Only one block at a time is copied, and every length is checked.
//!
//! ```text
//! cargo bench --bench multi_gigabyte                 # 2.3 GiB of memory, about two minutes
//! PAYLOADS=4 cargo bench --bench multi_gigabyte      # 4 payloads a side instead of 128
//! ```
//!
//! For each workload (`benches/workloads`; in `skewed` the bitmap is a thousand times shorter):
//!
//! - `speed`: GB per second of both sides together, and nanoseconds per descriptor.
//! - `ratio multi-gigabyte/WORKLOAD FUNCTION X`: X times as long as `floor`, which only sums all
//!   lengths.
//! - `peak`: the largest growth of resident memory during the merge.
//! - `doubling` (random): nanoseconds per descriptor when 1, 2, 4, ... payloads per side are merged
//!   at a time, all of them in turn, so that none is in a cache. The cost must not grow, neither of
//!   a merge nor of all the lazy adapters one after the other.

#[path = "../merge/answer.rs"]
mod answer;
mod disk;
#[path = "../measure/mod.rs"]
mod measure;
mod merges;
#[path = "../workloads/mod.rs"]
mod workloads;

use core::hint::black_box;
use std::env;

use disk::{Disk, PER_PAYLOAD};
use measure::{Clock, peak_of};

fn main() {
    let measures = env::args().any(|arg| arg == "--bench");
    let default = if measures { 128 } else { 2 };
    let payloads =
        env::var("PAYLOADS").map_or(default, |number| number.parse().expect("PAYLOADS is not a number"));
    for shape in &workloads::ALL {
        let disk = Disk::new(shape, payloads);
        verify(&disk);
        if measures {
            speed(&disk);
            if shape.name == workloads::RANDOM.name {
                doubling(&disk, "merge", merges::shortest);
                doubling(&disk, "adapters", merges::adapters);
            }
        }
    }
}

/// A wrong answer has no speed.
fn verify(disk: &Disk) {
    assert_eq!(merges::floor(disk), u128::from(disk.end) * 2, "the floor sums other lengths");
    let expected = merges::reference(disk);
    assert_eq!(merges::fold(disk), expected, "fold on {}", disk.name);
    assert_eq!(merges::step(disk), expected, "next_extent on {}", disk.name);
}

fn speed(disk: &Disk) {
    let name = disk.name;
    let functions: [(&str, &dyn Fn()); 3] = [
        ("floor", &|| _ = black_box(merges::floor(black_box(disk)))),
        ("nbd-extents", &|| _ = black_box(merges::fold(black_box(disk)))),
        ("next-extent", &|| _ = black_box(merges::step(black_box(disk)))),
    ];
    let medians = Clock::Thread.in_turns(functions.len(), |nth| functions[nth].1());
    for ((function, _), seconds) in functions.iter().zip(&medians) {
        let gb = disk.bytes() as f64 / 1e9;
        let each = seconds * 1e9 / disk.descriptors() as f64;
        println!(
            "speed multi-gigabyte/{name} {function} {:.2} GB/s, {each:.3} ns a descriptor",
            gb / seconds
        );
    }
    for ((function, _), seconds) in functions.iter().zip(&medians) {
        println!("ratio multi-gigabyte/{name} {function} {:.2}", seconds / medians[0]);
    }
    if let Some(bytes) = peak_of(|| _ = black_box(merges::fold(disk))) {
        println!("peak multi-gigabyte/{name} {:.2} MiB", bytes as f64 / f64::from(1 << 20));
    }
}

/// All payloads, in windows of 1, 2, 4, ... per side.
fn doubling(disk: &Disk, name: &str, merge: impl Fn(&[Vec<u8>], &[Vec<u8>]) -> u64) {
    let payloads = disk.allocation.len().min(disk.bitmap.len());
    let mut window = 1;
    while window <= payloads {
        let windows = payloads / window;
        let mut merged = 0_u64;
        let seconds = Clock::Thread.seconds(|| {
            for nth in 0..windows {
                let range = nth * window..(nth + 1) * window;
                let answer = merge(&disk.allocation[range.clone()], &disk.bitmap[range]);
                merged = merged.wrapping_add(answer);
            }
        });
        assert_ne!(merged, 0, "nothing was merged");
        let descriptors = 2 * windows * window * PER_PAYLOAD;
        println!(
            "doubling multi-gigabyte/{} {name} {} descriptors a side {:.3} ns a descriptor",
            disk.name,
            window * PER_PAYLOAD,
            seconds * 1e9 / descriptors as f64
        );
        window *= 2;
    }
}
