//! Several requests in flight, exhaustively on a tiny disk: every order of replies, each whole,
//! short or failed. And the specifics of requesting ahead: the length of requests, the answers
//! held, the answers dropped.

use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{
    Admission, Allocation, BitmapIndex, Context, Contexts, Dirtiness, ExportParams, Extent, Request, Status,
    Survey, SurveyError, SurveyOptions,
};

/// The status of each byte of the tiny disk: allocation and bitmap.
const DISK: [(u64, u64); 6] = [(0, 0), (3, 0), (3, 1), (0, 1), (0, 1), (2, 0)];
const ALLOCATION: u32 = 0;
const BITMAP: u32 = 1;

fn contexts() -> Contexts {
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    wanted.require(Context::bitmap("b0")).unwrap()
}

fn options(size: u64) -> SurveyOptions {
    let export = ExportParams::new(size, Form::Compact).unwrap().read_only(true).min_block(1).unwrap();
    SurveyOptions::new(export)
}

fn survey(options: SurveyOptions, bitmap_first: bool) -> Survey {
    let granted =
        contexts().negotiate([(ALLOCATION, "base:allocation"), (BITMAP, "qemu:dirty-bitmap:b0")]).unwrap();
    if bitmap_first {
        let (bitmaps, details) = granted.split();
        Survey::bitmap_first(options, bitmaps, details).unwrap()
    } else {
        Survey::together(options, granted).unwrap()
    }
}

/// The disk's status of one byte.
fn truth(byte: usize, bitmap_first: bool) -> Status {
    let (allocation, bitmap) = DISK[byte];
    let status = Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(bitmap));
    let asked = !bitmap_first || bitmap == 1;
    if asked { status.with_allocation(Allocation::from_flags(allocation)) } else { status }
}

/// The chunks about this number of bytes of a request, one descriptor per byte.
fn chunks(request: &Request, bytes: usize) -> Vec<Vec<u8>> {
    let start = usize::try_from(request.offset()).unwrap();
    let list = |id: u32| {
        let flags = move |&(allocation, bitmap): &(u64, u64)| if id == BITMAP { bitmap } else { allocation };
        let described = DISK[start..start + bytes].iter().map(flags);
        encode(Form::Compact, id, described.map(|flags| Descriptor { length: 1, flags })).unwrap()
    };
    request.context_ids().iter().map(|&id| list(id)).collect()
}

/// Counts through all combinations of a run's choices.
#[derive(Debug, Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.next == self.made.len() {
            self.made.push((0, of));
        }
        let (choice, known) = self.made[self.next];
        assert_eq!(known, of, "a survey does the same when it is told the same");
        self.next += 1;
        choice
    }

    /// Advances to the next combination.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((choice, of)) = self.made.pop() {
            if choice + 1 < of {
                self.made.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// One run: each choice is the next reply, and whether it is whole, one byte long, or (once a run)
/// failed.
fn run(mut survey: Survey, choices: &mut Choices, in_flight: usize) -> (Vec<Extent<Status>>, u64) {
    let mut flying: Vec<Request> = Vec::new();
    let mut extents = Vec::new();
    let mut may_fail = true;
    loop {
        while let Some(request) = survey.next_request().unwrap() {
            flying.push(request);
        }
        assert!(flying.len() <= in_flight);
        if flying.is_empty() {
            break;
        }
        let place = choices.choose(flying.len());
        let request = flying.remove(place);
        let whole = usize::try_from(request.length()).unwrap();
        let ways = if whole == 1 { [whole, 0, 0] } else { [whole, 1, 0] };
        let count = ways.iter().filter(|&&bytes| bytes > 0).count() + usize::from(may_fail);
        match ways[choices.choose(count).min(2)] {
            0 => {
                may_fail = false;
                survey.reply_failed(request.id()).unwrap();
            }
            bytes => {
                for chunk in chunks(&request, bytes) {
                    survey.chunk(request.id(), chunk).unwrap();
                }
                survey.reply_done(request.id()).unwrap();
            }
        }
        while let Some(extent) = survey.next_extent().unwrap() {
            extents.push(extent);
        }
    }
    let stats = survey.complete().unwrap();
    assert_eq!(stats.requests, stats.replies + stats.failed);
    (extents, stats.dropped)
}

fn all_orders(in_flight: usize, max_request: u64, bitmap_first: bool, budget: usize) -> (u64, u64) {
    let expected: Vec<Status> = (0..DISK.len()).map(|byte| truth(byte, bitmap_first)).collect();
    let mut choices = Choices::default();
    let (mut runs, mut dropped) = (0, 0);
    loop {
        let options = options(DISK.len() as u64).in_flight(in_flight).max_request(max_request).budget(budget);
        let (extents, made_way) = run(survey(options, bitmap_first), &mut choices, in_flight);
        let bytes: Vec<Status> =
            extents.iter().flat_map(|extent| (0..extent.length()).map(|_| *extent.status())).collect();
        assert_eq!(bytes, expected, "{choices:?}");
        assert!(
            extents.windows(2).all(|pair| pair[0].status() != pair[1].status()),
            "not joined: {extents:?}"
        );
        (runs, dropped) = (runs + 1, dropped + made_way);
        if !choices.advance() {
            return (runs, dropped);
        }
    }
}

#[test]
fn every_order_of_whole_short_and_failed_answers() {
    for bitmap_first in [false, true] {
        for (in_flight, max_request) in [(1, 2), (2, 2), (3, 3), (2, 6)] {
            let (runs, _) = all_orders(in_flight, max_request, bitmap_first, 1 << 20);
            assert!(runs > 20, "{in_flight} in flight, {max_request} bytes a request: only {runs} runs");
        }
    }
}

/// Room for little more than one answer: early answers are dropped, and requested again.
#[test]
fn every_order_of_answers_in_a_small_budget() {
    let (_, dropped) = all_orders(3, 2, false, 2 * (4 + 2 * 8) + 24);
    assert!(dropped > 0);
    all_orders(3, 2, true, 2 * (4 + 2 * 8));
}

/// The requests that the survey would make now.
fn asks(survey: &mut Survey) -> Vec<Request> {
    core::iter::from_fn(|| survey.next_request().unwrap()).collect()
}

/// Answers a request with these descriptors for allocation, and one for the bitmap.
fn answer(survey: &mut Survey, request: &Request, list: &[(u64, u64)]) -> Result<(), SurveyError> {
    let length = list.iter().map(|(length, _)| length).sum();
    for (id, list) in [(ALLOCATION, list), (BITMAP, &[(length, 0)])] {
        if request.context_ids().contains(&id) {
            let list = list.iter().map(|&(length, flags)| Descriptor { length, flags });
            survey.chunk(request.id(), encode(Form::Compact, id, list).unwrap())?;
        }
    }
    survey.reply_done(request.id())
}

const MIB: u64 = 1 << 20;

/// As qemu does with 131,072 extents: the first answer shows the range that a reply covers, and
/// each request ahead asks for that range.
#[test]
fn the_step_follows_a_server_that_limits_its_replies() {
    let mut survey = survey(options(1 << 30).in_flight(4), false);
    let first = asks(&mut survey);
    assert_eq!(first.len(), 1, "nothing is known of the server yet");
    answer(&mut survey, &first[0], &[(256 * MIB, 0)]).unwrap();
    let ahead: Vec<_> = asks(&mut survey).iter().map(|r| (r.offset() / MIB, r.length() / MIB)).collect();
    assert_eq!(ahead, [(256, 256), (512, 256), (768, 256)]);
}

/// Expected replies count: the survey makes no more requests than the budget will hold.
#[test]
fn no_more_is_asked_than_the_budget_will_hold() {
    let mut survey = survey(options(1 << 30).in_flight(16).budget(3000).max_request(MIB), false);
    let first = asks(&mut survey);
    let hundred: Vec<(u64, u64)> = (0..100).map(|n| (MIB / 100, n % 4)).collect();
    answer(&mut survey, &first[0], &hundred).unwrap();
    while survey.next_extent().unwrap().is_some() {}
    // a reply has 804 bytes about allocation and 12 about the bitmap
    assert_eq!(asks(&mut survey).len(), 3);
}

#[test]
fn an_answer_that_came_early_makes_way_for_the_one_that_is_waited_for() {
    let mut survey = survey(options(4 * MIB).in_flight(2).budget(1000).max_request(MIB), false);
    let first = asks(&mut survey);
    answer(&mut survey, &first[0], &[(MIB, 0)]).unwrap();
    while survey.next_extent().unwrap().is_some() {}
    let two = asks(&mut survey);
    let hundred: Vec<(u64, u64)> = (0..100).map(|n| (10240, n % 4)).collect();
    let hundred = [&hundred[..], &[(24576, 0)]].concat();
    answer(&mut survey, &two[1], &hundred).unwrap();
    assert_eq!(survey.admit(two[0].id(), 800), Admission::Take);
    assert_eq!((survey.stats().dropped, survey.stats().peak_bytes), (1, 12 + 812));
    answer(&mut survey, &two[0], &[(MIB, 0)]).unwrap();
    let again = asks(&mut survey);
    assert!(again.iter().any(|request| request.offset() == two[1].offset()), "{again:?}");
}

/// No server can make a survey hold more than a few pieces of the requests ahead, however small
/// they are.
#[test]
fn short_replies_ahead_do_not_pile_up() {
    let mut survey = survey(options(1 << 30).in_flight(8).max_stalled_replies(u32::MAX), false);
    let mut flying = asks(&mut survey);
    answer(&mut survey, &flying.remove(0), &[(MIB, 0)]).unwrap();
    flying = asks(&mut survey);
    // the first is never answered, the others byte by byte
    for _ in 0..2000 {
        if flying.len() < 2 {
            break;
        }
        answer(&mut survey, &flying.remove(1), &[(1, 0)]).unwrap();
        flying.extend(asks(&mut survey));
    }
    assert_eq!(flying.len(), 1, "it waits for the first: {:?}", survey.stats());
    assert!(survey.stats().requests < 300, "{:?}", survey.stats());
}

#[test]
fn stalled_replies_end_the_survey_whatever_is_in_flight() {
    let mut survey = survey(options(1 << 30).in_flight(8).max_stalled_replies(50), false);
    let mut flying: Vec<Request> = Vec::new();
    let stalled = loop {
        flying.extend(asks(&mut survey));
        if let Err(error) = answer(&mut survey, &flying.remove(0), &[(1, 0)]) {
            break error;
        }
        while survey.next_extent().unwrap().is_some() {}
    };
    assert!(matches!(stalled, SurveyError::Stalled { replies: 51, .. }), "{stalled}");
}

/// Answers the first request of a survey that asks for the bitmap first.
fn answer_first_of_bitmap(survey: &mut Survey, list: &[(u64, u64)]) {
    let first = asks(survey);
    let list = list.iter().map(|&(length, flags)| Descriptor { length, flags });
    survey.chunk(first[0].id(), encode(Form::Compact, BITMAP, list).unwrap()).unwrap();
    survey.reply_done(first[0].id()).unwrap();
}

/// The details of one answer fill all room: another answer of the bitmap would only occupy memory.
#[test]
fn the_bitmap_is_not_asked_ahead_of_details_without_room() {
    let mut survey = survey(options(MIB).in_flight(4), true);
    let alternating: Vec<_> = (0..256).map(|n| (1024, n % 2)).collect();
    answer_first_of_bitmap(&mut survey, &alternating);
    let asked: Vec<_> = asks(&mut survey).iter().map(|r| (r.offset(), r.context_ids().to_vec())).collect();
    assert_eq!(asked, [(1024, vec![ALLOCATION])]);
}

/// Dirty ranges that touch, and those separated by an allowed small gap, are one request.
#[test]
fn details_are_joined_over_small_gaps_only_where_that_is_allowed() {
    let ask = |join| {
        let mut survey = survey(options(MIB).in_flight(4).join_details(join), true);
        let list = [(4096, 1), (4096, 0), (4096, 1), (65536, 0), (4096, 1), (MIB - 81920, 0)];
        answer_first_of_bitmap(&mut survey, &list);
        let mut asked = Vec::new();
        let mut seen = Vec::new();
        loop {
            let requests = asks(&mut survey);
            if requests.is_empty() {
                break;
            }
            for request in requests {
                asked.push(request.offset()..request.offset() + request.length());
                answer(&mut survey, &request, &[(request.length(), 3)]).unwrap();
            }
        }
        while let Some(extent) = survey.next_extent().unwrap() {
            seen.push(extent.to_string());
        }
        assert_eq!(seen.iter().filter(|row| row.contains("dirty,zero")).count(), 3, "{seen:?}");
        assert_eq!(seen.iter().filter(|row| row.ends_with("clean")).count(), 3, "{seen:?}");
        asked
    };
    assert_eq!(ask(0), [0..4096, 8192..12288, 77824..81920]);
    assert_eq!(ask(4096), [0..12288, 77824..81920]);
    assert_eq!(ask(65536), [core::ops::Range { start: 0, end: 81920 }]);
}
