//! The stated bounds, by measurement: memory by an allocator that counts, requests and descriptors by
//! a server that counts. They grow in proportion to the descriptors of the disk and to its contexts.
//!
//! `BOUNDS=long cargo test --release --test bounds` goes from 10^3 to 10^7 descriptors and from 1 to
//! 33 contexts; otherwise the largest disks are left out.
#![cfg(feature = "alloc")]

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nbd_extents::map::{ExtentMap, MapBuilder};
use nbd_extents::stream::{ExtentStream, from_iter, merge_all};
use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{Admission, Context, Contexts, ExportParams, Extent, Survey, SurveyOptions};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const BLOCK: u64 = 4096;
/// The most descriptors that qemu puts into a chunk.
const CAP: u64 = 131_072;
/// The default budget of a survey, as SECURITY.md states it.
const BUDGET: usize = 32 << 20;
/// Whatever does not depend on the input: tables, windows, the strings of contexts.
const CONSTANT: usize = 1 << 20;

/// One measurement at a time: the allocator counts the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that `work` holds beyond those held before it.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    (MEMORY.peak_usage().saturating_sub(before), result)
}

fn is_long() -> bool {
    std::env::var("BOUNDS").is_ok_and(|value| value == "long")
}

/// Numbers of descriptors: 10^3 to 10^7, or those that a debug build walks in a second.
fn sizes() -> &'static [u64] {
    if is_long() { &[1_000, 10_000, 100_000, 1_000_000, 10_000_000] } else { &[1_000, 10_000, 100_000] }
}

fn wanted(contexts: u64) -> Contexts {
    let bitmaps = (1..contexts).map(|index| Context::bitmap(format!("b{index}")));
    Contexts::new().require_all([Context::Allocation].into_iter().chain(bitmaps)).unwrap()
}

/// Context `k` is cut at every block, at every second, or at every third.
fn grain(context: u64) -> u64 {
    BLOCK * (1 + context % 3)
}

/// The costs of a survey.
#[derive(Clone, Copy, Debug)]
struct Costs {
    requests: u64,
    /// Descriptors that the server sent, those that it sent again included.
    descriptors: u64,
    extents: u64,
    peak: usize,
}

/// Surveys a disk of this number of blocks, each of which differs from its neighbours. A chunk has
/// at most `cap` descriptors.
fn survey(blocks: u64, contexts: u64, cap: u64) -> Costs {
    let size = blocks * BLOCK;
    let wanted = wanted(contexts);
    let names: Vec<(u32, String)> = (0..).zip(wanted.names().map(str::to_owned)).collect();
    let granted = wanted.negotiate(names).unwrap();
    let export = ExportParams::new(size, Form::Extended).unwrap().read_only(true);
    let (mut descriptors, mut extents) = (0, 0);
    let mut surveying = Survey::together(SurveyOptions::new(export), granted).unwrap();
    let (peak, requests) = peak(|| {
        while let Some(request) = surveying.next_request().unwrap() {
            let range = request.offset()..request.offset() + request.length();
            for (id, context) in (0..).zip(0..contexts) {
                let grain = grain(context);
                let end = range.end.min((range.start / grain + cap) * grain);
                let count = end.div_ceil(grain) - range.start / grain;
                descriptors += count;
                let length = 8 + 16 * count;
                if surveying.admit(request.id(), length) == Admission::Take {
                    surveying.chunk(request.id(), payload(id, context, range.start..end)).unwrap();
                }
            }
            surveying.reply_done(request.id()).unwrap();
            while let Some(extent) = surveying.next_extent().unwrap() {
                assert_eq!(extent.start() % BLOCK, 0);
                extents += 1;
            }
        }
        surveying.stats().requests
    });
    let stats = surveying.complete().unwrap();
    assert!(stats.peak_bytes <= BUDGET, "{} bytes of payload", stats.peak_bytes);
    Costs { requests, descriptors, extents, peak }
}

/// The payload of one context, with no more capacity than it needs.
fn payload(id: u32, context: u64, range: core::ops::Range<u64>) -> Vec<u8> {
    let (grain, end) = (grain(context), range.end);
    let first = range.start / grain;
    let count = usize::try_from(end.div_ceil(grain) - first).unwrap();
    let list = (0..count).map(|index| {
        let place = first + index as u64;
        let length = ((place + 1) * grain).min(end) - (place * grain).max(range.start);
        Descriptor { length, flags: place & 1 }
    });
    encode(Form::Extended, id, list).unwrap()
}

#[test]
fn a_survey_costs_in_proportion_to_descriptors_and_contexts() {
    let _alone = alone();
    for contexts in [1, 2, 33] {
        let mut last: Option<(u64, Costs)> = None;
        for &blocks in sizes() {
            if contexts == 33 && blocks == 100_000 && !is_long() {
                continue;
            }
            let costs = survey(blocks, contexts, CAP);
            eprintln!("{blocks} blocks, {contexts} contexts: {costs:?}");
            assert!(costs.peak <= BUDGET + CONSTANT, "{} bytes", costs.peak);
            // every block differs from the one before it in the first context
            assert_eq!(costs.extents, blocks);
            // Descriptors of a context beyond the shortest one are sent again. The shortest is cut
            // three times as finely as the longest, so a descriptor is sent four times at most.
            let once: u64 = (0..contexts).map(|context| (blocks * BLOCK).div_ceil(grain(context))).sum();
            assert!(costs.descriptors <= 4 * once + 100 * contexts, "{} for {once}", costs.descriptors);
            // Replies that the cap or the budget would fill. Requests are shorter: 16 in flight share the
            // budget, and those of the next ranges are on their way before a short answer is known.
            let fills = blocks.div_ceil(CAP) + once * 16 / BUDGET as u64;
            assert!(costs.requests <= 128 * fills + 16, "{} requests, {fills} full", costs.requests);
            // one reply answers a small disk, and nothing of it twice; with more, costs follow the size
            if let Some((fewer, cheaper)) = last
                && cheaper.requests >= 16
            {
                let ratio = blocks / fewer;
                assert!(costs.descriptors <= ratio * cheaper.descriptors * 5 / 4);
                assert!(costs.requests <= ratio * cheaper.requests * 5 / 4);
            }
            last = Some((blocks, costs));
        }
    }
}

/// With chunks of 32 descriptors a thousand blocks take tens of requests already, so that a debug
/// build sees the growth: ten times the blocks cost ten times the requests and the descriptors and
/// no more memory, and each context at most as many descriptors and bytes as the first.
#[test]
fn costs_of_a_survey_grow_linearly() {
    let _alone = alone();
    let mut of_one = Vec::new();
    for contexts in [1, 2, 33] {
        let blocks = if contexts < 33 || is_long() { sizes() } else { &sizes()[..2] };
        let mut last: Option<(u64, Costs)> = None;
        for (nth, &blocks) in blocks.iter().enumerate() {
            let costs = survey(blocks, contexts, 32);
            eprintln!("{blocks} blocks, {contexts} contexts, chunks of 32: {costs:?}");
            assert_eq!(costs.extents, blocks);
            if let Some((fewer, cheaper)) = last {
                let ratio = blocks / fewer;
                assert_in_proportion(costs.requests, cheaper.requests, ratio);
                assert_in_proportion(costs.descriptors, cheaper.descriptors, ratio);
                assert!(costs.peak <= cheaper.peak * 5 / 4, "{costs:?} after {cheaper:?}");
            }
            last = Some((blocks, costs));
            if contexts == 1 {
                of_one.push(costs);
            }
            // the first context has the shortest extents
            let one = of_one[nth];
            assert_in_proportion(costs.requests, one.requests, 1);
            assert!(costs.descriptors <= contexts * one.descriptors * 5 / 4, "{costs:?} after {one:?}");
            assert!(costs.peak as u64 <= contexts * one.peak as u64, "{costs:?} after {one:?}");
        }
    }
}

/// `more` is `ratio` times `fewer`, but for a quarter.
fn assert_in_proportion(more: u64, fewer: u64, ratio: u64) {
    assert!(more * 4 <= ratio * fewer * 5, "{more} is more than {ratio} times {fewer}");
    assert!(more * 4 >= ratio * fewer * 3, "{more} is less than {ratio} times {fewer}");
}

/// A merge asks its closure once for each stream and extent, and holds nothing of its input.
#[test]
fn a_merge_of_33_streams_holds_nothing_and_asks_in_proportion() {
    let _alone = alone();
    for &blocks in sizes() {
        let asked = Cell::new(0_u64);
        let stream = |context: u64| {
            let count = (blocks * BLOCK).div_ceil(grain(context));
            from_iter((0..count).map(move |index| {
                let start = index * grain(context);
                Extent::new(start, grain(context).min(blocks * BLOCK - start), index & 1).unwrap()
            }))
        };
        let (peak, extents) = peak(|| {
            let combine = |one: u64, other: &u64| {
                asked.set(asked.get() + 1);
                one + other
            };
            let mut merged = merge_all((0..33).map(stream), combine);
            let mut extents = 0;
            while merged.next_extent().unwrap().is_some() {
                extents += 1;
            }
            extents
        });
        eprintln!("{blocks} blocks: {} questions, {peak} bytes", asked.get());
        assert_eq!(extents, blocks);
        assert_eq!(asked.get(), 32 * blocks);
        assert!(peak <= 16 << 10, "{peak} bytes");
    }
}

/// ARCHITECTURE.md: a map of a whole disk has 9 bytes an extent. Its index adds a seventh of a byte.
/// While the map grows, the old and the new table are there at once.
#[test]
fn a_map_has_nine_bytes_an_extent() {
    let _alone = alone();
    for &blocks in sizes() {
        let count = usize::try_from(blocks).unwrap();
        let (peak, map): (usize, ExtentMap<u8>) = peak(|| {
            let mut builder = MapBuilder::covering(0..blocks * BLOCK);
            for index in 0..blocks {
                let status = u8::try_from(index % 3).unwrap();
                builder.push(Extent::new(index * BLOCK, BLOCK, status).unwrap()).unwrap();
            }
            builder.finish().unwrap()
        });
        eprintln!("{blocks} extents: {} bytes, {peak} while it grew", map.memory_usage());
        assert_eq!(map.extents().count(), count);
        assert!(map.memory_usage() <= 9 * count + count / 7 + 1024, "{} bytes", map.memory_usage());
        // doubling: at most twice the bytes that are needed, and the half-sized table beside them
        assert!(peak <= 3 * 9 * count + CONSTANT, "{peak} bytes");
    }
}
