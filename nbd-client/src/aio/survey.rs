//! Surveys for asynchronous programs: the same book-keeping as in the blocking [`Surveyor`](crate::Surveyor), another way to wait.

use nbd_extents::{
    Admission, Contexts, Extent, Negotiated, Status, Strictness, Survey, SurveyOptions, SurveyStats,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::BoxedStream;
use super::connection::Connection;
use crate::client::Options;
use crate::error::Error;
use crate::export::Export;
use crate::session::ChunkOffer;
use crate::survey::{
    Asked, Order, Side, SurveyorError, asking_for, check_agreement, negotiated, second, survey_options,
};
use crate::uri::Uri;

/// The connections to one export that a survey needs: see [`Surveyor`](crate::Surveyor), whose words are the same.
///
/// ```no_run
/// use nbd_client::aio::AsyncSurveyor;
/// use nbd_client::{Options, Order};
/// use nbd_extents::{Context, Contexts};
///
/// # let _ = async {
/// let wanted = Contexts::new().require(Context::Allocation)?.require(Context::bitmap("b0"))?;
/// let uri = "nbd+unix:///?socket=/run/backup.sock".parse()?;
/// let mut surveyor = AsyncSurveyor::connect(&uri, &Options::new(), &wanted, Order::Together).await?;
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
pub struct AsyncSurveyor<S = BoxedStream> {
    order: Order,
    strictness: Strictness,
    main: Part<S>,
    /// The second connection of a bitmap-first survey, for everything but the bitmaps.
    details: Option<Part<S>>,
}

#[derive(Debug)]
struct Part<S> {
    connection: Connection<S>,
    contexts: Negotiated,
}

impl Part<BoxedStream> {
    async fn open(uri: &Uri, options: &Options, contexts: &Contexts) -> Result<Self, SurveyorError> {
        let connection = Connection::connect(uri, &asking_for(options, contexts)).await?;
        Ok(Self { contexts: negotiated(contexts, connection.export())?, connection })
    }
}

impl AsyncSurveyor<BoxedStream> {
    /// Connects to the server of a URI and negotiates `contexts`, on one connection or, for [`Order::BitmapFirst`] with a server that has no
    /// payload-form requests, on two.
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
        let strictness = options.strictness;
        if order == Order::BitmapFirst && !options.extended_headers {
            return Self::connect_twice(uri, options, contexts).await;
        }
        let main = Part::open(uri, options, contexts).await?;
        if order == Order::Together || main.connection.export().payload_status() {
            return Ok(Self { order, strictness, main, details: None });
        }
        // without the payload form each connection answers for all its contexts, so there are two with one half each
        main.connection.disconnect().await?;
        Self::connect_twice(uri, options, contexts).await
    }

    async fn connect_twice(uri: &Uri, options: &Options, contexts: &Contexts) -> Result<Self, SurveyorError> {
        let main = Part::open(uri, options, &contexts.bitmaps()).await?;
        let details = Part::open(uri, options, &contexts.details()).await.map_err(second)?;
        check_agreement(main.connection.export(), details.connection.export())?;
        let strictness = options.strictness;
        Ok(Self { order: Order::BitmapFirst, strictness, main, details: Some(details) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncSurveyor<S> {
    /// A survey over a connection that is there already. The contexts must be those that it was opened with.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Context`](nbd_extents::SurveyError::Context) when a required context was not granted.
    pub fn over(connection: Connection<S>, contexts: &Contexts) -> Result<Self, SurveyorError> {
        let contexts = negotiated(contexts, connection.export())?;
        let main = Part { connection, contexts };
        Ok(Self { order: Order::Together, strictness: Strictness::default(), main, details: None })
    }

    /// What the handshake found out about the export.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.main.connection.export()
    }

    /// The options for a survey of the whole export, with what this connection settled: size, form, block size, strictness.
    ///
    /// # Errors
    ///
    /// As [`Surveyor::survey_options`](crate::Surveyor::survey_options).
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        let details = self.details.as_ref().map(|details| details.connection.export());
        survey_options(self.export(), details, self.strictness)
    }

    /// Starts a survey. Nothing is asked before the first extent is awaited.
    ///
    /// # Errors
    ///
    /// As [`Surveyor::survey`](crate::Surveyor::survey).
    pub fn survey(&mut self, options: SurveyOptions) -> Result<AsyncExtents<'_, S>, SurveyorError> {
        let details = self.details.as_ref().map(|details| details.contexts.clone());
        let asked = Asked::new(self.order, options, self.main.contexts.clone(), details)?;
        Ok(AsyncExtents { surveyor: self, asked })
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Connection::disconnect`].
    pub async fn disconnect(self) -> Result<(), SurveyorError> {
        self.main.connection.disconnect().await?;
        if let Some(details) = self.details {
            details.connection.disconnect().await?;
        }
        Ok(())
    }

    fn connection(&mut self, side: Side) -> &mut Connection<S> {
        match (side, &mut self.details) {
            (Side::Details, Some(details)) => &mut details.connection,
            _ => &mut self.main.connection,
        }
    }
}

/// The merged extents of a survey: see [`AsyncSurveyor::survey`]. Awaiting them asks the server, several requests ahead.
///
/// Dropped before its end, it leaves replies to come, which the next survey on the same connections reads over.
#[derive(Debug)]
pub struct AsyncExtents<'a, S = BoxedStream> {
    surveyor: &'a mut AsyncSurveyor<S>,
    asked: Asked,
}

impl<S> AsyncExtents<'_, S> {
    /// The survey itself: its position, what it cost and what it forgave.
    #[must_use]
    pub const fn as_survey(&self) -> &Survey {
        &self.asked.survey
    }

    /// What the survey has cost and forgiven so far.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        self.asked.survey.stats()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncExtents<'_, S> {
    /// The next extent. `None` comes only when the whole range has been covered; every other end is an error. A call that is dropped loses
    /// nothing: the next one goes on.
    ///
    /// # Errors
    ///
    /// As of the blocking [`Extents`](crate::Extents).
    pub async fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            if let Some(extent) = self.asked.survey.next_extent()? {
                return Ok(Some(extent));
            }
            self.ask().await?;
            let Some(side) = self.asked.oldest() else {
                self.asked.survey.check_complete()?;
                return Ok(None);
            };
            self.receive(side).await?;
        }
    }

    /// Waits for one event.
    async fn receive(&mut self, side: Side) -> Result<(), SurveyorError> {
        let asked = &mut self.asked;
        let mut admit = |offer: &ChunkOffer| asked.admit(side, offer);
        match self.surveyor.connection(side).next_event(&mut admit).await {
            Ok(Some(event)) => {
                let taken = self.asked.take(side, event).map(drop);
                if taken.is_err() {
                    self.wind_down(side).await;
                }
                taken
            }
            Ok(None) => Err(self.asked.lost(Error::GivenUp)),
            Err(error) => Err(self.asked.lost(error)),
        }
    }

    /// Where the server has said that it goes down, reads over what is still to come, so that it can be told goodbye.
    async fn wind_down(&mut self, side: Side) {
        let connection = self.surveyor.connection(side);
        let mut drain = |_: &ChunkOffer| Admission::Drain;
        while connection.session().must_disconnect() && connection.in_flight() > 0 {
            if !matches!(connection.next_event(&mut drain).await, Ok(Some(_))) {
                return;
            }
        }
    }

    /// Waits while as many requests are on the wire as may be: few are allowed, or an earlier survey was dropped and left some.
    async fn make_room(&mut self) -> Result<(), SurveyorError> {
        for side in [Side::Main, Side::Details] {
            while self.surveyor.connection(side).is_full() {
                self.receive(side).await?;
            }
        }
        Ok(())
    }

    /// Starts all that may be asked now.
    async fn ask(&mut self) -> Result<(), SurveyorError> {
        loop {
            // before a request is taken, which a call that is dropped must not lose
            self.make_room().await?;
            let Some(request) = self.asked.survey.next_request()? else { return Ok(()) };
            let (side, status) = self.asked.route(&request);
            let connection = self.surveyor.connection(side);
            match connection.start(|session| session.start_block_status(&status)) {
                Ok(cookie) => self.asked.sent(&request, side, cookie),
                Err(error) => {
                    self.asked.not_sent(&request);
                    return Err(error.into());
                }
            }
        }
    }
}
