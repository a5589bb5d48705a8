//! From a real server to merged extents: the connections that a survey needs, and the stream that
//! comes out of them.

mod driver;
mod opening;

use nbd_extents::map::ExtentMap;
use nbd_extents::stream::ExtentStream;
use nbd_extents::{
    Admission, ContextError, Contexts, Extent, Status, StreamError, Strictness, Survey, SurveyError,
    SurveyOptions, SurveyStats,
};

pub(crate) use driver::SurveyDriver;
pub(crate) use opening::{Halves, Opening, OpeningStep, Surveyed};

use crate::client::Client;
use crate::error::{Error, ErrorClass};
use crate::export::Export;
use crate::options::Options;
use crate::session::ChunkOffer;
use crate::stats::SessionStats;
use crate::transport::{Socket, Transport};
use crate::uri::Uri;

/// In which order a survey asks. See [`Survey::together`] and [`Survey::bitmap_first`].
///
/// ```no_run
/// use nbd_client::{Options, Surveyor};
/// use nbd_client::survey::Order;
/// use nbd_extents::{Context, Contexts};
///
/// // Most of a disk is clean as a rule: the allocation of its dirty parts alone is soon told.
/// let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
/// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
/// let surveyor = Surveyor::connect(&uri, &Options::new(), &wanted, Order::BitmapFirst)?;
/// # surveyor.disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// All contexts in each request.
    #[default]
    Together,
    /// The dirty bitmaps over the whole range, the rest only inside dirty ranges.
    BitmapFirst,
}

/// One of the connections of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SurveySide {
    Main,
    /// The second connection of a bitmap-first survey.
    Details,
}

/// The map of an export: connects, surveys all of it, and says goodbye.
///
/// # Errors
///
/// As [`Surveyor::connect`] and [`Surveyor::survey`].
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_extents::{Context, Contexts};
///
/// let wanted = Contexts::new().require(Context::Allocation)?;
/// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
/// let map = nbd_client::survey::map(&uri, &Options::new(), &wanted)?;
/// println!("{} extents", map.run_count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn map(uri: &Uri, options: &Options, contexts: &Contexts) -> Result<ExtentMap<Status>, SurveyorError> {
    let mut surveyor = Surveyor::connect(uri, options, contexts, Order::Together)?;
    let settled = surveyor.survey_options()?;
    let size = surveyor.export().size();
    let map = ExtentMap::covering(surveyor.survey(settled)?, 0..size)?;
    surveyor.disconnect()?;
    Ok(map)
}

/// Why a survey of a server failed.
///
/// ```
/// use nbd_client::{ErrorClass, Options, Surveyor};
/// use nbd_client::survey::Order;
/// use nbd_extents::{Context, Contexts};
///
/// let wanted = Contexts::new().require(Context::Allocation)?;
/// let uri = "nbd+unix:///?socket=/nowhere/nbd.sock".parse()?;
/// let error = Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together).unwrap_err();
/// assert_eq!(error.class(), ErrorClass::Connection);
/// assert!(error.to_string().starts_with("cannot connect to "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyorError {
    /// The connection or a request failed.
    #[error(transparent)]
    Client(#[from] Error),
    /// The survey failed: a reply breaks the protocol, or something asked for is not there.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A bitmap-first survey of a server without payload-form requests needs a second connection at
    /// the same time, and it failed. The server must serve more than one client, and go on when one
    /// has left (`qemu-nbd --shared=2 --persistent`).
    #[error("asking the bitmap first needs a second connection here (qemu-nbd --shared=2 takes two): {0}")]
    SecondConnection(Error),
    /// The two connections of a bitmap-first survey do not agree about the export.
    #[error("two connections to one export disagree about its {what}")]
    Disagreement {
        /// About what: its size, or its headers.
        what: &'static str,
    },
}

impl From<ContextError> for SurveyorError {
    fn from(error: ContextError) -> Self {
        Self::Survey(error.into())
    }
}

impl From<StreamError> for SurveyorError {
    fn from(error: StreamError) -> Self {
        Self::Survey(error.into())
    }
}

impl SurveyorError {
    /// The kind of failure.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Client(error) | Self::SecondConnection(error) => error.class(),
            Self::Disagreement { .. } => ErrorClass::Server,
            Self::Survey(SurveyError::Context(ContextError::Missing { .. })) => ErrorClass::NotThere,
            Self::Survey(SurveyError::SizeChanged { .. }) => ErrorClass::NotThere,
            Self::Survey(
                SurveyError::Reply { .. }
                | SurveyError::TooLarge { .. }
                | SurveyError::BlockSize { .. }
                | SurveyError::OverBudget { .. }
                | SurveyError::Stalled { .. }
                | SurveyError::Context(ContextError::SharedId { .. } | ContextError::Twice { .. }),
            ) => ErrorClass::Server,
            Self::Survey(_) => ErrorClass::Other,
        }
    }
}

/// The connections to one export that a survey needs, opened and negotiated: one, or two for a
/// bitmap-first survey of a server that has no payload-form requests.
///
/// ```no_run
/// use nbd_client::{Options, Surveyor};
/// use nbd_client::survey::Order;
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents::{Context, Contexts};
///
/// let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
/// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
/// let mut surveyor = Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together)?;
/// let options = surveyor.survey_options()?;
/// let extents = surveyor.survey(options)?;
/// extents.for_each(|extent| println!("{extent}"))?;
/// surveyor.disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Surveyor<T = Socket> {
    halves: Halves<Client<T>>,
}

impl<T: Transport> Surveyed for Client<T> {
    fn export(&self) -> &Export {
        self.export()
    }

    fn strictness(&self) -> Strictness {
        self.strictness()
    }

    fn session_stats(&self) -> SessionStats {
        self.stats()
    }
}

impl Surveyor<Socket> {
    /// Connects to the server of a URI and negotiates `contexts`. Contexts named in `options` are
    /// not asked for: `contexts` says them all.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect`]; a required context that is missing is one of them, and
    /// says what the server offers.
    pub fn connect(
        uri: &Uri,
        options: &Options,
        contexts: &Contexts,
        order: Order,
    ) -> Result<Self, SurveyorError> {
        Self::open(options, contexts, order, |options| Client::connect(uri, options))
    }
}

impl<T: Transport> Surveyor<T> {
    /// As [`connect`](Surveyor::connect), over connections that `open` makes, given the options
    /// with the contexts to ask for: once, or up to three times for [`Order::BitmapFirst`].
    ///
    /// # Errors
    ///
    /// Those of `open`, and of the negotiation.
    pub fn open(
        options: &Options,
        contexts: &Contexts,
        order: Order,
        mut open: impl FnMut(&Options) -> Result<Client<T>, Error>,
    ) -> Result<Self, SurveyorError> {
        let mut opening = Opening::new(options, contexts, order);
        loop {
            match opening.next()? {
                OpeningStep::Open(options) => opening.opened(open(&options))?,
                OpeningStep::Close(client) => client.disconnect()?,
                OpeningStep::Done(halves) => return Ok(Self { halves: *halves }),
            }
        }
    }

    /// A survey over a connection that is there already. The contexts must be those that it was
    /// opened with.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Context`] when a required context was not granted.
    pub fn over(client: Client<T>, contexts: &Contexts) -> Result<Self, SurveyorError> {
        Ok(Self { halves: Halves::over(client, contexts)? })
    }

    /// What the handshake found out about the export.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.halves.main.connection.export()
    }

    /// The statistics of each connection, among them what it forgave of the envelope of replies: one, or
    /// two for a bitmap-first survey.
    pub fn connection_stats(&self) -> impl Iterator<Item = SessionStats> {
        self.halves.both().map(Surveyed::session_stats)
    }

    /// Whether all connections were told that the export is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.halves.is_read_only()
    }

    /// Whether the server has no block status, and all of the export is taken for data: see
    /// [`Options::assume_data`](crate::Options::assume_data).
    #[must_use]
    pub const fn assumes_data(&self) -> bool {
        self.halves.assumes_data
    }

    /// The options for a survey of the whole export, with what this connection settled: size, form,
    /// block size, strictness.
    ///
    /// # Errors
    ///
    /// [`SurveyError`] for a size or block size that no survey can work with; the handshake has
    /// refused those already.
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        self.halves.survey_options()
    }

    /// Starts a survey. Nothing is asked before the stream is read.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Writable`] for a writable export that `options` do not allow,
    /// [`SurveyError::NotBitmapFirst`] when there is no bitmap to ask first.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<SurveyStream<'_, T>, SurveyorError> {
        let driver = SurveyDriver::new(&self.halves, options)?;
        Ok(SurveyStream { surveyor: self, driver })
    }

    /// The connection that the bitmaps were asked on, for reading what the survey has found; the
    /// other one, if there is one, is ended. Reading on the same connection is reading the same
    /// export.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::disconnect`].
    pub fn into_client(self) -> Result<Client<T>, SurveyorError> {
        self.halves.details.map_or(Ok(()), |details| details.connection.disconnect())?;
        Ok(self.halves.main.connection)
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::disconnect`].
    pub fn disconnect(self) -> Result<(), SurveyorError> {
        Ok(self.into_client()?.disconnect()?)
    }
}

/// The merged extents of a survey: see [`Surveyor::survey`]. Reading it asks the server.
///
/// It asks in rounds of as many requests as [`SurveyOptions::in_flight`] allows. While the caller
/// has control nothing is in flight, so a caller that stops, or drops the stream before its end,
/// leaves no server waiting to send.
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
pub struct SurveyStream<'a, T = Socket> {
    surveyor: &'a mut Surveyor<T>,
    driver: SurveyDriver,
}

impl<T> SurveyStream<'_, T> {
    /// The survey itself: its position, what it cost and what it forgave.
    #[must_use]
    pub const fn as_survey(&self) -> &Survey {
        &self.driver.survey
    }

    /// The cost of the survey, and what it forgave.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        self.driver.survey.stats()
    }
}

impl<T: Transport> SurveyStream<'_, T> {
    /// Asks for all that may be asked now and waits for all of the answers. `false` when there was
    /// nothing to ask.
    fn round(&mut self) -> Result<bool, SurveyorError> {
        let before = self.driver.asked();
        while let Some(request) = self.driver.next_request()? {
            let (side, status) = self.driver.route(&request);
            // few requests may be allowed
            while self.client(side).in_flight() > 0 && self.client(side).is_full() {
                self.receive(side)?;
            }
            let started = self.client(side).start_block_status(&status);
            self.driver.sent(&request, side, started)?;
        }
        while let Some(side) = self.driver.oldest() {
            self.receive(side)?;
        }
        Ok(self.driver.asked() > before)
    }

    /// Waits for one event.
    fn receive(&mut self, side: SurveySide) -> Result<(), SurveyorError> {
        let driver = &mut self.driver;
        let client = self.surveyor.halves.connection(side);
        let event = client.next_event(&mut |offer: &ChunkOffer| driver.admit(side, offer));
        driver.take(side, event)
    }

    /// Reads over the answers to come, so that nothing is in flight after an error either.
    fn wind_down(&mut self) {
        self.driver.give_up();
        let mut drain = |_: &ChunkOffer| Admission::Drain;
        for side in [SurveySide::Main, SurveySide::Details] {
            while matches!(self.client(side).next_event(&mut drain), Ok(Some(_))) {}
        }
    }

    fn client(&mut self, side: SurveySide) -> &mut Client<T> {
        self.surveyor.halves.connection(side)
    }
}

impl<T: Transport> ExtentStream for SurveyStream<'_, T> {
    type Status = Status;
    type Error = SurveyorError;

    /// The next extent. The end comes only when the whole range has been covered; every other end
    /// is an error.
    fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            if let Some(extent) = self.driver.survey.next_extent()? {
                return Ok(Some(extent));
            }
            let round = self.round();
            if round.is_err() {
                self.wind_down();
            }
            if !round? {
                self.driver.survey.check_complete()?;
                return Ok(None);
            }
        }
    }
}
