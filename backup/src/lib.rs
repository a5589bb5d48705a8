//! Backups of disks as sparse streams: written, read, and checked as a chain.
//!
//! [`sparse_stream`] has the format, and needs no connection.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

pub mod sparse_stream;
