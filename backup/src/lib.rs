//! Backups of disks as sparse streams: written, read, and checked as a chain.
//!
//! [`sparse_stream`] has the format, and needs no connection.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![warn(clippy::cast_possible_truncation)]
#![doc(test(attr(deny(warnings))))]

mod create;
mod files;
mod output;
mod restore;
pub mod sparse_stream;

pub use create::{Backup, BackupError, BackupReport, Parent, SurveyedBackup};
pub use files::{BackupFiles, FilesError, UncheckedFact};
pub use output::{OutputError, OutputFile};
pub use restore::{CheckedRestore, Restore, RestoreError, RestoreTarget};
