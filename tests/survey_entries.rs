//! Replies given by context name and in host order, as from libnbd's callbacks: they mean the same
//! as the payloads that libnbd read, obey the same rules, and count against the same budget.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use nbd_extents::wire::{Descriptor, Form, encode};
use nbd_extents::{
    Context, ContextError, Contexts, DecodeError, ExportParams, Extent, ReplyFault, Status, Survey,
    SurveyError, SurveyOptions,
};
use proptest::collection::vec;
use proptest::prelude::*;

const BASE: &str = "base:allocation";
const BITMAP: &str = "qemu:dirty-bitmap:b0";
const BLOCK: u64 = 512;

/// The way in which a reply is passed to the survey.
#[derive(Clone, Copy, Debug)]
enum Face {
    Payload(Form),
    Entries32,
    Entries64,
}

/// The server's status of each block, and the number of blocks that it describes in each reply, by
/// context.
#[derive(Clone, Debug)]
struct Server {
    flags: [Vec<u64>; 2],
    reach: [Vec<usize>; 2],
}

impl Server {
    /// The descriptors of a reply about bytes from `offset` on, cut at each change.
    fn list(&self, context: usize, nth: usize, offset: u64, length: u64) -> Vec<(u64, u64)> {
        let first = (offset / BLOCK) as usize;
        let reach = self.reach[context][nth % self.reach[context].len()];
        let blocks = (length / BLOCK) as usize;
        let mut list: Vec<(u64, u64)> = Vec::new();
        for &flags in self.flags[context][first..].iter().take(reach.min(blocks)) {
            match list.last_mut() {
                Some((length, last)) if *last == flags => *length += BLOCK,
                _ => list.push((BLOCK, flags)),
            }
        }
        list
    }

    fn size(&self) -> u64 {
        self.flags[0].len() as u64 * BLOCK
    }

    fn survey(&self, face: Face) -> Vec<Extent<Status>> {
        let contexts = Contexts::new().require_all([Context::Allocation, Context::bitmap("b0")]).unwrap();
        let form = if let Face::Payload(form) = face { form } else { Form::Compact };
        let export = ExportParams::new(self.size(), form).unwrap().read_only(true);
        let granted = contexts.negotiate_names([BASE, BITMAP]).unwrap();
        let mut survey = Survey::together(SurveyOptions::new(export).in_flight(1), granted).unwrap();
        let (mut extents, mut nth) = (Vec::new(), 0);
        while let Some(request) = survey.next_request().unwrap() {
            let (id, offset) = (request.id(), request.offset());
            for (context, name) in [BASE, BITMAP].into_iter().enumerate() {
                let list = self.list(context, nth, offset, request.length());
                match face {
                    Face::Payload(form) => {
                        let list = list.iter().map(|&(length, flags)| Descriptor { length, flags });
                        let payload = encode(form, context as u32, list.collect::<Vec<_>>()).unwrap();
                        survey.chunk(id, payload).unwrap();
                    }
                    Face::Entries32 => {
                        let flat: Vec<u32> =
                            list.iter().flat_map(|&(length, flags)| [length as u32, flags as u32]).collect();
                        survey.extents32(id, name, offset, &flat).unwrap();
                    }
                    Face::Entries64 => survey.extents64(id, name, offset, &list).unwrap(),
                }
            }
            survey.reply_done(id).unwrap();
            nth += 1;
            while let Some(extent) = survey.next_extent().unwrap() {
                extents.push(extent);
            }
        }
        survey.complete().unwrap();
        extents
    }
}

fn server() -> impl Strategy<Value = Server> {
    let context = |highest: u64| vec(0..=highest, 1..60);
    (context(3), context(1), vec(1..20_usize, 1..8), vec(1..20_usize, 1..8)).prop_map(|(a, b, ra, rb)| {
        let blocks = a.len().min(b.len());
        Server { flags: [a[..blocks].to_vec(), b[..blocks].to_vec()], reach: [ra, rb] }
    })
}

proptest! {
    #[test]
    fn entries_say_what_the_payload_said(server in server()) {
        let expected = server.survey(Face::Payload(Form::Compact));
        prop_assert_eq!(&server.survey(Face::Payload(Form::Extended)), &expected);
        prop_assert_eq!(&server.survey(Face::Entries32), &expected);
        prop_assert_eq!(&server.survey(Face::Entries64), &expected);
        for extent in &expected {
            for block in extent.start() / BLOCK..extent.end() / BLOCK {
                let flags = server.flags.each_ref().map(|flags| flags[block as usize]);
                prop_assert_eq!(extent.status().zero(), Some(flags[0] & 2 != 0));
                prop_assert_eq!(extent.status().dirty(), Some(flags[1] & 1 != 0));
            }
        }
    }
}

#[test]
fn an_odd_number_of_entries_ends_the_request_and_nothing_of_it_remains() {
    let mut survey = Survey::new(8192, [BASE]).unwrap();
    let id = survey.next_request().unwrap().unwrap().id();
    let fault = DecodeError::OddPairs { got: 3 }.into();
    assert_eq!(survey.extents32(id, BASE, 0, &[4096, 0, 4096]), Err(SurveyError::Reply { offset: 0, fault }));
    assert_eq!(survey.reply_done(id), Err(SurveyError::UnknownRequest(id)));
    assert_eq!(survey.next_extent(), Ok(None));
    let again = survey.next_request().unwrap().unwrap();
    assert_eq!((again.offset(), again.length()), (0, 8192));
}

#[test]
fn entries_that_do_not_start_with_the_request_are_refused_and_the_request_goes_on() {
    let mut survey = Survey::new(8192, [BASE]).unwrap();
    let id = survey.next_request().unwrap().unwrap().id();
    let wrong = SurveyError::WrongOffset { expected: 0, got: 512 };
    assert_eq!(survey.extents64(id, BASE, 512, [(7680, 0)]), Err(wrong));
    survey.extents64(id, BASE, 0, [(8192, 0)]).unwrap();
    survey.reply_done(id).unwrap();
    assert!(survey.next_extent().unwrap().is_some());
    survey.complete().unwrap();
}

#[test]
fn a_context_without_entries_and_one_that_is_not_answered_are_missing() {
    for entries in [Some(&[][..]), None] {
        let mut survey = Survey::new(8192, [BASE, BITMAP]).unwrap();
        let id = survey.next_request().unwrap().unwrap().id();
        survey.extents32(id, BASE, 0, &[8192, 0]).unwrap();
        survey.extents32(id, "x:not-asked-for", 0, &[8192, 0]).unwrap();
        let ended = match entries {
            Some(entries) => survey.extents32(id, BITMAP, 0, entries),
            None => survey.reply_done(id),
        };
        let fault = ReplyFault::Missing { context: BITMAP.into() };
        assert_eq!(ended, Err(SurveyError::Reply { offset: 0, fault }));
    }
}

#[test]
fn the_budget_counts_entries_as_they_are_held() {
    let contexts = Contexts::new().require(Context::Allocation).unwrap();
    let export = ExportParams::new(1 << 20, Form::Compact).unwrap().read_only(true);
    let options = SurveyOptions::new(export).budget(8 + 16 * 100);
    let mut survey = Survey::together(options, contexts.negotiate_names([BASE]).unwrap()).unwrap();
    let request = survey.next_request().unwrap().unwrap();
    let list = |count: u64| (0..count).map(|n| (512, n % 2)).collect::<Vec<_>>();
    survey.extents64(request.id(), BASE, 0, list(101)).unwrap();
    survey.reply_done(request.id()).unwrap();
    assert_eq!(survey.next_extent(), Ok(None), "101 entries do not fit");
    let smaller = survey.next_request().unwrap().unwrap();
    assert!(smaller.length() < request.length());
    survey.extents64(smaller.id(), BASE, 0, list(100)).unwrap();
    survey.reply_done(smaller.id()).unwrap();
    assert!(survey.next_extent().unwrap().is_some());
    assert_eq!(survey.stats().peak_bytes, 8 + 16 * 100);
}

#[test]
fn a_survey_by_names_refuses_names_without_a_meaning() {
    let unknown = ContextError::Unknown { name: "base:other".into() };
    assert_eq!(Survey::new(512, ["base:other"]).unwrap_err(), SurveyError::Context(unknown));
    let twice = ContextError::Twice { name: BASE.into() };
    assert_eq!(Survey::new(512, [BASE, BASE]).unwrap_err(), SurveyError::Context(twice));
    assert_eq!(Survey::new::<&str>(512, []).unwrap_err(), SurveyError::NoContext);
}
