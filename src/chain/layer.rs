//! What a layer of a chain says of itself, and the rules by which layers are a chain.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use super::error::ChainError;
use crate::extent::MAX_END;

/// Which backup a layer is. `I` is whatever names disks and layers: a UUID, a checkpoint's name, a number.
///
/// ```
/// use nbd_extents::chain::Layer;
///
/// let monday = Layer::full("vda", "monday", 10 << 30);
/// let tuesday = Layer::incremental("vda", "tuesday", "monday", 10 << 30);
/// assert_eq!(monday.parent, None);
/// assert_eq!(tuesday.parent, Some("monday"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layer<I> {
    /// The disk that was backed up.
    pub disk: I,
    /// The backup. No other layer of the chain has this name.
    pub id: I,
    /// The backup that this one was made on top of; `None` for a full backup.
    pub parent: Option<I>,
    /// The size that the disk had then, in bytes.
    pub size: u64,
}

impl<I> Layer<I> {
    /// A full backup.
    #[must_use]
    pub const fn full(disk: I, id: I, size: u64) -> Self {
        Self { disk, id, parent: None, size }
    }

    /// An incremental backup on top of the backup `parent`.
    #[must_use]
    pub const fn incremental(disk: I, id: I, parent: I, size: u64) -> Self {
        Self { disk, id, parent: Some(parent), size }
    }
}

/// Whether these layers, oldest first, are one chain from a full backup on.
pub(super) fn check<I: Clone + Ord>(layers: &[&Layer<I>]) -> Result<(), ChainError<I>> {
    let Some(first) = layers.first() else { return Err(ChainError::Empty) };
    let positions = positions(layers)?;
    let mut before: Option<&Layer<I>> = None;
    for (position, &layer) in layers.iter().enumerate() {
        let id = || layer.id.clone();
        if layer.disk != first.disk {
            let (disk, expected) = (layer.disk.clone(), first.disk.clone());
            return Err(ChainError::Foreign { position, id: id(), disk, expected });
        }
        if layer.size > MAX_END {
            return Err(ChainError::TooLarge { position, id: id(), size: layer.size });
        }
        match (&layer.parent, before) {
            (None, None) => {}
            (None, Some(_)) => return Err(ChainError::FullInside { position, id: id() }),
            (Some(parent), Some(before)) if *parent == before.id => {}
            (Some(parent), _) => {
                let parent = parent.clone();
                return Err(match positions.get(&parent) {
                    Some(&parent_position) => {
                        ChainError::Reordered { position, id: id(), parent, parent_position }
                    }
                    None => ChainError::Missing { position, id: id(), parent },
                });
            }
        }
        before = Some(layer);
    }
    Ok(())
}

/// Where each layer stands.
fn positions<'a, I: Clone + Ord>(layers: &[&'a Layer<I>]) -> Result<BTreeMap<&'a I, usize>, ChainError<I>> {
    let mut positions = BTreeMap::new();
    for (second, layer) in layers.iter().enumerate() {
        match positions.entry(&layer.id) {
            Entry::Vacant(entry) => entry.insert(second),
            Entry::Occupied(entry) => {
                return Err(ChainError::Twice { id: layer.id.clone(), first: *entry.get(), second });
            }
        };
    }
    Ok(positions)
}
