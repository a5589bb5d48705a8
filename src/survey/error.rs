//! The errors of a survey, each with the numbers that a maintainer needs.

use alloc::string::String;
use core::ops::Range;

use thiserror::Error;

use super::request::RequestId;
use crate::contexts::ContextError;
use crate::error::{DecodeError, StreamError};
use crate::extent::MAX_END;

/// Why a survey cannot start or cannot continue.
///
/// ```
/// use nbd_extents::wire::Form;
/// use nbd_extents::{Context, Contexts, ExportParams, Survey, SurveyError, SurveyOptions};
///
/// let contexts =
///     Contexts::new().require(Context::Allocation)?.negotiate([(0, "base:allocation")])?;
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
    /// A bitmap-first survey needs bitmaps in one half and only other contexts in the other.
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
        /// The announced size, in bytes.
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
    /// The size of the export has changed since the survey was interrupted.
    #[error("the export now has {got} bytes, not {expected} as when the survey began")]
    SizeChanged {
        /// The size at the interruption, in bytes.
        expected: u64,
        /// The size now, in bytes.
        got: u64,
    },
    /// The request is not outstanding: never made, or already over.
    #[error("{0} is not outstanding")]
    UnknownRequest(RequestId),
    /// The entries of a reply start at another offset than the request.
    #[error("the entries start at byte {got}, but the request starts at byte {expected}")]
    WrongOffset {
        /// The start of the request, in bytes.
        expected: u64,
        /// The start of the entries, in bytes.
        got: u64,
    },
    /// A reply breaks the protocol; nothing of it is used.
    #[error("the reply about byte {offset}: {fault}")]
    Reply {
        /// The start of the request, in bytes.
        offset: u64,
        /// The violation.
        fault: ReplyFault,
    },
    /// The server fails the request for a range again and again.
    #[error(
        "the server failed to describe bytes {}..{} {failures} times (safe_on_failure takes them \
            for data and dirty)",
        range.start, range.end
    )]
    Failing {
        /// The bytes that the request asked about.
        range: Range<u64>,
        /// The number of failures.
        failures: u32,
    },
    /// The reply to a request for a single block does not fit the budget.
    #[error("the reply about {length} bytes at byte {offset} does not fit the budget of {budget} bytes")]
    OverBudget {
        /// The start of the request, in bytes.
        offset: u64,
        /// The number of bytes it asked about.
        length: u64,
        /// The budget, in bytes.
        budget: usize,
    },
    /// The server makes no real progress: reply after reply describes almost nothing.
    #[error("the server made no real progress in {replies} replies, up to byte {offset}")]
    Stalled {
        /// The offset that the survey reached, in bytes.
        offset: u64,
        /// The number of short replies in a row.
        replies: u32,
    },
    /// The caller ended the survey before it was complete.
    #[error("the survey has covered only the bytes up to {position} of {end}")]
    Incomplete {
        /// The first byte that was not yielded.
        position: u64,
        /// The end of the range, in bytes.
        end: u64,
    },
    /// The records of a survey are inconsistent: a fault in this library, caught before it lost
    /// data.
    #[error("a fault in nbd-extents: {what}; please report it")]
    Bug {
        /// The state that should be impossible.
        what: &'static str,
    },
    /// The extents did not fit together: a fault in this library, caught before it lost data.
    #[error("the merged extents do not fit together: {0}")]
    Stream(#[from] StreamError),
}

/// The error of an unreachable branch. Debug builds panic there.
#[cold]
pub(super) fn bug(what: &'static str) -> SurveyError {
    debug_assert!(false, "{what}");
    SurveyError::Bug { what }
}

/// A violation of the protocol in a reply.
///
/// NBD protocol, "Structured reply types" and `NBD_CMD_BLOCK_STATUS`.
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
    /// The reply is complete, but a context was not answered.
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
    /// The sum of the lengths exceeds 64 bits.
    #[error("{context}: descriptor {index} of {length} bytes makes the sum overflow")]
    Overflow {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Its length, in bytes.
        length: u64,
    },
    /// A descriptor reaches beyond the end of the export.
    #[error("{context}: descriptor {index} ends at byte {end} of an export of {size} bytes")]
    BeyondExport {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Its end, in bytes.
        end: u64,
        /// The export's size, in bytes.
        size: u64,
    },
    /// Descriptors continue although those before had reached beyond the end of the request.
    #[error("{context}: descriptor {index} starts at byte {start}, but the request ends at byte {end}")]
    PastRequest {
        /// The context's name.
        context: String,
        /// The descriptor's place in the list, from 0.
        index: usize,
        /// Its start, in bytes.
        start: u64,
        /// The end of the request, in bytes.
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
    /// The request was for one descriptor within its range, and the reply holds another answer.
    #[error(
        "{context}: one descriptor of at most {asked} bytes was asked for, not {count} with \
            {length} bytes first"
    )]
    NotOne {
        /// The context's name.
        context: String,
        /// The number of bytes asked about.
        asked: u64,
        /// The number of descriptors received.
        count: usize,
        /// The length of the first, in bytes.
        length: u64,
    },
    /// A chunk holds more descriptors than the caller allows.
    #[error("a payload of {got} bytes holds more than the {limit} descriptors allowed")]
    TooLong {
        /// The size of the payload, in bytes.
        got: u64,
        /// The number of descriptors allowed.
        limit: usize,
    },
}
