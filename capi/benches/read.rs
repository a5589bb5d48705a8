//! Reading extents through C in batches of 512, beside Rust's own loop, in one run: prints the ratio of the
//! medians. Fails above 1.1.
//!
//! `cargo bench -p nbd-extents-capi --bench read`. It builds `benches/read.c` against the shared library that
//! `make` installs. Both sides count processor time, so that other work on the machine matters less.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use nbd_extents::Survey;
use rustix::time::{ClockId, clock_gettime};

/// 2 million extents.
const SIZE: u64 = 8 << 30;
const PIECE: u64 = 4096;
const ROUNDS: usize = 9;

fn now() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// The same reply as in `read.c`.
fn reply(offset: u64, length: u64, run: u64, flags: u32) -> Vec<u32> {
    let pieces = (offset..offset + length).step_by(usize::try_from(run * PIECE).unwrap());
    let entry = |position: u64| {
        let length = u32::try_from(run * PIECE).unwrap();
        [length, if position / PIECE / run % 2 == 1 { flags } else { 0 }]
    };
    pieces.flat_map(entry).collect()
}

/// The time of reading, and the sum.
fn in_rust() -> (u64, u64) {
    let mut survey = Survey::new(SIZE, ["base:allocation", "qemu:dirty-bitmap:b0"]).unwrap();
    let (mut spent, mut sum) = (0, 0);
    while let Some(request) = survey.next_request().unwrap() {
        let (id, offset, length) = (request.id(), request.offset(), request.length());
        survey.extents32(id, "base:allocation", offset, &reply(offset, length, 1, 3)).unwrap();
        survey.extents32(id, "qemu:dirty-bitmap:b0", offset, &reply(offset, length, 2, 1)).unwrap();
        survey.reply_done(id).unwrap();
        let start = now();
        while let Some(extent) = survey.next_extent().unwrap() {
            let status = extent.status();
            let dirty = u64::from(status.dirty() == Some(true));
            let zero = u64::from(status.zero() == Some(true));
            sum += extent.length() * (dirty | zero << 1);
        }
        spent += now() - start;
    }
    survey.complete().unwrap();
    (spent, sum)
}

fn in_c(program: &Path, libraries: &Path) -> (u64, u64) {
    let mut command = Command::new(program);
    let output = command.arg(SIZE.to_string()).env("LD_LIBRARY_PATH", libraries).output().unwrap();
    assert!(output.status.success(), "{}", program.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    // `cargo test --benches` only wants to know that it compiles
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // as the Makefile builds it
    let optimized = ["profile.release.lto=\"fat\"", "profile.release.codegen-units=1"];
    let [lto, units] = optimized;
    let library = support::build(&["--release", "--config", lto, "--config", units]);
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&work).unwrap();
    let program = work.join("read");
    support::link(&library.shared, &work);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new("gcc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(folder.join("benches/read.c"))
        .arg("-I")
        .arg(folder.join("include"))
        .arg(&library.shared)
        .status()
        .unwrap();
    assert!(compiled.success());

    let (mut rust, mut c) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (ours, theirs) = (in_rust(), in_c(&program, &work));
        assert_eq!(ours.1, theirs.1, "the sums");
        rust.push(ours.0);
        c.push(theirs.0);
    }
    let (rust, c) = (median(rust), median(c));
    let ratio = c as f64 / rust as f64;
    let extents = SIZE / PIECE;
    println!(
        "{} extents: Rust {:.2} ns each, C {:.2} ns each, ratio {ratio:.2}",
        extents,
        rust as f64 / extents as f64,
        c as f64 / extents as f64
    );
    assert!(ratio <= 1.1, "C takes {ratio:.2} times as long as Rust");
}
