//! How a backup chain is restored: which layer serves which range of the disk, as a table and as a picture.
//!
//! ```text
//! cargo run --example restore_plan
//! ```
//!
//! Four backups of a small disk. On Monday the guest zeroed what Sunday had stored, on Tuesday the disk was shrunk, on Wednesday it grew again.
//! Neither the zeroed nor the cut-off bytes may come back.

use core::error::Error;

use nbd_extents::chain::{Chain, ChainLayer, Source};
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Extent, ExtentError};

const MIB: u64 = 1 << 20;
const COPY: Action = Action::Copy;
const ZERO: Action = Action::Zero { may_unmap: true };
const SKIP: Action = Action::Skip;
/// How wide the picture is, in characters.
const WIDTH: u64 = 64;

/// A backup: its name, and what it did with the disk from byte 0 on, in MiB.
type Backup = (&'static str, &'static [(u64, Action)]);

const BACKUPS: [Backup; 4] = [
    ("sunday", &[(24, COPY), (8, ZERO), (16, COPY)]),
    ("monday", &[(4, SKIP), (8, COPY), (8, ZERO), (28, SKIP)]),
    ("tuesday", &[(2, SKIP), (4, COPY), (26, SKIP)]), // 32 MiB: shrunk
    ("wednesday", &[(28, SKIP), (8, COPY), (12, ZERO)]), // 48 MiB again
];

fn main() -> Result<(), Box<dyn Error>> {
    let layers =
        BACKUPS.iter().enumerate().map(|(nth, backup)| layer(nth, backup)).collect::<Result<Vec<_>, _>>()?;
    for (nth, (layer, extents)) in layers.iter().enumerate() {
        println!(
            "{} {:>9}  {}",
            nth + 1,
            layer.id.unwrap_or_default(),
            strip(extents.iter().map(|e| (e.end(), sign(*e.status()))))
        );
    }

    // The chain checks that these are the layers of one disk, in order and none missing.
    let chain = Chain::new(layers.into_iter().map(|(layer, extents)| (layer, from_iter(extents))))?;
    let names: Vec<_> = chain.layers().filter_map(|layer| layer.id).collect();
    let size = chain.size();

    // One pass over all layers. The map joins equal neighbours, and refuses a plan that would not cover the disk.
    let plan = ExtentMap::covering(chain.restore(), 0..size)?;
    println!("{:>11}  {}\n", "restore", strip(plan.extents().map(|e| (e.end(), digit(*e.status())))));

    println!("{:>10} {:>10}  what", "MiB from", "MiB to");
    for extent in plan.extents() {
        println!(
            "{:>10} {:>10}  {}",
            extent.start() / MIB,
            extent.end() / MIB,
            words(*extent.status(), &names)
        );
    }
    println!();
    for total in plan.totals() {
        println!("{:>10} MiB  {}", total.bytes / MIB, words(total.status, &names));
    }
    Ok(())
}

/// A backup as a layer of the chain: each is on top of the one before, the first on top of none.
fn layer(
    nth: usize,
    backup: &Backup,
) -> Result<(ChainLayer<&'static str>, Vec<Extent<Action>>), ExtentError> {
    let mut end = 0;
    let mut extents = Vec::new();
    for &(length, action) in backup.1 {
        extents.push(Extent::new(end, length * MIB, action)?);
        end += length * MIB;
    }
    let parent = nth.checked_sub(1).and_then(|before| BACKUPS.get(before));
    let layer = match parent {
        Some(parent) => ChainLayer::incremental("vda", backup.0, parent.0, end),
        None => ChainLayer::full("vda", backup.0, end),
    };
    Ok((layer, extents))
}

/// One character for each 64th of the largest disk.
fn strip(extents: impl Iterator<Item = (u64, char)>) -> String {
    let mut strip = String::new();
    for (end, sign) in extents {
        let until = end * WIDTH / (48 * MIB);
        while (strip.len() as u64) < until {
            strip.push(sign);
        }
    }
    format!("|{strip}|")
}

fn sign(action: Action) -> char {
    match action {
        Action::Copy => '=',
        Action::Zero { .. } => '0',
        Action::Skip | Action::Absent => '.',
    }
}

/// The layer that is read, or that zeroes.
fn digit(source: Source) -> char {
    match source {
        Source::Copy { layer } => {
            u32::try_from(layer).ok().and_then(|layer| char::from_digit(layer + 1, 36)).unwrap_or('?')
        }
        Source::Zero { .. } => '0',
        Source::Below => '.',
    }
}

fn words(source: Source, names: &[&str]) -> String {
    let name = source.layer().and_then(|layer| names.get(layer)).copied().unwrap_or("?");
    match source {
        Source::Copy { layer } => format!("{}: copy from {name}", layer + 1),
        Source::Zero { .. } => format!("0: zeroes, since {name}"),
        Source::Below => "what is there already".into(),
    }
}
