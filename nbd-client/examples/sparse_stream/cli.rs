//! The command line: what may be asked, and which combinations make no sense.

use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use nbd_client::{Options, Uri};

use crate::common::args::{Previous, first_line, parse_seconds, parse_size};
use crate::common::failure::Failure;

/// Backs up and restores the disk of an NBD server as a sparse stream (ovirt-imageio's format).
#[derive(Debug, Parser)]
#[command(name = "sparse_stream", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a backup of the disk to stdout: all of it, or with --bitmap what has changed
    Download(DownloadArgs),
    /// Restore a backup from stdin onto the disk; a full one first, then the incrementals in order
    Upload(UploadArgs),
    /// Check that streams are whole; of several, also that they follow each other as a full backup and its incrementals
    Verify {
        /// The streams, in order; stdin when none is named
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct DownloadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only what is dirty in this bitmap (its own name, `b0` say); may be repeated
    #[arg(long, value_name = "NAME")]
    bitmap: Vec<String>,
    /// Ask the bitmaps first, and read and ask nothing outside of dirty ranges (needs a second connection where the server has no extended headers)
    #[arg(long, requires = "bitmap")]
    bitmap_first: bool,
    /// The size of the disk at the backup before: if it is another now, end with exit code 3 (after a disk has grown, qemu calls the new part
    /// clean). Without it the disk is taken to have had its present size
    #[arg(long, value_name = "N", value_parser = parse_size, requires = "bitmap")]
    previous_size: Option<u64>,
    /// A disk that has grown since --previous-size is no error: all beyond its old end counts as dirty
    #[arg(long, requires = "previous_size")]
    grown: bool,
    /// Look for blocks of zeroes in what is read, and send them as zeroes: for servers that never say ZERO. The stream's data-size is then an upper
    /// bound
    #[arg(long)]
    detect_zeroes: bool,
    /// Read what the server says is zero, as if it held data
    #[arg(long)]
    ignore_zero_status: bool,
    /// The name of the checkpoint that this backup is of, kept in the stream
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// The name of the checkpoint that an incremental is based on, kept in the stream
    #[arg(long, value_name = "NAME", requires = "bitmap")]
    parent: Option<String>,
    /// Back up an export that is not read-only, though it may change meanwhile
    #[arg(long)]
    allow_writable: bool,
    /// Write what was copied, zeroed and skipped, and the bytes on the wire, to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UploadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The target reads as zero all over: zeroes of a full backup need not be written
    #[arg(long)]
    target_is_zero: bool,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// The export: nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH
    uri: String,
    /// Do without extended headers
    #[arg(long)]
    compact: bool,
    /// Reject whatever violates a MUST of the protocol
    #[arg(long)]
    strict: bool,
    /// End after so many seconds, whatever has been reached
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Download(Box<Download>),
    Upload(Box<Upload>),
    Verify(Vec<PathBuf>),
}

/// An export, and how to talk to its server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) uri: Uri,
    pub(crate) options: Options,
}

/// A backup.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) server: Server,
    pub(crate) bitmaps: Vec<String>,
    pub(crate) bitmap_first: bool,
    pub(crate) previous: Previous,
    pub(crate) detect_zeroes: bool,
    pub(crate) ignore_zero_status: bool,
    pub(crate) checkpoint: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) allow_writable: bool,
    pub(crate) report: Option<PathBuf>,
}

/// A restore.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) server: Server,
    pub(crate) target_is_zero: bool,
}

/// Reads the command line. `None` when it asked for help, which has been printed.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Command>, Failure> {
    let parsed = match Arguments::try_parse_from(args) {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            error.print()?;
            return Ok(None);
        }
        Err(error) => return Err(Failure::usage(first_line(&error.to_string()))),
    };
    Ok(Some(match parsed.command {
        Verb::Download(args) => Command::Download(Box::new(args.into_job()?)),
        Verb::Upload(args) => {
            let UploadArgs { server, target_is_zero } = args;
            Command::Upload(Box::new(Upload { server: server.into_server()?, target_is_zero }))
        }
        Verb::Verify { files } => Command::Verify(files),
    }))
}

impl DownloadArgs {
    fn into_job(self) -> Result<Download, Failure> {
        let previous = match self.previous_size {
            None => Previous::Unsaid,
            Some(size) if self.grown => Previous::Grown(size),
            Some(size) => Previous::Same(size),
        };
        Ok(Download {
            server: self.server.into_server()?,
            bitmaps: self.bitmap,
            bitmap_first: self.bitmap_first,
            previous,
            detect_zeroes: self.detect_zeroes,
            ignore_zero_status: self.ignore_zero_status,
            checkpoint: self.checkpoint,
            parent: self.parent,
            allow_writable: self.allow_writable,
            report: self.report,
        })
    }
}

impl ServerArgs {
    fn into_server(self) -> Result<Server, Failure> {
        let uri = &self.uri;
        let uri = uri.parse().map_err(|error| Failure::usage(format!("{}: {error}", uri.escape_debug())))?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let options = Options::new().extended_headers(!self.compact).strict(self.strict).deadline(deadline);
        Ok(Server { uri, options })
    }
}
