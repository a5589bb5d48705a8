//! How a survey can fail, each time with the numbers that a maintainer needs to see.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use thiserror::Error;

use super::request::RequestId;
use crate::error::{DecodeError, StreamError};
use crate::extent::MAX_END;
use crate::status::MAX_BITMAPS;

/// Contexts that cannot be asked for, or were not granted.
///
/// ```
/// use nbd_extents::{Context, ContextError, Contexts};
///
/// let twice = Contexts::new().require(Context::Depth)?.require(Context::Depth);
/// assert!(matches!(twice, Err(ContextError::Twice { .. })));
/// # Ok::<(), ContextError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A context is named twice, by the caller or by the server.
    #[error("the context {} is named twice", name.escape_debug())]
    Twice {
        /// Its full name.
        name: String,
    },
    /// More bitmaps than one status can tell apart.
    #[error("more than {MAX_BITMAPS} dirty bitmaps in one survey")]
    TooManyBitmaps,
    /// A bitmap's name is empty, too long, or has a NUL.
    #[error("{} is not the name of a metadata context", name.escape_debug())]
    BadName {
        /// The full name that it would have.
        name: String,
    },
    /// The meaning of a context is not known, so a survey cannot ask about it.
    #[error(
        "the meaning of the context {} is not known; known are base:allocation, qemu:allocation-depth and \
         qemu:dirty-bitmap:NAME",
        name.escape_debug()
    )]
    Unknown {
        /// Its full name.
        name: String,
    },
    /// The server did not grant a context that the survey requires.
    #[error("the server did not grant the context {}{}", name.escape_debug(), Offered(offered))]
    Missing {
        /// Its full name.
        name: String,
        /// The contexts that the server lists, where the caller asked for the list: see [`ContextError::with_offered`].
        offered: Option<Vec<String>>,
    },
    /// A bitmap is named that the survey does not ask for.
    #[error("the survey does not ask for the context {}", name.escape_debug())]
    NotAsked {
        /// Its full name.
        name: String,
    },
    /// The server uses one id for two contexts.
    #[error("the server uses the context id {id} twice")]
    SharedId {
        /// The id.
        id: u32,
    },
}

impl ContextError {
    /// Adds to [`Missing`](Self::Missing) what the server does offer (its answer to `NBD_OPT_LIST_META_CONTEXT`). Other errors stay as they are.
    ///
    /// ```
    /// use nbd_extents::{Context, Contexts};
    ///
    /// let wanted = Contexts::new().require(Context::bitmap("b9"))?;
    /// let error = wanted.negotiate::<&str>([]).unwrap_err().with_offered(["base:allocation"]);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "the server did not grant the context qemu:dirty-bitmap:b9 (it offers base:allocation)"
    /// );
    /// # Ok::<(), nbd_extents::ContextError>(())
    /// ```
    #[must_use]
    pub fn with_offered<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        match self {
            Self::Missing { name, .. } => {
                Self::Missing { name, offered: Some(names.into_iter().map(Into::into).collect()) }
            }
            other => other,
        }
    }
}

/// Shows what the server offers, with its text escaped.
struct Offered<'a>(&'a Option<Vec<String>>);

impl fmt::Display for Offered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(names) = self.0 else { return Ok(()) };
        f.write_str(" (it offers ")?;
        for (nth, name) in names.iter().enumerate() {
            write!(f, "{}{}", if nth == 0 { "" } else { ", " }, name.escape_debug())?;
        }
        f.write_str(if names.is_empty() { "none)" } else { ")" })
    }
}

/// Why a survey cannot start or cannot go on.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{ExportParams, Context, Contexts, Survey, SurveyOptions, SurveyError};
///
/// let contexts = Contexts::new().require(Context::Allocation)?.negotiate([(0, "base:allocation")])?;
/// let export = ExportParams::new(8192, Form::Compact)?.read_only(true);
/// let survey = Survey::together(SurveyOptions::new(export), contexts)?;
/// assert_eq!(survey.complete(), Err(SurveyError::Incomplete { position: 0, end: 8192 }));
/// # Ok::<(), nbd_extents::SurveyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// The contexts are wrong.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// There is no context to ask about.
    #[error("a survey needs at least one context")]
    NoContext,
    /// A bitmap-first survey needs bitmaps on one side and only other contexts on the other.
    #[error("a survey that asks the bitmap first needs a dirty bitmap, asked apart from the other contexts")]
    NotBitmapFirst,
    /// The server claims a size that no file can have.
    #[error("an export of {size} bytes is larger than {MAX_END}")]
    TooLarge {
        /// The claimed size, in bytes.
        size: u64,
    },
    /// The minimum block size is not a power of two up to 64 KiB.
    #[error("a minimum block size of {got} bytes is not a power of two from 1 to 65536")]
    BlockSize {
        /// What the server said, in bytes.
        got: u32,
    },
    /// The range is not part of the export.
    #[error("the range {}..{} is not within the export of {size} bytes", range.start, range.end)]
    OutOfRange {
        /// The range, in bytes.
        range: Range<u64>,
        /// The export's size, in bytes.
        size: u64,
    },
    /// The export can change while it is surveyed, and the caller did not allow that.
    #[error(
        "the export is writable, so its answers may change under the survey (allow_writable permits that)"
    )]
    Writable,
    /// The export has another size than when the survey was interrupted.
    #[error("the export now has {got} bytes, not {expected} as when the survey began")]
    SizeChanged {
        /// The size then, in bytes.
        expected: u64,
        /// The size now, in bytes.
        got: u64,
    },
    /// The request is not outstanding: never made, or over already.
    #[error("{0} is not outstanding")]
    UnknownRequest(RequestId),
    /// The entries of a reply start elsewhere than the request.
    #[error("the entries start at byte {got}, but the request starts at byte {expected}")]
    WrongOffset {
        /// Where the request starts, in bytes.
        expected: u64,
        /// Where the entries start, in bytes.
        got: u64,
    },
    /// A reply breaks the protocol; nothing of it is used.
    #[error("the reply about byte {offset}: {fault}")]
    Reply {
        /// Where the request started, in bytes.
        offset: u64,
        /// What is wrong with it.
        fault: ReplyFault,
    },
    /// The server fails the request for a range again and again.
    #[error(
        "the server failed to describe bytes {}..{} {failures} times (safe_on_failure takes them for data and dirty)",
        range.start, range.end
    )]
    Failing {
        /// The bytes that the request asked about.
        range: Range<u64>,
        /// How often it has failed.
        failures: u32,
    },
    /// Even a request for one block is answered with more than the budget allows.
    #[error("the reply about {length} bytes at byte {offset} does not fit the budget of {budget} bytes")]
    OverBudget {
        /// Where the request started, in bytes.
        offset: u64,
        /// How many bytes it asked about.
        length: u64,
        /// The budget, in bytes.
        budget: usize,
    },
    /// The server answers in crumbs: reply after reply says next to nothing.
    #[error("the server made no real progress in {replies} replies, up to byte {offset}")]
    Stalled {
        /// How far the survey came, in bytes.
        offset: u64,
        /// How many replies in a row were too short.
        replies: u32,
    },
    /// The survey was taken for complete before it was.
    #[error("the survey has covered only the bytes up to {position} of {end}")]
    Incomplete {
        /// The first byte that was not handed out.
        position: u64,
        /// The end of the range, in bytes.
        end: u64,
    },
    /// The book-keeping of a survey is wrong: a fault in this library, caught before it could lose data.
    #[error("a fault in nbd-extents: {what}; please report it")]
    Bug {
        /// What cannot be.
        what: &'static str,
    },
    /// The pieces did not fit together: a fault in this library, caught before it could lose data.
    #[error("the merged extents do not fit together: {0}")]
    Stream(#[from] StreamError),
}

/// The error of a branch that cannot be reached. Debug builds stop there.
#[cold]
pub(super) fn bug(what: &'static str) -> SurveyError {
    debug_assert!(false, "{what}");
    SurveyError::Bug { what }
}

/// What can be wrong with a reply. NBD protocol, "Structured reply types" and `NBD_CMD_BLOCK_STATUS`.
///
/// ```
/// use nbd_extents::ReplyFault;
///
/// let fault = ReplyFault::ZeroLength { context: "base:allocation".into(), index: 3 };
/// assert_eq!(fault.to_string(), "base:allocation: descriptor 3 has length 0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplyFault {
    /// A payload is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A chunk is about a context id that was not negotiated.
    #[error("a chunk is about context id {id}, which was not negotiated")]
    UnknownContext {
        /// The id.
        id: u32,
    },
    /// Two chunks are about one context.
    #[error("two chunks are about {context}")]
    Twice {
        /// The context's name.
        context: String,
    },
    /// The reply is over, and a context has not been answered.
    #[error("no status for {context}")]
    Missing {
        /// The context's name.
        context: String,
    },
    /// A descriptor has length 0.
    #[error("{context}: descriptor {index} has length 0")]
    ZeroLength {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
    },
    /// The sum of the lengths leaves 64 bits.
    #[error("{context}: descriptor {index} of {length} bytes makes the sum overflow")]
    Overflow {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Its length, in bytes.
        length: u64,
    },
    /// A descriptor reaches past the end of the export.
    #[error("{context}: descriptor {index} ends at byte {end} of an export of {size} bytes")]
    BeyondExport {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Where it ends, in bytes.
        end: u64,
        /// The export's size, in bytes.
        size: u64,
    },
    /// Descriptors go on although those before had reached past the end of the request.
    #[error("{context}: descriptor {index} starts at byte {start}, but the request ends at byte {end}")]
    PastRequest {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Where it starts, in bytes.
        start: u64,
        /// Where the request ends, in bytes.
        end: u64,
    },
    /// Flags use bits that a 32-bit context does not have.
    #[error("{context}: descriptor {index} has the flags {flags:#x}, of which the upper 32 bits must be 0")]
    WideFlags {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Its flags.
        flags: u64,
    },
    /// One descriptor within the request was asked for, and the answer is another.
    #[error(
        "{context}: one descriptor of at most {asked} bytes was asked for, not {count} with {length} bytes first"
    )]
    NotOne {
        /// The context's name.
        context: String,
        /// How many bytes were asked about.
        asked: u64,
        /// How many descriptors came.
        count: usize,
        /// The length of the first, in bytes.
        length: u64,
    },
    /// A chunk holds more descriptors than the caller allows.
    #[error("a payload of {got} bytes holds more than the {limit} descriptors allowed")]
    TooLong {
        /// The bytes of the payload.
        got: u64,
        /// The descriptors allowed.
        limit: usize,
    },
}
