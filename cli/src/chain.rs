//! `chain`: which backup serves each range of the disk, when a chain is restored. No server is asked.

use core::ops::Range;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nbd_extents::chain::{Chain, ChainLayer, ParentLayer, Source};
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::{ExtentStream as _, from_iter};
use nbd_extents::{Action, Extent};
use nbd_extents_formats::sparse_stream::Meta;

use crate::failure::Failure;
use crate::output::Output;
use crate::streams::{self, Sink};
use crate::values::human;

/// Shows which backup of a chain serves each range of the disk
#[derive(Debug, clap::Args)]
#[command(after_help = example!("  nbdkit -r -U - memory 64M --run 'nbd-extents backup \"$uri\" disk.full'
  nbd-extents chain disk.full"))]
pub(crate) struct Args {
    /// The backups, in order: a full one, then its incrementals
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Does what the command line asks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut layers = Vec::new();
    for file in &args.files {
        let (meta, extents) = actions(file)?;
        let size = meta.virtual_size;
        // An incremental says nothing of clean bytes.
        layers.push((layer(meta), from_iter(extents).fill(0..size, Action::Skip)));
    }
    let chain = Chain::new(layers).map_err(|error| Failure::not_there(error.to_string()))?;
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

/// What a stream says of itself and of the backup that it stands on.
fn layer(meta: Meta) -> ChainLayer<String> {
    let parent = ParentLayer { id: meta.parent, ..ParentLayer::default() };
    ChainLayer {
        disk: None,
        id: meta.checkpoint,
        size: meta.virtual_size,
        checksum: None,
        parent: meta.incremental.then_some(parent),
    }
}

/// What a stream does with each range that it names.
fn actions(file: &Path) -> Result<(Meta, Vec<Extent<Action>>), Failure> {
    let mut actions = Actions { meta: None, extents: Vec::new() };
    streams::read_file(file, &mut actions)?;
    actions.meta.map(|meta| (meta, actions.extents)).ok_or_else(streams::nothing)
}

struct Actions {
    meta: Option<Meta>,
    extents: Vec<Extent<Action>>,
}

impl Actions {
    /// Neighbours of one action are joined, since payloads come in pieces.
    fn push(&mut self, start: u64, length: u64, action: Action) -> Result<(), Failure> {
        let extent =
            Extent::new(start, length, action).map_err(|error| Failure::broken(error.to_string()))?;
        let apart = match self.extents.last_mut() {
            None => Some(extent),
            Some(last) => last.absorb(extent),
        };
        self.extents.extend(apart);
        Ok(())
    }
}

impl Sink for Actions {
    fn begin(&mut self, meta: &Meta) -> Result<(), Failure> {
        self.meta = Some(meta.clone());
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.push(offset, bytes.len() as u64, Action::Copy)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        self.push(range.start, range.end - range.start, Action::Zero { may_unmap: true })
    }
}

fn words(source: Source, files: &[PathBuf]) -> String {
    let name = source.layer().and_then(|layer| files.get(layer)).map(|file| file.display().to_string());
    match (source, name) {
        (Source::Copy { .. }, Some(name)) => name,
        (Source::Zero { .. }, Some(name)) => format!("zeroes, by {name}"),
        _ => "what is there already".to_owned(),
    }
}
