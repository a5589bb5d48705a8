//! The loop of a client: request as much as may be in flight, take chunks as they arrive, read the
//! extents. It is bounded, so that a survey that never ends fails.

use nbd_extents::{Admission, Extent, Request, Status, Survey, SurveyError, SurveyStats};

use super::server::Server;

/// A completed survey.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) extents: Vec<Extent<Status>>,
    pub(crate) stats: SurveyStats,
}

/// The traffic between a survey and a server: replies whose chunks come one by one, in the order of
/// a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// Each with its remaining chunks.
    pub(crate) replies: Vec<(Request, Vec<Vec<u8>>)>,
    schedule: Vec<u8>,
    steps: usize,
}

impl Wire {
    /// The numbers of the schedule choose, over and over, the reply that continues.
    pub(crate) fn new(schedule: &[u8]) -> Self {
        let schedule = if schedule.is_empty() { vec![0] } else { schedule.to_vec() };
        Self { replies: Vec::new(), schedule, steps: 0 }
    }

    /// Makes all possible requests, calling `before` for each.
    pub(crate) fn ask(
        &mut self,
        survey: &mut Survey,
        server: &mut Server,
        before: &mut impl FnMut(&mut Server),
    ) -> Result<(), SurveyError> {
        while let Some(request) = survey.next_request()? {
            before(server);
            let chunks = server.answer(&request);
            self.replies.push((request, chunks));
            let most = server.in_flight.max(1);
            assert!(self.replies.len() <= most, "more than {most} in flight: {:?}", self.replies);
        }
        server.seen.at_once = server.seen.at_once.max(self.replies.len() as u64);
        Ok(())
    }

    /// The index of the reply that continues.
    pub(crate) fn choose(&mut self) -> usize {
        let choice = self.schedule[self.steps % self.schedule.len()];
        self.steps += 1;
        usize::from(choice) % self.replies.len()
    }

    /// The next chunk of some reply, or its end. Returns `true` at an end.
    pub(crate) fn step(&mut self, survey: &mut Survey) -> Result<bool, SurveyError> {
        let place = self.choose();
        let (request, chunks) = &mut self.replies[place];
        let id = request.id();
        match chunks.len() {
            1.. => {
                let payload = chunks.remove(0);
                // both kinds of payload: a slice that is copied, a `Vec` that is kept
                match survey.admit(id, payload.len() as u64) {
                    Admission::Drain => {}
                    Admission::Take if chunks.len() % 2 == 0 => survey.chunk(id, payload.as_slice())?,
                    Admission::Take => survey.chunk(id, payload)?,
                }
                Ok(false)
            }
            0 => {
                self.replies.remove(place);
                survey.reply_done(id)?;
                Ok(true)
            }
        }
    }
}

/// Runs a survey to its end.
pub(crate) fn drive(survey: Survey, server: &mut Server) -> Result<Run, SurveyError> {
    drive_with(survey, server, |_| {})
}

/// As [`drive`], calling `before` for each reply.
pub(crate) fn drive_with(
    survey: Survey,
    server: &mut Server,
    before: impl FnMut(&mut Server),
) -> Result<Run, SurveyError> {
    drive_reading(survey, server, None, before)
}

/// As [`drive`], for a caller that reads at most `few` extents after each reply, and all of them when the
/// survey asks for nothing more.
pub(crate) fn drive_late(survey: Survey, server: &mut Server, few: usize) -> Result<Run, SurveyError> {
    drive_reading(survey, server, Some(few), |_| {})
}

fn drive_reading(
    mut survey: Survey,
    server: &mut Server,
    few: Option<usize>,
    mut before: impl FnMut(&mut Server),
) -> Result<Run, SurveyError> {
    let mut extents = Vec::new();
    let mut wire = Wire::new(&server.schedule);
    let most = most_requests(server);
    loop {
        wire.ask(&mut survey, server, &mut before)?;
        if wire.replies.is_empty() {
            drain(&mut survey, &mut extents)?;
            wire.ask(&mut survey, server, &mut before)?;
        }
        if wire.replies.is_empty() {
            break;
        }
        assert!(server.requests < most, "no end after {most} requests: {:?}", survey.stats());
        if wire.step(&mut survey)? {
            match few {
                None => drain(&mut survey, &mut extents)?,
                Some(few) => {
                    for _ in 0..few {
                        extents.extend(survey.next_extent()?);
                    }
                }
            }
        }
    }
    assert_eq!(survey.stats().extents, extents.len() as u64);
    assert_eq!(survey.stats().requests, server.requests);
    let stats = survey.complete()?;
    Ok(Run { extents, stats })
}

/// The bound: each reply describes at least a byte, except those that are too large and halve the
/// request, before each of which a success may have doubled it; each context may be requested
/// separately; and answers ahead may be dropped.
fn most_requests(server: &Server) -> u64 {
    server.requests + 40 + 12 * server.size() as u64 * server.in_flight.max(1) as u64
}

/// One whole reply. Calls `admit` for each chunk, as a client does.
pub(crate) fn answer(survey: &mut Survey, server: &mut Server, request: &Request) -> Result<(), SurveyError> {
    let mut wire = Wire::new(&[]);
    wire.replies.push((request.clone(), server.answer(request)));
    while !wire.replies.is_empty() {
        wire.step(survey)?;
    }
    Ok(())
}

/// Reads all available extents.
pub(crate) fn drain(survey: &mut Survey, extents: &mut Vec<Extent<Status>>) -> Result<(), SurveyError> {
    while let Some(extent) = survey.next_extent()? {
        extents.push(extent);
    }
    assert_eq!(survey.next_extent()?, None);
    Ok(())
}
