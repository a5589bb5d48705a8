//! Surveys for asynchronous programs: the rules of the blocking [`Surveyor`](crate::Surveyor), and
//! another way to wait.

use nbd_extents::map::{ExtentMap, MapBuilder};
use nbd_extents::{Admission, Contexts, Extent, Status, Strictness, Survey, SurveyOptions, SurveyStats};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::BoxedStream;
use super::driver::Driver;
use crate::export::Export;
use crate::options::Options;
use crate::session::{ChunkOffer, Session};
use crate::stats::SessionStats;
use crate::survey::{Halves, Opening, OpeningStep, Order, SurveyDriver, SurveySide, Surveyed, SurveyorError};
use crate::uri::Uri;

/// The map of an export: connects, surveys all of it, and says goodbye. See
/// [`survey::map`](crate::survey::map).
///
/// # Errors
///
/// As [`Surveyor::connect`] and [`Surveyor::survey`].
pub async fn map(
    uri: &Uri,
    options: &Options,
    contexts: &Contexts,
) -> Result<ExtentMap<Status>, SurveyorError> {
    let mut surveyor = Surveyor::connect(uri, options, contexts, Order::Together).await?;
    let settled = surveyor.survey_options()?;
    let mut map = MapBuilder::covering(0..surveyor.export().size());
    let mut extents = surveyor.survey(settled)?;
    while let Some(extent) = extents.next_extent().await? {
        map.push(extent)?;
    }
    surveyor.disconnect().await?;
    Ok(map.finish()?)
}

/// The connections to one export that a survey needs: see [`Surveyor`](crate::Surveyor), whose
/// words are the same.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::Surveyor;
/// use nbd_client::survey::Order;
/// use nbd_extents::{Context, Contexts};
///
/// # let _ = async {
/// let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
/// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
/// let mut surveyor = Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together).await?;
/// let options = surveyor.survey_options()?;
/// let mut extents = surveyor.survey(options)?;
/// while let Some(extent) = extents.next_extent().await? {
///     println!("{extent}");
/// }
/// surveyor.disconnect().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # };
/// ```
#[derive(Debug)]
pub struct Surveyor<S = BoxedStream> {
    halves: Halves<Driver<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Surveyed for Driver<S> {
    fn export(&self) -> &Export {
        self.export()
    }

    fn strictness(&self) -> Strictness {
        self.session().map(Session::strictness).unwrap_or_default()
    }

    fn session_stats(&self) -> SessionStats {
        self.stats()
    }
}

impl Surveyor<BoxedStream> {
    /// Connects to the server of a URI and negotiates `contexts`, on one connection or, for
    /// [`Order::BitmapFirst`] with a server that has no payload-form requests, on two.
    ///
    /// # Errors
    ///
    /// As [`Surveyor::connect`](crate::Surveyor::connect).
    pub async fn connect(
        uri: &Uri,
        options: &Options,
        contexts: &Contexts,
        order: Order,
    ) -> Result<Self, SurveyorError> {
        let mut opening = Opening::new(options, contexts, order);
        loop {
            match opening.next()? {
                OpeningStep::Open(options) => opening.opened(Driver::connect(uri, &options).await)?,
                OpeningStep::Close(driver) => driver.disconnect().await?,
                OpeningStep::Done(halves) => return Ok(Self { halves: *halves }),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Surveyor<S> {
    /// A survey over a connection that is there already. The contexts must be those that it was
    /// opened with.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Context`](nbd_extents::SurveyError::Context) when a required context was not
    /// granted.
    pub fn over(driver: Driver<S>, contexts: &Contexts) -> Result<Self, SurveyorError> {
        Ok(Self { halves: Halves::over(driver, contexts)? })
    }

    /// What the handshake found out about the export.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.halves.main.connection.export()
    }

    /// The statistics of each connection: one, or two for a bitmap-first survey.
    pub fn connection_stats(&self) -> impl Iterator<Item = SessionStats> {
        self.halves.both().map(Surveyed::session_stats)
    }

    /// Whether all connections were told that the export is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.halves.is_read_only()
    }

    /// Whether the server has no block status, and all of the export is taken for data.
    #[must_use]
    pub const fn assumes_data(&self) -> bool {
        self.halves.assumes_data
    }

    /// The options for a survey of the whole export, with what this connection settled: size, form,
    /// block size, strictness.
    ///
    /// # Errors
    ///
    /// As [`Surveyor::survey_options`](crate::Surveyor::survey_options).
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        self.halves.survey_options()
    }

    /// Starts a survey. Nothing is asked before the first extent is awaited.
    ///
    /// # Errors
    ///
    /// As [`Surveyor::survey`](crate::Surveyor::survey).
    pub fn survey(&mut self, options: SurveyOptions) -> Result<SurveyStream<'_, S>, SurveyorError> {
        let driver = SurveyDriver::new(&self.halves, options)?;
        Ok(SurveyStream { surveyor: self, driver })
    }

    /// The connection that the bitmaps were asked on; the other one, if there is one, is ended.
    ///
    /// # Errors
    ///
    /// The errors of [`Driver::disconnect`].
    pub async fn into_driver(self) -> Result<Driver<S>, SurveyorError> {
        if let Some(details) = self.halves.details {
            details.connection.disconnect().await?;
        }
        Ok(self.halves.main.connection)
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Driver::disconnect`].
    pub async fn disconnect(self) -> Result<(), SurveyorError> {
        Ok(self.into_driver().await?.disconnect().await?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Surveyor<S> {
    /// The same as a handle for many tasks, for reading what the survey has found.
    ///
    /// # Errors
    ///
    /// As [`Self::into_driver`].
    pub async fn into_client(self) -> Result<super::Client, SurveyorError> {
        Ok(super::Client::of(self.into_driver().await?))
    }
}

/// The merged extents of a survey: see [`Surveyor::survey`]. Awaiting them asks the server, in
/// rounds of several requests.
///
/// When a call has returned, nothing is in flight. One that was dropped leaves replies to come,
/// which the next call reads; until then the server may be waiting to send them.
#[derive(Debug)]
pub struct SurveyStream<'a, S = BoxedStream> {
    surveyor: &'a mut Surveyor<S>,
    driver: SurveyDriver,
}

impl<S> SurveyStream<'_, S> {
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

impl<S: AsyncRead + AsyncWrite + Unpin> SurveyStream<'_, S> {
    /// The next extent. `None` comes only when the whole range has been covered; every other end is
    /// an error. A call that is dropped loses nothing: the next one goes on.
    ///
    /// # Errors
    ///
    /// As of the blocking [`SurveyStream`](crate::survey::SurveyStream).
    pub async fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            // answers to a call that was dropped, before anything is handed out
            while let Some(side) = self.driver.oldest() {
                self.receive(side).await?;
            }
            if let Some(extent) = self.driver.survey.next_extent()? {
                return Ok(Some(extent));
            }
            let round = self.round().await;
            if round.is_err() {
                self.wind_down().await;
            }
            if !round? {
                self.driver.survey.check_complete()?;
                return Ok(None);
            }
        }
    }

    /// All extents that are left.
    ///
    /// # Errors
    ///
    /// As [`Self::next_extent`].
    pub async fn collect_vec(&mut self) -> Result<Vec<Extent<Status>>, SurveyorError> {
        let mut extents = Vec::new();
        while let Some(extent) = self.next_extent().await? {
            extents.push(extent);
        }
        Ok(extents)
    }

    /// Asks for all that may be asked now and waits for all of the answers. `false` when there was
    /// nothing to ask.
    async fn round(&mut self) -> Result<bool, SurveyorError> {
        let before = self.driver.asked();
        loop {
            // before a request is taken, which a call that is dropped must not lose
            for side in [SurveySide::Main, SurveySide::Details] {
                while self.surveyor.halves.connection(side).is_full() {
                    self.receive(side).await?;
                }
            }
            let Some(request) = self.driver.next_request()? else { break };
            let (side, status) = self.driver.route(&request);
            let connection = self.surveyor.halves.connection(side);
            let started = connection.start(|session| session.start_block_status(&status));
            self.driver.sent(&request, side, started)?;
        }
        while let Some(side) = self.driver.oldest() {
            self.receive(side).await?;
        }
        Ok(self.driver.asked() > before)
    }

    /// Waits for one event.
    async fn receive(&mut self, side: SurveySide) -> Result<(), SurveyorError> {
        let driver = &mut self.driver;
        let connection = self.surveyor.halves.connection(side);
        let event = connection.next_event(&mut |offer: &ChunkOffer| driver.admit(side, offer)).await;
        driver.take(side, event)
    }

    /// Reads over the answers to come, so that nothing is in flight after an error either.
    async fn wind_down(&mut self) {
        self.driver.give_up();
        let mut drain = |_: &ChunkOffer| Admission::Drain;
        for side in [SurveySide::Main, SurveySide::Details] {
            let connection = self.surveyor.halves.connection(side);
            while matches!(connection.next_event(&mut drain).await, Ok(Some(_))) {}
        }
    }
}
