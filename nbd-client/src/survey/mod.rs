//! From a real server to merged extents: the connections that a survey needs, and the stream of its
//! extents. Here are the rules of both clients, and the calls of the blocking one.

mod blocking;
mod opening;
mod stream;
mod surveyor;

use nbd_extents::map::ExtentMap;
use nbd_extents::{ContextError, Contexts, Status, StreamError, SurveyError};

#[cfg(feature = "tokio")]
pub(crate) use opening::open;
pub use stream::SurveyStream;
pub use surveyor::SurveyorOver;

use crate::block_on::block_on;
use crate::client::Blocking;
use crate::error::{Error, ErrorClass};
use crate::options::Options;
use crate::transport::Socket;
use crate::uri::Uri;

/// The connections of a survey, each a blocking [`Client`](crate::Client).
pub type Surveyor<T = Socket> = SurveyorOver<Blocking<T>>;

/// In which order a survey asks. See
/// [`Survey::together`](nbd_extents::Survey::together) and
/// [`Survey::bitmap_first`](nbd_extents::Survey::bitmap_first).
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

/// The map of an export: connects, surveys all of it, and says goodbye. The map is whole by then,
/// so a goodbye that fails is no error.
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
    block_on(Surveyor::connect(uri, options, contexts, Order::Together)?.into_map())
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
    /// A connection or a request failed, or two connections disagree about the export.
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
