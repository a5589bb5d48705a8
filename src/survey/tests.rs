//! The refusals of a survey before its first request, and its reports about itself.

use alloc::format;
use alloc::string::ToString;

use super::*;
use crate::contexts::{Context, Contexts};
use crate::wire::{Descriptor, Form, encode};

fn options() -> SurveyOptions {
    SurveyOptions::new(ExportParams::new(4096, Form::Compact).unwrap().read_only(true))
}

fn contexts(names: &[&str]) -> Negotiated {
    let wanted = names.iter().fold(Contexts::new(), |wanted, name| {
        let context =
            if *name == "base:allocation" { Context::Allocation } else { Context::bitmap(&name[18..]) };
        wanted.require(context).unwrap()
    });
    wanted.negotiate((0..).zip(names)).unwrap()
}

const ALLOCATION: &[&str] = &["base:allocation"];
const BITMAP: &[&str] = &["qemu:dirty-bitmap:b0"];
const BOTH: &[&str] = &["base:allocation", "qemu:dirty-bitmap:b0"];

#[test]
fn bitmap_first_needs_two_halves_and_nothing_mixed() {
    let refused =
        |bitmaps, details| Survey::bitmap_first(options(), contexts(bitmaps), contexts(details)).unwrap_err();
    for (bitmaps, details) in
        [(BITMAP, &[][..]), (&[], ALLOCATION), (BOTH, ALLOCATION), (BITMAP, BOTH), (ALLOCATION, BITMAP)]
    {
        assert_eq!(refused(bitmaps, details), SurveyError::NotBitmapFirst, "{bitmaps:?} {details:?}");
    }
    Survey::bitmap_first(options(), contexts(BITMAP), contexts(ALLOCATION)).unwrap();
}

#[test]
fn a_survey_needs_a_context() {
    assert_eq!(Survey::together(options(), contexts(&[])).unwrap_err(), SurveyError::NoContext);
}

#[test]
fn export_params_are_checked() {
    let too_large = SurveyError::TooLarge { size: 1 << 63 };
    assert_eq!(ExportParams::new(1 << 63, Form::Compact).unwrap_err(), too_large);
    let export = ExportParams::new(crate::MAX_END, Form::Compact).unwrap();
    for bytes in [0, 3, 1 << 17] {
        assert_eq!(export.min_block(bytes).unwrap_err(), SurveyError::BlockSize { got: bytes });
    }
    for bytes in [1, 512, 1 << 16] {
        export.min_block(bytes).unwrap();
    }
}

/// With a block size that is none, requests would not be aligned.
#[test]
fn assumed_blocks_are_powers_of_two() {
    for (bytes, is_one) in [(0, false), (1, true), (3, false), (512, true), (65536, true), (131_072, false)] {
        let export = ExportParams::new(4096, Form::Compact).unwrap();
        assert_eq!(export.assumed_block(bytes).is_ok(), is_one, "{bytes}");
        assert_eq!(options().assumed_block(bytes).is_ok(), is_one, "{bytes}");
    }
    assert_eq!(options().assumed_block(1).unwrap().export.block(), 1);
}

#[test]
fn a_request_says_what_it_asks() {
    let mut survey = Survey::together(options().one_extent(), contexts(BOTH)).unwrap();
    let request = survey.next_request().unwrap().unwrap();
    assert_eq!((request.offset(), request.length(), request.topic()), (0, 4096, Topic::All));
    assert_eq!(request.context_ids(), [0, 1]);
    assert!(request.one_extent());
    assert_eq!(request.id().to_string(), "request 0");
    assert_eq!(u64::from(RequestId::from(7)), 7, "what a caller has stored names the same request");
    assert_eq!(survey.next_request(), Ok(None), "one is in flight");
    let other = RequestId(7);
    assert_eq!(survey.reply_done(other), Err(SurveyError::UnknownRequest(other)));
    assert_eq!(survey.reply_failed(other), Err(SurveyError::UnknownRequest(other)));
    assert_eq!(survey.chunk(other, [0]), Err(SurveyError::UnknownRequest(other)));
    assert_eq!(survey.admit(other, 12), Admission::Drain);
    assert!(format!("{survey:?}").contains("Passes"));
}

#[test]
fn the_peak_is_the_most_that_was_held_at_one_time() {
    let mut survey = Survey::together(options(), contexts(BOTH)).unwrap();
    let request = survey.next_request().unwrap().unwrap();
    let payload = |id, lengths: &[u64]| {
        let list: Vec<_> = lengths.iter().map(|&length| Descriptor { length, flags: 0 }).collect();
        encode(Form::Compact, id, list).unwrap()
    };
    survey.chunk(request.id(), payload(0, &[1024, 1024, 2048])).unwrap();
    survey.chunk(request.id(), payload(1, &[4096])).unwrap();
    survey.reply_done(request.id()).unwrap();
    while survey.next_extent().unwrap().is_some() {}
    assert_eq!(survey.complete().unwrap().peak_bytes, 28 + 12);
}

/// The survey checks the result of the merge once more, and a failed survey yields nothing.
#[test]
fn extents_that_do_not_follow_each_other_end_the_survey() {
    let gap = StreamError::Gap { range: 512..1024 };
    let overlap = StreamError::Overlap { start: 1024, expected: 2048 };
    for (misplaced, fault) in [(512, gap), (2048, overlap)] {
        let options = options().range(1024..4096).unwrap();
        let mut survey = Survey::together(options, contexts(ALLOCATION)).unwrap();
        let request = survey.next_request().unwrap().unwrap();
        let whole = [Descriptor { length: 3072, flags: 0 }];
        survey.chunk(request.id(), encode(Form::Compact, 0, whole).unwrap()).unwrap();
        survey.reply_done(request.id()).unwrap();
        survey.ready.end = misplaced;
        let failed = SurveyError::Stream(fault);
        assert_eq!(survey.next_extent(), Err(failed.clone()));
        assert_eq!(survey.next_extent(), Err(failed.clone()));
        assert_eq!(survey.next_request(), Err(failed.clone()));
        assert_eq!(survey.check_complete(), Err(failed.clone()));
        assert_eq!(survey.complete(), Err(failed));
    }
}

/// Extents that were read ahead belong to a survey that has failed since.
#[test]
fn a_failed_survey_yields_no_extent_that_was_read_ahead() {
    let options = options().in_flight(1).max_request(2048);
    let mut survey = Survey::bitmap_first(options, contexts(BITMAP), contexts(ALLOCATION)).unwrap();
    let answer = |survey: &mut Survey, offset, list: &[(u64, u64)]| {
        let request = survey.next_request().unwrap().unwrap();
        assert_eq!(request.offset(), offset);
        let list = list.iter().map(|&(length, flags)| Descriptor { length, flags });
        survey.chunk(request.id(), encode(Form::Compact, 0, list).unwrap()).unwrap();
        survey.reply_done(request.id()).unwrap();
    };
    // the bitmap, the details of its dirty range, and the bitmap again
    answer(&mut survey, 0, &[(512, 0), (1024, 1), (512, 0)]);
    answer(&mut survey, 512, &[(512, 0), (512, 3)]);
    answer(&mut survey, 2048, &[(2048, 0)]);
    assert_eq!(survey.next_extent().unwrap().unwrap().range(), 0..512);
    survey.passes.bitmaps.as_mut().unwrap().answers.end = 0;
    let failed = survey.next_request().unwrap_err();
    assert_eq!(survey.next_extent(), Err(failed));
}

/// A reply that does not fit beside an answer which is not read to its end will fit later: the next
/// request is no shorter, and comes once there is room.
#[test]
fn an_unread_answer_is_no_reason_for_shorter_requests() {
    const KIB: u64 = 1 << 10;
    for read in [0, 1, 63] {
        let export = ExportParams::new(1 << 20, Form::Compact).unwrap().read_only(true);
        let options = SurveyOptions::new(export).in_flight(2).budget(1000);
        let mut survey = Survey::together(options, contexts(ALLOCATION)).unwrap();
        let payload = |length: u64, count: u32| {
            let list = (0..count).map(|nth| Descriptor { length, flags: u64::from(nth % 2 * 3) });
            encode(Form::Compact, 0, list).unwrap()
        };
        // short, which shows how much a reply covers
        let first = survey.next_request().unwrap().unwrap();
        survey.chunk(first.id(), payload(64 * KIB, 4)).unwrap();
        survey.reply_done(first.id()).unwrap();
        while survey.next_extent().unwrap().is_some() {}
        let [second, third] = [(); 2].map(|()| survey.next_request().unwrap().unwrap());
        let asked = |request: &Request| (request.offset(), request.length());
        assert_eq!([asked(&second), asked(&third)], [(256 * KIB, 256 * KIB), (512 * KIB, 256 * KIB)]);
        // two such payloads are more than the budget
        let many = payload(4 * KIB, 64);
        survey.chunk(second.id(), many.clone()).unwrap();
        survey.reply_done(second.id()).unwrap();
        for _ in 0..read {
            survey.next_extent().unwrap().unwrap();
        }
        assert_eq!(survey.admit(third.id(), many.len() as u64), Admission::Drain);
        survey.reply_done(third.id()).unwrap();
        assert_eq!(survey.next_request(), Ok(None), "after {read}: there is no room yet");
        while survey.next_extent().unwrap().is_some() {}
        let again = survey.next_request().unwrap().unwrap();
        assert!(again.offset() == 512 * KIB && again.length() >= 256 * KIB, "after {read}: {again:?}");
        assert_eq!(survey.admit(again.id(), many.len() as u64), Admission::Take);
    }
}
