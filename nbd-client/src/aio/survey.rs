//! Surveys for asynchronous programs, by the same rules as the blocking
//! [`Surveyor`](crate::Surveyor).

use nbd_extents::map::ExtentMap;
use nbd_extents::{Contexts, Extent, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::BoxedStream;
use super::driver::{Awaited, Driver};
use crate::error::Error;
use crate::options::Options;
use crate::survey::{self, Order, SurveyorError, SurveyorOver};
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
    Surveyor::connect(uri, options, contexts, Order::Together).await?.into_map().await
}

/// The connections to one export that a survey needs, each a [`Driver`]. The blocking
/// [`Surveyor`](crate::Surveyor) keeps the same rules.
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
pub type Surveyor<S = BoxedStream> = SurveyorOver<Awaited<S>>;

/// The merged extents of a survey: see [`Surveyor`]. Awaiting them asks the server, in rounds of
/// several requests.
pub type SurveyStream<'a, S = BoxedStream> = survey::SurveyStream<'a, Awaited<S>>;

impl Surveyor {
    /// Connects to the server of a URI and negotiates `contexts`, on one connection or, for
    /// [`Order::BitmapFirst`] with a server that has no payload-form requests, on two. Contexts
    /// named in `options` are not asked for.
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
        let connect = |options: Options| async move { Driver::connect(uri, &options).await };
        Self::open(options, contexts, order, connect).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Surveyor<S> {
    /// As [`Surveyor::connect`](super::Surveyor::connect), over connections of the caller's making.
    ///
    /// Calls `connect` once, or up to three times for [`Order::BitmapFirst`], each time with the
    /// options that name the contexts to negotiate.
    ///
    /// # Errors
    ///
    /// Those of `connect`, and of the negotiation.
    pub async fn open<F: Future<Output = Result<Driver<S>, Error>>>(
        options: &Options,
        contexts: &Contexts,
        order: Order,
        connect: impl FnMut(Options) -> F,
    ) -> Result<Self, SurveyorError> {
        survey::open((options, contexts, order), connect).await
    }

    /// The connection that the bitmaps were asked on; the other one, if there is one, is ended,
    /// however its goodbye goes.
    pub async fn into_driver(self) -> Driver<S> {
        self.into_main().await
    }

    /// Says goodbye on all connections.
    ///
    /// # Errors
    ///
    /// The errors of [`Driver::disconnect`]; all are closed all the same.
    pub async fn disconnect(self) -> Result<(), SurveyorError> {
        self.end().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SurveyStream<'_, S> {
    /// The next extent. `None` comes only when the whole range has been covered; every other end is
    /// an error. A call that is dropped loses nothing: the next one goes on, and until then the
    /// server may be waiting to send its replies.
    ///
    /// # Errors
    ///
    /// As of the blocking [`SurveyStream`](crate::survey::SurveyStream).
    pub async fn next_extent(&mut self) -> Result<Option<Extent<Status>>, SurveyorError> {
        self.extent().await
    }

    /// Receives all answers that are due, of a stream that [asks ahead](Self::ask_ahead): nothing is
    /// in flight afterwards. If one of them is a fault, the next extent is its error. A call that is
    /// dropped loses nothing.
    pub async fn receive_all(&mut self) {
        self.receive_due().await;
    }

    /// All extents that are left. A call that is dropped loses those that it has collected; the
    /// next one goes on after them.
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
}
