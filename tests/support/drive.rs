//! The loop that a client runs: ask, take the reply in, read the extents. Bounded, so that a survey that never ends fails.

use nbd_extents::{Admission, Extent, Request, Status, Survey, SurveyError, SurveyStats};

use super::server::Server;

/// A survey that came to its end.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) extents: Vec<Extent<Status>>,
    pub(crate) stats: SurveyStats,
}

/// Runs a survey to its end.
pub(crate) fn drive(survey: Survey, server: &mut Server) -> Result<Run, SurveyError> {
    drive_with(survey, server, |_| {})
}

/// The same, with `before` each reply.
pub(crate) fn drive_with(
    mut survey: Survey,
    server: &mut Server,
    mut before: impl FnMut(&mut Server),
) -> Result<Run, SurveyError> {
    let mut extents = Vec::new();
    let most = most_requests(server);
    while let Some(request) = survey.next_request()? {
        assert!(server.requests < most, "no end after {most} requests: {:?}", survey.stats());
        assert_eq!(survey.next_request()?, None, "a second request while a reply is awaited");
        before(server);
        answer(&mut survey, server, &request)?;
        drain(&mut survey, &mut extents)?;
    }
    drain(&mut survey, &mut extents)?;
    assert_eq!(survey.stats().extents, extents.len() as u64);
    assert_eq!(survey.stats().requests, server.requests);
    let stats = survey.complete()?;
    Ok(Run { extents, stats })
}

/// Each reply tells at least a byte, but for those that are too large and halve the request, before each of which a success may have
/// doubled it; and each context may be asked apart.
fn most_requests(server: &Server) -> u64 {
    server.requests + 40 + 12 * server.size() as u64
}

/// One reply, whole. Asks for each chunk's admission first, as a client does.
pub(crate) fn answer(survey: &mut Survey, server: &mut Server, request: &Request) -> Result<(), SurveyError> {
    for (nth, payload) in server.answer(request).into_iter().enumerate() {
        if survey.admit(request.id(), payload.len() as u64) == Admission::Drain {
            continue;
        }
        // both ways in: a slice that is copied, a `Vec` that is kept
        if nth % 2 == 0 {
            survey.chunk(request.id(), payload.as_slice())?;
        } else {
            survey.chunk(request.id(), payload)?;
        }
    }
    survey.reply_done(request.id())
}

/// Reads all that is ready.
pub(crate) fn drain(survey: &mut Survey, extents: &mut Vec<Extent<Status>>) -> Result<(), SurveyError> {
    while let Some(extent) = survey.next_extent()? {
        extents.push(extent);
    }
    assert_eq!(survey.next_extent()?, None);
    Ok(())
}
