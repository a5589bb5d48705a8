//! Backups of the disks that NBD servers export: full and incremental, checked, and restored.
//!
//! A full backup is the beginning of a chain. Each incremental holds the bytes that a dirty bitmap
//! recorded since the backup below it. A restore takes the chain, and checks all of it before the
//! first write.
//!
//! ```no_run
//! use nbd_client::{Options, Uri};
//! use nbd_extents_backup::{Backup, BackupFiles, Parent, Restore};
//!
//! let disk: Uri = "nbd+unix:///disk?socket=/run/vm.sock".parse()?;
//! let (options, sunday, monday) = (Options::new(), "disk.sunday", "disk.monday");
//!
//! let full = Backup::full().checkpoint(Some("sunday".into()));
//! full.to_file(&disk, &options, sunday.as_ref())?;
//!
//! // later: the bitmap b0 was started at that backup
//! let changes = Backup::incremental(["b0"], Parent::read(sunday.as_ref())?);
//! changes.checkpoint(Some("monday".into())).to_file(&disk, &options, monday.as_ref())?;
//!
//! let files = BackupFiles::read(vec![sunday.into(), monday.into()])?;
//! let target: Uri = "nbd+unix:///?socket=/run/new-disk.sock".parse()?;
//! Restore::new().files(&target, &options, &files)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to do | with |
//! |---|---|
//! | back an export up | [`Backup`]; [`SurveyedBackup`] has the totals, and writes to anything |
//! | replace a file when the new one is whole | [`OutputFile`] |
//! | read backups, and check that they follow each other | [`BackupFiles`] |
//! | restore a chain, or a stream from a pipe | [`Restore`] |
//! | read and write streams without a server | [`sparse_stream`], whose bytes its [`specification`] explains |
//!
//! Progress is shown by a [`CopyMonitor`] from any thread. A
//! [`Canceller`](nbd_client::transport::Canceller) in the options of the connection ends a job.
//!
//! # What can go wrong
//!
//! A backup that fails leaves its file as it was. A restore that fails after its first write says so
//! ([`RestoreError::Partial`]), and is made good by restoring the whole chain again. Errors are typed
//! and carry their numbers; a program chooses its exit codes by their variants and by
//! [`ErrorClass`](nbd_client::ErrorClass).
//!
//! [`CopyMonitor`]: nbd_client::copy::CopyMonitor
//! [`specification`]: sparse_stream::specification

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
pub use output::{OutputError, OutputFile, Replace};
pub use restore::{CheckedRestore, Restore, RestoreError, RestoreTarget};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct BackupReadme;
