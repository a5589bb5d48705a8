//! The next request of a survey, byte for byte: after answers with almost no progress, after
//! replies that did not fit the budget, and with a caller that reads late. The limits hold exactly:
//! not one reply earlier, not one later.
#![cfg(feature = "alloc")]

use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{
    Admission, Context, Contexts, ExportParams, Negotiated, Request, Survey, SurveyError, SurveyOptions,
    Topic,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 1 << 30;
const KIB_64: u64 = 64 << 10;

/// Blocks of one byte: a request starts where the last answer ended.
fn options() -> SurveyOptions {
    let export = ExportParams::new(SIZE, Form::Extended).unwrap().min_block(1).unwrap();
    SurveyOptions::new(export.read_only(true))
}

fn allocation() -> Negotiated {
    Contexts::new().require(Context::Allocation).unwrap().negotiate([(0, "base:allocation")]).unwrap()
}

fn bitmap() -> Negotiated {
    let wanted = Contexts::new().require(Context::bitmap("b0")).unwrap();
    wanted.negotiate([(1, "qemu:dirty-bitmap:b0")]).unwrap()
}

fn together(options: SurveyOptions) -> Survey {
    Survey::together(options, allocation()).unwrap()
}

fn ask(survey: &mut Survey) -> Request {
    survey.next_request().unwrap().expect("something to ask")
}

/// An answer of one extent for context `id`.
fn answer(survey: &mut Survey, request: &Request, id: u32, length: u64) -> Result<(), SurveyError> {
    survey.chunk(request.id(), encode(Form::Extended, id, [Descriptor { length, flags: 0 }]).unwrap())?;
    survey.reply_done(request.id())
}

/// Requests, and gets an answer about this number of bytes.
fn advance(survey: &mut Survey, length: u64) -> Result<(), SurveyError> {
    let request = ask(survey);
    answer(survey, &request, 0, length)
}

/// Requests, and gets an answer that does not fit the budget. Returns the bytes requested.
fn too_much(survey: &mut Survey) -> (u64, Result<(), SurveyError>) {
    let request = ask(survey);
    assert_eq!(survey.admit(request.id(), MIB), Admission::Drain);
    (request.length(), survey.reply_done(request.id()))
}

#[test]
fn one_stalled_reply_above_the_limit_ends_it() {
    let mut survey = together(options().max_stalled_replies(3));
    for length in [1, 100, 511] {
        advance(&mut survey, length).unwrap();
    }
    let stalled = advance(&mut survey, 511).unwrap_err();
    assert_eq!(stalled, SurveyError::Stalled { offset: 612, replies: 4 });
    // nothing of the fourth is used: the survey requests its range again
    assert_eq!(ask(&mut survey).offset(), 612);
}

#[test]
fn replies_of_512_bytes_do_not_stall_but_keep_the_count() {
    let mut survey = together(options().max_stalled_replies(2));
    for length in [512, 511, 512, KIB_64 - 1, 511, KIB_64 - 1] {
        advance(&mut survey, length).unwrap();
    }
    assert!(matches!(advance(&mut survey, 1), Err(SurveyError::Stalled { replies: 3, .. })));
}

#[test]
fn a_stride_resets_the_count_of_stalled_replies() {
    let mut survey = together(options().max_stalled_replies(2));
    for length in [1, 1, KIB_64, 1, 1, KIB_64, 1, 1] {
        advance(&mut survey, length).unwrap();
    }
    assert!(matches!(advance(&mut survey, 1), Err(SurveyError::Stalled { replies: 3, .. })));
}

/// A small range, or the last bytes of a large one: a full answer cannot be longer.
#[test]
fn a_full_reply_does_not_stall_however_short() {
    for start in [0, MIB, SIZE - 100] {
        let mut survey = together(options().range(start..start + 100).unwrap().max_stalled_replies(0));
        advance(&mut survey, 100).unwrap();
        assert!(survey.next_extent().unwrap().is_some());
        survey.complete().unwrap();
    }
}

/// A full answer of a stride counts as progress, even if nothing is left after it.
#[test]
fn a_full_answer_can_be_a_stride() {
    let mut survey = together(options().max_stalled_replies(1).max_request(KIB_64));
    for _ in 0..3 {
        advance(&mut survey, 1).unwrap();
        advance(&mut survey, KIB_64).unwrap();
    }
}

#[test]
fn a_reply_that_does_not_fit_halves_what_is_asked() {
    let mut survey = together(options().budget(1000).max_request(KIB_64));
    for asked in [KIB_64, KIB_64 / 2, KIB_64 / 4] {
        assert_eq!(too_much(&mut survey), (asked, Ok(())));
    }
    assert_eq!(survey.stats().failed, 3);
    assert_eq!(survey.stats().replies, 0);
}

/// Otherwise every second reply of a server with long answers would be thrown away.
#[test]
fn more_is_asked_again_after_eight_that_fit() {
    let mut survey = together(options().budget(1000).max_request(KIB_64).in_flight(1));
    too_much(&mut survey).1.unwrap();
    for _ in 0..8 {
        let request = ask(&mut survey);
        assert_eq!(request.length(), KIB_64 / 2);
        answer(&mut survey, &request, 0, 1024).unwrap();
    }
    assert_eq!(ask(&mut survey).length(), KIB_64);
}

#[test]
fn more_is_asked_again_of_a_server_that_answers_all() {
    let range = MIB..2 * MIB;
    let options = options().range(range).unwrap().budget(1000).max_request(KIB_64).in_flight(2);
    let mut survey = together(options);
    too_much(&mut survey).1.unwrap();
    for _ in 0..8 {
        let request = ask(&mut survey);
        assert_eq!(request.length(), KIB_64 / 2);
        answer(&mut survey, &request, 0, KIB_64 / 2).unwrap();
    }
    assert_eq!(ask(&mut survey).length(), KIB_64);
}

#[test]
fn a_block_that_does_not_fit_ends_it() {
    let mut survey = together(options().budget(1000).max_request(1));
    let error = SurveyError::OverBudget { offset: 0, length: 1, budget: 1000 };
    assert_eq!(too_much(&mut survey), (1, Err(error)));
}

#[test]
fn replies_that_do_not_fit_count_as_stalled() {
    let mut survey = together(options().budget(1000).max_stalled_replies(2));
    for _ in 0..2 {
        too_much(&mut survey).1.unwrap();
    }
    let error = too_much(&mut survey).1.unwrap_err();
    assert!(matches!(error, SurveyError::Stalled { offset: 0, replies: 3 }), "{error}");
}

/// The clean ranges wait, joined, until they are read: none is lost.
#[test]
fn a_caller_may_read_when_all_is_answered() {
    let options = options().range(0..MIB).unwrap().max_request(KIB_64);
    let mut survey = Survey::bitmap_first(options, bitmap(), allocation()).unwrap();
    while let Some(request) = survey.next_request().unwrap() {
        answer(&mut survey, &request, 1, request.length()).unwrap();
    }
    let all = survey.next_extent().unwrap().map(|extent| extent.to_string());
    assert_eq!(all.as_deref(), Some("0..1048576 clean"));
    assert_eq!(survey.complete().unwrap().requests, 16);
}

/// One half of the disk is dirty: only the details of that half are requested.
#[test]
fn what_is_asked_about_and_how_much_at_a_time_is_counted() {
    let options = options().range(0..2 * KIB_64).unwrap().max_request(KIB_64);
    let mut survey = Survey::bitmap_first(options, bitmap(), allocation()).unwrap();
    let dirty = ask(&mut survey);
    let list = [Descriptor { length: KIB_64, flags: 1 }];
    survey.chunk(dirty.id(), encode(Form::Extended, 1, list).unwrap()).unwrap();
    survey.reply_done(dirty.id()).unwrap();
    // the bitmap continues while the details of its first half are awaited
    let (clean, details) = (ask(&mut survey), ask(&mut survey));
    assert_eq!((details.topic(), details.offset(), details.length()), (Topic::Details, 0, KIB_64));
    answer(&mut survey, &details, 0, KIB_64).unwrap();
    answer(&mut survey, &clean, 1, KIB_64).unwrap();
    while survey.next_extent().unwrap().is_some() {}
    let stats = survey.complete().unwrap();
    assert_eq!((stats.requests, stats.asked_bytes, stats.detail_bytes), (3, 3 * KIB_64, KIB_64));
    assert_eq!((stats.peak_in_flight, stats.extents), (2, 2));
}

/// A disk that is dirty everywhere. The bitmaps are one request ahead of the details, so that
/// neither waits for the other; with one request in flight nothing is ahead.
#[test]
fn bitmaps_go_ahead_of_the_details() {
    let topics = |in_flight, wanted: &[Topic]| {
        let options = options().max_request(KIB_64).in_flight(in_flight);
        let mut survey = Survey::bitmap_first(options, bitmap(), allocation()).unwrap();
        let first = ask(&mut survey);
        let list = [Descriptor { length: KIB_64, flags: 1 }];
        survey.chunk(first.id(), encode(Form::Extended, 1, list).unwrap()).unwrap();
        survey.reply_done(first.id()).unwrap();
        let asked: Vec<_> =
            core::iter::from_fn(|| survey.next_request().unwrap()).map(|request| request.topic()).collect();
        assert_eq!(asked, wanted, "{in_flight} in flight");
    };
    topics(1, &[Topic::Details]);
    topics(3, &[Topic::Bitmaps, Topic::Details, Topic::Bitmaps]);
}

#[test]
fn replies_descriptors_and_bytes_are_counted() {
    let mut survey = together(options());
    let request = ask(&mut survey);
    let list = [512, 512, 1024].map(|length| Descriptor { length, flags: 0 });
    survey.chunk(request.id(), encode(Form::Extended, 0, list).unwrap()).unwrap();
    survey.reply_done(request.id()).unwrap();
    advance(&mut survey, 4096).unwrap();
    let stats = survey.stats();
    assert_eq!((stats.replies, stats.descriptors), (2, 3 + 1));
    // each payload has a head of 8 bytes, and 16 for each descriptor
    assert_eq!(stats.payload_bytes, (8 + 3 * 16) + (8 + 16));
    assert_eq!((stats.failed, stats.forgiven.total()), (0, 0));
}

#[test]
fn a_range_that_is_inverted_or_leaves_the_export_is_refused() {
    #[expect(clippy::reversed_empty_ranges, reason = "that is the fault")]
    for range in [512..0, SIZE..SIZE + 1, 0..SIZE + 1, SIZE + 2..SIZE + 1] {
        let refused = options().range(range.clone()).unwrap_err();
        assert_eq!(refused, SurveyError::OutOfRange { range, size: SIZE });
    }
    for range in [0..0, 0..SIZE, SIZE..SIZE, 7..9] {
        options().range(range).unwrap();
    }
}

/// The bitmaps' answers are held while the details of their dirty ranges are requested: without the
/// other half of the budget for those, neither could continue.
#[test]
fn the_bitmaps_may_fill_half_of_the_budget() {
    let options = options().range(0..2 * KIB_64).unwrap().max_request(KIB_64).budget(1000);
    let mut survey = Survey::bitmap_first(options, bitmap(), allocation()).unwrap();
    let dirty = ask(&mut survey);
    assert_eq!(survey.admit(dirty.id(), 501), Admission::Drain);
    survey.reply_done(dirty.id()).unwrap();
    let again = ask(&mut survey);
    assert_eq!(survey.admit(again.id(), 500), Admission::Take);
    let list = [Descriptor { length: again.length(), flags: 1 }];
    survey.chunk(again.id(), encode(Form::Extended, 1, list).unwrap()).unwrap();
    survey.reply_done(again.id()).unwrap();
    let details = core::iter::from_fn(|| survey.next_request().unwrap())
        .find(|request| request.topic() == Topic::Details)
        .unwrap();
    assert_eq!(survey.admit(details.id(), 900), Admission::Take, "the details may have all that is left");
}
