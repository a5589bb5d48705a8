//! How fast two block-status replies become one list of extents, and how far that is from what the memory allows.
//!
//! ```text
//! cargo bench --bench merge                          # everything, in about two minutes
//! cargo bench --bench merge -- merge/random          # one group (criterion's filters)
//! EXTENTS=16777216 cargo bench --bench merge         # longer lists; the default is 1048576 descriptors on the longer side
//! ```
//!
//! A group is a sink and a workload (`benches/workloads`); all read compact descriptors as they stand on the wire:
//!
//! - `merge/...`: a hash that sees the end and the status of every segment; nothing is written.
//! - `merge-write/...`: every segment written to memory, 16 bytes each.
//! - `merge-coalesced/...`: the hash, with equal neighbours joined.
//! - `merge-filtered/...`: the hash of what a backup reads: the ranges that are dirty and not zero, touching ones joined.
//!
//! The functions of a group: `floor` sums the lengths of both inputs and is the time that no merge can beat; `nbd-extents` is what a
//! caller of this crate gets, `nbd-extents-portable` what is left without the optional features; `naive` is the merge one would
//! write by hand; `range-set-blaze` is that crate, which answers the filtered question in every group.
//!
//! All answers are checked against each other before anything is timed. Criterion prints times and input descriptors a second. A
//! run ends with lines for scripts, `ratio GROUP FUNCTION X`: the function took X times as long as the floor, medians of rounds
//! in which all functions took turns. Times differ from machine to machine and from minute to minute; compare the ratios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that meets anything unexpected must stop"
)]

mod answer;
mod blaze;
mod contender;
mod naive;
mod ours;
mod ratios;
#[path = "../workloads/mod.rs"]
mod workloads;

use core::hint::black_box;
use core::time::Duration;
use std::env;

use criterion::{Criterion, SamplingMode, Throughput};

use answer::Segment;
use contender::{Contender, SINKS, Sink};
use workloads::Workload;

fn main() {
    let mode = Mode::from_args();
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(10)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    let mut lines = Vec::new();
    for generate in workloads::ALL {
        let workload = generate(mode.extents());
        let mut out = vec![Segment::NONE; workload.descriptors()];
        for sink in &SINKS {
            let ran = bench(&mut criterion, sink, &workload, &mut out);
            if mode == Mode::Measure {
                lines.extend(ratios::measure(sink, &ran, &workload, &mut out));
            }
        }
    }
    criterion.final_summary();
    for line in lines {
        println!("{line}");
    }
}

/// Gives one group to criterion. Returns the functions that its filter let through, each verified before it was timed.
fn bench(
    criterion: &mut Criterion,
    sink: &'static Sink,
    workload: &Workload,
    out: &mut [Segment],
) -> Vec<&'static Contender> {
    let mut ran = Vec::new();
    let mut group = criterion.benchmark_group(format!("{}/{}", sink.name, workload.name));
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(workload.descriptors() as u64));
    for contender in sink.contenders {
        let mut verified = false;
        group.bench_function(contender.name, |bencher| {
            // Criterion calls this for every sample.
            if !verified {
                contender.verify(workload, out);
                verified = true;
            }
            bencher.iter(|| (contender.run)(black_box(workload), black_box(&mut *out)));
        });
        if verified {
            ran.push(contender);
        }
    }
    group.finish();
    ran
}

/// Whether this run measures: the same reading of the arguments as criterion's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `cargo bench`
    Measure,
    /// `cargo bench -- --profile-time N`: runs for a profiler, and no numbers are wanted.
    Profile,
    /// `cargo test --benches`, or `cargo bench -- --test`: everything once, for its checks.
    Test,
}

impl Mode {
    fn from_args() -> Self {
        let given =
            |flag: &str| env::args().skip(1).any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
        if given("--test") || !given("--bench") {
            Self::Test
        } else if given("--profile-time") {
            Self::Profile
        } else {
            Self::Measure
        }
    }

    /// Descriptors of the longer side: `EXTENTS`, or a default that suits the mode.
    fn extents(self) -> usize {
        match env::var("EXTENTS") {
            Ok(number) => number.parse().expect("EXTENTS is not a number"),
            Err(_) if self == Self::Test => 1 << 14,
            Err(_) => 1 << 20,
        }
    }
}
