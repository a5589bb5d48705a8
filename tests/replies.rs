//! Named replies: single, short, long and same-status replies, the example of the bug that led to
//! this project, replies of a real qemu-nbd with the result of ovirt-imageio, and lists at the
//! limits.
#![cfg(feature = "alloc")]

use nbd_extents::stream::{ExtentStream, from_iter};
use nbd_extents::wire::{Descriptor, Form, encode, encoded_size};
use nbd_extents::{
    Admission, Context, Contexts, ExportParams, Extent, Negotiated, Request, Status, Survey, SurveyError,
    SurveyOptions,
};

const GIB: u64 = 1 << 30;
const BASE: u32 = 0;
const BITMAP: u32 = 2;

/// A list of (length, flags).
type List = Vec<(u64, u64)>;

fn contexts() -> Negotiated {
    let wanted =
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap();
    wanted.negotiate([(BASE, "base:allocation"), (BITMAP, "qemu:dirty-bitmap:b0")]).unwrap()
}

fn bitmap_only() -> Negotiated {
    let wanted = Contexts::new().require(Context::bitmap("b0")).unwrap();
    wanted.negotiate([(BITMAP, "qemu:dirty-bitmap:b0")]).unwrap()
}

fn options(size: u64, form: Form) -> SurveyOptions {
    SurveyOptions::new(ExportParams::new(size, form).unwrap().read_only(true))
}

fn payload(form: Form, id: u32, list: &[(u64, u64)]) -> Vec<u8> {
    let list: Vec<_> = list.iter().map(|&(length, flags)| Descriptor { length, flags }).collect();
    encode(form, id, list).unwrap()
}

/// Takes one reply of both contexts.
fn reply(survey: &mut Survey, request: &Request, form: Form, base: &[(u64, u64)], bitmap: &[(u64, u64)]) {
    survey.chunk(request.id(), payload(form, BASE, base)).unwrap();
    survey.chunk(request.id(), payload(form, BITMAP, bitmap)).unwrap();
    survey.reply_done(request.id()).unwrap();
}

/// All available extents, as (start, end, dirty, zero).
fn ready(survey: &mut Survey) -> Vec<(u64, u64, bool, bool)> {
    let mut all = Vec::new();
    while let Some(extent) = survey.next_extent().unwrap() {
        let status = extent.status();
        all.push((extent.start(), extent.end(), status.dirty().unwrap(), status.zero().unwrap()));
    }
    all
}

fn ask(survey: &mut Survey) -> (u64, u64, Request) {
    let request = survey.next_request().unwrap().unwrap();
    (request.offset(), request.length(), request)
}

/// ```text
/// asked   |------------------------|
/// base    |== data ==|==== zero ===|
/// bitmap  |====== dirty =====|clean|
/// ```
#[test]
fn single_reply() {
    let mut survey = Survey::together(options(8192, Form::Extended), contexts()).unwrap();
    let (offset, length, request) = ask(&mut survey);
    assert_eq!((offset, length), (0, 8192));
    reply(&mut survey, &request, Form::Extended, &[(3072, 0), (5120, 3)], &[(6144, 1), (2048, 0)]);
    let expected = [(0, 3072, true, false), (3072, 6144, true, true), (6144, 8192, false, true)];
    assert_eq!(ready(&mut survey), expected);
    assert_eq!(survey.next_request(), Ok(None));
    assert_eq!(survey.complete().unwrap().requests, 1);
}

/// ```text
/// asked   |------------------------|
/// base    |== data ==|
/// bitmap  |====== dirty =====|               asked again from where base ends
/// asked              |-------------|
/// ```
#[test]
fn short_reply() {
    let mut survey = Survey::together(options(8192, Form::Compact), contexts()).unwrap();
    let (.., request) = ask(&mut survey);
    reply(&mut survey, &request, Form::Compact, &[(3072, 0)], &[(6144, 1)]);
    assert_eq!(ready(&mut survey), [], "it may still grow");
    assert_eq!(survey.position(), 0);
    let (offset, length, request) = ask(&mut survey);
    assert_eq!((offset, length), (3072, 5120));
    // the bitmap repeats its earlier answer
    reply(&mut survey, &request, Form::Compact, &[(1024, 0), (4096, 3)], &[(3072, 1), (2048, 0)]);
    let expected = [(0, 4096, true, false), (4096, 6144, true, true), (6144, 8192, false, true)];
    assert_eq!(ready(&mut survey), expected);
    assert_eq!(survey.complete().unwrap().requests, 2);
}

/// ```text
/// asked   |----------|
/// base    |== data ==|== zero ==|            one more, as nbdkit sends it: not used
/// bitmap  |========= dirty =========|        reaches past the request: used as far as base
/// ```
#[test]
fn long_reply() {
    let options = options(8192, Form::Compact).max_request(4096);
    let mut survey = Survey::together(options, contexts()).unwrap();
    let (offset, length, request) = ask(&mut survey);
    assert_eq!((offset, length), (0, 4096));
    reply(&mut survey, &request, Form::Compact, &[(4096, 0), (1024, 3)], &[(7168, 1)]);
    let (offset, length, request) = ask(&mut survey);
    assert_eq!((offset, length), (4096, 4096));
    reply(&mut survey, &request, Form::Compact, &[(4096, 0)], &[(3072, 1), (1024, 0)]);
    assert_eq!(ready(&mut survey), [(0, 7168, true, false), (7168, 8192, false, false)]);
    let stats = survey.complete().unwrap();
    assert_eq!((stats.forgiven.extra_descriptors, stats.forgiven.total()), (1, 1));
}

/// Both reach beyond the request: known bytes are not requested again.
#[test]
fn long_reply_of_all_contexts() {
    let options = options(8192, Form::Compact).max_request(4096);
    let mut survey = Survey::together(options, contexts()).unwrap();
    let (.., request) = ask(&mut survey);
    reply(&mut survey, &request, Form::Compact, &[(6144, 0)], &[(8192, 1)]);
    assert_eq!(ask(&mut survey).0, 6144);
}

/// ```text
/// asked   |------------------------|
/// base    |data|data|data|data|
/// bitmap  |  dirty |dirty|  dirty  |         one extent, across descriptors and replies
/// ```
#[test]
fn same_status_replies() {
    let mut survey = Survey::together(options(8192, Form::Compact), contexts()).unwrap();
    let (.., request) = ask(&mut survey);
    reply(&mut survey, &request, Form::Compact, &[(1024, 0); 4], &[(2048, 1), (1024, 1), (5120, 1)]);
    let (offset, _, request) = ask(&mut survey);
    assert_eq!(offset, 4096);
    // undefined bits make no difference
    reply(&mut survey, &request, Form::Compact, &[(1024, 0x10), (3072, 0)], &[(2048, 0xff), (2048, 3)]);
    assert_eq!(ready(&mut survey), [(0, 8192, true, false)]);
    assert_eq!(survey.complete().unwrap().extents, 1);
}

/// oVirt bug 1971185: 9 GiB were read where 2 GiB suffice.
#[test]
fn the_bug_example() {
    let dirty: List = vec![(GIB, 0), (9 * GIB, 1)];
    let zero: List = vec![(2 * GIB, 0), (7 * GIB, 3), (GIB, 0)];
    let expected = [
        (0, GIB, false, false),
        (GIB, 2 * GIB, true, false),
        (2 * GIB, 9 * GIB, true, true),
        (9 * GIB, 10 * GIB, true, false),
    ];
    for (form, requests) in [(Form::Extended, 1), (Form::Compact, 5)] {
        let mut survey = Survey::together(options(10 * GIB, form), contexts()).unwrap();
        serve(&mut survey, form, &zero, &dirty);
        assert_eq!(ready(&mut survey), expected);
        assert_eq!(survey.complete().unwrap().requests, requests);
    }
}

/// Answers all requests from two lists that describe the whole disk.
fn serve(survey: &mut Survey, form: Form, base: &[(u64, u64)], bitmap: &[(u64, u64)]) {
    while let Some(request) = survey.next_request().unwrap() {
        let part = |list: &[(u64, u64)]| clipped(list, request.offset(), request.length());
        reply(survey, &request, form, &part(base), &part(bitmap));
    }
}

fn clipped(list: &[(u64, u64)], offset: u64, length: u64) -> List {
    let mut start = 0;
    let mut part = List::new();
    for &(len, flags) in list {
        let end = start + len;
        let clip = end.min(offset + length).saturating_sub(start.max(offset));
        part.extend((clip > 0).then_some((clip, flags)));
        start = end;
    }
    part
}

/// Sums of 32-bit lengths exceed 32 bits: kubevirt's importer lost data there.
#[test]
fn a_run_above_4_gib_across_compact_replies_is_one_extent() {
    let size = 9 * GIB + 512;
    let mut survey = Survey::together(options(size, Form::Compact), contexts()).unwrap();
    serve(&mut survey, Form::Compact, &[(size, 3)], &[(512, 0), (9 * GIB, 1)]);
    assert_eq!(ready(&mut survey), [(0, 512, false, true), (512, size, true, true)]);
    assert_eq!(survey.complete().unwrap().requests, 5);
}

/// nbdkit on a large empty disk answers 2^32 - 1: not a whole number of blocks.
#[test]
fn a_run_with_the_longest_compact_length() {
    let most = u64::from(u32::MAX);
    let mut survey = Survey::together(options(5 * GIB, Form::Compact), contexts()).unwrap();
    let (.., request) = ask(&mut survey);
    reply(&mut survey, &request, Form::Compact, &[(most, 3)], &[(most, 0)]);
    let (offset, length, request) = ask(&mut survey);
    assert_eq!((offset, length), (4 * GIB - 512, GIB + 512));
    reply(&mut survey, &request, Form::Compact, &[(GIB + 512, 3)], &[(GIB + 512, 0)]);
    assert_eq!(ready(&mut survey), [(0, 5 * GIB, false, true)]);
}

/// The payloads of qemu-nbd 10.0.2 for a disk of 6 MiB, and its context ids.
const QEMU_COMPACT: [&str; 3] = [
    "000000000011000000000000003700000000000300080000000000000010000000000003",
    "000000010011000000000001000f00000000000000100000000000010010000000000000001000000000000100100\
     00000000000",
    "0000000200100000000000000001000000000001000f0000000000000010000000000001001000000000000000080\
     000000000010018000000000000",
];
const QEMU_EXTENDED: [&str; 3] = [
    "000000000000000400000000001100000000000000000000000000000037000000000000000000030000000000080\
     000000000000000000000000000001000000000000000000003",
    "00000001000000060000000000110000000000000000000100000000000f000000000000000000000000000000100\
     000000000000000000100000000001000000000000000000000000000000010000000000000000000010000000000\
     1000000000000000000000",
    "0000000200000007000000000010000000000000000000000000000000010000000000000000000100000000000f0\
     000000000000000000000000000001000000000000000000001000000000010000000000000000000000000000000\
     080000000000000000000100000000001800000000000000000000",
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.as_chunks().0.iter().map(|[high, low]| u8::try_from(high * 16 + low).unwrap()).collect()
}

/// The merged extents of qemu's payloads.
fn golden(form: Form, chunks: &[&str]) -> Vec<Extent<Status>> {
    let wanted = contexts_of_qemu();
    let mut survey = Survey::together(options(6 << 20, form), wanted).unwrap();
    let (.., request) = ask(&mut survey);
    for chunk in chunks {
        survey.chunk(request.id(), hex(chunk)).unwrap();
    }
    survey.reply_done(request.id()).unwrap();
    let mut extents = Vec::new();
    while let Some(extent) = survey.next_extent().unwrap() {
        extents.push(extent);
    }
    assert_eq!(survey.complete().unwrap().forgiven.total(), 0);
    extents
}

fn contexts_of_qemu() -> Negotiated {
    let names = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:bitmap0"];
    let wanted = [Context::Allocation, Context::Depth, Context::bitmap("bitmap0")];
    let wanted = wanted.into_iter().fold(Contexts::new(), |all, one| all.require(one).unwrap());
    wanted.negotiate((0..).zip(names)).unwrap()
}

/// The view of ovirt-imageio: `show` of each status, equal neighbours joined.
fn shown(extents: &[Extent<Status>], show: fn(Status) -> (bool, bool)) -> Vec<(u64, u64, bool, bool)> {
    let shown = from_iter(extents.to_vec()).map_status(show).coalesce().collect_vec().unwrap();
    shown.iter().map(|e| (e.start(), e.length(), e.status().0, e.status().1)).collect()
}

#[test]
fn replies_of_qemu_give_what_imageio_gives() {
    let zero_hole = [
        (0, 1_114_112, false, false),
        (1_114_112, 983_040, true, true),
        (2_097_152, 1_048_576, true, false),
        (3_145_728, 1_048_576, true, true),
        (4_194_304, 524_288, true, false),
        (4_718_592, 524_288, false, false),
        (5_242_880, 1_048_576, true, true),
    ];
    let dirty_zero = [
        (0, 1_048_576, false, false),
        (1_048_576, 65_536, true, false),
        (1_114_112, 983_040, false, true),
        (2_097_152, 1_048_576, true, true),
        (3_145_728, 1_048_576, false, true),
        (4_194_304, 524_288, true, true),
        (4_718_592, 524_288, false, false),
        (5_242_880, 1_048_576, false, true),
    ];
    for (form, chunks) in [(Form::Compact, QEMU_COMPACT), (Form::Extended, QEMU_EXTENDED)] {
        let extents = golden(form, &chunks);
        let in_zero_hole = shown(&extents, |status| (status.zero().unwrap(), status.depth() == Some(0)));
        assert_eq!(in_zero_hole, zero_hole);
        let in_dirty_zero = shown(&extents, |status| (status.dirty().unwrap(), status.zero().unwrap()));
        assert_eq!(in_dirty_zero, dirty_zero);
        let turned: Vec<_> = chunks.into_iter().rev().collect();
        assert_eq!(golden(form, &turned), extents, "the order of chunks does not matter");
    }
}

#[test]
fn a_server_that_answers_a_byte_at_a_time_is_given_up() {
    let mut survey = Survey::together(options(GIB, Form::Compact), contexts()).unwrap();
    for replies in 0..10_000 {
        let (.., request) = ask(&mut survey);
        survey.chunk(request.id(), payload(Form::Compact, BASE, &[(1, 0)])).unwrap();
        survey.chunk(request.id(), payload(Form::Compact, BITMAP, &[(1, 1)])).unwrap();
        match survey.reply_done(request.id()) {
            Ok(()) => while survey.next_extent().unwrap().is_some() {},
            Err(error) => {
                assert!(matches!(error, SurveyError::Stalled { offset, .. } if offset < GIB), "{error}");
                assert!(replies > 100, "a few short replies are no reason");
                return;
            }
        }
    }
    panic!("10000 replies of a byte each");
}

#[test]
fn the_protocols_own_limit_of_descriptors_passes() {
    const MOST: u64 = 1 << 20;
    let size = MOST * 512;
    let list: List = (0..MOST).map(|nth| (512, nth % 2)).collect();
    let mut survey = Survey::together(options(size, Form::Compact), bitmap_only()).unwrap();
    let (.., request) = ask(&mut survey);
    let chunk = payload(Form::Compact, BITMAP, &list);
    assert_eq!(survey.admit(request.id(), chunk.len() as u64), Admission::Take);
    survey.chunk(request.id(), chunk).unwrap();
    survey.reply_done(request.id()).unwrap();
    let mut count = 0;
    while let Some(extent) = survey.next_extent().unwrap() {
        assert_eq!((extent.start(), extent.status().dirty()), (count * 512, Some(count % 2 == 1)));
        count += 1;
    }
    assert_eq!(count, MOST);
    assert_eq!(survey.complete().unwrap().descriptors, MOST);
}

#[test]
fn one_descriptor_more_is_refused_before_it_is_read() {
    for form in [Form::Compact, Form::Extended] {
        let size = (1_u64 << 20) * 512;
        let mut survey = Survey::together(options(size, form), bitmap_only()).unwrap();
        let (.., request) = ask(&mut survey);
        let length = encoded_size(form, (1 << 20) + 1).unwrap();
        assert_eq!(survey.admit(request.id(), length as u64), Admission::Drain);
        let error = survey.reply_done(request.id()).unwrap_err();
        assert!(error.to_string().contains("1048576 descriptors allowed"), "{error}");
        // without a call to `admit` first
        let (.., request) = ask(&mut survey);
        survey.chunk(request.id(), vec![0; length]).unwrap();
        survey.reply_done(request.id()).unwrap_err();
        assert_eq!(survey.admit(request.id(), u64::MAX), Admission::Drain, "it is over");
        assert_eq!((survey.stats().replies, survey.stats().failed, survey.stats().peak_bytes), (0, 2, 0));
    }
}

#[test]
fn an_empty_range_asks_nothing() {
    for range in [0..0, 777..777, 8192..8192] {
        let options = options(8192, Form::Compact).range(range).unwrap();
        let mut survey = Survey::together(options, contexts()).unwrap();
        assert_eq!(survey.next_request(), Ok(None));
        assert_eq!(survey.next_extent(), Ok(None));
        assert_eq!(survey.complete().unwrap().requests, 0);
    }
    let mut empty = Survey::together(options(0, Form::Extended), contexts()).unwrap();
    assert_eq!(empty.next_request(), Ok(None));
    empty.complete().unwrap();
}
