//! The connections of a survey, of either client, and the terms that their handshakes settled.

use nbd_extents::map::{ExtentMap, MapBuilder};
use nbd_extents::wire::Form;
use nbd_extents::{Context, Contexts, ExportParams, Negotiated, Status, Strictness, Survey, SurveyOptions};

use super::opening::negotiated;
use super::stream::SurveyRequests;
use super::{Order, SurveySide, SurveyStream, SurveyorError};
use crate::client::{ClientOver, Drive, Driven};
use crate::export::{BlockSizes, Export};
use crate::frame::Headers;
use crate::session::Session;
use crate::stats::SessionStats;

/// One connection, and the contexts that it was granted.
#[derive(Debug)]
pub(crate) struct Half<M> {
    pub(crate) connection: ClientOver<M>,
    pub(super) contexts: Negotiated,
}

impl<M> Half<M> {
    /// A connection that was opened with these contexts.
    pub(super) fn new(connection: ClientOver<M>, contexts: &Contexts) -> Result<Self, SurveyorError> {
        let contexts = negotiated(contexts, connection.export())?;
        Ok(Self { connection, contexts })
    }
}

/// The connections to one export that a survey needs, opened and negotiated.
///
/// It is one, or two for a bitmap-first survey of a server that has no payload-form requests.
///
/// Named by what moves the bytes of its connections: [`Surveyor`](super::Surveyor) runs on blocking
/// clients, and `aio::Surveyor` on asynchronous ones.
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
pub struct SurveyorOver<M> {
    pub(super) order: Order,
    pub(crate) main: Half<M>,
    /// The second connection of a bitmap-first survey, for everything but the bitmaps.
    pub(crate) details: Option<Half<M>>,
    pub(super) assumes_data: bool,
}

impl<M> SurveyorOver<M> {
    /// A survey over a connection that is there already. The contexts must be those that it was
    /// opened with.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Context`](nbd_extents::SurveyError::Context) when a required context was not
    /// granted.
    pub fn over(connection: ClientOver<M>, contexts: &Contexts) -> Result<Self, SurveyorError> {
        let main = Half::new(connection, contexts)?;
        Ok(Self { order: Order::Together, main, details: None, assumes_data: false })
    }

    /// The export, as the server described it in the handshake.
    #[must_use]
    pub fn export(&self) -> &Export {
        self.main.connection.export()
    }

    /// The statistics of each connection, among them what it forgave of the envelope of replies:
    /// one, or two for a bitmap-first survey.
    pub fn connection_stats(&self) -> impl Iterator<Item = SessionStats> {
        self.sessions().map(|session| *session.stats())
    }

    /// Whether all connections were told that the export is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.both().all(|connection| connection.export().flags.is_read_only())
    }

    /// Whether the server has no block status, and all of the export is taken for data: see
    /// [`Options::assume_data`](crate::Options::assume_data).
    #[must_use]
    pub const fn assumes_data(&self) -> bool {
        self.assumes_data
    }

    /// The options for a survey of the whole export, with the terms of its connections: size, form,
    /// block size, strictness.
    ///
    /// # Errors
    ///
    /// [`SurveyError`](nbd_extents::SurveyError) for a size or block size that no survey can work
    /// with; the handshake has refused those already.
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        let export = self.export();
        let form = if export.headers == Headers::Extended { Form::Extended } else { Form::Compact };
        let mut params = ExportParams::new(export.size(), form)?.read_only(self.is_read_only());
        let blocks = self.both().filter_map(|connection| connection.export().block_size);
        if let Some(minimum) = blocks.map(BlockSizes::minimum).max() {
            params = params.min_block(minimum)?;
        }
        let is_strict = self.sessions().any(|session| session.config.strictness.is_strict());
        let strictness = if is_strict { Strictness::Strict } else { Strictness::Lenient };
        Ok(SurveyOptions::new(params).strictness(strictness))
    }

    /// Starts a survey in the order that the connections were opened for. Nothing is asked before
    /// the stream is read.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Writable`](nbd_extents::SurveyError::Writable) for a writable export that
    /// `options` do not allow,
    /// [`SurveyError::NotBitmapFirst`](nbd_extents::SurveyError::NotBitmapFirst) when there is no
    /// bitmap to ask first.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<SurveyStream<'_, M>, SurveyorError> {
        let options = if self.assumes_data { options.max_retries(0).safe_on_failure() } else { options };
        let main = self.main.contexts.clone();
        let assumes_allocation = self.assumes_data && main.id_of(&Context::Allocation).is_some();
        let survey = if self.order == Order::Together || assumes_allocation {
            Survey::together(options, main)?
        } else {
            let (bitmaps, details) = match &self.details {
                Some(details) => (main, details.contexts.clone()),
                None => main.split(),
            };
            Survey::bitmap_first(options, bitmaps, details)?
        };
        let is_busy = self.both().any(|connection| connection.in_flight() > 0);
        Ok(SurveyStream { surveyor: self, requests: SurveyRequests::new(survey, is_busy) })
    }

    pub(crate) fn both(&self) -> impl Iterator<Item = &ClientOver<M>> {
        core::iter::once(&self.main).chain(&self.details).map(|half| &half.connection)
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.both().filter_map(ClientOver::session)
    }

    /// The connection beside this one, if it has requests in flight.
    pub(super) fn busy_beside(&self, side: SurveySide) -> Option<SurveySide> {
        let details = &self.details.as_ref()?.connection;
        let (other, connection) = match side {
            SurveySide::Main => (SurveySide::Details, details),
            SurveySide::Details => (SurveySide::Main, &self.main.connection),
        };
        (connection.in_flight() > 0).then_some(other)
    }

    pub(crate) fn connection(&mut self, side: SurveySide) -> &mut ClientOver<M> {
        match (side, &mut self.details) {
            (SurveySide::Details, Some(details)) => &mut details.connection,
            _ => &mut self.main.connection,
        }
    }

    /// The map of the whole export. It is whole with the last answer, whatever becomes of the
    /// goodbye.
    pub(crate) async fn into_map(mut self) -> Result<ExtentMap<Status>, SurveyorError>
    where
        Driven<M>: Drive,
    {
        let options = self.survey_options()?;
        let mut map = MapBuilder::covering(0..self.export().size());
        let mut extents = self.survey(options)?.ask_ahead();
        while let Some(extent) = extents.extent().await? {
            map.push(extent)?;
        }
        self.end().await.ok();
        Ok(map.finish()?)
    }

    /// The connection that the bitmaps were asked on; the other one, if there is one, is ended.
    pub(crate) async fn into_main(self) -> ClientOver<M>
    where
        Driven<M>: Drive,
    {
        if let Some(Half { mut connection, .. }) = self.details {
            connection.io.say_goodbye().await.ok();
        }
        self.main.connection
    }

    /// Says goodbye on all connections, also where one of them fails.
    pub(crate) async fn end(mut self) -> Result<(), SurveyorError>
    where
        Driven<M>: Drive,
    {
        let mut ended = self.main.connection.io.say_goodbye().await;
        if let Some(details) = &mut self.details {
            ended = details.connection.io.say_goodbye().await.and(ended);
        }
        Ok(ended?)
    }
}
