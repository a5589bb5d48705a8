//! `verify`: are backups whole, and do they follow each other? No server is asked.

use core::ops::Range;
use std::io::Write as _;
use std::path::PathBuf;

use nbd_extents_formats::sparse_stream::{Meta, Summary};

use crate::failure::Failure;
use crate::output::Output;
use crate::streams::{self, Sink};
use crate::values::human;

/// Checks that backups are whole, and that several follow each other
///
/// Of several the first must be a full backup and each other the incremental that follows. A line for each is
/// printed when all of them are sound.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbd-extents verify disk.full"))]
pub(crate) struct Args {
    /// The backups, in order; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Does what the command line asks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut out = Output::held();
    let mut previous: Option<Meta> = None;
    for file in &args.files {
        let (meta, summary) = check(file)?;
        if let Some(fault) = misfit(previous.as_ref(), &meta, args.files.len()) {
            return Err(Failure::not_there(fault).about(&file.display().to_string()));
        }
        writeln!(out, "{}", line(&meta, &summary))?;
        previous = Some(meta);
    }
    match out.finish() {
        // A reader that has gone away is nothing to talk about, and the check is done.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Why a stream cannot be restored onto the previous one, as far as can be known.
pub(crate) fn misfit(previous: Option<&Meta>, meta: &Meta, count: usize) -> Option<String> {
    let Some(previous) = previous else {
        return (count > 1 && meta.incremental)
            .then(|| "an incremental cannot be the first of a chain".to_owned());
    };
    if !meta.incremental {
        return Some("a full backup within a chain".to_owned());
    }
    if meta.virtual_size < previous.virtual_size {
        let (now, then) = (meta.virtual_size, previous.virtual_size);
        return Some(format!("a disk of {now} bytes after one of {then}"));
    }
    match (&meta.parent, &previous.checkpoint) {
        (Some(parent), Some(checkpoint)) if parent != checkpoint => {
            Some(format!("it stands on checkpoint {parent:?}, but the previous backup is of {checkpoint:?}"))
        }
        _ => None,
    }
}

/// Reads a whole stream.
pub(crate) fn check(file: &std::path::Path) -> Result<(Meta, Summary), Failure> {
    let mut meta = None;
    let summary = streams::read_file(file, &mut meta)?;
    meta.map(|meta| (meta, summary)).ok_or_else(streams::nothing)
}

/// Keeps what the stream is about, and passes over the rest.
impl Sink for Option<Meta> {
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure> {
        *self = Some(meta.clone());
        Ok(())
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn zero(&mut self, _: Range<u64>) -> Result<(), Failure> {
        Ok(())
    }
}

fn line(meta: &Meta, summary: &Summary) -> String {
    let kind = if meta.incremental { "incremental" } else { "full" };
    let Summary { data, zero, frames, .. } = *summary;
    let (size, data, zero) = (human(meta.virtual_size), human(data), human(zero));
    format!("{kind} of {size}: {data} of data, {zero} of zeroes, {frames} frames; whole")
}
