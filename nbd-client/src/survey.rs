//! From a real server to merged extents: the connections that a survey needs, and the stream that comes out of them.

use nbd_extents::stream::ExtentStream;
use nbd_extents::wire::Form;
use nbd_extents::{
    Admission, Connection, ContextError, Contexts, Extent, Negotiated, Request, RequestId, Status,
    StreamError, Strictness, Survey, SurveyError, SurveyOptions, SurveyStats, Topic,
};

use crate::client::{Client, Options};
use crate::error::{Error, ErrorClass};
use crate::export::{BlockSize, Export};
use crate::frame::Headers;
use crate::session::{ChunkOffer, Event, RequestError, StatusRequest};
use crate::stats::SessionStats;
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
    /// A bitmap-first survey of a server without payload-form requests needs a second connection at the same time, and it failed. The server must
    /// serve more than one client, and go on when one has left (`qemu-nbd --shared=2 --persistent`).
    #[error("asking the bitmap first needs a second connection here (qemu-nbd --shared=2 takes two): {0}")]
    SecondConnection(Error),
    /// The two connections of a bitmap-first survey do not agree about the export.
    #[error("two connections to one export disagree about its {what}")]
    Disagreement {
        /// About what: its size, or its headers.
        what: &'static str,
    },
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
    /// Connects to the server of a URI and negotiates `contexts`. Contexts named in `options` are not asked for: `contexts` says them all.
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
        if order == Order::BitmapFirst && !options.extended_headers {
            let main = part(&contexts.bitmaps())?;
            let details = part(&contexts.details()).map_err(second)?;
            return Self::of_two(options, main, details);
        }
        let main = part(contexts)?;
        if order == Order::Together || main.client.export().payload_status() {
            return Ok(Self { order, strictness: options.strictness, main, details: None });
        }
        // Without the payload form each connection answers for all its contexts, so there are two with one half each. The first one is left
        // only when the next is there, since some servers go when nobody is connected.
        let bitmaps = part(&contexts.bitmaps()).map_err(second)?;
        main.client.disconnect()?;
        let details = part(&contexts.details()).map_err(second)?;
        Self::of_two(options, bitmaps, details)
    }

    /// A bitmap-first survey over two connections to what must be the same export.
    fn of_two(options: &Options, main: Part<T>, details: Part<T>) -> Result<Self, SurveyorError> {
        let (one, other) = (main.client.export(), details.client.export());
        if one.size != other.size {
            return Err(SurveyorError::Disagreement { what: "size" });
        }
        if one.headers != other.headers {
            return Err(SurveyorError::Disagreement { what: "headers" });
        }
        let strictness = options.strictness;
        Ok(Self { order: Order::BitmapFirst, strictness, main, details: Some(details) })
    }

    /// What the handshake found out about the export.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.main.client.export()
    }

    /// What each connection counted so far, and what it forgave of the envelope of replies: one, or two for a bitmap-first survey.
    pub fn connection_stats(&self) -> impl Iterator<Item = &SessionStats> {
        core::iter::once(&self.main).chain(&self.details).map(|part| part.client.stats())
    }

    /// Whether all connections were told that the export is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.exports().all(|export| export.flags.is_read_only())
    }

    fn exports(&self) -> impl Iterator<Item = &Export> {
        core::iter::once(&self.main).chain(&self.details).map(|part| part.client.export())
    }

    /// The options for a survey of the whole export, with what this connection settled: size, form, block size, strictness.
    ///
    /// # Errors
    ///
    /// [`SurveyError`] for a size or block size that no survey can work with; the handshake has refused those already.
    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        let export = self.export();
        let form = if export.headers == Headers::Extended { Form::Extended } else { Form::Compact };
        let mut connection = Connection::new(export.size, form)?.read_only(self.is_read_only());
        if let Some(minimum) =
            self.exports().filter_map(|export| export.block_size).map(BlockSize::minimum).max()
        {
            connection = connection.min_block(minimum)?;
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
        let failed = feed(client, &status, request.id(), survey);
        if let Err(SurveyorError::Client(_)) = &failed {
            survey.reply_failed(request.id()).ok();
        }
        failed
    }
}

/// Sends one request and gives its reply to the survey, payload by payload. After a fault the rest of the reply is read over, so that the connection
/// stays in step.
fn feed<T: Transport>(
    client: &mut Client<T>,
    status: &StatusRequest<'_>,
    id: RequestId,
    survey: &mut Survey,
) -> Result<(), SurveyorError> {
    client.start_block_status(status)?;
    let mut fault = None;
    loop {
        let mut admit = |offer: &ChunkOffer| match fault {
            None => survey.admit(id, offer.length),
            Some(_) => Admission::Drain,
        };
        match client.next_event(&mut admit)? {
            Some(Event::Status { payload, .. }) if fault.is_none() => fault = survey.chunk(id, payload).err(),
            Some(Event::Status { .. } | Event::Drained { .. } | Event::Read { .. }) => {}
            Some(Event::Done { .. }) => break,
            // the survey misses it as well, and knows its name
            Some(Event::Failed { error: RequestError::MissingContext { .. }, .. }) => break,
            Some(Event::Failed { error, .. }) => return Err(Error::from(error).into()),
            None => return Err(Error::GivenUp.into()),
        }
    }
    fault.map_or_else(|| survey.reply_done(id), Err)?;
    Ok(())
}

/// The error of a connection that is needed only because there is another.
fn second(error: SurveyorError) -> SurveyorError {
    match error {
        SurveyorError::Client(error) => SurveyorError::SecondConnection(error),
        other => other,
    }
}

impl<T: Transport> Part<T> {
    fn open(
        options: &Options,
        contexts: &Contexts,
        open: &mut impl FnMut(&Options) -> Result<Client<T>, Error>,
    ) -> Result<Self, SurveyorError> {
        let mut options = options.clone().without_contexts();
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
