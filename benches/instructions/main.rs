//! Runs each portable main path once, for a program that counts instructions: see
//! `benches/instructions/check`.
//!
//! Unlike time, instructions hardly change from run to run and from machine to machine. A path that
//! takes more of them than before has become slower, or will. Only [`measured`] is counted, not the
//! making of the workloads.
//!
//! Without an argument it runs every path, and compares the hashes of the paths that answer the
//! same question. `small` lists the merges of short lists beside the one written by hand, for which
//! `check` has no figures, but a ratio: `small/DESCRIPTORS/WORKLOAD/FUNCTION`.

#[path = "../merge/answer.rs"]
mod answer;
#[path = "../merge/naive.rs"]
mod naive;
#[path = "../merge/ours.rs"]
mod ours;
#[path = "../workloads/mod.rs"]
mod workloads;

use std::env;

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream, place};
use nbd_extents::wire::{Compact, Descriptor, Form, encode, parse_extended};
use nbd_extents::{
    Allocation, Context, Contexts, Dirtiness, ExportParams, StreamError, Survey, SurveyOptions, Topic,
};
use workloads::{GRID, HEAVY_TAILED, RANDOM, SKEWED, Shape, Workload};

/// Descriptors of the longer side: enough that the work done once per call does not count.
const EXTENTS: usize = 1 << 16;

type Path = (&'static str, Shape, fn(&Workload) -> u64);

const PATHS: [Path; 17] = [
    ("decode", RANDOM, decode),
    ("merge-random", RANDOM, merge),
    ("merge-grid", GRID, merge),
    ("merge-skewed", SKEWED, merge),
    ("merge-heavy-tailed", HEAVY_TAILED, merge),
    ("next-extent-random", RANDOM, step),
    ("coalesce-heavy-tailed", HEAVY_TAILED, coalesce),
    ("filter-skewed", SKEWED, filter),
    ("filter-nothing", SKEWED, filter_nothing),
    ("filter-random", RANDOM, filter),
    ("filter-heavy-tailed", HEAVY_TAILED, filter),
    ("map-random", RANDOM, map),
    ("survey-one-context", RANDOM, survey_one),
    ("survey-random", RANDOM, survey_two),
    ("survey-three-contexts", RANDOM, survey_three),
    ("survey-small", RANDOM, survey_small),
    ("survey-bitmap-first", RANDOM, survey_bitmap_first),
];

fn main() {
    // cargo adds an argument of its own
    let named = env::args().skip(1).find(|arg| !arg.starts_with("--"));
    for (name, shape, path) in PATHS {
        if named.as_deref().is_none_or(|named| named == name) {
            // Only extended headers can ask about a whole disk at once. The disk must not be larger
            // than one request of a survey.
            let workload = match name {
                "survey-small" => shape.workload(50).extended(),
                "survey-bitmap-first" => shape.workload(EXTENTS / 16).extended(),
                _ if name.starts_with("survey") => shape.workload(EXTENTS / 2).extended(),
                _ => shape.workload(EXTENTS),
            };
            let answer = measured(path, &workload);
            assert_ne!(answer, 0, "{name} found nothing");
            println!("{name} {answer:#x}");
        }
    }
    let random = RANDOM.workload(EXTENTS);
    assert_eq!(merge(&random), step(&random), "two ways to one merge");
    small(named.as_deref().unwrap_or_default());
}

/// A way to merge, and its name.
type Function = (&'static str, fn(&Workload) -> u64);

/// The merges of short lists, each a thousand times.
fn small(named: &str) {
    const FUNCTIONS: [Function; 3] = [
        ("naive", |workload| naive::fold(workload, &mut [])),
        ("fold", |workload| ours::fold::<Compact>(workload, &mut [])),
        ("next-extent", |workload| ours::step::<Compact>(workload, &mut [])),
    ];
    for descriptors in [8, 32] {
        for shape in workloads::ALL {
            let workload = shape.workload(descriptors);
            let mut answers = FUNCTIONS.map(|(_, function)| function(&workload)).into_iter();
            assert!(answers.next().is_some_and(|naive| answers.all(|ours| ours == naive)), "{}", shape.name);
            for (function, path) in FUNCTIONS {
                let name = format!("small/{descriptors}/{}/{function}", shape.name);
                if named == name {
                    (0..1000).for_each(|_| _ = core::hint::black_box(measured(path, &workload)));
                }
                if named == name || named == "small" {
                    println!("{name}");
                }
            }
        }
    }
}

/// The counted part: this function and everything that it calls.
#[inline(never)]
fn measured(path: fn(&Workload) -> u64, workload: &Workload) -> u64 {
    path(core::hint::black_box(workload))
}

fn decode(workload: &Workload) -> u64 {
    place(workload.allocation::<Compact>(), 0).fold(0, |hash, e| add(hash, e.end(), *e.status())).unwrap()
}

fn merge(workload: &Workload) -> u64 {
    merged(workload).fold(0, |hash, e| add(hash, e.end(), u64::from(*e.status()))).unwrap()
}

fn step(workload: &Workload) -> u64 {
    let (mut merged, mut hash) = (merged(workload), 0);
    while let Some(extent) = merged.next_extent().unwrap() {
        hash = add(hash, extent.end(), u64::from(*extent.status()));
    }
    hash
}

fn coalesce(workload: &Workload) -> u64 {
    merged(workload).coalesce().fold(0, |hash, e| add(hash, e.end(), u64::from(*e.status()))).unwrap()
}

fn filter(workload: &Workload) -> u64 {
    let wanted = merged(workload).map_status(|status| status & 6 == 4).filter(|&wanted| wanted).coalesce();
    wanted.fold(0, |hash, e| add(hash, e.end(), e.start())).unwrap()
}

/// A disk without a wanted extent.
fn filter_nothing(workload: &Workload) -> u64 {
    let wanted = merged(workload).map_status(|status| status > 7).filter(|&wanted| wanted).coalesce();
    wanted.fold(1, |count, _| count + 1).unwrap()
}

fn map(workload: &Workload) -> u64 {
    let end = workload.bitmap::<Compact>().map(|descriptor| descriptor.length).sum();
    ExtentMap::covering(merged(workload), 0..end).unwrap().run_count() as u64
}

fn survey_one(workload: &Workload) -> u64 {
    survey_of([(Context::bitmap("b0"), workload.bitmap.clone())])
}

fn survey_two(workload: &Workload) -> u64 {
    survey_of(two(workload))
}

fn survey_three(workload: &Workload) -> u64 {
    let [allocation, bitmap] = two(workload);
    // The same lengths in reverse: they end at the same byte and are cut elsewhere.
    let (header, list) = workload.bitmap.split_at(Form::Extended.header_size());
    let mut other = header.to_vec();
    other.extend(list.as_chunks::<16>().0.iter().rev().flatten());
    other.splice(..4, 3_u32.to_be_bytes());
    survey_of([allocation, bitmap, (Context::bitmap("b1"), other)])
}

/// Half of the disk is dirty, in as many places as possible, each of which takes a request.
fn survey_bitmap_first(workload: &Workload) -> u64 {
    let size = span(&workload.bitmap);
    let wanted =
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap();
    let bitmaps = wanted.bitmaps().negotiate([(2, "qemu:dirty-bitmap:b0")]).unwrap();
    let details = wanted.details().negotiate([(1, "base:allocation")]).unwrap();
    let export = ExportParams::new(size, Form::Extended).unwrap().read_only(true);
    let mut survey = Survey::bitmap_first(SurveyOptions::new(export), bitmaps, details).unwrap();
    let mut hash = 0;
    while let Some(request) = survey.next_request().unwrap() {
        let whole = [Descriptor { length: request.length(), flags: 3 }];
        let payload = match request.topic() {
            Topic::Bitmaps => workload.bitmap.clone(),
            _ => encode(Form::Extended, 1, whole).unwrap(),
        };
        survey.chunk(request.id(), payload).unwrap();
        survey.reply_done(request.id()).unwrap();
        hash = read(&mut survey, hash);
    }
    survey.complete().unwrap();
    hash
}

/// Many small disks: the fixed cost of a survey.
fn survey_small(workload: &Workload) -> u64 {
    (0..100).fold(0, |hash: u64, _| hash.rotate_left(1) ^ survey_of(two(workload)))
}

fn two(workload: &Workload) -> [(Context, Vec<u8>); 2] {
    [(Context::Allocation, workload.allocation.clone()), (Context::bitmap("b0"), workload.bitmap.clone())]
}

/// Surveys a disk whose server answers everything at once, with these payloads, which contain their
/// context ids.
fn survey_of<const N: usize>(payloads: [(Context, Vec<u8>); N]) -> u64 {
    let size = payloads.first().map_or(0, |(_, payload)| span(payload));
    let wanted =
        payloads.iter().fold(Contexts::new(), |all, (context, _)| all.require(context.clone()).unwrap());
    let id = |payload: &[u8]| parse_extended(payload).unwrap().context();
    let granted = payloads.iter().map(|(context, payload)| (id(payload), context.to_string()));
    let contexts = wanted.negotiate(granted).unwrap();
    let export = ExportParams::new(size, Form::Extended).unwrap().read_only(true);
    let mut survey = Survey::together(SurveyOptions::new(export), contexts).unwrap();
    let request = survey.next_request().unwrap().unwrap();
    for (_, payload) in payloads {
        survey.chunk(request.id(), payload).unwrap();
    }
    survey.reply_done(request.id()).unwrap();
    let hash = read(&mut survey, 0);
    survey.complete().unwrap();
    hash
}

fn read(survey: &mut Survey, mut hash: u64) -> u64 {
    while let Some(extent) = survey.next_extent().unwrap() {
        hash = add(hash, extent.end(), u64::from(extent.status().zero() == Some(true)));
    }
    hash
}

/// The byte at which the list of a payload ends.
fn span(payload: &[u8]) -> u64 {
    parse_extended(payload).unwrap().descriptors().map(|descriptor| descriptor.length).sum()
}

fn add(hash: u64, end: u64, status: u64) -> u64 {
    hash.wrapping_add((end ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(status.rotate_left(32) ^ end))
}

/// Bit 0 hole, bit 1 zero, bit 2 dirty.
fn merged(workload: &Workload) -> impl ExtentStream<Status = u8, Error = StreamError> {
    let allocation = place(workload.allocation::<Compact>(), 0).map_status(Allocation::from_flags);
    let bitmap = place(workload.bitmap::<Compact>(), 0).map_status(Dirtiness::from_flags);
    allocation.merge(bitmap, |allocation, dirtiness| {
        u8::from(allocation.is_hole())
            | u8::from(allocation.is_zero()) << 1
            | u8::from(dirtiness.is_dirty()) << 2
    })
}
