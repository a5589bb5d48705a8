//! A survey of an export that changes meanwhile. The result is no snapshot, but it is safe: bytes
//! that any used or retained answer reported dirty are dirty, bytes that any reported as data are
//! not zero, and the range is still covered exactly.
#![cfg(feature = "alloc")]

mod support;

use nbd_extents::wire::Form;
use nbd_extents::{Context, Contexts, ExportParams, Status, Survey, SurveyError, SurveyOptions};
use proptest::prelude::*;

use support::dense::{Dense, assert_canonical, from_extents, to_extents};
use support::drive::{Run, drive, drive_with};
use support::server::Server;
use support::setup::{Order, Setup, setups};

/// A change between two replies: this number of bytes, from this offset, to these flags.
type Change = (usize, usize, u64);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((0_usize..400, 0_usize..60, 0_u64..4), 0..30)
}

fn writable(setup: &Setup) -> Setup {
    Setup { writable: true, ..setup.clone() }
}

/// Applies one change to every context.
fn change(server: &mut Server, (start, length, flags): Change) {
    for source in &mut server.sources {
        let (size, flags) = (source.flags.len(), flags.rotate_left(u32::from(source.is_bitmap())));
        source.flags[start.min(size)..(start + length).min(size)].fill(flags);
    }
}

/// The writes of a guest: blocks become dirty, zeroes become data, never the other way.
fn write(server: &mut Server, (start, length, _): Change) {
    for source in &mut server.sources {
        let size = source.flags.len();
        let flags = u64::from(source.is_bitmap() || source.context == Context::Depth);
        source.flags[start.min(size)..(start + length).min(size)].fill(flags);
    }
}

fn run(
    setup: &Setup,
    server: &mut Server,
    changes: &[Change],
    apply: fn(&mut Server, Change),
) -> Result<Run, SurveyError> {
    server.snapshot_access = false;
    let mut changes = changes.iter();
    drive_with(setup.survey(), server, |server| changes.next().into_iter().for_each(|&c| apply(server, c)))
}

/// Exactly the range, each byte once.
fn covered(setup: &Setup, run: &Run) -> Dense<Status> {
    assert_canonical(&run.extents);
    let result = from_extents(&run.extents, setup.size);
    assert!(result.iter().enumerate().all(|(at, status)| status.is_some() == setup.range.contains(&at)));
    result
}

/// All answers about each byte, joined by hand: dirty is OR, zero and hole are AND, two different
/// depths give none. And whether any differed.
fn told(setup: &Setup, server: &Server) -> (Dense<Status>, bool) {
    let mut joined: Dense<Status> = vec![None; setup.size];
    let mut differed = false;
    for byte in setup.range.clone() {
        let mut status = Status::UNKNOWN;
        for (nth, source) in server.sources.iter().enumerate() {
            let about = server.told.iter().filter(|told| told.source == nth && told.bytes.contains(&byte));
            let flags: Vec<u64> = about.map(|told| told.flags[byte - told.bytes.start]).collect();
            let (safest, same) = safest(&source.context, &flags);
            differed |= !same;
            status = source.add(status, safest);
        }
        joined[byte] = Some(status);
    }
    (joined, differed)
}

fn safest(context: &Context, flags: &[u64]) -> (u64, bool) {
    let bits = |mask: u64| flags.iter().all(|f| f & mask == flags[0] & mask);
    match context {
        Context::Allocation => (flags.iter().fold(3, |all, flags| all & flags), bits(3)),
        Context::Depth if bits(u64::MAX) => (flags[0], true),
        // no number of 32 bits: in doubt
        Context::Depth => (u64::MAX, false),
        _ => (flags.iter().fold(0, |any, flags| any | flags) & 1, bits(1)),
    }
}

proptest! {
    #![proptest_config(support::config(512))]

    /// With blocks of one byte each request starts at the survey's position, so every answer about
    /// a byte counts, and no other.
    #[test]
    fn the_safest_of_all_answers_holds(setup in setups(true), changes in changes()) {
        let setup = Setup { order: Order::Together, min_block: 1, budget: None, ..writable(&setup) };
        let mut server = setup.server();
        let run = run(&setup, &mut server, &changes, change).unwrap();
        covered(&setup, &run);
        if run.stats.retained_coarsened == 0 {
            let (joined, differed) = told(&setup, &server);
            prop_assert_eq!(&run.extents, &to_extents(&joined));
            prop_assert_eq!(run.stats.disagreements > 0, differed);
        }
    }

    #[test]
    fn any_change_leaves_the_coverage_exact(setup in setups(true), changes in changes()) {
        let setup = writable(&setup);
        if let Ok(run) = run(&setup, &mut setup.server(), &changes, change) {
            covered(&setup, &run);
        }
    }

    /// A byte that was dirty before the survey began is dirty in every answer, and so in the
    /// result; data stays data.
    #[test]
    fn a_guest_that_writes_cannot_hide_what_was_dirty(setup in setups(true), changes in changes()) {
        let setup = Setup { budget: None, ..writable(&setup) };
        let before = Setup { order: Order::Together, ..setup.clone() }.truth();
        let run = run(&setup, &mut setup.server(), &changes, write).unwrap();
        for (status, before) in covered(&setup, &run).iter().zip(&before).filter_map(|(s, b)| s.zip(*b)) {
            prop_assert!(
                before.dirty() != Some(true) || status.dirty() == Some(true),
                "{before} became {status}"
            );
            prop_assert!(
                before.zero() != Some(false) || status.zero() != Some(true),
                "{before} became {status}"
            );
        }
    }

    /// Retained answers count as well.
    #[test]
    fn the_budget_holds_for_the_rests_too(setup in setups(true), budget in 20_usize..1500) {
        let setup = Setup { budget: Some(budget), ..writable(&setup) };
        let mut server = setup.server();
        server.snapshot_access = false;
        match drive(setup.survey(), &mut server) {
            Ok(run) => {
                prop_assert!(run.stats.peak_bytes <= budget, "{} bytes of {budget}", run.stats.peak_bytes)
            }
            // retained answers are given up; in bitmap-first order the bitmaps' answer need not be
            Err(error) => {
                prop_assert!(setup.order == Order::BitmapFirst || budget < setup.enough(), "{error}")
            }
        }
    }

    /// Retained answers must not fail a survey that would succeed without them.
    #[test]
    fn an_export_that_does_not_change_is_the_same_writable(setup in setups(false)) {
        let setup = Setup { budget: None, ..writable(&setup) };
        let run = drive(setup.survey(), &mut setup.server()).unwrap();
        prop_assert_eq!(&run.extents, &to_extents(&setup.truth()));
        prop_assert_eq!(run.stats.disagreements, 0);
    }

    #[test]
    fn it_must_be_asked_for_by_name(setup in setups(false)) {
        let refused = Setup { writable: true, ..setup }.options_without_permission();
        prop_assert_eq!(refused.unwrap_err(), SurveyError::Writable);
    }
}

/// The properties above prove nothing if answers never disagree.
#[test]
fn answers_do_disagree() {
    use proptest::strategy::ValueTree;
    let runner = &mut proptest::test_runner::TestRunner::deterministic();
    let (mut disputed, mut compared, mut coarsened) = (0, 0, 0);
    for _ in 0..200 {
        let (setup, changes) = (setups(true), changes()).new_tree(runner).unwrap().current();
        let setup = Setup { order: Order::Together, min_block: 1, budget: None, ..writable(&setup) };
        let run = run(&setup, &mut setup.server(), &changes, change).unwrap();
        disputed += u64::from(run.stats.disagreements > 0);
        compared += u64::from(run.stats.retained_coarsened == 0);
        let small = Setup { budget: Some(setup.enough()), ..setup };
        let run = drive(small.survey(), &mut small.server()).unwrap();
        coarsened += u64::from(run.stats.retained_coarsened > 0);
    }
    assert!(disputed >= 20 && compared >= 50 && coarsened >= 5, "{disputed} {compared} {coarsened}");
}

/// Allocation reaches the end of the request, the bitmap covers one extent. A range that the server
/// sends again and again is requested in smaller pieces: the work, counted in descriptors received,
/// grows with the disk and not with its square.
#[test]
fn contexts_that_reach_very_differently_cost_what_the_disk_costs() {
    let cost = |extents: u64| {
        let wanted = Contexts::new().require(Context::Allocation).unwrap();
        let wanted = wanted.require(Context::bitmap("b0")).unwrap();
        let names = ["base:allocation", "qemu:dirty-bitmap:b0"];
        let size = extents * 512;
        let export = ExportParams::new(size, Form::Compact).unwrap();
        let options = SurveyOptions::new(export).allow_writable().max_stalled_replies(u32::MAX);
        let mut survey = Survey::together(options, wanted.negotiate_names(names).unwrap()).unwrap();
        let mut read = 0;
        while let Some(request) = survey.next_request().unwrap() {
            let (id, start) = (request.id(), request.offset());
            let flags = |byte: u64| u32::try_from(byte / 512 % 2).unwrap();
            let all: Vec<u32> = (start..start + request.length())
                .step_by(512)
                .flat_map(|byte| [512, flags(byte) * 3])
                .collect();
            survey.extents32(id, names[0], start, &all).unwrap();
            survey.extents32(id, names[1], start, &[512, flags(start)]).unwrap();
            survey.reply_done(id).unwrap();
            while let Some(extent) = survey.next_extent().unwrap() {
                let flags = flags(extent.start()) == 1;
                assert_eq!((extent.status().zero(), extent.status().dirty()), (Some(flags), Some(flags)));
                read += 1;
            }
        }
        assert_eq!(read, extents);
        let stats = survey.complete().unwrap();
        assert_eq!(stats.retained_coarsened, 0);
        stats.descriptors / extents
    };
    let (small, large) = (cost(500), cost(4000));
    assert!(large <= small.max(1) * 2 && large < 300, "{small} and {large} descriptors an extent");
}
