//! `verify`: are backups whole, and do they follow each other? No server is asked.

use std::io::Write as _;
use std::path::PathBuf;

use nbd_extents_backup::sparse_stream::{Contents, Summary};

use crate::failure::Failure;
use crate::output::Output;
use crate::streams;
use crate::values::human;

/// Checks that backups are whole, and that several follow each other
///
/// Of several the first must be a full backup and each other the incremental that follows. When all
/// of them are sound, a line for each is printed, and the facts that it does not state, so that
/// they could not be checked.
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbd-extents verify disk.full"))]
pub(crate) struct VerifyArgs {
    /// The backups, in order; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Checks the streams, and prints a line for each.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let files = streams::read("verify", &args.files)?;
    let unchecked = files.verify()?;
    let mut out = Output::held();
    for (contents, facts) in files.contents().iter().zip(unchecked) {
        writeln!(out, "{}", line(contents))?;
        for fact in facts {
            writeln!(out, "  not checked: {fact}")?;
        }
    }
    match out.finish() {
        // A reader that has gone away is nothing to talk about, and the check is done.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn line(contents: &Contents) -> String {
    let meta = contents.meta();
    let kind = if meta.incremental { "incremental" } else { "full" };
    let Summary { data, zero, frames, .. } = contents.summary();
    let (size, data, zero) = (human(meta.virtual_size), human(data), human(zero));
    let frames_word = if frames == 1 { "frame" } else { "frames" };
    format!("{kind} of {size}: {data} of data, {zero} of zeroes, {frames} {frames_word}; whole")
}
