//! Servers that fail, exports that are no multiple of the announced block, and exports that are
//! huge: the requests of a survey, its end, and the bytes with the safe status.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use nbd_extents::wire::Form;
use nbd_extents::{
    Context, Contexts, ExportParams, MAX_END, Negotiated, Request, Survey, SurveyError, SurveyOptions,
};
use proptest::prelude::*;

const BASE: &str = "base:allocation";
const BITMAP: &str = "qemu:dirty-bitmap:b0";
const MIB: u64 = 1 << 20;

fn granted(names: &[&str]) -> Negotiated {
    let contexts = names.iter().map(|name| name.parse::<Context>().unwrap());
    Contexts::new().require_all(contexts).unwrap().negotiate_names(names).unwrap()
}

fn export(size: u64) -> ExportParams {
    ExportParams::new(size, Form::Extended).unwrap().read_only(true)
}

fn together(options: SurveyOptions) -> Survey {
    Survey::together(options, granted(&[BASE, BITMAP])).unwrap()
}

/// All clean zeroes: nothing that a survey would assume.
fn answer(survey: &mut Survey, request: &Request) {
    let (id, length) = (request.id(), request.length());
    for name in [BASE, BITMAP] {
        let flags = if name == BASE { 3 } else { 0 };
        survey.extents64(id, name, request.offset(), [(length, flags)]).unwrap();
    }
    survey.reply_done(id).unwrap();
}

fn rows(survey: &mut Survey) -> Vec<String> {
    core::iter::from_fn(|| survey.next_extent().unwrap()).map(|extent| extent.to_string()).collect()
}

#[test]
fn a_request_that_always_fails_ends_the_survey() {
    for retries in [0, 1, 3, 20] {
        let options = SurveyOptions::new(export(MIB)).max_retries(retries);
        let mut survey = together(options);
        for _ in 0..retries {
            let request = survey.next_request().unwrap().unwrap();
            survey.reply_failed(request.id()).unwrap();
        }
        let last = survey.next_request().unwrap().unwrap();
        let failing = SurveyError::Failing { range: 0..MIB, failures: retries + 1 };
        assert_eq!(survey.reply_failed(last.id()), Err(failing.clone()));
        assert_eq!(survey.next_request(), Err(failing), "a caller that goes on is not asked again");
        assert_eq!(survey.next_extent(), Ok(None));
        survey.complete().unwrap_err();
    }
}

/// The ranges around it are answered again and again; only its failures are counted.
/// A transient error must not make a backup copy more than it needs.
#[test]
fn a_range_is_assumed_only_after_all_its_retries() {
    for retries in [0, 1, 3, 20] {
        let mut survey = together(SurveyOptions::new(export(MIB)).max_retries(retries).safe_on_failure());
        for _ in 0..=retries {
            let request = survey.next_request().unwrap().unwrap();
            assert_eq!((request.offset(), request.length()), (0, MIB));
            survey.reply_failed(request.id()).unwrap();
        }
        assert_eq!(survey.next_request(), Ok(None), "{retries} retries");
        assert_eq!(rows(&mut survey), ["0..1048576 dirty,data"]);
        survey.complete().unwrap();
    }
}

#[test]
fn a_range_that_always_fails_among_others_that_do_not_ends_the_survey() {
    let options = SurveyOptions::new(export(64 * MIB)).max_request(MIB).in_flight(8);
    let mut survey = together(options);
    let (mut pending, mut failed) = (Vec::new(), 0);
    let error = 'ended: loop {
        loop {
            match survey.next_request() {
                Ok(Some(request)) => pending.push(request),
                Ok(None) => break,
                Err(error) => break 'ended error,
            }
        }
        let request = pending.pop().unwrap();
        if request.offset() == 5 * MIB {
            failed += 1;
            if let Err(error) = survey.reply_failed(request.id()) {
                break error;
            }
        } else {
            answer(&mut survey, &request);
        }
    };
    assert_eq!(error, SurveyError::Failing { range: 5 * MIB..6 * MIB, failures: 4 });
    assert_eq!(failed, 4);
    assert_eq!(rows(&mut survey), Vec::<String>::new(), "the row before it may still grow");
}

#[test]
fn an_answer_in_between_forgets_the_failures() {
    let options = SurveyOptions::new(export(MIB)).max_retries(1).max_request(MIB / 2).in_flight(1);
    let mut survey = together(options);
    for _ in 0..2 {
        let request = survey.next_request().unwrap().unwrap();
        survey.reply_failed(request.id()).unwrap();
        let again = survey.next_request().unwrap().unwrap();
        assert_eq!(again.offset(), request.offset());
        answer(&mut survey, &again);
    }
    assert_eq!(rows(&mut survey), ["0..1048576 clean,zero,hole"]);
    survey.complete().unwrap();
}

proptest! {
    /// Whatever fails, in any order: with the safe status for it a survey completes, and no byte is
    /// clean or zero unless the server said so.
    #[test]
    fn what_fails_for_ever_gets_the_safe_status(
        blocks in 1..64_u64,
        broken in 0..u64::MAX,
        in_flight in 1..5_usize,
        retries in 0..3_u32,
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..20),
        bitmap_first: bool,
    ) {
        const BLOCK: u64 = 65536;
        let is_broken = |block: u64| broken >> (block % 64) & 1 == 1;
        let options = SurveyOptions::new(export(blocks * BLOCK)).max_request(BLOCK);
        let options = options.in_flight(in_flight).max_retries(retries).safe_on_failure();
        let mut survey = if bitmap_first {
            let (bitmaps, details) = granted(&[BASE, BITMAP]).split();
            Survey::bitmap_first(options, bitmaps, details).unwrap()
        } else {
            together(options)
        };
        let (mut pending, mut extents, mut requests) = (Vec::new(), Vec::new(), 0);
        for turn in order.iter().cycle() {
            while let Some(request) = survey.next_request().unwrap() {
                requests += 1;
                pending.push(request);
            }
            if pending.is_empty() {
                break;
            }
            let request: Request = pending.remove(turn.index(pending.len()));
            let id = request.id();
            if is_broken(request.offset() / BLOCK) {
                survey.reply_failed(id).unwrap();
            } else {
                for (name, flags) in [(BASE, 3), (BITMAP, 0)] {
                    survey.extents64(id, name, request.offset(), [(request.length(), flags)]).unwrap();
                }
                survey.reply_done(id).unwrap();
            }
            extents.extend(core::iter::from_fn(|| survey.next_extent().unwrap()));
        }
        extents.extend(core::iter::from_fn(|| survey.next_extent().unwrap()));
        for extent in &extents {
            for block in extent.start() / BLOCK..extent.end() / BLOCK {
                let safe = is_broken(block);
                prop_assert_eq!(extent.status().dirty(), Some(safe));
                prop_assert_eq!(extent.status().zero().unwrap_or(!bitmap_first), !bitmap_first && !safe);
            }
        }
        let count = (0..blocks).filter(|&block| is_broken(block)).count() as u64;
        let passes = if bitmap_first { 2 } else { 1 };
        prop_assert_eq!(survey.stats().assumed_bytes, passes * count * BLOCK);
        prop_assert!(requests <= 2 * blocks * u64::from(retries + 1), "{} requests", requests);
        prop_assert!(survey.complete().is_ok());
    }

    /// No server gets a request for a part of its blocks, and bytes that no request reaches are
    /// data and dirty.
    #[test]
    fn an_announced_block_is_never_cut_and_the_tail_is_safe(
        size in 1..20_000_u64,
        log in 0..14_u32,
        start in 0..20_000_u64,
        end in 0..20_000_u64,
        bitmap_first: bool,
    ) {
        let block = 1_u64 << log;
        let range = start.min(end).min(size)..start.max(end).min(size);
        let export = export(size).min_block(1 << log).unwrap();
        let options = SurveyOptions::new(export).range(range.clone()).unwrap().max_request(4096);
        let mut survey = if bitmap_first {
            let (bitmaps, details) = granted(&[BASE, BITMAP]).split();
            Survey::bitmap_first(options, bitmaps, details).unwrap()
        } else {
            together(options)
        };
        let mut extents = Vec::new();
        while let Some(request) = survey.next_request().unwrap() {
            prop_assert_eq!((request.offset() % block, request.length() % block), (0, 0));
            for (name, flags) in [(BASE, 3), (BITMAP, 0)] {
                // a server may describe more than the request, up to the end of the export
                survey
                    .extents64(request.id(), name, request.offset(), [(size - request.offset(), flags)])
                    .unwrap();
            }
            survey.reply_done(request.id()).unwrap();
            extents.extend(core::iter::from_fn(|| survey.next_extent().unwrap()));
        }
        extents.extend(core::iter::from_fn(|| survey.next_extent().unwrap()));
        let reachable = size - size % block;
        for extent in &extents {
            let tail = extent.start() >= reachable;
            prop_assert!(tail || extent.end() <= reachable, "{} crosses {}", extent, reachable);
            prop_assert_eq!(extent.status().dirty(), Some(tail));
        }
        let tail = range.end.saturating_sub(range.start.max(reachable));
        let passes = if bitmap_first { 2 } else { 1 };
        prop_assert_eq!(survey.stats().assumed_bytes, passes * tail);
        prop_assert!(survey.complete().is_ok());
    }
}

/// The last request of a server that announced no block size ends at the end of the export.
#[test]
fn without_an_announced_block_the_tail_is_asked() {
    let mut survey = together(SurveyOptions::new(export(100_001)));
    let request = survey.next_request().unwrap().unwrap();
    assert_eq!((request.offset(), request.length()), (0, 100_001));
    answer(&mut survey, &request);
    assert_eq!(rows(&mut survey), ["0..100001 clean,zero,hole"]);
    assert_eq!(survey.complete().unwrap().assumed_bytes, 0);
}

/// A disk of 32 bytes with an extent per byte: rounded to 512 unless the caller sets another block.
#[test]
fn a_caller_may_say_that_blocks_are_one_byte() {
    let entries: Vec<_> = (0..32).map(|byte| (1, byte % 2)).collect();
    for (block, count) in [(512, 1), (1, 32)] {
        let export = export(32).assumed_block(block).unwrap();
        let mut survey = Survey::together(SurveyOptions::new(export), granted(&[BITMAP])).unwrap();
        while let Some(request) = survey.next_request().unwrap() {
            // one extent at a time
            let entry = entries[usize::try_from(request.offset()).unwrap()];
            let rest = if request.offset() == 0 && block == 512 { (32, 1) } else { entry };
            survey.extents64(request.id(), BITMAP, request.offset(), [rest]).unwrap();
            survey.reply_done(request.id()).unwrap();
        }
        assert_eq!(rows(&mut survey).len(), count);
        survey.complete().unwrap();
    }
}

/// 8 EiB at 128 GiB per request would be 67 million requests.
#[test]
fn requests_grow_with_what_the_answers_reach() {
    let mut survey = together(SurveyOptions::new(export(MAX_END)));
    let mut pending = Vec::new();
    loop {
        pending.extend(core::iter::from_fn(|| survey.next_request().unwrap()));
        if pending.is_empty() {
            break;
        }
        let request: Request = pending.remove(0);
        answer(&mut survey, &request);
    }
    assert_eq!(rows(&mut survey), ["0..9223372036854775807 clean,zero,hole"]);
    let stats = survey.complete().unwrap();
    assert!(stats.requests < 64, "{} requests", stats.requests);
}

/// The first request must not make a server read the metadata of an exabyte.
#[test]
fn the_first_request_is_for_128_gib_at_most() {
    let mut survey = together(SurveyOptions::new(export(MAX_END)));
    assert_eq!(survey.next_request().unwrap().unwrap().length(), 1 << 37);
    let options = SurveyOptions::new(export(MAX_END)).max_request(1 << 40);
    let mut survey = together(options);
    for _ in 0..40 {
        let request = survey.next_request().unwrap().unwrap();
        assert!(request.length() <= 1 << 40);
        answer(&mut survey, &request);
    }
}
