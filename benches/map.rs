//! Measures the cost of building a map of a disk and of asking it, beside the general crates. Also
//! shows that everything here that goes over a disk takes time in proportion to the number of
//! extents.
//!
//! ```text
//! cargo bench --bench map                        # everything
//! cargo bench --bench map -- map/look-up         # one group (criterion's filters)
//! # A map of a hundred million extents; the other crates stop at 1048576:
//! EXTENTS=100000000 cargo bench --bench map
//! ```
//!
//! All answers are checked before anything is timed. A run ends with lines for scripts:
//!
//! - `map bytes-an-extent`.
//! - `map build-over-copy`: how many times longer the build took than a copy of the map's bytes
//!   into fresh memory (medians of rounds in turns).
//! - `map look-ups-a-second`.
//! - `doubling`: nanoseconds per extent, which must not grow with the number of extents.

#[path = "workloads/mod.rs"]
mod workloads;

use core::hint::black_box;
use core::ops::RangeInclusive;
use core::time::Duration;
use std::env;
use std::time::Instant;

use criterion::{Criterion, SamplingMode, Throughput};
use nbd_extents::action::{Full, StatusStream};
use nbd_extents::chain::{Chain, ChainLayer, Source};
use nbd_extents::map::{Cap, ExtentMap};
use nbd_extents::plan::{BlockSize, Plan, PlanOptions};
use nbd_extents::stream::{ExtentStream, from_iter, place};
use nbd_extents::wire::{Descriptor, Form, encode, parse_compact};
use nbd_extents::{Action, Allocation, Extent, Status, StreamError};
use range_set_blaze::RangeMapBlaze;
use rangemap::RangeMap;
use workloads::Rng;

/// The size at which the other crates stop.
const BEARABLE: usize = 1 << 20;
const LOOK_UPS: usize = 1 << 18;

fn main() {
    let measures = env::args().any(|arg| arg == "--bench") && !env::args().any(|arg| arg == "--test");
    let default = if measures { 1 << 20 } else { 1 << 14 };
    let extents =
        env::var("EXTENTS").map_or(default, |number| number.parse().expect("EXTENTS is not a number"));
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let disk = Disk::new(extents.min(BEARABLE));
    build(&mut criterion, &disk);
    look_up(&mut criterion, &disk);
    criterion.final_summary();
    if measures {
        measure(&Disk::new(extents));
    }
    // with fewer extents a chain of 200 layers may have nothing to copy
    let largest = if measures { 1 << 20 } else { 1 << 16 };
    doubling("map-build", largest, |extents| {
        let disk = Disk::new(extents);
        seconds(|| assert_eq!(black_box(disk.map()).run_count(), extents))
    });
    doubling("map-look-up", largest, looked_up);
    doubling("map-diff", largest, differing);
    doubling("map-join", largest, joined);
    doubling("decide-and-plan", largest, planned);
    doubling("cap", largest, capped);
    doubling("chain-of-200", largest, |extents| chain(extents, 200));
    doubling("chain-of-25", largest, |extents| chain(extents, 25));
}

/// One reply about a whole disk, in its form on the wire: lengths of 64 KiB x 1..=64, random flags,
/// no two neighbours equal.
struct Disk {
    payload: Vec<u8>,
    extents: usize,
    end: u64,
}

impl Disk {
    fn new(extents: usize) -> Self {
        let mut rng = Rng::new(7);
        let (mut end, mut flags) = (0, 0);
        let list = (0..extents).map(|_| {
            let length = 65536 * rng.one_to(64);
            flags = (flags + rng.one_to(3)) % 4;
            end += length;
            Descriptor { length, flags }
        });
        let payload = encode(Form::Compact, 1, list).unwrap();
        Self { payload, extents, end }
    }

    fn stream(&self) -> impl ExtentStream<Status = Status, Error = StreamError> {
        let status = |flags| Status::UNKNOWN.with_allocation(Allocation::from_flags(flags));
        place(parse_compact(&self.payload).unwrap().descriptors(), 0).map_status(status)
    }

    fn map(&self) -> ExtentMap<Status> {
        ExtentMap::covering(self.stream(), 0..self.end).unwrap()
    }

    fn pairs(&self) -> impl Iterator<Item = (RangeInclusive<u64>, Status)> {
        self.stream()
            .into_iter()
            .map(|extent| extent.map(|e| (e.start()..=e.end() - 1, *e.status())).unwrap())
    }

    fn range_map(&self) -> RangeMap<u64, Status> {
        self.pairs().map(|(range, status)| (*range.start()..*range.end() + 1, status)).collect()
    }

    fn blaze(&self) -> RangeMapBlaze<u64, Status> {
        self.pairs().collect()
    }

    fn offsets(&self) -> Vec<u64> {
        let mut rng = Rng::new(8);
        (0..LOOK_UPS).map(|_| rng.next() % self.end).collect()
    }
}

fn build(criterion: &mut Criterion, disk: &Disk) {
    assert!(
        disk.map().extents().eq(disk.stream().into_iter().map(Result::unwrap)),
        "the map is not the disk"
    );
    assert_eq!(disk.range_map().len(), disk.extents);
    assert_eq!(disk.blaze().ranges_len(), disk.extents);
    let mut group = criterion.benchmark_group("map/build");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(disk.extents as u64));
    group.bench_function("nbd-extents", |bencher| bencher.iter_with_large_drop(|| black_box(disk).map()));
    group.bench_function("rangemap", |bencher| bencher.iter_with_large_drop(|| black_box(disk).range_map()));
    group.bench_function("range-set-blaze", |bencher| {
        bencher.iter_with_large_drop(|| black_box(disk).blaze())
    });
    group.finish();
}

fn look_up(criterion: &mut Criterion, disk: &Disk) {
    let (ours, range_map, blaze, offsets) = (disk.map(), disk.range_map(), disk.blaze(), disk.offsets());
    for &offset in &offsets {
        let found = ours.get(offset).map(Extent::into_status);
        assert_eq!(found.as_ref(), range_map.get(&offset), "at byte {offset}");
        assert_eq!(found.as_ref(), blaze.get(offset), "at byte {offset}");
    }
    let zeroes = |get: &dyn Fn(u64) -> Option<Status>| {
        offsets.iter().filter(|&&at| get(at).is_some_and(|s| s.zero() == Some(true))).count()
    };
    let mut group = criterion.benchmark_group("map/look-up");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(LOOK_UPS as u64));
    group.bench_function("nbd-extents", |bencher| {
        bencher.iter(|| zeroes(&|at| ours.get(at).map(Extent::into_status)))
    });
    group.bench_function("rangemap", |bencher| bencher.iter(|| zeroes(&|at| range_map.get(&at).copied())));
    group.bench_function("range-set-blaze", |bencher| bencher.iter(|| zeroes(&|at| blaze.get(at).copied())));
    group.finish();
}

/// The figures of the whole disk, whatever its size.
fn measure(disk: &Disk) {
    let map = disk.map();
    assert_eq!(map.run_count(), disk.extents);
    println!("map extents {}", map.run_count());
    println!("map bytes-an-extent {:.3}", map.memory_usage() as f64 / map.run_count() as f64);
    let same_bytes = (vec![1_u64; disk.extents], vec![1_u8; disk.extents]);
    let (mut copies, mut builds) = (Vec::new(), Vec::new());
    let repeats = (20_000_000 / disk.extents).max(1);
    for _ in 0..5 {
        copies.push(seconds(|| (0..repeats).for_each(|_| drop(black_box(same_bytes.clone())))));
        builds.push(seconds(|| (0..repeats).for_each(|_| drop(black_box(disk.map())))));
    }
    let (copy, build) = (median(copies) / repeats as f64, median(builds) / repeats as f64);
    println!(
        "map copy {:.3} s, build {:.3} s, {:.2} ns an extent",
        copy,
        build,
        build * 1e9 / disk.extents as f64
    );
    println!("map build-over-copy {:.2}", build / copy);
    let offsets = disk.offsets();
    let all_found = || offsets.iter().all(|&offset| black_box(map.get(offset)).is_some());
    let found = seconds(|| assert!((0..10).all(|_| all_found())));
    println!("map look-ups-a-second {:.0}", 10.0 * offsets.len() as f64 / found);
}

/// The processor time of `work`, so that other programs' work does not count; the wall-clock time
/// where the system does not report it.
fn seconds(work: impl FnOnce()) -> f64 {
    let (start, on_cpu) = (Instant::now(), nanoseconds_on_cpu());
    work();
    match (on_cpu, nanoseconds_on_cpu()) {
        (Some(before), Some(after)) => (after - before) / 1e9,
        _ => start.elapsed().as_secs_f64(),
    }
}

/// Linux: the first number of `schedstat` is this thread's time on the processor.
fn nanoseconds_on_cpu() -> Option<f64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Repeats a measurement with twice as many extents each time; `work` returns its time.
fn doubling(name: &str, largest: usize, work: impl Fn(usize) -> f64) {
    for extents in [largest / 16, largest / 8, largest / 4, largest / 2, largest] {
        // The processor's clock is coarse, so each size does the same amount of work.
        let rounds = 4 * largest / extents;
        let all: f64 = (0..rounds).map(|_| work(extents)).sum();
        println!(
            "doubling {name} {extents} extents {:.1} ns an extent",
            all * 1e9 / (rounds * extents) as f64
        );
    }
}

/// As many look-ups as there are extents, anywhere on the disk.
fn looked_up(extents: usize) -> f64 {
    let disk = Disk::new(extents);
    let map = disk.map();
    let mut rng = Rng::new(8);
    let offsets: Vec<_> = (0..extents).map(|_| rng.next() % disk.end).collect();
    seconds(|| assert!(offsets.iter().all(|&offset| black_box(map.get(offset)).is_some())))
}

/// Two disks that differ nearly everywhere.
fn differing(extents: usize) -> f64 {
    let map = Disk::new(extents).map();
    let half = ExtentMap::covering(map.stream().map_status(|s| s.zero()).coalesce(), map.range());
    let other = half.unwrap();
    let zero = ExtentMap::covering(map.stream().map_status(|s| s.hole()), map.range()).unwrap();
    // Repeated, since one run is too short for the clock.
    let differs = || assert!(black_box(zero.as_slice()).diff(other.as_slice()).count() > extents / 4);
    seconds(|| (0..8).for_each(|_| differs())) / 8.0
}

/// Splits a map into a thousand parts and joins them again.
fn joined(extents: usize) -> f64 {
    let map = Disk::new(extents).map();
    seconds(|| assert_eq!(ExtentMap::join(map.as_slice().parts(1000)).unwrap().run_count(), extents))
}

/// Turns statuses into requests, looking into the gaps again and again.
fn planned(extents: usize) -> f64 {
    let disk = Disk::new(extents);
    let options = PlanOptions::new(disk.end, BlockSize::new(4096).unwrap()).unwrap().join_gaps(u64::MAX);
    seconds(|| {
        let totals = Plan::new(disk.stream().decide(Full::new()), options).measure().unwrap();
        assert!(totals.requests() > 0 && totals.bytes.sum() == disk.end);
    })
}

/// Builds a map of actions in an eighth of the bytes that it would need, so that it is coarsened
/// repeatedly.
fn capped(extents: usize) -> f64 {
    let mut rng = Rng::new(9);
    let mut end = 0;
    let list: Vec<_> = (0..extents)
        .map(|n| {
            let length = rng.log_normal(65536, 2.0);
            end += length;
            let action = [Action::Copy, Action::Skip, Action::Copy, Action::Zero { may_unmap: true }][n % 4];
            Extent::new(end - length, length, action).unwrap()
        })
        .collect();
    let cap = extents * 9 / 8;
    seconds(|| {
        let capped = ExtentMap::capped(from_iter(list), 0..end, Cap::bytes(cap)).unwrap();
        assert!(capped.map.memory_usage() <= cap && capped.copied_more() < end);
    })
}

/// This number of extents over this number of layers. All incrementals together store the size of
/// the disk once, so that every layer serves something.
fn chain(extents: usize, depth: usize) -> f64 {
    let mut rng = Rng::new(10);
    let size = (extents / depth) as u64 * 65536;
    let layers: Vec<_> = (0..depth).map(|nth| random_layer(&mut rng, nth, size, depth as u64)).collect();
    let chain = Chain::new(layers.into_iter().map(|(layer, extents)| (layer, from_iter(extents)))).unwrap();
    seconds(|| {
        let copy = |sum, extent: Extent<Source>| {
            sum + if matches!(extent.status(), Source::Copy { .. }) { extent.length() } else { 0 }
        };
        let copied = chain.restore().covering(0..size).fold(0, copy).unwrap();
        assert!(0 < copied && copied <= size);
    })
}

fn random_layer(
    rng: &mut Rng,
    nth: usize,
    size: u64,
    depth: u64,
) -> (ChainLayer<usize>, Vec<Extent<Action>>) {
    let mut list = Vec::new();
    let mut start = 0;
    while start < size {
        let length = (512 * rng.one_to(255)).min(size - start);
        let action = match rng.below(2 * depth) {
            0 => Action::Zero { may_unmap: true },
            1 => Action::Copy,
            _ if nth == 0 => Action::Copy,
            _ => Action::Skip,
        };
        list.push(Extent::new(start, length, action).unwrap());
        start += length;
    }
    let layer = match nth.checked_sub(1) {
        Some(parent) => ChainLayer::incremental(0, nth, parent, size),
        None => ChainLayer::full(0, nth, size),
    };
    (layer, list)
}
