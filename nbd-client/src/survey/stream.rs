//! The stream of a survey, and its requests on the wire: the rules of both clients.
//!
//! Requests go out in rounds. Several are in flight during a round, and all of them have been
//! answered when it is over: a program that takes its time with the extents, or stops, leaves no
//! server waiting to send. A program that is quick has the next ranges asked for meanwhile.

use alloc::collections::VecDeque;

use nbd_extents::{Admission, Extent, Request, RequestId, Status, Survey, SurveyStats, Topic};

use super::surveyor::SurveyorOver;
use super::{Order, SurveySide, SurveyorError};
use crate::client::{Blocking, Drive, Driven};
use crate::error::Error;
use crate::session::{ChunkOffer, Cookie, Event, RequestFault, Session, StatusRequest};
use crate::transport::Socket;

const BOTH: [SurveySide; 2] = [SurveySide::Main, SurveySide::Details];

/// The merged extents of a survey, see [`Surveyor::survey`](SurveyorOver::survey). Reading it asks
/// the server.
///
/// It asks in rounds of as many requests as
/// [`in_flight`](nbd_extents::SurveyOptions::in_flight) allows. While the caller has control
/// nothing is in flight, so a caller that stops, or drops the stream before its end, leaves no
/// server waiting to send. (A call of the asynchronous stream that is dropped leaves replies to
/// come, which the next call reads.) The server also rests meanwhile. A program that only collects
/// the extents lets it work: see [`ask_ahead`](Self::ask_ahead). One that takes long over them reads
/// the stream in a thread or task of its own, and there asks ahead.
///
/// ```
/// # #[cfg(unix)] {
/// # use testkit::scripted::{Good, ScriptedServer};
/// use nbd_client::{Options, Surveyor};
/// use nbd_client::survey::Order;
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents::{Context, Contexts};
///
/// # let server = ScriptedServer::start(|conn| {
/// #     conn.handshake(&Good::compact().size(1 << 20))?;
/// #     conn.serve(|conn, request| conn.honest(request, 3))
/// # })?;
/// # let uri = server.uri().parse()?;
/// let wanted = Contexts::new().require(Context::Allocation)?;
/// let mut surveyor = Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together)?;
/// let options = surveyor.survey_options()?;
/// let mut extents = surveyor.survey(options)?;
/// while let Some(extent) = extents.next_extent()? {
///     // A server that calls all of its 1 MiB a hole of zeroes.
///     assert_eq!(extent.status().zero(), Some(true));
/// }
/// assert_eq!(extents.stats().requests, 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SurveyStream<'a, M = Blocking<Socket>> {
    pub(super) surveyor: &'a mut SurveyorOver<M>,
    pub(super) requests: SurveyRequests,
}

/// A survey, and its requests on the wire.
#[derive(Debug)]
pub(crate) struct SurveyRequests {
    survey: Survey,
    /// The oldest first, all on one connection.
    sent: VecDeque<Sent>,
    /// The next request, while the other connection has answers to come.
    held: Option<Request>,
    /// A round is being asked for, and no extent is handed out.
    is_asking: bool,
    /// This round has asked for something, so another one may.
    has_asked: bool,
    /// The next ranges are asked for as soon as they can be, and extents handed out meanwhile.
    asks_ahead: bool,
    /// The error of the survey. It is reported once nothing is in flight any more.
    failure: Option<SurveyorError>,
    /// The connections that may have something in flight which is of no interest: after a failure, or
    /// of a stream before this one that was dropped.
    undrained: Vec<SurveySide>,
}

/// A request of the survey that is on the wire.
#[derive(Clone, Copy, Debug)]
struct Sent {
    side: SurveySide,
    cookie: Cookie,
    id: RequestId,
}

/// The next step of a stream.
#[derive(Debug)]
pub(super) enum SurveyStep {
    /// The next extent; `None` when the whole range has been covered.
    Ready(Option<Extent<Status>>),
    /// [Wait](SurveyStream::wait) for the next event of this connection.
    Wait(SurveySide),
    /// Send what this connection has to send, as far as that goes without waiting.
    Send(SurveySide),
}

impl<M> SurveyStream<'_, M> {
    /// The survey itself: its position, what it cost and what it forgave.
    #[must_use]
    pub const fn as_survey(&self) -> &Survey {
        &self.requests.survey
    }

    /// The cost of the survey, and what it forgave.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        self.requests.survey.stats()
    }

    /// Has the next ranges asked for as soon as the survey knows them, so that the server works while
    /// the caller has control. A map of 300,000 extents then took 0.85 times as long.
    ///
    /// Requests are in flight between two calls, and when the stream is dropped before its end. A
    /// caller that is about to wait for something else, or to stop, calls `receive_all` before, so that
    /// the server can send its answers.
    ///
    /// ```no_run
    /// use nbd_client::{Options, Surveyor};
    /// use nbd_client::survey::Order;
    /// use nbd_extents::stream::ExtentStream;
    /// use nbd_extents::{Context, Contexts};
    /// use std::sync::mpsc::{TrySendError, sync_channel};
    ///
    /// let wanted = Contexts::new().require(Context::Allocation)?;
    /// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
    /// let mut surveyor = Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together)?;
    /// let options = surveyor.survey_options()?;
    /// let mut extents = surveyor.survey(options)?.ask_ahead();
    /// let (sender, _receiver) = sync_channel(100_000);
    /// while let Some(extent) = extents.next_extent()? {
    ///     if let Err(TrySendError::Full(extent)) = sender.try_send(extent) {
    ///         // the receiver is slow: it may take long until there is room
    ///         extents.receive_all();
    ///         sender.send(extent)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn ask_ahead(mut self) -> Self {
        self.requests.asks_ahead = true;
        self
    }

    /// Receives all answers that are due. What they hold is handed out before more is asked for.
    pub(crate) async fn receive_due(&mut self)
    where
        Driven<M>: Drive,
    {
        loop {
            self.requests.ask_later();
            let Some(side) = self.requests.awaited() else { return };
            self.wait(side).await;
        }
    }

    /// The next extent; `None` when the whole range has been covered.
    pub(crate) async fn extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError>
    where
        Driven<M>: Drive,
    {
        loop {
            match self.step()? {
                SurveyStep::Ready(extent) => return Ok(extent),
                step => self.carry_out(step).await,
            }
        }
    }

    /// Carries out a step that moves bytes.
    pub(super) async fn carry_out(&mut self, step: SurveyStep)
    where
        Driven<M>: Drive,
    {
        match step {
            SurveyStep::Ready(_) => {}
            SurveyStep::Wait(side) => self.wait(side).await,
            SurveyStep::Send(side) => {
                if let Err(error) = self.surveyor.connection(side).io.send().await {
                    self.requests.fail(error.into());
                }
            }
        }
    }

    /// Waits for the next event of a connection, and takes it.
    async fn wait(&mut self, side: SurveySide)
    where
        Driven<M>: Drive,
    {
        let Self { surveyor, requests } = self;
        let mut admit = |offer: &ChunkOffer| requests.admit(side, offer);
        let event = surveyor.connection(side).io.event(&mut admit).await;
        requests.take(side, event);
    }

    /// Decides the next step. A caller that stops waiting and asks again gets the same one.
    pub(super) fn step(&mut self) -> Result<SurveyStep, SurveyorError> {
        let Self { surveyor, requests } = self;
        loop {
            if requests.is_asking
                && let Some(step) = requests.ask_all(surveyor)
            {
                return Ok(step);
            }
            let awaited = requests.awaited();
            if let Some(side) = awaited.filter(|_| !requests.asks_ahead || requests.failure.is_some()) {
                return Ok(SurveyStep::Wait(side));
            }
            if let Some(error) = requests.failure.take() {
                return Err(error);
            }
            if let Some(extent) = requests.survey.next_extent()? {
                return Ok(SurveyStep::Ready(Some(extent)));
            }
            if let Some(side) = awaited {
                return Ok(SurveyStep::Wait(side));
            }
            if !requests.has_asked {
                requests.survey.check_complete()?;
                return Ok(SurveyStep::Ready(None));
            }
            (requests.is_asking, requests.has_asked) = (true, false);
        }
    }
}

impl SurveyRequests {
    /// Over connections that may still have something in flight.
    pub(super) fn new(survey: Survey, is_busy: bool) -> Self {
        Self {
            survey,
            sent: VecDeque::new(),
            held: None,
            is_asking: false,
            has_asked: true,
            asks_ahead: false,
            failure: None,
            undrained: if is_busy { BOTH.to_vec() } else { Vec::new() },
        }
    }

    /// Asks for all that may be asked for now. Returns a step that comes before any extent.
    fn ask_all<M>(&mut self, surveyor: &mut SurveyorOver<M>) -> Option<SurveyStep> {
        match self.ask(surveyor) {
            Ok(None) => self.is_asking = false,
            Ok(Some(_)) if self.asks_ahead && self.awaited().is_some() => self.ask_later(),
            Ok(Some(full)) => return Some(SurveyStep::Wait(full)),
            Err(error) => self.fail(error),
        }
        // otherwise they are sent by the wait that follows
        let Sent { side, .. } = *self.sent.back().filter(|_| self.asks_ahead)?;
        surveyor.connection(side).io.connection.has_output().then_some(SurveyStep::Send(side))
    }

    /// Hands out what is there before more is asked for.
    const fn ask_later(&mut self) {
        (self.is_asking, self.has_asked) = (false, true);
    }

    /// The connection whose next event is awaited.
    fn awaited(&self) -> Option<SurveySide> {
        self.undrained.first().copied().or_else(|| self.sent.front().map(|oldest| oldest.side))
    }

    /// Starts all requests that may be sent now. Returns `Some` if an event of a connection must be
    /// awaited before: it is full, or the next request goes to the other one. Only one connection
    /// has requests in flight, since the events of one alone are received: a server with one thread
    /// would wait for the other to take an answer.
    fn ask<M>(&mut self, surveyor: &mut SurveyorOver<M>) -> Result<Option<SurveySide>, SurveyorError> {
        loop {
            // before a request is taken of the survey, since there is no way to give one back
            if let Some(full) = BOTH.into_iter().find(|&side| is_full(surveyor.connection(side).session())) {
                return Ok(Some(full));
            }
            let next = self.held.take().map_or_else(|| self.survey.next_request(), |held| Ok(Some(held)));
            let Some(request) = next? else { return Ok(None) };
            self.has_asked = true;
            let id = request.id();
            if surveyor.assumes_data {
                self.survey.reply_failed(id)?;
                continue;
            }
            let (side, status) = route(surveyor, &request);
            if let Some(other) = surveyor.busy_beside(side) {
                self.held = Some(request);
                return Ok(Some(other));
            }
            match surveyor.connection(side).queue(|session| session.start_block_status(&status)) {
                Ok(cookie) => self.sent.push_back(Sent { side, cookie, id }),
                Err(error) => {
                    self.survey.reply_failed(id).ok();
                    return Err(error.into());
                }
            }
        }
    }

    /// Whether to take a chunk that came on this connection.
    fn admit(&mut self, side: SurveySide, offer: &ChunkOffer) -> Admission {
        let Some((_, id)) = self.place(side, offer.cookie) else { return Admission::Drain };
        self.survey.admit(id, offer.length)
    }

    /// Takes the outcome of a wait for this connection.
    fn take(&mut self, side: SurveySide, event: Result<Option<Event>, Error>) {
        if !self.undrained.is_empty() {
            if !matches!(event, Ok(Some(_))) {
                self.undrained.retain(|&undrained| undrained != side);
            }
            // the first error says why
            self.failure = self.failure.take().or(event.err().map(SurveyorError::from));
            return;
        }
        let taken = match event {
            Ok(Some(event)) => self.answer(side, event),
            Ok(None) => Err(Error::GivenUp.into()),
            Err(error) => Err(error.into()),
        };
        taken.unwrap_or_else(|error| self.fail(error));
    }

    /// Gives an event to the survey. What belongs to a request that is over already is let go.
    fn answer(&mut self, side: SurveySide, event: Event) -> Result<(), SurveyorError> {
        let Some((place, id)) = self.place(side, event.cookie()) else { return Ok(()) };
        if event.is_last() {
            self.sent.remove(place);
            self.is_asking |= self.asks_ahead;
        }
        match event {
            Event::Status { payload, .. } => {
                if let Err(fault) = self.survey.chunk(id, payload) {
                    self.sent.remove(place);
                    return Err(fault.into());
                }
            }
            Event::Drained { .. } | Event::Read { .. } => {}
            Event::Done { .. } => self.survey.reply_done(id)?,
            // the survey notices the missing chunk itself, and knows the context's name
            Event::Failed { error, .. } if matches!(error.fault, RequestFault::MissingContext(_)) => {
                self.survey.reply_done(id)?;
            }
            // the survey asks again a few times, unless the server is going down
            Event::Failed { error, .. } => {
                if self.survey.reply_failed(id).is_err() || error.is_shutdown() {
                    return Err(Error::from(error).into());
                }
            }
        }
        Ok(())
    }

    /// The survey has failed: no answer is of interest any more, but all of them are read.
    fn fail(&mut self, error: SurveyorError) {
        self.is_asking = false;
        // the request that is held was not sent: it is the first of a caller that goes on
        for Sent { id, .. } in self.sent.drain(..) {
            self.survey.reply_failed(id).ok();
        }
        self.failure = Some(error);
        self.undrained = BOTH.to_vec();
    }

    /// The survey's request that a reply on this connection belongs to, and its place.
    fn place(&self, side: SurveySide, cookie: Cookie) -> Option<(usize, RequestId)> {
        let place = self.sent.iter().position(|sent| sent.side == side && sent.cookie == cookie)?;
        self.sent.get(place).map(|sent| (place, sent.id))
    }
}

/// The connection of a request, and its form on the wire.
fn route<'a, M>(surveyor: &SurveyorOver<M>, request: &'a Request) -> (SurveySide, StatusRequest<'a>) {
    let mut status = StatusRequest::new(request.offset(), request.length());
    if request.one_extent() {
        status = status.req_one();
    }
    match (surveyor.order, &surveyor.details, request.topic()) {
        (Order::BitmapFirst, None, _) => (SurveySide::Main, status.only(request.context_ids())),
        (_, Some(_), Topic::Details) => (SurveySide::Details, status),
        _ => (SurveySide::Main, status),
    }
}

/// True if another request has to wait for one of those in flight.
fn is_full(session: Option<&Session>) -> bool {
    session.is_some_and(|session| session.in_flight() > 0 && !session.has_room(0))
}
