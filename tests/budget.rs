//! The behaviour of a survey whose budget is too small for its requests in flight: early answers
//! are dropped, the last ones first, and no more of them than necessary. They are requested again;
//! nothing is lost, and the requests do not shrink.
#![cfg(feature = "alloc")]

use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{Admission, Context, Contexts, ExportParams, Request, Survey, SurveyOptions};

const STEP: u64 = 64 << 10;
const SIZE: u64 = 4 * STEP;
const BUDGET: usize = 1000;

/// Two contexts with the ids 0 and 1. The first request is answered, so that the next ones can go
/// out together.
fn in_flight<const N: usize>() -> (Survey, [Request; N]) {
    let wanted =
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap();
    let granted = wanted.negotiate([(0, "base:allocation"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    let export = ExportParams::new(SIZE, Form::Extended).unwrap().read_only(true);
    let options = SurveyOptions::new(export).max_request(STEP).budget(BUDGET).in_flight(N);
    let mut survey = Survey::together(options, granted).unwrap();
    let first = survey.next_request().unwrap().unwrap();
    answer(&mut survey, &first, [1, 1]);
    assert_eq!(survey.next_extent(), Ok(None), "it may still grow");
    let requests = [(); N].map(|()| survey.next_request().unwrap().unwrap());
    assert!(requests.iter().map(Request::offset).eq((1..=N as u64).map(|nth| nth * STEP)));
    (survey, requests)
}

/// A chunk of clean data with this number of descriptors, 8 + 16 bytes each: pieces of 512 bytes
/// and a rest.
fn chunk(survey: &mut Survey, request: &Request, id: u32, descriptors: u64) -> Admission {
    let rest = request.length() - (descriptors - 1) * 512;
    let list: Vec<_> =
        (1..descriptors).map(|_| 512).chain([rest]).map(|length| Descriptor { length, flags: 0 }).collect();
    let payload = encode(Form::Extended, id, list).unwrap();
    let admission = survey.admit(request.id(), payload.len() as u64);
    if admission == Admission::Take {
        survey.chunk(request.id(), payload).unwrap();
    }
    admission
}

#[track_caller]
fn answer(survey: &mut Survey, request: &Request, descriptors: [u64; 2]) {
    for (id, count) in (0..).zip(descriptors) {
        assert_eq!(chunk(survey, request, id, count), Admission::Take);
    }
    survey.reply_done(request.id()).unwrap();
}

/// Answers all outstanding requests with short replies. The whole disk is covered.
#[track_caller]
fn finish(mut survey: Survey, in_flight: &[&Request]) -> nbd_extents::SurveyStats {
    for request in in_flight {
        answer(&mut survey, request, [1, 1]);
    }
    let mut seen = Vec::new();
    loop {
        while let Some(extent) = survey.next_extent().unwrap() {
            seen.push(extent.to_string());
        }
        let Some(request) = survey.next_request().unwrap() else { break };
        assert_eq!(request.length(), STEP, "no smaller request");
        answer(&mut survey, &request, [1, 1]);
    }
    assert_eq!(seen, ["0..262144 clean,data"]);
    let stats = survey.complete().unwrap();
    assert!(stats.peak_bytes <= BUDGET);
    stats
}

#[test]
fn the_last_answer_gives_way_and_no_more() {
    let (mut survey, [first, second, third]) = in_flight::<3>();
    answer(&mut survey, &second, [18, 1]); // 320 bytes
    answer(&mut survey, &third, [18, 1]);
    // 408 bytes do not fit beside the 640 held; dropping 320 of these is enough
    assert_eq!(chunk(&mut survey, &first, 0, 25), Admission::Take);
    assert_eq!(survey.stats().dropped, 1);
    assert_eq!(chunk(&mut survey, &first, 1, 1), Admission::Take);
    survey.reply_done(first.id()).unwrap();
    let stats = finish(survey, &[]);
    assert_eq!((stats.requests, stats.dropped, stats.failed), (5, 1, 0));
}

/// The bytes of both later answers count, and both are needed.
#[test]
fn all_later_answers_give_way_where_one_is_not_enough() {
    let (mut survey, [first, second, third]) = in_flight::<3>();
    answer(&mut survey, &second, [18, 1]); // 320 bytes
    answer(&mut survey, &third, [18, 1]);
    assert_eq!(chunk(&mut survey, &first, 0, 44), Admission::Take); // 712 bytes
    assert_eq!(survey.stats().dropped, 2);
    assert_eq!(chunk(&mut survey, &first, 1, 1), Admission::Take);
    survey.reply_done(first.id()).unwrap();
    let stats = finish(survey, &[]);
    assert_eq!((stats.requests, stats.dropped, stats.failed), (6, 2, 0));
}

/// A reply whose last descriptor ends beyond its request answers two pieces, and its bytes count
/// once: dropping both would not be enough, so that neither is dropped.
#[test]
fn an_answer_of_two_pieces_counts_once() {
    let (mut survey, [first, second]) = in_flight::<2>();
    for id in 0..2 {
        let lengths = [512; 7].into_iter().chain([2 * STEP - 7 * 512]);
        let list: Vec<_> = lengths.map(|length| Descriptor { length, flags: 0 }).collect();
        let payload = encode(Form::Extended, id, list);
        let payload = payload.unwrap();
        assert_eq!(survey.admit(second.id(), payload.len() as u64), Admission::Take);
        survey.chunk(second.id(), payload).unwrap();
    }
    survey.reply_done(second.id()).unwrap();
    assert_eq!(survey.next_request(), Ok(None), "all of the disk is answered or asked about");
    // 272 bytes are held: the budget is too small for 1016 even without these
    assert_eq!(survey.admit(first.id(), 1016), Admission::Drain);
    assert_eq!(survey.stats().dropped, 0);
    survey.reply_failed(first.id()).unwrap();
    let stats = finish(survey, &[]);
    assert_eq!((stats.requests, stats.dropped, stats.failed), (4, 0, 1));
}

#[test]
fn what_has_come_of_a_later_reply_gives_way() {
    let (mut survey, [first, second, third]) = in_flight::<3>();
    assert_eq!(chunk(&mut survey, &second, 0, 40), Admission::Take); // 648 bytes
    assert_eq!(chunk(&mut survey, &first, 0, 40), Admission::Take);
    assert_eq!(chunk(&mut survey, &first, 1, 1), Admission::Take);
    survey.reply_done(first.id()).unwrap();
    // the rest of the second reply is drained, and its range is requested again
    assert_eq!(chunk(&mut survey, &second, 1, 1), Admission::Drain);
    survey.reply_done(second.id()).unwrap();
    let stats = finish(survey, &[&third]);
    assert_eq!((stats.requests, stats.failed), (5, 1));
}

#[test]
fn nothing_gives_way_where_it_would_not_be_enough() {
    let (mut survey, [first, second, third]) = in_flight::<3>();
    answer(&mut survey, &second, [18, 1]);
    assert_eq!(chunk(&mut survey, &first, 0, 40), Admission::Take);
    // it holds 648 bytes, and another 648 do not fit beside them
    assert_eq!(survey.admit(first.id(), 648), Admission::Drain);
    assert_eq!(survey.stats().dropped, 0);
    survey.reply_failed(first.id()).unwrap();
    let stats = finish(survey, &[&third]);
    assert_eq!((stats.requests, stats.dropped, stats.failed), (5, 0, 1));
}

/// The budget is held by a reply that will be read earlier: no reason to shrink the requests.
#[test]
fn what_came_too_early_is_asked_again_as_it_was() {
    let (mut survey, [first, second, third]) = in_flight::<3>();
    answer(&mut survey, &second, [40, 1]); // 672 bytes
    assert_eq!(chunk(&mut survey, &third, 0, 40), Admission::Drain);
    survey.reply_done(third.id()).unwrap();
    let stats = finish(survey, &[&first]);
    assert_eq!((stats.requests, stats.dropped, stats.failed), (5, 0, 1));
}
