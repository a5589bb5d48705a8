//! From a real server to merged extents: the connections that a survey needs, and the stream that comes out of them.

mod asked;
mod terms;

use nbd_extents::stream::ExtentStream;
use nbd_extents::{
    Admission, ContextError, Contexts, Extent, Negotiated, Status, StreamError, Strictness, Survey,
    SurveyError, SurveyOptions, SurveyStats,
};

pub(crate) use asked::{Asked, Side};
pub(crate) use terms::{asking_for, check_agreement, negotiated, survey_options};

use crate::client::{Client, Options};
use crate::error::{Error, ErrorClass};
use crate::export::Export;
use crate::session::ChunkOffer;
use crate::stats::SessionStats;
use crate::transport::{Socket, Transport};
use crate::uri::Uri;

/// In which order a survey asks. See [`Survey::together`] and [`Survey::bitmap_first`].
///
/// ```no_run
/// use nbd_client::{Options, Order, Surveyor};
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

/// Why a survey of a server failed.
///
/// ```
/// use nbd_client::{ErrorClass, Options, Order, Surveyor};
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
        check_agreement(main.client.export(), details.client.export())?;
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
        survey_options(
            self.export(),
            self.details.as_ref().map(|details| details.client.export()),
            self.strictness,
        )
    }

    /// Starts a survey. Nothing is asked before the stream is read.
    ///
    /// # Errors
    ///
    /// [`SurveyError::Writable`] for a writable export that `options` do not allow, [`SurveyError::NotBitmapFirst`] when there is no bitmap to
    /// ask first.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<Extents<'_, T>, SurveyorError> {
        let details = self.details.as_ref().map(|details| details.contexts.clone());
        let asked = Asked::new(self.order, options, self.main.contexts.clone(), details)?;
        Ok(Extents { surveyor: self, asked })
    }

    /// The connection that the bitmaps were asked on, for reading what the survey has found; the other one, if there is one, is ended. Reading on the same
    /// connection is reading the same export.
    ///
    /// # Errors
    ///
    /// The errors of [`Client::disconnect`].
    pub fn into_client(self) -> Result<Client<T>, SurveyorError> {
        self.details.map_or(Ok(()), |details| details.client.disconnect())?;
        Ok(self.main.client)
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

    fn client(&mut self, side: Side) -> &mut Client<T> {
        match (side, &mut self.details) {
            (Side::Details, Some(details)) => &mut details.client,
            _ => &mut self.main.client,
        }
    }
}

/// The error of a connection that is needed only because there is another.
pub(crate) fn second(error: SurveyorError) -> SurveyorError {
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
        let client = open(&asking_for(options, contexts))?;
        Ok(Self { contexts: negotiated(contexts, client.export())?, client })
    }
}

/// The merged extents of a survey: see [`Surveyor::survey`]. Reading it asks the server.
///
/// As many requests are kept on the wire as [`SurveyOptions::in_flight`] allows, also while the caller is busy with the extents it has got: the time
/// that it takes does not count against a request's deadline. Dropped before its end, it leaves replies to come, which the next survey
/// on the same connections reads over.
///
/// ```
/// # #[cfg(all(unix, feature = "testing"))] {
/// # use nbd_client::testing::{Good, ScriptedServer};
/// use nbd_client::{Options, Order, Surveyor};
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
pub struct Extents<'a, T = Socket> {
    surveyor: &'a mut Surveyor<T>,
    asked: Asked,
}

impl<T> Extents<'_, T> {
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

impl<T: Transport> Extents<'_, T> {
    /// Sends all that may be asked now.
    fn ask(&mut self) -> Result<(), SurveyorError> {
        while let Some(request) = self.asked.survey.next_request()? {
            let (side, status) = self.asked.route(&request);
            let started = self
                .make_room(side)
                .and_then(|()| Ok(self.surveyor.client(side).start_block_status(&status)?));
            match started {
                Ok(cookie) => self.asked.sent(&request, side, cookie),
                Err(error) => {
                    self.asked.not_sent(&request);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits while as many requests are on the wire as may be: few are allowed, or an earlier survey was dropped and left some.
    fn make_room(&mut self, side: Side) -> Result<(), SurveyorError> {
        while self.surveyor.client(side).in_flight() > 0 && self.surveyor.client(side).is_full() {
            self.receive(side)?;
        }
        Ok(())
    }

    /// Waits for one event; `true` when a reply of this survey is over.
    fn receive(&mut self, side: Side) -> Result<bool, SurveyorError> {
        let asked = &mut self.asked;
        let event = self.surveyor.client(side).next_event(&mut |offer: &ChunkOffer| asked.admit(side, offer));
        match event {
            Ok(Some(event)) => self.asked.take(side, event).inspect_err(|_| self.wind_down(side)),
            Ok(None) => Err(self.asked.lost(Error::GivenUp)),
            Err(error) => Err(self.asked.lost(error)),
        }
    }

    /// Waits until a reply is over.
    fn wait(&mut self) -> Result<(), SurveyorError> {
        while let Some(side) = self.asked.oldest() {
            if self.receive(side)? {
                break;
            }
        }
        Ok(())
    }

    /// Where the server has said that it goes down, reads over what is still to come, so that it can be told goodbye.
    fn wind_down(&mut self, side: Side) {
        let client = self.surveyor.client(side);
        let mut drain = |_: &ChunkOffer| Admission::Drain;
        while client.must_disconnect() && client.in_flight() > 0 {
            if !matches!(client.next_event(&mut drain), Ok(Some(_))) {
                return;
            }
        }
    }
}

impl<T: Transport> ExtentStream for Extents<'_, T> {
    type Status = Status;
    type Error = SurveyorError;

    /// The next extent. The end comes only when the whole range has been covered; every other end is an error.
    fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        loop {
            if let Some(extent) = self.asked.survey.next_extent()? {
                return Ok(Some(extent));
            }
            self.ask()?;
            if self.asked.oldest().is_none() {
                self.asked.survey.check_complete()?;
                return Ok(None);
            }
            self.wait()?;
            // the server works on while the extents are read
            self.ask()?;
        }
    }
}
