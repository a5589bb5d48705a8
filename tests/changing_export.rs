//! On an export that changes, no answer is forgotten: if a later reply contradicts an earlier
//! answer, the safer one holds, whatever happens in between. Each test is a way in which an answer
//! was once lost.

use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{Admission, Context, Contexts, ExportParams, Survey, SurveyOptions};

const MIB: u64 = 1 << 20;

fn options(size: u64) -> SurveyOptions {
    SurveyOptions::new(ExportParams::new(size, Form::Extended).unwrap()).allow_writable()
}

/// A payload of context `id` with these (length, flags) descriptors.
fn payload(id: u32, list: &[(u64, u64)]) -> Vec<u8> {
    encode(Form::Extended, id, list.iter().map(|&(length, flags)| Descriptor { length, flags })).unwrap()
}

/// Allocation with id 0, and this number of bitmaps with the ids after it.
fn contexts(bitmaps: u32) -> Contexts {
    (0..bitmaps).fold(Contexts::new().require(Context::Allocation).unwrap(), |contexts, n| {
        contexts.require(Context::bitmap(format!("b{n}"))).unwrap()
    })
}

fn together(bitmaps: u32) -> Survey {
    let wanted = contexts(bitmaps);
    let granted: Vec<_> = (0..).zip(wanted.names()).collect();
    Survey::together(options(MIB), wanted.negotiate(granted).unwrap()).unwrap()
}

/// Answers the next request with these lists, one per context, and reads the resulting extents.
fn answer(survey: &mut Survey, lists: &[(u32, &[(u64, u64)])], seen: &mut Vec<String>) {
    let request = survey.next_request().unwrap().expect("something to ask");
    for (id, list) in lists {
        survey.chunk(request.id(), payload(*id, list)).unwrap();
    }
    survey.reply_done(request.id()).unwrap();
    while let Some(extent) = survey.next_extent().unwrap() {
        seen.push(extent.to_string());
    }
}

#[test]
fn nine_bitmaps_that_reach_farther_are_all_remembered() {
    let mut survey = together(9);
    let mut seen = Vec::new();
    let clean: &[(u64, u64)] = &[(MIB, 0)];
    let mut first: Vec<(u32, &[(u64, u64)])> = (2..=9).map(|id| (id, clean)).collect();
    first.extend([(0, &[(4096, 0)][..]), (1, &[(MIB, 1)][..])]);
    answer(&mut survey, &first, &mut seen);
    let rest: &[(u64, u64)] = &[(MIB - 4096, 0)];
    let second: Vec<(u32, &[(u64, u64)])> = (0..=9).map(|id| (id, rest)).collect();
    answer(&mut survey, &second, &mut seen);
    assert_eq!(seen, ["0..1048576 dirty in 0,data"]);
    assert_eq!(survey.stats().disagreements, 1);
}

#[test]
fn a_header_that_claims_too_much_does_not_make_the_survey_forget() {
    let mut survey = together(1);
    let mut seen = Vec::new();
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(MIB, 1)])], &mut seen);
    let request = survey.next_request().unwrap().unwrap();
    assert_eq!(survey.admit(request.id(), 40 << 20), Admission::Drain);
    survey.reply_failed(request.id()).unwrap();
    answer(&mut survey, &[(0, &[(MIB - 4096, 0)]), (1, &[(MIB - 4096, 0)])], &mut seen);
    assert_eq!(seen, ["0..1048576 dirty,data"]);
}

#[test]
fn details_about_the_next_dirty_range_are_remembered() {
    let wanted = contexts(2);
    let bitmaps =
        wanted.bitmaps().negotiate([(1, "qemu:dirty-bitmap:b0"), (2, "qemu:dirty-bitmap:b1")]).unwrap();
    let details = wanted.details().negotiate([(0, "base:allocation")]).unwrap();
    let mut survey = Survey::bitmap_first(options(MIB), bitmaps, details).unwrap();
    let mut seen = Vec::new();
    answer(&mut survey, &[(1, &[(MIB, 1)]), (2, &[(4096, 0), (MIB - 4096, 1)])], &mut seen);
    // the first dirty range, and on into the second: data
    answer(&mut survey, &[(0, &[(MIB, 0)])], &mut seen);
    // the second range: now it is zero
    answer(&mut survey, &[(0, &[(MIB - 4096, 3)])], &mut seen);
    assert_eq!(seen, ["0..4096 dirty in 0,data", "4096..1048576 dirty in 0+1,data"]);
    assert_eq!(survey.complete().unwrap().disagreements, 1);
}

/// A short answer counts beside a much longer one that is remembered as well.
#[test]
fn a_short_list_beside_a_long_one_is_not_forgotten() {
    let mut survey = together(1);
    let mut seen = Vec::new();
    let long = [(4096, 0); 256];
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &long)], &mut seen);
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(16384, 1)])], &mut seen);
    let rest = MIB - 8192;
    answer(&mut survey, &[(0, &[(rest, 0)]), (1, &[(rest, 0)])], &mut seen);
    assert_eq!(seen, ["0..4096 clean,data", "4096..20480 dirty,data", "20480..1048576 clean,data"]);
}

#[test]
fn three_answers_disagree_and_the_safest_holds() {
    let mut survey = together(1);
    let mut seen = Vec::new();
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(MIB, 0)])], &mut seen);
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(MIB - 4096, 1)])], &mut seen);
    answer(&mut survey, &[(0, &[(MIB - 8192, 0)]), (1, &[(MIB - 8192, 0)])], &mut seen);
    assert_eq!(seen, ["0..4096 clean,data", "4096..1048576 dirty,data"]);
}

#[test]
fn what_there_is_no_room_to_remember_is_dirty() {
    let wanted = contexts(1);
    let granted = wanted.negotiate([(0, "base:allocation"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    let mut survey = Survey::together(options(MIB).budget(400), granted).unwrap();
    let mut seen = Vec::new();
    let alternating: Vec<(u64, u64)> = (0..20).map(|n| (4096, n % 2)).collect();
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &alternating)], &mut seen);
    for _ in 0..12 {
        // 320 bytes of bitmap are retained: an answer of 160 does not fit beside it
        let Some(request) = survey.next_request().unwrap() else { break };
        let length = request.length().min(8 * 4096);
        let cut: Vec<(u64, u64)> = (0..8).map(|n| (length / 8, n % 2)).collect();
        survey.chunk(request.id(), payload(0, &cut)).unwrap();
        survey.chunk(request.id(), payload(1, &[(length, 0)])).unwrap();
        survey.reply_done(request.id()).unwrap();
        while let Some(extent) = survey.next_extent().unwrap() {
            seen.push(extent.to_string());
        }
    }
    let stats = survey.stats();
    assert!(stats.peak_bytes <= 400, "{stats:?}");
    assert!(seen.iter().any(|row| row.contains("dirty")), "{seen:?} {stats:?}");
}

#[test]
fn a_long_retained_list_is_not_joined_again_for_each_short_reply() {
    let size = 1 << 31;
    let wanted = contexts(1);
    let granted = wanted.negotiate([(0, "base:allocation"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    let mut survey = Survey::together(options(size), granted).unwrap();
    let mut seen = Vec::new();
    let long: Vec<(u64, u64)> = (0..500_000).map(|n| (2048, n % 2)).collect();
    answer(&mut survey, &[(0, &[(512, 0)]), (1, &long)], &mut seen);
    for _ in 0..40 {
        answer(&mut survey, &[(0, &[(512, 0)]), (1, &[(513, 0)])], &mut seen);
    }
    // joining 500,000 descriptors 40 times would be more work than 40 small replies justify: they
    // stay beside the long list, and nothing is forgotten
    assert_eq!(survey.stats().retained_coarsened, 0);
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(4096, 0)])], &mut seen);
    answer(&mut survey, &[(0, &[(4096, 2)]), (1, &[(4096, 0)])], &mut seen);
    let position = 41 * 512 + 2 * 4096;
    assert_eq!(survey.position(), position - position % 2048, "the last row may still grow");
    for row in &seen {
        // every second range of 2048 bytes was reported dirty once, and stays dirty, whatever came
        // later
        let start: u64 = row.split("..").next().unwrap().parse().unwrap();
        let dirty = if (start / 2048).is_multiple_of(2) { "clean" } else { "dirty" };
        assert!(row.contains(dirty), "{row} of {seen:?}");
    }
}

/// Answers to the bitmap that reach the end of the range, each with one flag, while the other
/// context advances by 4 KiB at a time.
fn bitmap_says(flags: &[u64]) -> (Survey, Vec<String>) {
    let mut survey = together(1);
    let mut seen = Vec::new();
    for (&flags, done) in flags.iter().zip(0..) {
        answer(&mut survey, &[(0, &[(4096, 0)]), (1, &[(MIB - done * 4096, flags)])], &mut seen);
    }
    (survey, seen)
}

#[test]
fn a_disagreement_that_is_over_is_still_counted() {
    // the last two agree with each other and with the joined list; the contradiction before must
    // not be forgotten
    let (survey, seen) = bitmap_says(&[0, 1, 1, 1]);
    assert_eq!(seen, ["0..4096 clean,data"]);
    assert_eq!(survey.stats().disagreements, 3);
}

#[test]
fn who_disagrees_twice_still_disagrees() {
    let (survey, seen) = bitmap_says(&[0, 1, 0, 1]);
    assert_eq!(seen, ["0..4096 clean,data"]);
    assert_eq!(survey.stats().disagreements, 3);
}

/// When a retained list must be given up, its whole range gets the safe status, to the last byte.
#[test]
fn a_rest_that_is_given_up_is_dirty_to_its_end() {
    let wanted = contexts(1);
    let granted = wanted.negotiate([(0, "base:allocation"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    let mut survey = Survey::together(options(MIB).budget(40_000), granted).unwrap();
    let mut seen = Vec::new();
    let alternating: Vec<(u64, u64)> = (0..1000).map(|n| (1024, n % 2)).collect();
    answer(&mut survey, &[(0, &[(512, 0)]), (1, &alternating)], &mut seen);
    // joined to a list with other cuts, it takes twice the room
    let between: Vec<(u64, u64)> = (0..1000).map(|n| (1023, n % 2)).collect();
    answer(&mut survey, &[(0, &[(512, 0)]), (1, &between)], &mut seen);
    assert_eq!(survey.stats().retained_coarsened, 1);
    let rest = MIB - 1024;
    answer(&mut survey, &[(0, &[(rest, 0)]), (1, &[(rest, 0)])], &mut seen);
    // all answers about the bytes beyond the longer list were "clean"
    assert_eq!(seen.last().map(String::as_str), Some("1024000..1048576 clean,data"), "{seen:?}");
    let dirty = seen.iter().rev().nth(1).unwrap();
    assert_eq!(dirty, "1024..1024000 dirty,data", "{seen:?}");
}

/// An allocation with invalid flags is in doubt, and stays so when it is joined to valid answers.
#[test]
fn flags_in_doubt_stay_in_doubt() {
    let mut survey = together(1);
    let mut seen = Vec::new();
    for flags in [1 << 32 | 3, 3] {
        answer(&mut survey, &[(0, &[(MIB / 2, flags)]), (1, &[(4096, 0)])], &mut seen);
    }
    answer(&mut survey, &[(0, &[(MIB - 8192, 3)]), (1, &[(MIB - 8192, 0)])], &mut seen);
    let half = MIB / 2;
    assert_eq!(seen[0], format!("0..{half} clean,data"), "{seen:?}");
}

#[test]
fn a_depth_that_changes_is_unknown() {
    let wanted = Contexts::new().require(Context::Depth).unwrap().require(Context::bitmap("b0")).unwrap();
    let granted = wanted.negotiate([(0, "qemu:allocation-depth"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    for (depths, rows) in [
        ([1, 1, 1], ["0..1048576 clean,depth 1"].as_slice()),
        // an unknown depth is not shown
        ([1, 2, 2], &["0..4096 clean,depth 1", "4096..1048576 clean"]),
        ([2, 1, 1], &["0..4096 clean,depth 2", "4096..1048576 clean"]),
    ] {
        let mut survey = Survey::together(options(MIB), granted.clone()).unwrap();
        let mut seen = Vec::new();
        for (&depth, done) in depths.iter().zip(0..) {
            let bitmap = if done == 2 { MIB } else { 4096 };
            answer(&mut survey, &[(0, &[(MIB - done * 4096, depth)]), (1, &[(bitmap, 0)])], &mut seen);
        }
        assert_eq!(seen, rows);
    }
}

/// Retained answers must not block new ones: if not even a block fits beside them, they are given
/// up, and counted.
#[test]
fn a_rest_that_leaves_no_room_for_a_block_is_given_up() {
    let wanted = contexts(1);
    let granted = wanted.negotiate([(0, "base:allocation"), (1, "qemu:dirty-bitmap:b0")]).unwrap();
    let mut survey = Survey::together(options(MIB).budget(400), granted).unwrap();
    let mut seen = Vec::new();
    let alternating: Vec<(u64, u64)> = (0..20).map(|n| (4096, n % 2)).collect();
    answer(&mut survey, &[(0, &[(4096, 0)]), (1, &alternating)], &mut seen);
    // 328 bytes are retained; each answer to come is two chunks of 40, which do not fit until the
    // request is a single block
    let mut asked = Vec::new();
    while survey.stats().retained_coarsened == 0 {
        let request = survey.next_request().unwrap().unwrap();
        asked.push(request.length());
        for id in [0, 1] {
            survey.chunk(request.id(), payload(id, &[(256, 0), (256, 0)])).unwrap();
        }
        survey.reply_done(request.id()).unwrap();
    }
    assert_eq!(asked.last(), Some(&512));
    answer(&mut survey, &[(0, &[(MIB - 4096, 0)]), (1, &[(MIB - 4096, 0)])], &mut seen);
    assert_eq!(seen, ["0..4096 clean,data", "4096..81920 dirty,data", "81920..1048576 clean,data"]);
    assert_eq!(survey.complete().unwrap().retained_coarsened, 1);
}
