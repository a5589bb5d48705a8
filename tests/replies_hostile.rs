//! Replies that break the protocol, by the rows of the table of server behaviours (1-12, 14, 15,
//! 21, 46, 48): how a lenient survey corrects each and how a strict one rejects it. In every case
//! nothing of a rejected reply is visible, and the survey can continue.
#![cfg(feature = "alloc")]

use nbd_extents::wire::Form;
use nbd_extents::{
    Admission, Context, Contexts, DecodeError, ExportParams, Forgiven, Negotiated, ReplyFault, Strictness,
    Survey, SurveyError, SurveyOptions,
};

const SIZE: u64 = 1 << 20;
/// The reply is about the first half of the export.
const ASKED: u32 = 1 << 19;
const LENIENT: Strictness = Strictness::Lenient;
const STRICT: Strictness = Strictness::Strict;
const BOTH: [Strictness; 2] = [LENIENT, STRICT];

fn contexts() -> Negotiated {
    let wanted =
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap();
    wanted.negotiate([(5, "base:allocation"), (9, "qemu:dirty-bitmap:b0")]).unwrap()
}

/// A chunk in the compact form, unchecked: lengths may be 0.
fn compact(id: u32, list: &[(u32, u32)]) -> Vec<u8> {
    let numbers = list.iter().flat_map(|&(length, flags)| [length, flags]);
    core::iter::once(id).chain(numbers).flat_map(u32::to_be_bytes).collect()
}

/// A chunk in the extended form, with any count.
fn extended(id: u32, count: u32, list: &[(u64, u64)]) -> Vec<u8> {
    let head = [id, count].into_iter().flat_map(u32::to_be_bytes);
    head.chain(list.iter().flat_map(|&(length, flags)| [length, flags]).flat_map(u64::to_be_bytes)).collect()
}

fn base(list: &[(u32, u32)]) -> Vec<u8> {
    compact(5, list)
}

fn bitmap(list: &[(u32, u32)]) -> Vec<u8> {
    compact(9, list)
}

fn good() -> [Vec<u8>; 2] {
    [base(&[(ASKED, 3)]), bitmap(&[(ASKED, 1)])]
}

fn options(strictness: Strictness, form: Form) -> SurveyOptions {
    let export = ExportParams::new(SIZE, form).unwrap().read_only(true);
    SurveyOptions::new(export).max_request(u64::from(ASKED)).strictness(strictness)
}

/// Gives the survey one reply. If it is rejected, checks that it left no trace, and that the next
/// one is accepted.
fn reply(survey: &mut Survey, chunks: &[Vec<u8>]) -> Result<(), ReplyFault> {
    let request = survey.next_request().unwrap().unwrap();
    let (id, before) = (request.id(), survey.position());
    let taken = chunks.iter().try_for_each(|chunk| survey.chunk(id, chunk.as_slice()));
    match taken.and_then(|()| survey.reply_done(id)) {
        Ok(()) => Ok(()),
        Err(SurveyError::Reply { offset, fault }) => {
            assert_eq!(offset, request.offset());
            assert_eq!((survey.next_extent(), survey.position()), (Ok(None), before));
            assert_eq!(survey.reply_done(id), Err(SurveyError::UnknownRequest(id)));
            let again = survey.next_request().unwrap().unwrap();
            assert_eq!((again.offset(), again.length()), (request.offset(), request.length()));
            assert_ne!(again.id(), id);
            survey.reply_failed(again.id()).unwrap();
            Err(fault)
        }
        Err(other) => panic!("{other}"),
    }
}

fn compact_survey(strictness: Strictness) -> Survey {
    Survey::together(options(strictness, Form::Compact), contexts()).unwrap()
}

/// The fault that both strictnesses find.
#[track_caller]
fn refused(chunks: &[Vec<u8>]) -> ReplyFault {
    let [lenient, strict] = BOTH.map(|strictness| {
        let mut survey = compact_survey(strictness);
        let fault = reply(&mut survey, chunks).unwrap_err();
        reply(&mut survey, &good()).unwrap();
        assert_eq!(survey.next_request().unwrap().unwrap().offset(), u64::from(ASKED));
        assert_eq!(survey.stats().forgiven.total(), 0);
        fault
    });
    assert_eq!(lenient, strict);
    lenient
}

/// Strict rejects it; lenient continues from `next`, and has counted one deviation.
#[track_caller]
fn forgiven(chunks: &[Vec<u8>], next: u64, count: fn(&Forgiven) -> u64) -> ReplyFault {
    let fault = reply(&mut compact_survey(STRICT), chunks).unwrap_err();
    taken(LENIENT, chunks, next, count);
    fault
}

#[track_caller]
fn taken(strictness: Strictness, chunks: &[Vec<u8>], next: u64, count: fn(&Forgiven) -> u64) {
    let mut survey = compact_survey(strictness);
    reply(&mut survey, chunks).unwrap();
    let offset = survey.next_request().unwrap().map_or(SIZE, |request| request.offset());
    assert_eq!(offset, next);
    let stats = survey.stats();
    assert_eq!((count(&stats.forgiven), stats.forgiven.total()), (1, 1), "{stats:?}");
}

const ALLOCATION: &str = "base:allocation";

fn with_bitmap(chunk: Vec<u8>) -> [Vec<u8>; 2] {
    [chunk, bitmap(&[(ASKED, 1)])]
}

#[test]
fn row_1_a_length_of_zero_first() {
    let fault = refused(&with_bitmap(base(&[(0, 0), (ASKED, 0)])));
    assert_eq!(fault, ReplyFault::ZeroLength { context: ALLOCATION.into(), index: 0 });
    refused(&with_bitmap(base(&[(0, 0)])));
}

#[test]
fn row_2_a_length_of_zero_in_the_middle() {
    let chunks = with_bitmap(base(&[(4096, 0), (0, 3), (4096, 0)]));
    let fault = forgiven(&chunks, 4096, |f| f.zero_lengths);
    assert_eq!(fault, ReplyFault::ZeroLength { context: ALLOCATION.into(), index: 1 });
}

#[test]
fn row_3_ragged_payloads() {
    for extra in 1..8 {
        let mut chunk = base(&[(ASKED, 0)]);
        chunk.extend(vec![0; extra]);
        let got = chunk.len();
        let fault = refused(&with_bitmap(chunk));
        assert_eq!(fault, ReplyFault::Decode(DecodeError::Ragged { got, descriptor: 8, rest: extra }));
    }
}

#[test]
fn row_4_empty_payloads() {
    let empty = refused(&with_bitmap(base(&[])));
    assert_eq!(empty, ReplyFault::Decode(DecodeError::Empty { context: 5 }));
    for got in 0..4 {
        let fault = refused(&with_bitmap(vec![0; got]));
        assert_eq!(fault, ReplyFault::Decode(DecodeError::Truncated { got, header: 4 }));
    }
}

#[test]
fn row_5_a_wrong_count() {
    for (strictness, count) in BOTH.iter().flat_map(|s| [0, 2, u32::MAX].map(|count| (*s, count))) {
        let mut survey = Survey::together(options(strictness, Form::Extended), contexts()).unwrap();
        let good = extended(9, 1, &[(u64::from(ASKED), 1)]);
        let fault = reply(&mut survey, &[good, extended(5, count, &[(u64::from(ASKED), 0)])]).unwrap_err();
        assert_eq!(fault, ReplyFault::Decode(DecodeError::Count { context: 5, claimed: count, got: 1 }));
    }
}

#[test]
fn row_6_an_unknown_context() {
    let [base, bitmap] = good();
    let chunks = [base.clone(), compact(77, &[(ASKED, 0)]), bitmap];
    let fault = forgiven(&chunks, u64::from(ASKED), |f| f.unknown_contexts);
    assert_eq!(fault, ReplyFault::UnknownContext { id: 77 });
    // it does not replace a negotiated one
    let missing = reply(&mut compact_survey(LENIENT), &[base, compact(77, &[(ASKED, 0)])]).unwrap_err();
    assert_eq!(missing, ReplyFault::Missing { context: "qemu:dirty-bitmap:b0".into() });
}

#[test]
fn row_7_two_chunks_for_one_context() {
    let [base, bitmap] = good();
    let twice = ReplyFault::Twice { context: ALLOCATION.into() };
    assert_eq!(refused(&[base.clone(), bitmap.clone(), base.clone()]), twice);
    assert_eq!(refused(&[base.clone(), base]), twice);
}

#[test]
fn rows_8_and_9_a_context_without_an_answer() {
    let [base, bitmap] = good();
    let missing = |context: &str| ReplyFault::Missing { context: context.into() };
    assert_eq!(refused(&[bitmap]), missing(ALLOCATION));
    assert_eq!(refused(&[base]), missing("qemu:dirty-bitmap:b0"));
    assert_eq!(refused(&[]), missing(ALLOCATION));
}

#[test]
fn row_10_more_descriptors_than_allowed() {
    for strictness in BOTH {
        let options = options(strictness, Form::Compact).max_descriptors(2);
        let mut survey = Survey::together(options, contexts()).unwrap();
        let three = base(&[(512, 0), (512, 3), (512, 0)]);
        let fault = reply(&mut survey, &[three.clone(), bitmap(&[(ASKED, 1)])]).unwrap_err();
        assert_eq!(fault, ReplyFault::TooLong { got: three.len() as u64, limit: 2 });
        reply(&mut survey, &[base(&[(512, 0), (512, 3)]), bitmap(&[(ASKED, 1)])]).unwrap();
    }
}

#[test]
fn row_11_lengths_whose_sum_overflows() {
    for strictness in BOTH {
        let mut survey = Survey::together(options(strictness, Form::Extended), contexts()).unwrap();
        let good = extended(9, 1, &[(u64::from(ASKED), 1)]);
        let over = extended(5, 2, &[(512, 0), (u64::MAX - 511, 0)]);
        let fault = reply(&mut survey, &[good, over]).unwrap_err();
        let (context, length) = (ALLOCATION.to_owned(), u64::MAX - 511);
        assert_eq!(fault, ReplyFault::Overflow { context, index: 1, length });
    }
}

#[test]
fn row_12_past_the_end_of_the_export() {
    let beyond = u32::try_from(SIZE).unwrap() + 1;
    let chunks = [base(&[(beyond, 3)]), bitmap(&[(beyond - 1, 1)])];
    let fault = forgiven(&chunks, SIZE, |f| f.beyond_export);
    let (end, size) = (SIZE + 1, SIZE);
    assert_eq!(fault, ReplyFault::BeyondExport { context: ALLOCATION.into(), index: 0, end, size });
    let mut survey = compact_survey(LENIENT);
    reply(&mut survey, &chunks).unwrap();
    assert_eq!(survey.next_extent().unwrap().map(|extent| extent.range()), Some(0..SIZE));
    survey.complete().unwrap();
}

/// Beyond the end of any valid extent: cut off before an extent is made of it.
#[test]
fn row_12_past_the_end_of_all_exports() {
    let mut survey = Survey::together(options(LENIENT, Form::Extended), contexts()).unwrap();
    let endless = |id| extended(id, 1, &[(u64::MAX, 1)]);
    reply(&mut survey, &[endless(5), endless(9)]).unwrap();
    assert_eq!(survey.next_extent().unwrap().map(|extent| extent.range()), Some(0..SIZE));
    assert_eq!(survey.complete().unwrap().forgiven.beyond_export, 2);
}

#[test]
fn row_14_one_extra_descriptor_beyond_the_request() {
    let chunks = with_bitmap(base(&[(ASKED, 0), (4096, 3)]));
    for strictness in BOTH {
        taken(strictness, &chunks, u64::from(ASKED), |f| f.extra_descriptors);
    }
}

#[test]
fn row_15_lists_that_do_not_end() {
    let two_more = with_bitmap(base(&[(ASKED, 0), (4096, 3), (4096, 0)]));
    let fault = forgiven(&two_more, u64::from(ASKED), |f| f.overlong_lists);
    let (start, end) = (u64::from(ASKED), u64::from(ASKED));
    assert_eq!(fault, ReplyFault::PastRequest { context: ALLOCATION.into(), index: 1, start, end });
    // the descriptor that crosses the request's end is legal and used, those after it are not; the
    // bitmap ends before
    let crossed = with_bitmap(base(&[(ASKED + 512, 0), (4096, 3)]));
    forgiven(&crossed, u64::from(ASKED), |f| f.overlong_lists);
}

#[test]
fn row_21_wide_flags() {
    let wide = |id, flags| extended(id, 1, &[(u64::from(ASKED), flags)]);
    let run = |strictness, chunks: [Vec<u8>; 2]| {
        let mut survey = Survey::together(options(strictness, Form::Extended), contexts()).unwrap();
        reply(&mut survey, &chunks).map(|()| survey.stats().forgiven)
    };
    let chunks = [wide(5, 1 << 32 | 3), wide(9, 1)];
    assert_eq!(run(LENIENT, chunks.clone()).unwrap().wide_flags, 1);
    let fault = run(STRICT, chunks).unwrap_err();
    let (context, index, flags) = (ALLOCATION.to_owned(), 0, 1 << 32 | 3);
    assert_eq!(fault, ReplyFault::WideFlags { context, index, flags });
    // undefined bits below are no fault
    for strictness in BOTH {
        assert_eq!(run(strictness, [wide(5, 0xffff_fffc), wide(9, 0xfe)]).unwrap().total(), 0);
    }
}

#[test]
fn row_24_claims_are_refused_before_anything_is_allocated() {
    let mut survey = compact_survey(LENIENT);
    for length in [0xffff_fffc, u64::from(u32::MAX), u64::MAX] {
        let request = survey.next_request().unwrap().unwrap();
        assert_eq!(survey.admit(request.id(), length), Admission::Drain);
        let error = survey.reply_done(request.id()).unwrap_err();
        let fault = ReplyFault::TooLong { got: length, limit: 1 << 20 };
        assert_eq!(error, SurveyError::Reply { offset: 0, fault });
    }
    assert_eq!(survey.stats().peak_bytes, 0);
}

#[test]
fn row_46_a_reply_that_never_ends() {
    for strictness in BOTH {
        let mut survey = compact_survey(strictness);
        let request = survey.next_request().unwrap().unwrap();
        let [base, bitmap] = good();
        let endless = [base, bitmap].into_iter().cycle().take(1000);
        let taken = endless.map(|chunk| survey.chunk(request.id(), chunk)).take_while(Result::is_ok).count();
        assert_eq!(taken, 2, "the third is the second of its context");
        assert!(survey.stats().peak_bytes <= 24);
    }
}

/// Chunks of unknown contexts are not kept, whatever their number.
#[test]
fn row_46_unknown_contexts_without_end() {
    let mut survey = compact_survey(LENIENT);
    let request = survey.next_request().unwrap().unwrap();
    for id in 100..5000 {
        survey.chunk(request.id(), compact(id, &[(ASKED, 0)])).unwrap();
    }
    assert_eq!(survey.stats().peak_bytes, 0);
}

#[test]
fn row_48_more_than_the_one_extent_asked_for() {
    let cases = [([(4096, 0), (4096, 3)].as_slice(), 2), (&[(ASKED + 512, 0)], 1)];
    for (list, count) in cases {
        let chunks = [base(list), bitmap(&[(ASKED, 1)])];
        let run = |strictness| {
            let mut survey =
                Survey::together(options(strictness, Form::Compact).one_extent(), contexts()).unwrap();
            assert!(reply(&mut survey, &chunks).map(|()| survey.stats().forgiven.not_one)? == 1);
            Ok(survey.next_request().unwrap().unwrap().offset())
        };
        assert_eq!(run(LENIENT), Ok(u64::from(list[0].0.min(ASKED))));
        let (context, asked, length) = (ALLOCATION.to_owned(), u64::from(ASKED), u64::from(list[0].0));
        assert_eq!(run(STRICT), Err(ReplyFault::NotOne { context, asked, count, length }));
    }
}
