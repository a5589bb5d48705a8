//! Surveys that keep the wire busy, against real servers: with several requests in flight the
//! result is the same and comes sooner, and with the bitmap first the cost follows the change, not
//! the size of the disk.

mod support;

use core::time::Duration;
use std::process::Stdio;
use std::time::Instant;

use nbd_client::frame::Headers;
use nbd_client::survey::Order;
use nbd_client::{Options, Surveyor};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Context, Contexts, Extent, Status, SurveyOptions, SurveyStats};
use support::run::program;
use testkit::command::peak_memory;
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::tools;

const TIB: u64 = 1 << 40;

struct Surveyed {
    extents: Vec<Extent<Status>>,
    stats: SurveyStats,
    took: Duration,
}

/// Surveys the whole default export.
fn survey(
    server: &Server,
    contexts: &Contexts,
    order: Order,
    connect: &Options,
    set: impl Fn(SurveyOptions) -> SurveyOptions,
) -> Surveyed {
    let mut surveyor = Surveyor::connect(&server.uri("").parse().unwrap(), connect, contexts, order).unwrap();
    let options = set(surveyor.survey_options().unwrap());
    let started = Instant::now();
    let mut reader = surveyor.survey(options).unwrap();
    let mut extents = Vec::new();
    while let Some(extent) = reader.next_extent().unwrap() {
        extents.push(extent);
    }
    let (stats, took) = (reader.stats(), started.elapsed());
    surveyor.disconnect().unwrap();
    Surveyed { extents, stats, took }
}

fn allocation() -> Contexts {
    Contexts::new().require(Context::Allocation).unwrap()
}

fn with_bitmap() -> Contexts {
    allocation().require(Context::bitmap("b0")).unwrap()
}

/// Each answer takes 10 ms, and 64 are needed: 8 at a time come nearly 8 times as fast.
#[test]
fn latency_is_hidden_by_asking_ahead() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let plugin = ["sparse-random", "seed=7", "percent=30", "size=64M", "delay-extents=10ms"];
    let server = Server::nbdkit(&["--filter=delay"], &plugin);
    let run = |in_flight| {
        survey(&server, &allocation(), Order::Together, &Options::new(), |options| {
            options.max_request(MIB).in_flight(in_flight)
        })
    };
    let one = run(1);
    assert!(one.stats.requests >= 32, "{:?}", one.stats);
    assert!(one.took >= Duration::from_millis(10) * u32::try_from(one.stats.requests).unwrap());
    let eight = run(8);
    assert_eq!(one.extents, eight.extents);
    assert_eq!(eight.stats.peak_in_flight, 8);
    let ratio = one.took.as_secs_f64() / eight.took.as_secs_f64();
    eprintln!("one at a time {:?}, eight {:?}: {ratio:.1} times as fast", one.took, eight.took);
    assert!(ratio >= 3.0, "{ratio:.1} times as fast with 8 requests in flight");
}

/// The four ways to ask qemu agree, with one request in flight, with some, and with more than the
/// disk has use for.
#[test]
fn every_number_in_flight_gives_the_same_map() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let mut steps: Vec<Step> =
        (0..600).map(|n| Step::Write { at: n * 160 * KIB, length: 64 * KIB }).collect();
    steps.push(Step::bitmap("b0"));
    steps.extend((0..200).map(|n| Step::Write { at: n * 450 * KIB, length: 4 * KIB }));
    steps.push(Step::Zero { at: 30 * MIB, length: 5 * MIB });
    let server = Server::qemu_nbd(&Recipe::qcow2(64 * KIB, 100 * MIB, steps).make(folder.path()), &["b0"]);
    for order in [Order::Together, Order::BitmapFirst] {
        for headers in [Headers::Extended, Headers::Structured] {
            let connect = Options::new().headers(headers);
            let run = |in_flight, max_request| {
                survey(&server, &with_bitmap(), order, &connect, |options| {
                    options.in_flight(in_flight).max_request(max_request)
                })
            };
            let plain = run(1, u64::MAX);
            for (in_flight, max_request) in [(2, u64::MAX), (8, MIB), (50, 300 * KIB)] {
                let other = run(in_flight, max_request);
                assert_eq!(plain.extents, other.extents, "{order:?}, {in_flight} in flight");
                assert_eq!(other.stats.failed, 0);
            }
        }
    }
}

/// A sparse disk in which 1024 places have changed: 64 GiB are dirty by the bitmap, whatever the
/// size.
fn sparse(size: u64) -> Recipe {
    const CHANGES: u64 = 1024;
    let place = |n: u64| size / CHANGES * n;
    let steps = [Step::Bitmap { name: "b0", granularity: 64 * MIB }];
    let writes = (0..CHANGES).map(|n| Step::Write { at: place(n), length: 64 * KIB });
    Recipe::qcow2(2 * MIB, size, steps.into_iter().chain(writes).collect())
}

#[test]
fn with_the_bitmap_first_the_cost_follows_the_change() {
    if !tools::require_qemu() {
        return;
    }
    let run = |size: u64| {
        let folder = folder();
        let server = Server::qemu_nbd(&sparse(size).make(folder.path()), &["b0"]);
        let surveys = [0, 1, 2]
            .map(|_| survey(&server, &with_bitmap(), Order::BitmapFirst, &Options::new(), |options| options));
        surveys.into_iter().min_by_key(|one| one.took).unwrap()
    };
    let (small, large) = (run(4 * TIB), run(64 * TIB));
    for (size, one) in [(4 * TIB, &small), (64 * TIB, &large)] {
        let dirty = one.extents.iter().filter(|extent| extent.status().dirty() == Some(true));
        let (places, bytes) = dirty.fold((0, 0), |(n, sum), extent| {
            (n + u64::from(extent.status().zero() == Some(false)), sum + extent.length())
        });
        assert_eq!((places, bytes), (1024, 1024 * 64 * MIB));
        assert_eq!(one.stats.detail_bytes, bytes, "zero status was asked for more than is dirty");
        assert_eq!(one.extents.last().map(Extent::end), Some(size));
        eprintln!("{} TiB: {:?}, {:?}", size / TIB, one.took, one.stats);
    }
    assert!(large.stats.detail_bytes * 100 <= 64 * TIB, "more than 1% of the disk: {:?}", large.stats);
    assert!(large.stats.requests <= 2 * small.stats.requests, "{:?} {:?}", large.stats, small.stats);
    assert!(large.took <= 4 * small.took + Duration::from_millis(200), "{:?}, {:?}", large.took, small.took);
}

/// The most memory that `map --totals` took at any time, in bytes.
fn peak_of_survey(server: &Server) -> u64 {
    let mut command = program("map");
    command.args([&server.uri(""), "--totals", "--json"]).stdout(Stdio::piped());
    peak_memory(command.spawn().unwrap())
}

/// A survey keeps what its budget allows and no more, however large the disk: here 16,000 extents
/// and half a million.
#[test]
fn memory_does_not_grow_with_the_disk() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let peak = |size: &str| {
        let plugin = ["sparse-random", "seed=5", "percent=50", "runlength=4096", size];
        let server = Server::nbdkit(&[], &plugin);
        let one = survey(&server, &allocation(), Order::Together, &Options::new(), |options| options);
        assert!(one.stats.peak_bytes <= 32 << 20, "{:?}", one.stats);
        eprintln!("{size}: {} extents, {:?}", one.extents.len(), one.stats);
        (peak_of_survey(&server), one.extents.len())
    };
    let ((small, few), (large, many)) = (peak("size=128M"), peak("size=4G"));
    eprintln!("{few} extents: {} KiB, {many} extents: {} KiB", small >> 10, large >> 10);
    assert!(many > 20 * few);
    assert!(
        large <= small + 16 * MIB,
        "{} KiB with {few} extents, {} KiB with {many}",
        small >> 10,
        large >> 10
    );
}
