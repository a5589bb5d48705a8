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
/// of them are sound, a line for each shows its checkpoint, the checkpoint that it stands on and its
/// bitmaps, followed by the facts that it does not state, so that they could not be checked. The last
/// line names the chain. That an incremental's bitmap began at the backup before it, no file can tell:
/// see `backup --help`.
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
    for ((file, contents), facts) in args.files.iter().zip(files.contents()).zip(unchecked) {
        writeln!(out, "{}: {}", file.display(), line(contents))?;
        for fact in facts {
            writeln!(out, "  not checked: {fact}")?;
        }
    }
    if args.files.len() > 1 {
        writeln!(out, "{}", chain(&args.files, files.contents()))?;
    }
    match out.finish() {
        // A reader that has gone away is nothing to talk about, and the check is done.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// One backup in a line: its kind, checkpoint, bitmaps and figures.
fn line(contents: &Contents) -> String {
    let meta = contents.meta();
    let mut line = if meta.incremental { "incremental" } else { "full" }.to_owned();
    if let Some(checkpoint) = &meta.checkpoint {
        line.push_str(&format!(", checkpoint {}", checkpoint.escape_debug()));
    }
    if let Some(parent) = &meta.parent {
        line.push_str(&format!(", stands on {}", parent.escape_debug()));
    }
    for bitmap in &meta.bitmaps {
        line.push_str(&format!(", bitmap {}", bitmap.escape_debug()));
    }
    let Summary { data, zero, .. } = contents.summary();
    let (size, data, zero) = (human(meta.virtual_size), human(data), human(zero));
    format!("{line}, {}, disk of {size}: {data} of data, {zero} of zeroes; whole", meta.date.escape_debug())
}

/// The end of a check that went well: the checkpoints in order, by their files where they have no
/// names, and the one fact that no file can state.
fn chain(files: &[PathBuf], contents: &[Contents]) -> String {
    let names = files.iter().zip(contents).map(|(file, contents)| match &contents.meta().checkpoint {
        Some(name) => name.escape_debug().to_string(),
        None => file.display().to_string(),
    });
    let names: Vec<String> = names.collect();
    format!(
        "the chain holds: {} (that each bitmap began at the backup before it, no file can tell)",
        names.join(", ")
    )
}
