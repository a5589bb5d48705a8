//! The rules by which layers are a chain: the only definition, for the library and for every
//! program on top of it.
//!
//! Each rule compares a fact that a layer states of its parent with the same fact of the layer
//! right below it. A fact that one of the two does not state cannot be compared: it refuses
//! nothing, and [`unchecked`] lists it.

use alloc::string::{String, ToString as _};
use core::fmt::{self, Display};

use super::error::ChainError;
use super::layer::{ChainLayer, LayerName, ParentLayer};
use crate::extent::MAX_END;

/// Checks that these layers, oldest first, follow each other. `base` lies below the first, where
/// there is one.
pub(super) fn check<I: Display + PartialEq>(
    base: Option<&ChainLayer<I>>,
    layers: &[&ChainLayer<I>],
) -> Result<(), ChainError> {
    if layers.is_empty() {
        return Err(ChainError::Empty);
    }
    let mut below = base;
    for (position, &layer) in layers.iter().enumerate() {
        let at = LayerPosition { layers, position, layer };
        at.check_size()?;
        at.check_twice()?;
        match (&layer.parent, below) {
            (None, None) => {}
            (None, Some(_)) if position == 0 => return Err(ChainError::FullOnBase { layer: at.name() }),
            (None, Some(_)) => return Err(ChainError::FullInside { layer: at.name() }),
            (Some(parent), None) => return Err(at.no_parent(parent)),
            (Some(parent), Some(below)) => at.check_parent(parent, below)?,
        }
        below = Some(layer);
    }
    Ok(())
}

/// One layer where it stands.
struct LayerPosition<'a, I> {
    layers: &'a [&'a ChainLayer<I>],
    position: usize,
    layer: &'a ChainLayer<I>,
}

impl<I: Display + PartialEq> LayerPosition<'_, I> {
    fn name(&self) -> LayerName {
        LayerName { position: self.position, id: self.layer.id.as_ref().map(I::to_string) }
    }

    fn check_size(&self) -> Result<(), ChainError> {
        let size = self.layer.size;
        if size > MAX_END {
            return Err(ChainError::TooLarge { layer: self.name(), size });
        }
        Ok(())
    }

    /// The same name or the same checksum means the same backup. This comes before the comparison
    /// with the parent, whose message would be misleading.
    fn check_twice(&self) -> Result<(), ChainError> {
        let is_same = |other: &ChainLayer<I>| {
            states_same(&other.id, &self.layer.id) || states_same(&other.checksum, &self.layer.checksum)
        };
        match self.layers.iter().take(self.position).position(|&other| is_same(other)) {
            Some(first) => Err(ChainError::Twice { layer: self.name(), first }),
            None => Ok(()),
        }
    }

    fn check_parent(&self, parent: &ParentLayer<I>, below: &ChainLayer<I>) -> Result<(), ChainError> {
        if let (Some(disk), Some(expected)) = (&self.layer.disk, &below.disk)
            && disk != expected
        {
            let (disk, expected) = (disk.to_string(), expected.to_string());
            return Err(ChainError::OtherDisk { layer: self.name(), disk, expected });
        }
        if let (Some(id), Some(found)) = (&parent.id, &below.id)
            && id != found
        {
            return Err(self.no_parent(parent));
        }
        if let Some(stated) = parent.size
            && stated != below.size
        {
            return Err(ChainError::OtherSize { layer: self.name(), stated, found: below.size });
        }
        if let (Some(stated), Some(found)) = (parent.checksum, below.checksum)
            && stated != found
        {
            return Err(ChainError::OtherParent { layer: self.name(), stated, found });
        }
        Ok(())
    }

    /// The parent is not right below: it stands elsewhere, or nowhere.
    fn no_parent(&self, parent: &ParentLayer<I>) -> ChainError {
        let layer = self.name();
        let Some(id) = &parent.id else { return ChainError::NoFull { layer } };
        let parent = id.to_string();
        match self.layers.iter().position(|other| other.id.as_ref() == Some(id)) {
            Some(parent_position) => ChainError::Reordered { layer, parent, parent_position },
            None => ChainError::Missing { layer, parent },
        }
    }
}

fn states_same<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    one.is_some() && one == other
}

/// A fact by which a layer is tied to the layer below it.
///
/// ```
/// use nbd_extents::chain::ChainFact;
///
/// assert_eq!(ChainFact::ParentChecksum.to_string(), "the parent's checksum");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChainFact {
    /// Which disk was backed up.
    Disk,
    /// The parent's name.
    ParentName,
    /// The size that the disk had in the parent.
    ParentSize,
    /// The parent's checksum.
    ParentChecksum,
}

impl Display for ChainFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "the disk",
            Self::ParentName => "the parent's name",
            Self::ParentSize => "the parent's disk size",
            Self::ParentChecksum => "the parent's checksum",
        })
    }
}

/// A comparison that a chain could not make, because one of two neighbouring layers does not state
/// the fact.
///
/// ```
/// use nbd_extents::chain::{ChainFact, LayerName, Unchecked};
///
/// let layer = LayerName { position: 1, id: None };
/// let unchecked = Unchecked { layer, fact: ChainFact::Disk };
/// assert_eq!(unchecked.to_string(), "the layer at position 1: the disk could not be checked");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unchecked {
    /// The upper layer.
    pub layer: LayerName,
    /// The fact that could not be compared with the layer below it.
    pub fact: ChainFact,
}

impl Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} could not be checked", self.layer, self.fact)
    }
}

/// The facts that `upper`, at this position, and the layer below it do not both state.
///
/// A checksum that was compared leaves nothing open: the layer below is the parent, whatever its
/// name is.
pub(super) fn unchecked<'a, I: Display>(
    position: usize,
    below: &'a ChainLayer<I>,
    upper: &'a ChainLayer<I>,
) -> impl Iterator<Item = Unchecked> + 'a {
    let parent = upper.parent.as_ref();
    let name = || upper.id.as_ref().map(I::to_string) as Option<String>;
    let facts = [
        (ChainFact::Disk, upper.disk.is_some() && below.disk.is_some()),
        (ChainFact::ParentName, parent.is_some_and(|parent| parent.id.is_some()) && below.id.is_some()),
        (ChainFact::ParentSize, parent.is_some_and(|parent| parent.size.is_some())),
        (
            ChainFact::ParentChecksum,
            parent.is_some_and(|parent| parent.checksum.is_some()) && below.checksum.is_some(),
        ),
    ];
    let is_parent = facts.contains(&(ChainFact::ParentChecksum, true));
    let missing = facts.into_iter().filter(move |(_, is_checked)| !is_checked && !is_parent);
    missing.map(move |(fact, _)| Unchecked { layer: LayerName { position, id: name() }, fact })
}
