//! `chain`: which backup serves each range of the disk, when a chain is restored. No server is
//! asked.

use std::io::Write as _;
use std::path::PathBuf;

use nbd_extents::chain::Source;
use nbd_extents::map::ExtentMap;

use crate::failure::Failure;
use crate::output::Output;
use crate::streams;
use crate::values::human;

/// Shows which backup of a chain serves each range of the disk
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbd-extents chain disk.full"))]
pub(crate) struct ChainArgs {
    /// The backups, in order: a full one, then its incrementals
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Prints the sources of the restored disk.
pub(crate) fn run(args: &ChainArgs) -> Result<(), Failure> {
    let files = streams::read("chain", &args.files)?;
    let chain = files.chain(None)?;
    let size = chain.size();
    let sources = ExtentMap::covering(chain.restore(), 0..size)
        .map_err(|error| Failure::not_there(error.to_string()))?;
    let mut out = Output::held();
    writeln!(out, "{:>20} {:>20} {:>11}  from", "start", "length", "")?;
    for extent in sources.extents() {
        let (start, length) = (extent.start(), extent.length());
        let from = words(*extent.status(), &args.files);
        writeln!(out, "{start:>20} {length:>20} {:>11}  {from}", human(length))?;
    }
    Ok(out.finish()?)
}

fn words(source: Source, files: &[PathBuf]) -> String {
    let name = source.layer().and_then(|layer| files.get(layer)).map(|file| file.display().to_string());
    match (source, name) {
        (Source::Copy { .. }, Some(name)) => name,
        (Source::Zero { .. }, Some(name)) => format!("zeroes, by {name}"),
        _ => "no backup: it stays as it is".to_owned(),
    }
}
