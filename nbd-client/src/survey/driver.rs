//! A survey and its requests on the wire: the rules that both clients keep. No I/O.
//!
//! Requests go out in rounds. Several are in flight during a round, and all of them have been
//! answered when it is over: a program that takes its time with the extents, or stops, leaves no
//! server waiting to send.

use alloc::collections::VecDeque;

use nbd_extents::{Admission, Request, RequestId, Survey, SurveyOptions, Topic};

use super::opening::{Halves, Surveyed};
use super::{SurveySide, SurveyorError};
use crate::error::Error;
use crate::session::{ChunkOffer, Cookie, Event, RequestError, StatusRequest};

/// A request of the survey that is on the wire.
#[derive(Clone, Copy, Debug)]
struct Sent {
    side: SurveySide,
    cookie: Cookie,
    id: RequestId,
}

/// A survey, and its requests on the wire, the oldest first.
#[derive(Debug)]
pub(crate) struct SurveyDriver {
    pub(crate) survey: Survey,
    sent: VecDeque<Sent>,
    /// Requests that the survey has made.
    asked: u64,
    /// Details are asked on a connection of their own.
    two_connections: bool,
    /// Requests name their contexts.
    payload_form: bool,
    /// The server has no block status: no request is sent, and all of them have failed.
    assumes_data: bool,
}

impl SurveyDriver {
    pub(crate) fn new<C: Surveyed>(
        halves: &Halves<C>,
        options: SurveyOptions,
    ) -> Result<Self, SurveyorError> {
        let assumes_data = halves.assumes_data;
        let options = if assumes_data { options.max_retries(0).safe_on_failure() } else { options };
        let (survey, two_connections, payload_form) = halves.survey(options)?;
        Ok(Self { survey, sent: VecDeque::new(), asked: 0, two_connections, payload_form, assumes_data })
    }

    /// Requests that the survey has made.
    pub(crate) const fn asked(&self) -> u64 {
        self.asked
    }

    /// The next request to send.
    pub(crate) fn next_request(&mut self) -> Result<Option<Request>, SurveyorError> {
        while let Some(request) = self.survey.next_request()? {
            self.asked += 1;
            if !self.assumes_data {
                return Ok(Some(request));
            }
            self.survey.reply_failed(request.id())?;
        }
        Ok(None)
    }

    /// Where a request belongs, and its form on the wire.
    pub(crate) fn route<'a>(&self, request: &'a Request) -> (SurveySide, StatusRequest<'a>) {
        let side = match request.topic() {
            Topic::Details if self.two_connections => SurveySide::Details,
            _ => SurveySide::Main,
        };
        let mut status = StatusRequest::new(request.offset(), request.length());
        if request.one_extent() {
            status = status.req_one();
        }
        if self.payload_form {
            status = status.only(request.context_ids());
        }
        (side, status)
    }

    /// The request is on the wire, or could not be sent.
    pub(crate) fn sent(
        &mut self,
        request: &Request,
        side: SurveySide,
        cookie: Result<Cookie, Error>,
    ) -> Result<(), SurveyorError> {
        match cookie {
            Ok(cookie) => self.sent.push_back(Sent { side, cookie, id: request.id() }),
            Err(error) => {
                self.survey.reply_failed(request.id()).ok();
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The connection whose request is the oldest: no request's time runs out while another is
    /// waited for. `None` when nothing is awaited.
    pub(crate) fn oldest(&self) -> Option<SurveySide> {
        self.sent.front().map(|sent| sent.side)
    }

    /// Whether to take a chunk that came on this connection.
    pub(crate) fn admit(&mut self, side: SurveySide, offer: &ChunkOffer) -> Admission {
        match self.place(side, offer.cookie) {
            Some((_, id)) => self.survey.admit(id, offer.length),
            None => Admission::Drain,
        }
    }

    /// Gives the outcome of a wait on this connection to the survey. What belongs to a request that
    /// is over already is let go.
    pub(crate) fn take(
        &mut self,
        side: SurveySide,
        event: Result<Option<Event>, Error>,
    ) -> Result<(), SurveyorError> {
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return Err(self.lost(Error::GivenUp)),
            Err(error) => return Err(self.lost(error)),
        };
        let Some((place, id)) = self.place(side, event.cookie()) else { return Ok(()) };
        match event {
            Event::Status { payload, .. } => {
                if let Err(fault) = self.survey.chunk(id, payload) {
                    self.sent.remove(place);
                    return Err(fault.into());
                }
            }
            Event::Drained { .. } | Event::Read { .. } => {}
            // of a missing context the survey misses the chunk as well, and knows its name
            Event::Done { .. } | Event::Failed { error: RequestError::MissingContext { .. }, .. } => {
                self.sent.remove(place);
                self.survey.reply_done(id)?;
            }
            Event::Failed { error, .. } => {
                self.sent.remove(place);
                // the survey asks again a few times, unless the server is going down
                if self.survey.reply_failed(id).is_err() || error.is_shutdown() {
                    return Err(Error::from(error).into());
                }
            }
        }
        Ok(())
    }

    /// The survey has failed: no answer is of interest any more.
    pub(crate) fn give_up(&mut self) {
        for sent in self.sent.drain(..) {
            self.survey.reply_failed(sent.id).ok();
        }
    }

    /// A connection is gone, and with it all that was asked.
    fn lost(&mut self, error: Error) -> SurveyorError {
        self.give_up();
        error.into()
    }

    /// The survey's request that a reply on this connection belongs to, and its place.
    fn place(&self, side: SurveySide, cookie: Cookie) -> Option<(usize, RequestId)> {
        let place = self.sent.iter().position(|sent| sent.side == side && sent.cookie == cookie)?;
        self.sent.get(place).map(|sent| (place, sent.id))
    }
}
