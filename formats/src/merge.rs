//! Two lists of the same disk as one: a dirty bitmap by one program, the zeroes by another.

use std::ops::Range;

use nbd_extents::StreamError;
use nbd_extents::stream::ExtentStream;
use thiserror::Error;

use crate::{Attributes, ListReadError};

/// Merges two lists, which must describe the same bytes.
///
/// Each extent says what both lists say of it: see [`Attributes::combine`]. Neither list is held in
/// memory.
///
/// ```
/// use nbd_extents::stream::ExtentStream;
/// use nbd_extents_formats::{Format, ReadOptions, merge};
///
/// let options = ReadOptions::default();
/// let bitmap = Format::NbdinfoDirty.read(&b"0 65536 1 dirty\n"[..], options);
/// let zeroes = Format::NbdinfoAllocation.read(&b"0 32768 0 data\n"[..], options);
/// let error = merge(bitmap, zeroes).collect_vec().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the second list leaves out bytes 32768..65536, which the other describes"
/// );
/// ```
pub fn merge<A, B>(first: A, second: B) -> impl ExtentStream<Status = Attributes, Error = MergeError>
where
    A: ExtentStream<Status = Attributes, Error = ListReadError>,
    B: ExtentStream<Status = Attributes, Error = ListReadError>,
{
    let first = first.map_err(MergeError::First);
    first.merge(second.map_err(MergeError::Second), |one, two| one.combine(two))
}

/// Two lists that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The first list cannot be read.
    #[error("the first list: {0}")]
    First(ListReadError),
    /// The second list cannot be read.
    #[error("the second list: {0}")]
    Second(ListReadError),
    /// Only one of the lists describes some bytes.
    #[error(
        "the {} list leaves out bytes {}..{}, which the other describes",
        nth(*.silent), range.start, range.end
    )]
    Uneven {
        /// Some of the bytes.
        range: Range<u64>,
        /// The list that leaves them out: 0 is the first, 1 the second.
        silent: usize,
    },
    /// An adapter of the stream has refused an extent.
    #[error(transparent)]
    Stream(StreamError),
}

const fn nth(list: usize) -> &'static str {
    if list == 0 { "first" } else { "second" }
}

impl From<StreamError> for MergeError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Uneven { range, silent } => Self::Uneven { range, silent },
            error => Self::Stream(error),
        }
    }
}
