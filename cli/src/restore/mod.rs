//! `restore`: the frames of a chain of backups onto a disk. It can be run again: what it does depends on the files
//! alone.

mod target;

use core::ops::Range;
use std::path::PathBuf;

use nbd_client::{Export, Pool, Uri};
use nbd_extents_formats::sparse_stream::Meta;

use crate::connection::{self, ConnectionArgs};
use crate::failure::Failure;
use crate::output::remark;
use crate::progress::Progress;
use crate::streams::{self, Sink};
use crate::values::{human, parse_uri};
use crate::verify;
use target::Target;

/// Restores a chain of backups onto an export: a full one, then its incrementals
///
/// All files are checked before the first byte is written; standard input is checked while it is written.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbdkit -U - memory 64M --run 'nbd-extents restore \"$uri\" disk.full'"))]
pub(crate) struct Args {
    /// The target: nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH
    #[arg(value_parser = parse_uri)]
    uri: Uri,
    /// The backups, in order; a single - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The target holds this checkpoint, which the first incremental stands on
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<String>,
    /// The target reads as zero all over: a full backup's zeroes are not written
    #[arg(long, conflicts_with = "base")]
    target_is_zero: bool,
    /// How many connections to write over, where the server allows several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    connections: u8,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Does what the command line asks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.files.len() > 1 && args.files.iter().any(|file| streams::is_stdin(file)) {
        return Err(crate::wrong_usage("restore", "'-' is one stream, and goes with no other file"));
    }
    let largest = check_files(args)?;
    let options = args.connection.options();
    let mut pool = Pool::connect(&args.uri, &options, args.connections.into())
        .map_err(|error| connection::failure(&args.uri, &options, error))?;
    check_target(pool.export(), largest)?;
    for (nth, file) in args.files.iter().enumerate() {
        let skip_zeroes = args.target_is_zero && nth == 0;
        let mut restore = Restore { args, skip_zeroes, target: Target::new(&mut pool)?, progress: None };
        streams::read_file(file, &mut restore)?;
        drop(restore.progress);
        restore.target.finish()?;
    }
    pool.disconnect().ok(); // all of it is there
    Ok(())
}

/// Checks every file and their order, and gives the size of the disk. Standard input cannot be looked at twice.
fn check_files(args: &Args) -> Result<Option<u64>, Failure> {
    let mut previous: Option<Meta> = None;
    for file in args.files.iter().filter(|file| !streams::is_stdin(file)) {
        let (meta, _) = verify::check(file)?;
        let about = |failure: Failure| failure.about(&file.display().to_string());
        match &previous {
            None => check_first(&meta, args.base.as_deref(), args.target_is_zero).map_err(about)?,
            some => {
                if let Some(fault) = verify::misfit(some.as_ref(), &meta, args.files.len()) {
                    return Err(about(Failure::not_there(fault)));
                }
            }
        }
        previous = Some(meta);
    }
    Ok(previous.map(|meta| meta.virtual_size))
}

/// A full backup comes first, or the incremental that stands on the base.
fn check_first(meta: &Meta, base: Option<&str>, target_is_zero: bool) -> Result<(), Failure> {
    match (meta.incremental, base) {
        (false, None) => Ok(()),
        (false, Some(base)) => {
            Err(Failure::not_there(format!("a full backup stands on nothing, so not on checkpoint {base:?}")))
        }
        (true, _) if target_is_zero => Err(Failure::usage(
            "an incremental needs the previous backup on the target: not with --target-is-zero",
        )),
        (true, None) => Err(Failure::not_there(
            "an incremental needs the previous backup on the target (--base CHECKPOINT says which is there)",
        )),
        (true, Some(base)) if meta.parent.as_deref() == Some(base) => Ok(()),
        (true, Some(base)) => Err(Failure::not_there(match &meta.parent {
            Some(parent) => format!("it stands on checkpoint {parent:?}, and the target holds {base:?}"),
            None => format!("it does not say which checkpoint it stands on, and the target holds {base:?}"),
        })),
    }
}

/// Whether the disk of the backup fits the target.
fn check_target(export: &Export, wanted: Option<u64>) -> Result<(), Failure> {
    if export.flags.is_read_only() {
        return Err(Failure::not_there("the export is read-only: nothing can be restored onto it"));
    }
    let Some(wanted) = wanted else { return Ok(()) };
    if export.size < wanted {
        return Err(Failure::not_there(format!(
            "the target has {} bytes, and the disk in the stream {wanted}: it does not fit",
            export.size
        )));
    }
    if export.size > wanted {
        let tail = human(export.size - wanted);
        remark(format_args!(
            "the target is {tail} larger than the disk in the stream: from byte {wanted} on it stays as it is"
        ));
    }
    Ok(())
}

/// One stream on its way to the target.
struct Restore<'a> {
    args: &'a Args,
    skip_zeroes: bool,
    target: Target<'a>,
    progress: Option<Progress>,
}

impl Sink for Restore<'_> {
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure> {
        if self.args.files.iter().any(|file| streams::is_stdin(file)) {
            check_first(meta, self.args.base.as_deref(), self.args.target_is_zero)?;
            check_target(self.target.export(), Some(meta.virtual_size))?;
        }
        self.progress = Some(Progress::new("writing", meta.data_size));
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.target.write(offset, bytes)?;
        if let Some(progress) = &self.progress {
            progress.add(bytes.len() as u64);
        }
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        if self.skip_zeroes { Ok(()) } else { self.target.zero(range) }
    }
}
