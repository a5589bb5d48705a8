//! How fast two block-status replies become one list of extents, and how far that is from the limit
//! that the memory sets.
//!
//! ```text
//! cargo bench --bench merge                          # everything, in about four minutes
//! cargo bench --bench merge -- merge/random          # one group (criterion's filters)
//! # The ratio lines alone, of the groups whose name holds a text:
//! cargo bench --bench merge -- --ratios merge/
//! # Longer lists; the default is 1048576 descriptors on the longer side:
//! EXTENTS=16777216 cargo bench --bench merge -- --ratios
//! ```
//!
//! A group is a sink and a workload (`benches/workloads`); all read descriptors in their form on
//! the wire:
//!
//! - `merge/...`: a hash that sees the end and the status of every segment; nothing is written.
//! - `merge-write/...`: every segment written to memory, 16 bytes each.
//! - `merge-coalesced/...`: the hash, with equal neighbours joined.
//! - `merge-filtered/...`: the hash of the ranges that a backup reads: dirty and not zero, touching
//!   ones joined.
//! - `merge-decided/...`: the ranges that a policy has copied: `merge -> decide`. `undecided` reads the
//!   same merge without a policy, and `covering` puts a check between merge and policy.
//! - `merge-extended/...`: as `merge`, but the descriptors are extended, 16 bytes each.
//! - `merge-small/...`: as `merge`, but of 500 descriptors a side, whatever `EXTENTS` says;
//!   `merge-small-128`, `-32` and `-8` of fewer.
//!
//! The functions of a group:
//!
//! - `floor` sums the lengths of both inputs: the time that no merge can beat.
//! - `nbd-extents` is this crate with the features of the build, `nbd-extents-portable` without the
//!   optional ones.
//! - `next-extent` takes one extent after the other by hand.
//! - `naive` is the merge that one would write by hand.
//! - `range-set-blaze` is that crate, which answers the filtered question in every group.
//!
//! All answers are checked against each other before anything is timed. Criterion prints times and
//! input descriptors a second. A run ends with lines for scripts, `ratio GROUP FUNCTION X`: the
//! function took X times as long as the floor, medians of rounds in which all functions took turns.
//! Times differ from machine to machine and from minute to minute; compare the ratios.
//! `benches/README.md` says how to read them.

mod answer;
mod blaze;
mod contender;
#[path = "../measure/mod.rs"]
mod measure;
mod naive;
mod ours;
mod ratios;
mod verify;
#[path = "../workloads/mod.rs"]
mod workloads;

use core::cell::LazyCell;
use core::hint::black_box;
use core::time::Duration;
use std::env;

use criterion::{Criterion, SamplingMode, Throughput};

use answer::Segment;
use contender::{Contender, Lists, SINKS, Sink};
use verify::Verifier;
use workloads::Workload;

fn main() {
    let mode = Mode::from_args();
    let mut bench = Bench::new(mode);
    for shape in workloads::ALL {
        let compact = shape.workload(mode.extents());
        let extended = LazyCell::new(|| compact.extended());
        for sink in &SINKS {
            match sink.lists {
                Lists::Compact => bench.group(sink, || &compact),
                Lists::Extended => bench.group(sink, || &extended),
                Lists::Few(descriptors) => {
                    let few = shape.workload(descriptors);
                    bench.group(sink, || &few);
                }
            }
        }
    }
    bench.finish();
}

struct Bench {
    mode: Mode,
    /// None when only the ratios are wanted.
    criterion: Option<Criterion>,
    out: Vec<Segment>,
    /// To print at the end.
    lines: Vec<String>,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        let criterion = || {
            Criterion::default()
                .without_plots()
                .sample_size(10)
                .nresamples(10_000)
                .warm_up_time(Duration::from_millis(100))
                .measurement_time(Duration::from_millis(300))
                .configure_from_args()
        };
        Self { mode, criterion: (mode != Mode::Ratios).then(criterion), out: Vec::new(), lines: Vec::new() }
    }

    fn group<'w>(&mut self, sink: &'static Sink, workload: impl Fn() -> &'w Workload) {
        let ran = match &mut self.criterion {
            Some(criterion) => time(criterion, sink, &workload, &mut self.out),
            None => select(sink, &workload, &mut self.out),
        };
        if !ran.is_empty() && matches!(self.mode, Mode::Measure | Mode::Ratios) {
            self.lines.extend(ratios::measure(sink, &ran, workload(), &mut self.out));
        }
    }

    fn finish(self) {
        if let Some(criterion) = self.criterion {
            criterion.final_summary();
        }
        for line in self.lines {
            println!("{line}");
        }
    }
}

/// Gives one group to criterion. Returns the functions that its filter let through, each verified
/// before it was timed.
fn time<'w>(
    criterion: &mut Criterion,
    sink: &'static Sink,
    workload: impl Fn() -> &'w Workload,
    out: &mut Vec<Segment>,
) -> Vec<&'static Contender> {
    let (mut ran, mut verifier) = (Vec::new(), Verifier::default());
    let mut group = criterion.benchmark_group(format!("{}/{}", sink.name, workload().name));
    group.sampling_mode(SamplingMode::Flat);
    for contender in sink.contenders {
        let mut verified = false;
        group.throughput(Throughput::Elements(workload().descriptors() as u64));
        group.bench_function(contender.name, |bencher| {
            let workload = workload();
            // Criterion calls this for every sample.
            if !verified {
                out.resize(workload.descriptors(), Segment::NONE);
                verifier.verify(contender, workload, out);
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

/// The functions of a group that the arguments let through, verified.
fn select<'w>(
    sink: &'static Sink,
    workload: impl Fn() -> &'w Workload,
    out: &mut Vec<Segment>,
) -> Vec<&'static Contender> {
    let texts: Vec<_> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let named = |contender: &Contender| format!("{}/{}/{}", sink.name, workload().name, contender.name);
    let wanted = |contender: &&Contender| {
        texts.is_empty() || texts.iter().any(|text| named(contender).contains(text.as_str()))
    };
    let selected: Vec<_> = sink.contenders.iter().filter(wanted).collect();
    let mut verifier = Verifier::default();
    for contender in &selected {
        let workload = workload();
        out.resize(workload.descriptors(), Segment::NONE);
        verifier.verify(contender, workload, out);
    }
    selected
}

/// Whether this run measures: the same reading of the arguments as criterion's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `cargo bench`
    Measure,
    /// `cargo bench -- --ratios`
    Ratios,
    /// `cargo bench -- --profile-time N`: runs for a profiler, and no numbers are wanted.
    Profile,
    /// `cargo test --benches`, or `cargo bench -- --test`: everything once, for its checks.
    Test,
}

impl Mode {
    fn from_args() -> Self {
        let given =
            |flag: &str| env::args().skip(1).any(|arg| arg == flag || arg.starts_with(&format!("{flag}=")));
        if given("--ratios") {
            Self::Ratios
        } else if given("--test") || !given("--bench") {
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
