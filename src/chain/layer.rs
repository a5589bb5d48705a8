//! One backup of a chain: the facts that it states of itself and of its parent.

use core::fmt;

use super::Checksum;

/// One backup of a chain: a full one, or an incremental on top of another.
///
/// `I` names disks and layers: a UUID, a checkpoint's name, a number. `None` means that a backup
/// does not state a fact. [`Chain::new`](super::Chain::new) compares the facts that both sides
/// state, and [`Chain::unchecked`](super::Chain::unchecked) lists the comparisons that it could not
/// make.
///
/// ```
/// use nbd_extents::chain::ChainLayer;
///
/// let monday = ChainLayer::full("vda", "monday", 10 << 30);
/// let tuesday = ChainLayer::incremental("vda", "tuesday", "monday", 10 << 30);
/// assert_eq!(monday.parent, None);
/// assert_eq!(tuesday.parent.and_then(|parent| parent.id), Some("monday"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChainLayer<I> {
    /// The disk that was backed up.
    pub disk: Option<I>,
    /// The backup's name. No other layer of the chain has it.
    pub id: Option<I>,
    /// The size that the disk had then, in bytes.
    pub size: u64,
    /// The checksum over all bytes of the backup.
    pub checksum: Option<Checksum>,
    /// The backup that this one was made on top of; `None` for a full backup.
    pub parent: Option<ParentLayer<I>>,
}

/// The facts that an incremental states of the backup that it was made on top of.
///
/// ```
/// use nbd_extents::chain::ParentLayer;
///
/// let unnamed: ParentLayer<&str> = ParentLayer::default();
/// assert_eq!((unnamed.id, unnamed.size, unnamed.checksum), (None, None, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentLayer<I> {
    /// The parent's name.
    pub id: Option<I>,
    /// The size that the disk had in the parent, in bytes.
    pub size: Option<u64>,
    /// The parent's checksum.
    pub checksum: Option<Checksum>,
}

impl<I> Default for ParentLayer<I> {
    fn default() -> Self {
        Self { id: None, size: None, checksum: None }
    }
}

impl<I> ChainLayer<I> {
    /// A full backup.
    #[must_use]
    pub const fn full(disk: I, id: I, size: u64) -> Self {
        Self { disk: Some(disk), id: Some(id), size, checksum: None, parent: None }
    }

    /// An incremental backup on top of the backup `parent`.
    #[must_use]
    pub const fn incremental(disk: I, id: I, parent: I, size: u64) -> Self {
        let parent = Some(ParentLayer { id: Some(parent), size: None, checksum: None });
        Self { disk: Some(disk), id: Some(id), size, checksum: None, parent }
    }
}

/// A layer as an error message names it: its position, counted from the oldest, and its name if it
/// has one.
///
/// ```
/// use nbd_extents::chain::LayerName;
///
/// let named = LayerName { position: 1, id: Some("tuesday".into()) };
/// assert_eq!(named.to_string(), "layer tuesday at position 1");
/// assert_eq!(LayerName { id: None, ..named }.to_string(), "the layer at position 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerName {
    /// The layer's position in the chain, counted from the oldest, 0.
    pub position: usize,
    /// The layer's name, as it prints.
    pub id: Option<alloc::string::String>,
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { position, id: Some(id) } => write!(f, "layer {id} at position {position}"),
            Self { position, id: None } => write!(f, "the layer at position {position}"),
        }
    }
}
