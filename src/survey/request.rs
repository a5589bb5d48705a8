//! The requests of a survey.

use core::fmt;

use smallvec::SmallVec;

/// Identifies a request within its survey. No two requests of a survey share an id.
///
/// ```
/// # use nbd_extents::wire::Form;
/// # use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions};
/// # let contexts = Contexts::new()
/// #     .require(Context::Allocation)?
/// #     .negotiate([(0, "base:allocation")])?;
/// # let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey =
///     Survey::together(SurveyOptions::new(export).max_request(4096), contexts)?;
/// let first = survey.next_request()?.unwrap();
/// survey.chunk(first.id(), [0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0])?;
/// survey.reply_done(first.id())?;
/// while survey.next_extent()?.is_some() {}
/// let second = survey.next_request()?.unwrap();
/// assert!(first.id() < second.id(), "they ascend");
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// The number of a request, for callers that store it in a form of their own.
impl From<RequestId> for u64 {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

/// The request with this number. The survey rejects a number that names no request.
impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

/// The contexts that a request asks about.
///
/// ```
/// use nbd_extents::{Request, Topic};
///
/// /// True if the request needs the payload form, on a connection that negotiated everything.
/// fn needs_payload(request: &Request) -> bool {
///     request.topic() != Topic::All
/// }
/// # let _ = needs_payload;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topic {
    /// All negotiated contexts: a plain `NBD_CMD_BLOCK_STATUS`.
    All,
    /// Only the bitmaps.
    ///
    /// Send the payload form with [`Request::context_ids`], or a plain request on a connection that
    /// negotiated only the bitmaps.
    Bitmaps,
    /// Only the other contexts, inside a dirty range.
    ///
    /// Send the payload form, or a plain request on a connection that negotiated only those.
    Details,
}

/// A block-status request to send: `NBD_CMD_BLOCK_STATUS` for `length` bytes from `offset`.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyOptions, Topic};
///
/// let contexts =
///     Contexts::new().require(Context::Allocation)?.negotiate([(0, "base:allocation")])?;
/// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// let request = survey.next_request()?.unwrap();
/// assert_eq!((request.offset(), request.length(), request.one_extent()), (0, 8192, false));
/// assert_eq!((request.topic(), request.context_ids()), (Topic::All, &[0][..]));
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) id: RequestId,
    pub(super) topic: Topic,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) context_ids: SmallVec<[u32; 4]>,
    pub(super) one_extent: bool,
}

impl Request {
    /// The id under which the survey takes the reply.
    #[must_use]
    pub const fn id(&self) -> RequestId {
        self.id
    }

    /// The contexts that the request asks about.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// The first byte requested: a multiple of the minimum block size.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of bytes requested, never 0.
    ///
    /// Whole blocks except at the end of the export, at most 2 GiB in the compact form.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The ids of the requested contexts, for the payload form.
    #[must_use]
    pub fn context_ids(&self) -> &[u32] {
        &self.context_ids
    }

    /// True if the client must set `NBD_CMD_FLAG_REQ_ONE`.
    #[must_use]
    pub const fn one_extent(&self) -> bool {
        self.one_extent
    }
}

/// The decision about a chunk whose header has arrived: see
/// [`Survey::admit`](crate::Survey::admit).
///
/// ```
/// # use nbd_extents::wire::Form;
/// # use nbd_extents::{Admission, Context, Contexts, ExportParams, Survey, SurveyOptions};
/// # let contexts = Contexts::new()
/// #     .require(Context::Allocation)?
/// #     .negotiate([(0, "base:allocation")])?;
/// # let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let mut survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// let request = survey.next_request()?.unwrap();
/// assert_eq!(survey.admit(request.id(), 12), Admission::Take);
/// assert_eq!(
///     survey.admit(request.id(), 1 << 40),
///     Admission::Drain,
///     "more than the budget holds"
/// );
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// Read the payload and give it to [`Survey::chunk`](crate::Survey::chunk).
    Take,
    /// Read the payload off the connection and discard it.
    Drain,
}
