//! A survey against a simulated server: whatever the disk, the cuts, the order of chunks, the range
//! and the limits, the result equals that of a slow model, byte for byte; or the survey reports a
//! budget too small for one block.
#![cfg(feature = "alloc")]

mod support;

use nbd_extents::{Bitmaps, Context, Extent, Status, Survey, SurveyError};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use support::dense::{Dense, assert_canonical, from_extents, to_extents};
use support::drive::{Run, Wire, answer, drain, drive, drive_late};
use support::server::{Seen, Server, Source};
use support::setup::{Order, Setup, setups};

/// With a budget that is not tiny, a survey succeeds.
fn run(setup: &Setup, server: &mut Server) -> Option<Run> {
    match drive(setup.survey(), server) {
        Ok(run) => Some(run),
        Err(SurveyError::OverBudget { budget, length, .. }) => {
            assert_eq!(Some(budget), setup.budget);
            assert!(length <= setup.min_block as u64);
            // in bitmap-first order the bitmaps' answer may hold a part while the details are
            // requested; see below for how much
            let held = if setup.order == Order::BitmapFirst { setup.largest_reply() } else { 0 };
            assert!(budget < setup.enough() + held, "{budget} bytes are enough: {} would do", setup.enough());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The properties of every result: it covers the range once, in order, joined, within the budget.
fn judge(setup: &Setup, run: &Run) -> Dense<Status> {
    assert_canonical(&run.extents);
    assert!(run.stats.peak_bytes <= setup.budget.unwrap_or(32 << 20), "{:?}", run.stats);
    let result = from_extents(&run.extents, setup.size);
    for (byte, status) in result.iter().enumerate() {
        assert_eq!(status.is_some(), setup.range.contains(&byte), "byte {byte}");
    }
    result
}

#[track_caller]
fn exact(setup: &Setup, run: &Run) {
    let result = judge(setup, run);
    for source in setup.sources() {
        means_what_the_flags_say(&source, &result);
    }
    assert_eq!(run.extents, to_extents(&setup.truth()));
    assert_eq!(run.stats.disagreements, 0);
    assert_eq!(run.stats.forgiven.total(), run.stats.forgiven.extra_descriptors, "{:?}", run.stats);
}

/// The meaning of each number on the wire, spelled out bit by bit: the model above reads flags with
/// the library's own code.
#[track_caller]
fn means_what_the_flags_say(source: &Source, result: &Dense<Status>) {
    for (status, &flags) in result.iter().zip(&source.flags).filter_map(|(s, f)| s.map(|s| (s, f))) {
        let clean = status.dirty() == Some(false);
        match source.context {
            Context::Allocation if clean && status.zero().is_none() => assert_eq!(status.hole(), None),
            Context::Allocation => {
                assert_eq!((status.zero(), status.hole()), (Some(flags & 2 == 2), Some(flags & 1 == 1)));
            }
            Context::Depth if clean && status.depth().is_none() => {}
            Context::Depth => assert_eq!(status.depth().map(u64::from), Some(flags)),
            _ => assert_eq!(status.dirty_in(source.bitmap.try_into().unwrap()), Some(flags & 1 == 1)),
        }
    }
}

proptest! {
    #![proptest_config(support::config(512))]

    #[test]
    fn whole_blocks_give_exactly_the_disk(setup in setups(false)) {
        if let Some(run) = run(&setup, &mut setup.server()) {
            exact(&setup, &run);
        }
    }

    #[test]
    fn odd_cuts_only_ever_add_safe_statuses(setup in setups(true)) {
        if let Some(run) = run(&setup, &mut setup.server()) {
            let result = judge(&setup, &run);
            let doubtful = differing_blocks(&setup, &result);
            let split = run.stats.forgiven.split_blocks;
            prop_assert!(doubtful <= split, "{doubtful} blocks differ, {split} were split");
        }
    }

    /// The bitmaps' answer must not use up the budget and leave the details without room for a
    /// single block.
    #[test]
    fn bitmap_first_needs_no_larger_budget(setup in setups(false), more in 0_usize..400) {
        let setup = Setup { budget: Some(2 * setup.enough() + more), ..setup };
        match drive(setup.survey(), &mut setup.server()) {
            Ok(run) => exact(&setup, &run),
            Err(error) => prop_assert!(false, "{error}, but {} bytes would do", setup.enough()),
        }
    }

    /// What a caller has not read yet takes room for a while, and is no reason for an error.
    #[test]
    fn a_caller_that_reads_late_needs_no_larger_budget(
        setup in setups(false),
        more in 0_usize..400,
        few in 0_usize..5,
    ) {
        let setup = Setup { budget: Some(2 * setup.enough() + more), ..setup };
        match drive_late(setup.survey(), &mut setup.server(), few) {
            Ok(run) => exact(&setup, &run),
            Err(error) => prop_assert!(false, "{error}, but {} bytes would do", setup.enough()),
        }
    }

    #[test]
    fn the_order_of_contexts_does_not_matter(setup in setups(false), granting in 0_usize..8) {
        let other = Setup { granting, budget: None, first_id: 77, ..setup.clone() };
        let setup = Setup { budget: None, ..setup };
        let mut one = drive(setup.survey(), &mut setup.server()).unwrap();
        let mut two = drive(other.survey(), &mut other.server()).unwrap();
        // the order of the chunks decides how much is held between two of them
        (one.stats.peak_bytes, two.stats.peak_bytes) = (0, 0);
        prop_assert_eq!(one.extents, two.extents);
        prop_assert_eq!(one.stats, two.stats);
    }

    #[test]
    fn an_interrupted_survey_is_taken_up_where_it_ended(
        setup in setups(false),
        replies in 0_u64..12,
    ) {
        let setup = Setup { budget: None, ..setup };
        let whole = to_extents(&setup.truth());
        prop_assert_eq!(resumed(&setup, replies), whole);
    }

    #[test]
    fn nothing_of_a_failed_reply_is_visible(
        setup in setups(false),
        faults in prop::collection::vec(0_usize..7, 1..20),
    ) {
        // room for one reply with every chunk twice, and none for remains of failed ones
        let setup = Setup { budget: Some(2 * setup.in_flight * setup.largest_reply()), ..setup };
        let run = drive_with_faults(&setup, &faults);
        exact(&setup, &run);
        prop_assert!(run.stats.requests == run.stats.replies + run.stats.failed);
    }
}

/// Each part of a status is the truth or the safe one. Returns the number of blocks where a part
/// was only safe.
fn differing_blocks(setup: &Setup, result: &Dense<Status>) -> u64 {
    let mut blocks = Vec::new();
    let told = Setup { order: Order::Together, ..setup.clone() }.truth();
    for (byte, (status, truth)) in result.iter().zip(&told).enumerate() {
        let (Some(status), Some(truth)) = (status, truth) else { continue };
        let asked = setup.order == Order::Together || status.dirty() == Some(true);
        let same = safe_or_equal(byte, *status, *truth, asked);
        if !same && blocks.last() != Some(&(byte / setup.min_block)) {
            blocks.push(byte / setup.min_block);
        }
    }
    blocks.len() as u64
}

fn safe_or_equal(byte: usize, status: Status, truth: Status, asked: bool) -> bool {
    let mut same = true;
    for bitmap in Bitmaps::ALL.indices() {
        let (got, expected) = (status.dirty_in(bitmap), truth.dirty_in(bitmap));
        same &= got == expected;
        assert!(
            got == expected || got == Some(true) && expected.is_some(),
            "byte {byte}: {status} is {truth}"
        );
    }
    if !asked {
        assert_eq!((status.zero(), status.hole(), status.depth()), (None, None, None), "byte {byte}");
        return same;
    }
    for (got, expected) in [(status.zero(), truth.zero()), (status.hole(), truth.hole())] {
        same &= got == expected;
        assert!(
            got == expected || got == Some(false) && expected.is_some(),
            "byte {byte}: {status} is {truth}"
        );
    }
    assert!(status.depth().is_none() || status.depth() == truth.depth(), "byte {byte}: {status} is {truth}");
    same && status.depth() == truth.depth()
}

/// This number of replies on one connection, the rest on another, with other context ids.
fn resumed(setup: &Setup, replies: u64) -> Vec<Extent<Status>> {
    let mut survey = setup.survey();
    let mut server = setup.server();
    let mut extents = Vec::new();
    let mut wire = Wire::new(&setup.schedule);
    for _ in 0..replies {
        wire.ask(&mut survey, &mut server, &mut |_| {}).unwrap();
        if wire.replies.is_empty() {
            break;
        }
        wire.step(&mut survey).unwrap();
        drain(&mut survey, &mut extents).unwrap();
    }
    let point = survey.resume_point();
    assert_eq!(extents.last().map_or(setup.range.start as u64, Extent::end), point.offset);
    assert_eq!((point.end, point.export_size), (setup.range.end as u64, setup.size as u64));
    let other = Setup { first_id: setup.first_id ^ 0x55, granting: setup.granting + 1, ..setup.clone() };
    let survey = other.survey_with(other.options().resume(point).unwrap()).unwrap();
    extents.extend(drive(survey, &mut other.server()).unwrap().extents);
    to_extents(&from_extents(&extents, setup.size))
}

/// Runs a survey on a server that fails replies: each fault is the way in which one reply fails, or
/// 0 for a valid one.
fn drive_with_faults(setup: &Setup, faults: &[usize]) -> Run {
    let mut survey = setup.survey_with(setup.options().max_retries(u32::MAX)).unwrap();
    let mut server = setup.server();
    let mut extents = Vec::new();
    let mut faults = faults.iter();
    let mut wire = Wire::new(&setup.schedule);
    loop {
        wire.ask(&mut survey, &mut server, &mut |_| {}).unwrap();
        if wire.replies.is_empty() {
            break;
        }
        let place = wire.choose();
        let (request, _) = wire.replies.remove(place);
        let fault = *faults.next().unwrap_or(&0);
        if fault > 0 {
            let before = survey.position();
            fail(&mut survey, &mut server, &request, fault);
            assert_eq!(survey.position(), before);
            assert_eq!(survey.next_extent(), Ok(None));
            assert_eq!(survey.position(), before);
            continue;
        }
        answer(&mut survey, &mut server, &request).unwrap();
        drain(&mut survey, &mut extents).unwrap();
    }
    drain(&mut survey, &mut extents).unwrap();
    Run { extents, stats: survey.complete().unwrap() }
}

/// Fails the reply to `request` in one of several ways.
fn fail(survey: &mut Survey, server: &mut Server, request: &nbd_extents::Request, fault: usize) {
    let id = request.id();
    let mut chunks = server.answer(request);
    let last = chunks.pop().unwrap();
    for chunk in &chunks {
        survey.chunk(id, chunk.as_slice()).unwrap();
    }
    let error = match fault {
        1 => return survey.reply_failed(id).unwrap(),
        2 => {
            // an error after all the chunks
            survey.chunk(id, last.as_slice()).unwrap();
            return survey.reply_failed(id).unwrap();
        }
        3 => survey.chunk(id, &last[..last.len() - 1]).unwrap_err(),
        4 => survey.reply_done(id).unwrap_err(),
        5 => {
            survey.chunk(id, last.as_slice()).unwrap();
            survey.chunk(id, last.as_slice()).unwrap_err()
        }
        _ => {
            let mut zero = last;
            let from = server.form.header_size();
            zero[from..from + server.form.descriptor_size() / 2].fill(0);
            survey.chunk(id, zero).unwrap();
            survey.reply_done(id).unwrap_err()
        }
    };
    assert!(matches!(error, SurveyError::Reply { offset, .. } if offset == request.offset()), "{error}");
    assert_eq!(survey.chunk(id, [0_u8; 12].as_slice()), Err(SurveyError::UnknownRequest(id)));
    assert_eq!(survey.reply_done(id), Err(SurveyError::UnknownRequest(id)));
    assert_eq!(survey.reply_failed(id), Err(SurveyError::UnknownRequest(id)));
}

#[test]
fn the_size_must_be_the_same_when_a_survey_is_taken_up() {
    let runner = &mut TestRunner::deterministic();
    let setup = sample(runner, false);
    let mut point = setup.survey().resume_point();
    point.export_size += 1;
    let error = setup.options().resume(point).unwrap_err();
    let (expected, got) = (setup.size as u64 + 1, setup.size as u64);
    assert_eq!(error, SurveyError::SizeChanged { expected, got });
}

fn sample(runner: &mut TestRunner, odd: bool) -> Setup {
    use proptest::strategy::ValueTree;
    setups(odd).new_tree(runner).unwrap().current()
}

/// The cases above prove nothing if the server never does anything unusual.
#[test]
fn the_simulated_server_does_what_real_ones_do() {
    let runner = &mut TestRunner::deterministic();
    let mut total = Seen::default();
    let (mut dropped, mut ahead) = (0, 0);
    let (mut split, mut over_budget, mut asked_again, mut one_extent) = (0, 0, 0, 0);
    for nth in 0..900 {
        let setup = sample(runner, nth % 2 == 0);
        let mut server = setup.server();
        let ended = drive(setup.survey(), &mut server);
        add(&mut total, &server.seen);
        one_extent += u64::from(setup.one_extent);
        match ended {
            Ok(run) => {
                dropped += run.stats.dropped;
                ahead += u64::from(run.stats.peak_in_flight > 1);
                split += run.stats.forgiven.split_blocks;
                asked_again += run.stats.failed;
            }
            Err(_) => over_budget += 1,
        }
    }
    let Seen { short, uneven, overshot, extra, equal_neighbours, details, tails, at_once } = total;
    for (what, count) in [
        ("short lists", short),
        ("lists that reach differently far", uneven),
        ("overshooting lists", overshot),
        ("extra descriptors", extra),
        ("equal neighbours", equal_neighbours),
        ("requests for details", details),
        ("requests at an odd tail", tails),
        ("split blocks", split),
        ("budgets too small", over_budget),
        ("replies asked again in smaller pieces", asked_again),
        ("requests for one extent", one_extent),
        ("pieces asked again to make room", dropped),
        ("requests at one time", at_once),
        ("requests asked ahead", ahead),
    ] {
        assert!(count >= 10, "only {count} {what}: {total:?}");
    }
}

fn add(total: &mut Seen, seen: &Seen) {
    total.short += seen.short;
    total.uneven += seen.uneven;
    total.overshot += seen.overshot;
    total.extra += seen.extra;
    total.equal_neighbours += seen.equal_neighbours;
    total.details += seen.details;
    total.tails += seen.tails;
    total.at_once = total.at_once.max(seen.at_once);
}
