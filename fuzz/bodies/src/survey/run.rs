//! The loop around a survey: makes requests, answers them from the input, reads all available
//! extents, and checks the visible state at each step.

use super::super::bytes::Bytes;
use super::case::{ALLOCATION, BITMAP, DEPTH, SECOND_BITMAP, SurveyCase};
use super::oracle::Oracle;
use nbd_extents::wire::{Descriptor, Form};
use nbd_extents::{Admission, Extent, Request, RequestId, Status, Survey, SurveyError};

/// At the end, at most this number of requests is answered.
const MOST: usize = 200;

pub struct ScriptedSurvey {
    case: SurveyCase,
    survey: Survey,
    oracle: Oracle,
    /// The requests in flight, and their chunks.
    asked: Vec<(Request, Vec<Vec<u8>>)>,
    /// The index of the request whose reply continues.
    chosen: usize,
    /// Requests that are over.
    stale: Vec<RequestId>,
    last: Option<Extent<Status>>,
    extents: u64,
}

impl ScriptedSurvey {
    pub fn new(case: SurveyCase) -> Self {
        let survey = case.survey();
        let oracle = Oracle::new(&case);
        Self { case, survey, oracle, asked: Vec::new(), chosen: 0, stale: Vec::new(), last: None, extents: 0 }
    }

    /// Makes all possible requests; returns false if none is left and none in flight.
    pub fn request(&mut self) -> bool {
        while let Some(request) = self.survey.next_request().unwrap() {
            let known = self.asked.iter().map(|(request, _)| request.id()).chain(self.stale.iter().copied());
            assert!(!known.collect::<Vec<_>>().contains(&request.id()), "an id is used twice");
            let flying: Vec<&Request> = self.asked.iter().map(|(request, _)| request).collect();
            self.oracle.request(&request, &flying);
            self.asked.push((request, Vec::new()));
            assert!(self.asked.len() <= self.case.width(), "too many requests while replies are awaited");
        }
        !self.asked.is_empty()
    }

    /// The request whose reply continues.
    fn flying(&mut self) -> Option<&mut (Request, Vec<Vec<u8>>)> {
        let count = self.asked.len();
        self.asked.get_mut(self.chosen % count.max(1))
    }

    /// One step of the server.
    pub fn step(&mut self, bytes: &mut Bytes<'_>) {
        let op = bytes.u8();
        self.chosen = usize::from(op / 32);
        match op % 8 {
            0..=3 => self.reply(op, bytes),
            4 => {
                let length = usize::from(bytes.u8());
                self.chunk(bytes.take(length).to_vec());
            }
            5 => self.reply_done(),
            6 => self.reply_failed(),
            _ => self.nonsense(bytes.u32()),
        }
        self.drain();
    }

    /// A chunk for each context, and the end of the reply unless `op` leaves it out.
    fn reply(&mut self, op: u8, bytes: &mut Bytes<'_>) {
        let Some((request, _)) = self.flying() else { return };
        let mut ids = request.context_ids().to_vec();
        let count = ids.len();
        ids.rotate_left(usize::from(op / 8 % 4) % count);
        for id in ids {
            let count = usize::from(bytes.u8() % 16);
            let list: Vec<Descriptor> = (0..count).map(|_| descriptor(bytes)).collect();
            self.chunk(payload(self.case.form, id, &list));
        }
        if op % 8 != 3 {
            self.reply_done();
        }
    }

    fn chunk(&mut self, payload: Vec<u8>) {
        let Some((request, _)) = self.flying().cloned() else { return };
        match self.survey.chunk(request.id(), payload.as_slice()) {
            Ok(()) => self.flying().unwrap().1.push(payload),
            Err(SurveyError::Reply { offset, .. }) => {
                assert_eq!(offset, request.offset());
                self.over();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn reply_done(&mut self) {
        let Some((request, chunks)) = self.flying().cloned() else { return };
        let before = self.survey.stats();
        let done = self.survey.reply_done(request.id());
        let after = self.survey.stats();
        if after.replies > before.replies {
            assert_eq!(done, Ok(()));
            assert!(!self.case.strict || after.forgiven.total() == forgiven_always(&after), "{after:?}");
            self.oracle.accepted(&request, &chunks);
        }
        match done {
            Ok(()) => {}
            Err(SurveyError::Reply { offset, .. }) => assert_eq!(offset, request.offset()),
            Err(SurveyError::OverBudget { .. } | SurveyError::Stalled { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.over();
    }

    fn reply_failed(&mut self) {
        let Some((request, _)) = self.flying().cloned() else { return };
        self.survey.reply_failed(request.id()).unwrap();
        self.over();
    }

    /// The request is over: the survey must not accept its id again.
    fn over(&mut self) {
        let (request, _) = self.asked.remove(self.chosen % self.asked.len());
        self.stale.push(request.id());
        let unknown = Err(SurveyError::UnknownRequest(request.id()));
        assert_eq!(self.survey.reply_done(request.id()), unknown);
    }

    fn nonsense(&mut self, length: u32) {
        if let Some(&stale) = self.stale.first() {
            let unknown = Err(SurveyError::UnknownRequest(stale));
            assert_eq!(self.survey.chunk(stale, vec![0; 12]), unknown);
            assert_eq!(self.survey.reply_failed(stale), unknown);
            assert_eq!(self.survey.admit(stale, u64::from(length)), Admission::Drain);
        }
        if let Some((request, _)) = self.flying().cloned() {
            let admission = self.survey.admit(request.id(), u64::from(length));
            let fits = self.case.budget.is_none_or(|budget| length as usize <= budget);
            assert!(fits || admission == Admission::Drain);
        }
    }

    /// Reads all available extents.
    fn drain(&mut self) {
        while let Some(extent) = self.survey.next_extent().unwrap() {
            let base = self.case.base;
            let expected = self.last.map_or(base + self.case.range.start as u64, |last| last.end());
            assert_eq!(extent.start(), expected, "a gap or an overlap");
            assert!(extent.end() <= base + self.case.range.end as u64, "{extent:?} leaves the range");
            assert!(
                self.last.is_none_or(|last| last.status() != extent.status()),
                "{extent:?} is not joined"
            );
            assert_eq!(self.survey.position(), extent.end());
            assert_eq!(self.survey.resume_point().offset, extent.end());
            let range = (extent.start() - base) as usize..(extent.end() - base) as usize;
            let forgetful = self.survey.stats().retained_coarsened > 0;
            self.oracle.handed_out(range, *extent.status(), forgetful);
            self.last = Some(extent);
            self.extents += 1;
        }
        let stats = self.survey.stats();
        assert_eq!(stats.extents, self.extents);
        assert!(stats.replies + stats.failed <= stats.requests, "{stats:?}");
        let budget = self.case.budget.unwrap_or(32 << 20);
        assert!(stats.peak_bytes <= budget, "{} bytes were held, the budget is {budget}", stats.peak_bytes);
    }

    /// An honest server answers the rest; then the survey is complete and proves it.
    pub fn finish(mut self) {
        while !self.asked.is_empty() {
            self.reply_failed();
        }
        let mut finished = false;
        for _ in 0..MOST {
            finished = !self.request();
            if finished {
                break;
            }
            let failed = self.survey.stats().failed;
            self.honest();
            self.drain();
            if self.survey.stats().failed > failed
                && self.case.budget.is_none()
                && self.case.max_descriptors.is_none()
            {
                panic!("an honest reply was refused: {:?}", self.survey.stats());
            }
        }
        self.drain();
        let end = self.case.base + self.case.range.end as u64;
        assert!(!finished || self.survey.position() == end);
        assert_eq!(self.survey.check_complete().is_ok(), self.survey.position() == end);
        let covered = self.last.map_or(self.case.range.is_empty(), |last| last.end() == end);
        assert_eq!(self.survey.complete().is_ok(), covered);
    }

    /// One extent per context, over the whole request.
    fn honest(&mut self) {
        self.chosen = self.chosen.wrapping_mul(5).wrapping_add(3);
        let Some((request, _)) = self.flying().cloned() else { return };
        for &id in request.context_ids() {
            let flags = (request.offset() / 64 + u64::from(id)) % 4;
            self.chunk(payload(self.case.form, id, &[Descriptor { length: request.length(), flags }]));
        }
        self.reply_done();
    }
}

/// The replies that strict accepts as well.
fn forgiven_always(stats: &nbd_extents::SurveyStats) -> u64 {
    stats.forgiven.extra_descriptors + stats.forgiven.split_blocks
}

fn descriptor(bytes: &mut Bytes<'_>) -> Descriptor {
    let length = bytes.below(8192) as u64;
    let flags = u64::from(bytes.u8());
    Descriptor { length, flags: (flags & 0x7f) | (flags >> 7) << 40 }
}

/// The payload of a chunk, with any lengths and flags; in the compact form only their lower halves.
fn payload(form: Form, id: u32, list: &[Descriptor]) -> Vec<u8> {
    assert!([ALLOCATION, DEPTH, BITMAP, SECOND_BITMAP].contains(&id));
    let mut out = id.to_be_bytes().to_vec();
    if form == Form::Extended {
        out.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
    }
    for descriptor in list {
        for number in [descriptor.length, descriptor.flags] {
            let bytes = number.to_be_bytes();
            out.extend(if form == Form::Extended { &bytes[..] } else { &bytes[4..] });
        }
    }
    out
}
