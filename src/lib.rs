//! Merged extents of NBD block status.
#![no_std]
#![forbid(unsafe_code)]
#![doc(test(attr(deny(warnings))))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod error;
mod extent;
mod status;
pub mod stream;
#[cfg(feature = "alloc")]
mod survey;
pub mod wire;

pub use error::{DecodeError, EncodeError, ExtentError, StreamError};
pub use extent::{Extent, MAX_END};
pub use status::{Allocation, Depth, Dirtiness, MAX_BITMAPS, Status};
#[cfg(feature = "alloc")]
pub use survey::{
    Admission, Connection, Context, ContextError, Contexts, Forgiven, Negotiated, ReplyFault, Request,
    RequestId, ResumePoint, Strictness, Survey, SurveyError, SurveyOptions, SurveyStats, Topic,
};
