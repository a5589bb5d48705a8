//! A survey and what is on the wire for it: the book-keeping that every client needs, blocking or not. No I/O.

use alloc::collections::VecDeque;

use nbd_extents::{Admission, Negotiated, Request, RequestId, Survey, SurveyOptions, Topic};

use super::{Order, SurveyorError};
use crate::error::Error;
use crate::session::{ChunkOffer, Cookie, Event, RequestError, StatusRequest};

/// One of the connections of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Main,
    /// The second connection of a bitmap-first survey.
    Details,
}

/// A request of the survey that is on the wire.
#[derive(Clone, Copy, Debug)]
struct Sent {
    side: Side,
    cookie: Cookie,
    id: RequestId,
}

/// A survey, and its requests on the wire, the oldest first.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) survey: Survey,
    sent: VecDeque<Sent>,
    /// Details are asked on a connection of their own.
    two_connections: bool,
    /// Requests name their contexts.
    payload_form: bool,
}

impl Asked {
    /// A survey in this order over what one connection granted, or two did.
    pub(crate) fn new(
        order: Order,
        options: SurveyOptions,
        main: Negotiated,
        details: Option<Negotiated>,
    ) -> Result<Self, SurveyorError> {
        let two_connections = details.is_some();
        let survey = match (order, details) {
            (Order::Together, _) => Survey::together(options, main)?,
            (Order::BitmapFirst, Some(details)) => Survey::bitmap_first(options, main, details)?,
            (Order::BitmapFirst, None) => {
                let (bitmaps, details) = main.split();
                Survey::bitmap_first(options, bitmaps, details)?
            }
        };
        let payload_form = order == Order::BitmapFirst && !two_connections;
        Ok(Self { survey, sent: VecDeque::new(), two_connections, payload_form })
    }

    /// Where a request belongs, and its form on the wire.
    pub(crate) fn route<'a>(&self, request: &'a Request) -> (Side, StatusRequest<'a>) {
        let side = match request.topic() {
            Topic::Details if self.two_connections => Side::Details,
            _ => Side::Main,
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

    /// The request is on the wire.
    pub(crate) fn sent(&mut self, request: &Request, side: Side, cookie: Cookie) {
        self.sent.push_back(Sent { side, cookie, id: request.id() });
    }

    /// The request could not be sent.
    pub(crate) fn not_sent(&mut self, request: &Request) {
        self.survey.reply_failed(request.id()).ok();
    }

    /// The connection whose request is the oldest: no request's time runs out while another is waited for. `None` when nothing is awaited.
    pub(crate) fn oldest(&self) -> Option<Side> {
        self.sent.front().map(|sent| sent.side)
    }

    /// Whether to take a chunk that came on this connection.
    pub(crate) fn admit(&mut self, side: Side, offer: &ChunkOffer) -> Admission {
        match self.place(side, offer.cookie) {
            Some((_, id)) => self.survey.admit(id, offer.length),
            None => Admission::Drain,
        }
    }

    /// Gives an event to the survey; `true` when a reply is over. What belongs to a request that is over already is let go.
    pub(crate) fn take(&mut self, side: Side, event: Event) -> Result<bool, SurveyorError> {
        let Some((place, id)) = self.place(side, event.cookie()) else {
            return Ok(false);
        };
        match event {
            Event::Status { payload, .. } => {
                if let Err(fault) = self.survey.chunk(id, payload) {
                    self.sent.remove(place);
                    return Err(fault.into());
                }
                Ok(false)
            }
            Event::Drained { .. } | Event::Read { .. } => Ok(false),
            // of a missing context the survey misses the chunk as well, and knows its name
            Event::Done { .. } | Event::Failed { error: RequestError::MissingContext { .. }, .. } => {
                self.sent.remove(place);
                self.survey.reply_done(id)?;
                Ok(true)
            }
            Event::Failed { error, .. } => {
                self.sent.remove(place);
                self.survey.reply_failed(id).ok();
                Err(Error::from(error).into())
            }
        }
    }

    /// The connection is gone, and with it all that was asked.
    pub(crate) fn lost(&mut self, error: Error) -> SurveyorError {
        for sent in self.sent.drain(..) {
            self.survey.reply_failed(sent.id).ok();
        }
        error.into()
    }

    /// The survey's request that a reply on this connection belongs to, and its place.
    fn place(&self, side: Side, cookie: Cookie) -> Option<(usize, RequestId)> {
        let place = self.sent.iter().position(|sent| sent.side == side && sent.cookie == cookie)?;
        self.sent.get(place).map(|sent| (place, sent.id))
    }
}
