//! From a real server to merged extents: the connections that a survey needs, and the stream that comes out of them.

use nbd_extents::stream::ExtentStream;
use nbd_extents::wire::Form;
use nbd_extents::{
    Admission, Connection, ContextError, Contexts, Extent, Negotiated, Request, RequestId, Status,
    StreamError, Strictness, Survey, SurveyError, SurveyOptions, SurveyStats, Topic,
};

use crate::client::{Client, Options, StatusSink};
use crate::error::{Error, ErrorClass};
use crate::export::Export;
use crate::frame::Headers;
use crate::session::{ChunkOffer, StatusRequest};
use crate::transport::{Socket, Transport};
use crate::uri::Uri;

/// In which order a survey asks. See [`Survey::together`] and [`Survey::bitmap_first`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// All contexts in each request.
    #[default]
    Together,
    /// The dirty bitmaps over the whole range, the rest only inside dirty ranges.
    BitmapFirst,
}

/// Why a survey of a server failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyorError {
    /// The connection or a request failed.
    #[error(transparent)]
    Client(#[from] Error),
    /// The survey failed: a reply breaks the protocol, or something asked for is not there.
    #[error(transparent)]
    Survey(#[from] SurveyError),
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
            Self::Client(error) => error.class(),
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

/// The connections to one export that a survey needs, opened and negotiated: one, or two for a bitmap-first survey of a server that
/// has no payload-form requests.
///
/// ```no_run
/// use nbd_client::{Options, Order, Surveyor};
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
    order: Order,
    strictness: Strictness,
    main: Part<T>,
    /// The second connection of a bitmap-first survey, for everything but the bitmaps.
    details: Option<Part<T>>,
}

#[derive(Debug)]
struct Part<T> {
    client: Client<T>,
    contexts: Negotiated,
}

impl Surveyor<Socket> {
    /// Connects to the server of a URI and negotiates `contexts`. Contexts named in `options` are asked for as well, to no effect.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::connect`]; a required context that is missing is one of them, and says what the server offers.
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
    /// As [`connect`](Surveyor::connect), over connections that `open` makes: once, or twice for [`Order::BitmapFirst`]. It is given the options
    /// with the contexts to ask for.
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
        let mut part = |wanted: &Contexts| Part::open(options, wanted, &mut open);
        let main = part(contexts)?;
        if order == Order::Together || main.client.export().payload_status() {
            return Ok(Self { order, strictness: options.strictness_wanted(), main, details: None });
        }
        // Without the payload form each connection answers for all its contexts, so there are two with one half each.
        main.client.disconnect()?;
        let main = part(&contexts.bitmaps())?;
        let details = part(&contexts.details())?;
        let (expected, got) = (main.client.export().size, details.client.export().size);
        if expected != got {
            return Err(SurveyError::SizeChanged { expected, got }.into());
        }
        Ok(Self { order, strictness: options.strictness_wanted(), main, details: Some(details) })
    }

    /// What the handshake found out about the export.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.main.client.export()
    }

    /// The options for a survey of the whole export, with what this connection settled: size, form, block size, strictness.
    ///
    /// # Errors
    ///
    /// [`SurveyError`] for a size or block size that no survey can work with; the handshake has refused those already.
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        let export = self.export();
        let form = if export.headers == Headers::Extended { Form::Extended } else { Form::Compact };
        let mut connection = Connection::new(export.size, form)?.read_only(export.flags.is_read_only());
        if let Some(sizes) = &export.block_size {
            connection = connection.min_block(sizes.minimum())?;
        }
        Ok(SurveyOptions::new(connection).strictness(self.strictness))
    }

    /// Starts a survey. Nothing is asked before the stream is read.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Writable`] for a writable export that `options` do not allow, [`SurveyError::NotBitmapFirst`] when there is no bitmap to
    /// ask first.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<Extents<'_, T>, SurveyorError> {
        let contexts = self.main.contexts.clone();
        let survey = match (self.order, &self.details) {
            (Order::Together, _) => Survey::together(options, contexts)?,
            (Order::BitmapFirst, Some(details)) => {
                Survey::bitmap_first(options, contexts, details.contexts.clone())?
            }
            (Order::BitmapFirst, None) => {
                let (bitmaps, details) = contexts.split();
                Survey::bitmap_first(options, bitmaps, details)?
            }
        };
        Ok(Extents { surveyor: self, survey })
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::disconnect`].
    pub fn disconnect(self) -> Result<(), SurveyorError> {
        self.main.client.disconnect()?;
        self.details.map_or(Ok(()), |details| details.client.disconnect())?;
        Ok(())
    }

    /// Sends one request where its topic belongs, and feeds the reply to the survey.
    fn ask(&mut self, request: &Request, survey: &mut Survey) -> Result<(), SurveyorError> {
        let payload_form = self.order == Order::BitmapFirst && self.details.is_none();
        let client = match (&mut self.details, request.topic()) {
            (Some(details), Topic::Details) => &mut details.client,
            _ => &mut self.main.client,
        };
        let mut status = StatusRequest::new(request.offset(), request.length());
        if request.one_extent() {
            status = status.req_one();
        }
        if payload_form {
            status = status.only(request.context_ids());
        }
        let mut feed = Feed { survey, id: request.id(), failed: None };
        let asked = client.block_status(&status, &mut feed);
        let failed = feed.failed;
        if let Err(error) = asked {
            survey.reply_failed(request.id()).ok();
            return Err(error.into());
        }
        failed.map_or_else(|| survey.reply_done(request.id()), Err)?;
        Ok(())
    }
}

impl<T: Transport> Part<T> {
    fn open(
        options: &Options,
        contexts: &Contexts,
        open: &mut impl FnMut(&Options) -> Result<Client<T>, Error>,
    ) -> Result<Self, SurveyorError> {
        let mut options = options.clone();
        for (name, required) in contexts.queries() {
            options = if required { options.require_context(name) } else { options.want_context(name) };
        }
        let client = open(&options)?;
        let export = client.export();
        let granted = export.contexts.iter().map(|context| (context.id, &context.name));
        let contexts = contexts.negotiate(granted).map_err(|error| match &export.offered {
            Some(offered) => error.with_offered(offered.iter().cloned()),
            None => error,
        });
        Ok(Self { contexts: contexts.map_err(SurveyError::from)?, client })
    }
}

/// Hands the chunks of one reply to the survey. After a fault the rest of the reply is read over, so that the connection stays in step.
struct Feed<'a> {
    survey: &'a mut Survey,
    id: RequestId,
    failed: Option<SurveyError>,
}

impl StatusSink for Feed<'_> {
    fn admit(&mut self, offer: &ChunkOffer) -> Admission {
        if self.failed.is_some() {
            return Admission::Drain;
        }
        self.survey.admit(self.id, offer.length)
    }

    fn status(&mut self, _context: u32, payload: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.survey.chunk(self.id, payload).err();
        }
    }
}

/// The merged extents of a survey: see [`Surveyor::survey`]. Reading it asks the server.
#[derive(Debug)]
pub struct Extents<'a, T = Socket> {
    surveyor: &'a mut Surveyor<T>,
    survey: Survey,
}

impl<T> Extents<'_, T> {
    /// The survey itself: its position, what it cost and what it forgave.
    #[must_use]
    pub const fn as_survey(&self) -> &Survey {
        &self.survey
    }

    /// What the survey has cost and forgiven so far.
    #[must_use]
    pub fn stats(&self) -> SurveyStats {
        self.survey.stats()
    }
}

impl<T: Transport> ExtentStream for Extents<'_, T> {
    type Status = Status;
    type Error = SurveyorError;

    /// The next extent. The end comes only when the whole range has been covered; every other end is an error.
    fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            if let Some(extent) = self.survey.next_extent()? {
                return Ok(Some(extent));
            }
            let Some(request) = self.survey.next_request()? else {
                self.survey.check_complete()?;
                return Ok(None);
            };
            self.surveyor.ask(&request, &mut self.survey)?;
        }
    }
}
