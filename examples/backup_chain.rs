//! A full backup and its incrementals: which of them serves each range of the disk when it is
//! restored?
//!
//! ```text
//! cargo run --example backup_chain
//! ```

use core::error::Error;

use nbd_extents::chain::{Chain, ChainLayer};
use nbd_extents::map::ExtentMap;
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Extent, ExtentError};

const MIB: u64 = 1 << 20;
const COPY: Action = Action::Copy;
const ZERO: Action = Action::Zero { may_unmap: true };
const SKIP: Action = Action::Skip;

fn main() -> Result<(), Box<dyn Error>> {
    // On Monday the guest zeroed some of the bytes that Sunday had stored, on Tuesday the disk was
    // shrunk, on Wednesday it grew again. Neither the zeroed nor the cut-off bytes may come back.
    let sunday = backup(&[(24, COPY), (8, ZERO), (16, COPY)])?;
    let monday = backup(&[(4, SKIP), (8, COPY), (8, ZERO), (28, SKIP)])?;
    let tuesday = backup(&[(2, SKIP), (4, COPY), (26, SKIP)])?;
    let wednesday = backup(&[(28, SKIP), (8, COPY), (12, ZERO)])?;

    // The chain checks that these are the layers of one disk, in order and none missing.
    let chain = Chain::new([
        (ChainLayer::full("vda", "sunday", 48 * MIB), from_iter(sunday)),
        (ChainLayer::incremental("vda", "monday", "sunday", 48 * MIB), from_iter(monday)),
        (ChainLayer::incremental("vda", "tuesday", "monday", 32 * MIB), from_iter(tuesday)),
        (ChainLayer::incremental("vda", "wednesday", "tuesday", 48 * MIB), from_iter(wednesday)),
    ])?;
    let names: Vec<_> = chain.layers().map(|layer| layer.id.unwrap_or_default()).collect();
    let size = chain.size();

    // One pass over all layers. The map joins equal neighbours, and refuses a result that does not
    // cover the disk.
    let sources = ExtentMap::covering(chain.restore(), 0..size)?;
    for extent in sources.extents() {
        let (start, end, source) = (extent.start() / MIB, extent.end() / MIB, extent.status());
        let name = source.layer().and_then(|layer| names.get(layer)).unwrap_or(&"none");
        println!("{start:>3} to {end:>2} MiB  {source}, {name}");
    }
    Ok(())
}

/// The actions of a backup from byte 0 on, by lengths in MiB.
fn backup(parts: &[(u64, Action)]) -> Result<Vec<Extent<Action>>, ExtentError> {
    let mut end = 0;
    let mut extents = Vec::new();
    for &(length, action) in parts {
        extents.push(Extent::new(end, length * MIB, action)?);
        end += length * MIB;
    }
    Ok(extents)
}
