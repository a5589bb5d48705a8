//! Measures the merge of two maps in memory, on one core and on all of them.
//!
//! ```text
//! cargo bench --bench threads --features rayon
//! # With other numbers of threads and extents (by default 4194304):
//! RAYON_NUM_THREADS=4 EXTENTS=16777216 cargo bench --bench threads --features rayon
//! ```
//!
//! A run ends with the lines `ratio merge-threads/WORKLOAD FUNCTION X` (times the floor: one pass
//! over the extents of both maps) and `speedup merge-threads/WORKLOAD THREADS X` (how many times as
//! fast as one core), from medians by the wall clock. Other programs on the machine count: `others`
//! is the number of cores that they used meanwhile, and `speedup-of-best` compares the best turns,
//! which they disturbed least.

mod measure;
mod workloads;

use core::hint::black_box;
use std::env;

use measure::{Clock, Others, median};
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Compact, Descriptor};
use nbd_extents::{Allocation, Dirtiness};
use workloads::Workload;

fn main() {
    let measures = env::args().any(|arg| arg == "--bench");
    let default = if measures { 1 << 22 } else { 1 << 16 };
    let extents =
        env::var("EXTENTS").map_or(default, |number| number.parse().expect("EXTENTS is not a number"));
    for shape in workloads::ALL {
        Maps::new(&shape.workload(extents)).measure(measures);
    }
}

struct Maps {
    name: &'static str,
    zero: ExtentMap<(bool, bool)>,
    dirty: ExtentMap<bool>,
}

/// Hole, zero, dirty.
type Merged = ExtentMap<(bool, bool, bool)>;

fn both(&(hole, zero): &(bool, bool), &dirty: &bool) -> (bool, bool, bool) {
    (hole, zero, dirty)
}

impl Maps {
    fn new(workload: &Workload) -> Self {
        let zero = place(workload.allocation::<Compact>(), 0)
            .map_status(Allocation::from_flags)
            .map_status(|status| (status.is_hole(), status.is_zero()));
        let dirty = place(workload.bitmap::<Compact>(), 0)
            .map_status(|flags| Dirtiness::from_flags(flags).is_dirty());
        let end = workload.bitmap::<Compact>().map(|Descriptor { length, .. }| length).sum();
        Self {
            name: workload.name,
            zero: ExtentMap::covering(zero, 0..end).unwrap(),
            dirty: ExtentMap::covering(dirty, 0..end).unwrap(),
        }
    }

    fn measure(&self, measures: bool) {
        assert!(
            self.one_core() == self.by_streams(),
            "on {}: one core's answer is not that of streams",
            self.name
        );
        assert!(self.one_core() == self.all_cores(), "on {}: the answers differ", self.name);
        if !measures {
            return;
        }
        let others = Others::watch();
        let turns = Clock::Wall.all_turns(3, |nth| match nth {
            0 => _ = black_box(self.floor()),
            1 => _ = black_box(self.one_core()),
            _ => _ = black_box(self.all_cores()),
        });
        let least: Vec<_> =
            turns.iter().map(|turns| turns.iter().copied().fold(f64::MAX, f64::min)).collect();
        let medians: Vec<_> = turns.into_iter().map(median).collect();
        let (&[floor, one, all], &[_, least_one, least_all]) = (&medians[..], &least[..]) else {
            unreachable!("three functions")
        };
        let (name, threads) = (self.name, rayon::current_num_threads());
        let runs = (self.zero.run_count() + self.dirty.run_count()) as f64;
        println!("floor merge-threads/{name} {:.2} ns a run", floor * 1e9 / runs);
        println!("ratio merge-threads/{name} one-core {:.2}", one / floor);
        println!("ratio merge-threads/{name} all-cores {:.2}", all / floor);
        println!("speedup merge-threads/{name} {threads} {:.2}", one / all);
        println!("speedup-of-best merge-threads/{name} {threads} {:.2}", least_one / least_all);
        if let Some(cores) = others.cores() {
            println!("others merge-threads/{name} {cores:.2} cores");
        }
    }

    fn floor(&self) -> u64 {
        let sum = |ends: u64, end| ends.wrapping_add(end);
        let zero = self.zero.extents().map(|extent| extent.end()).fold(0, sum);
        self.dirty.extents().map(|extent| extent.end()).fold(zero, sum)
    }

    fn by_streams(&self) -> Merged {
        let merged = self.zero.stream().merge(self.dirty.stream(), both);
        ExtentMap::covering(merged, self.zero.range()).unwrap()
    }

    fn one_core(&self) -> Merged {
        self.zero.merge(&self.dirty, both).unwrap()
    }

    fn all_cores(&self) -> Merged {
        self.zero.merge_parallel(&self.dirty, both).unwrap()
    }
}
