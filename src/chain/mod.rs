//! A full backup and its incrementals: which of them serves each range of the disk.
//!
//! An incremental stores what changed since the backup before it, so that a restore needs all of
//! them. For each byte the newest layer that says *copy* or *zero* decides, whatever lies under it:
//!
//! ```text
//! layer 2  |- skip -------|= copy ==|0 zero 0|- skip --|    tuesday, on top of monday
//! layer 1  |- skip --|= copy ====|- skip --------------|    monday, on top of sunday
//! layer 0  |= copy =====================|0 zero 0000000|    sunday, the full
//!
//! restore  | copy 0  | 1  |   2     | zero 2 | zero 0  |
//! ```
//!
//! Zeroes hide data: what the guest zeroed on Tuesday must not come back from Sunday. This is why
//! an incremental records zeroes instead of leaving them out.
//!
//! ```
//! use nbd_extents::chain::{Chain, ChainLayer, Source};
//! use nbd_extents::stream::{ExtentStream, from_iter};
//! use nbd_extents::{Action, Extent};
//!
//! let sunday = [Extent::new(0, 8192, Action::Copy)?];
//! let monday = [
//!     Extent::new(0, 4096, Action::Skip)?,
//!     Extent::new(4096, 4096, Action::Zero { may_unmap: true })?,
//! ];
//! let chain = Chain::new([
//!     (ChainLayer::full("vda", "sunday", 8192), from_iter(sunday.to_vec())),
//!     (ChainLayer::incremental("vda", "monday", "sunday", 8192), from_iter(monday.to_vec())),
//! ])?;
//!
//! let sources = chain.restore().collect_vec()?;
//! assert_eq!(
//!     sources,
//!     [
//!         Extent::from_range(0..4096, Source::Copy { layer: 0 })?,
//!         Extent::from_range(4096..8192, Source::Zero { layer: 1, may_unmap: true })?,
//!     ]
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Disks that grow and shrink
//!
//! Each layer has the size that the disk had then, and a restore covers the size of the newest
//! layer. What a shrink cuts off is gone: when the disk grows again, the bytes of the layers before
//! the shrink stay hidden.
//!
//! ```text
//! layer 2  |- skip --------------|0 zero 0000|    10 GiB again
//! layer 1  |- skip --------------|                shrunk to 5 GiB
//! layer 0  |= copy ==========================|    10 GiB
//!
//! restore  |  copy from layer 0  | zero by 2 |
//! ```
//!
//! A layer must therefore say of every byte beyond the end of the one before whether it is copied
//! or zero, as an [`Incremental`](crate::action::Incremental) does that knows the size of the
//! backup before. One that skips there was decided by a dirty bitmap alone, and qemu calls clean
//! what a resize has added: the chain is refused with [`SourceError::Grown`]. Where such bytes are
//! known to be zero, [`Chain::growth_reads_as_zero`] says so.

mod checksum;
mod error;
mod layer;
mod rules;
mod source;
mod sources;

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

pub use checksum::{Checksum, ChecksumError};
pub use error::{ChainError, SourceError};
pub use layer::{ChainLayer, LayerName, ParentLayer};
pub use rules::{ChainFact, Unchecked};
pub use source::Source;
pub use sources::Sources;

use crate::action::Action;
use crate::stream::ExtentStream;

/// A full backup and the incrementals on top of it, oldest first: see the [module](self).
///
/// `I` names disks and layers, `S` reads the actions of a layer. Each stream must cover its
/// layer's disk exactly once, which is checked while it is read. Where an index lists only stored
/// ranges, fill the rest: `stream.fill(0..size, Action::Skip)`. A full backup that skipped zeroes because
/// its target had none but zeroes must say `Zero` there, since for a chain a skipped byte is a byte
/// that it does not have.
#[derive(Clone)]
pub struct Chain<I, S> {
    layers: Vec<(ChainLayer<I>, S)>,
    /// The layer below the first one; `None` where that one is a full backup.
    base: Option<ChainLayer<I>>,
    growth_is_zero: bool,
}

impl<I: Clone + PartialEq + fmt::Display, S: ExtentStream<Status = Action>> Chain<I, S> {
    /// Takes layers, oldest first, each with the stream of its actions: `Copy` where it has stored
    /// the bytes, `Zero` where they are zeroes, `Skip` and `Absent` where it has nothing to say.
    ///
    /// # Errors
    ///
    /// [`ChainError`] when a layer is missing, of another disk, in the wrong place or there twice,
    /// states an impossible size, or states another name, size or checksum of its parent than the
    /// layer below it has. The streams have not been touched then.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainError, ChainLayer, LayerName};
    /// use nbd_extents::stream::from_iter;
    ///
    /// let nothing = || from_iter(Vec::new());
    /// let broken = Chain::new([
    ///     (ChainLayer::full("vda", "sunday", 4096), nothing()),
    ///     (ChainLayer::incremental("vda", "tuesday", "monday", 4096), nothing()),
    /// ]);
    /// let layer = LayerName { position: 1, id: Some("tuesday".into()) };
    /// assert_eq!(broken.unwrap_err(), ChainError::Missing { layer, parent: "monday".into() });
    /// ```
    ///
    /// Ids may be borrowed. The errors own theirs, so that a caller can hand them on:
    ///
    /// ```
    /// use nbd_extents::Action;
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::map::ExtentMap;
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    ///
    /// fn size(disk: &str, name: &str) -> Result<u64, Box<dyn std::error::Error>> {
    ///     let changes =
    ///         ExtentMap::covering(from_iter(Vec::new()).fill(0..512, Action::Copy), 0..512)?;
    ///     Ok(Chain::new([(ChainLayer::full(disk, name, 512), changes.stream())])?.size())
    /// }
    /// assert_eq!(size("vda", &format!("day {}", 1))?, 512);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(layers: impl IntoIterator<Item = (ChainLayer<I>, S)>) -> Result<Self, ChainError> {
        Self::checked(None, layers)
    }

    /// Takes incrementals, oldest first, for a disk that holds the state of `base` already.
    ///
    /// A restore then leaves alone ([`Source::Below`]) what none of the layers has. Of `base` only
    /// the name, the disk, the size and the checksum count.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); the first layer must be an incremental on top of `base`.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Action, Extent};
    ///
    /// let changed = from_iter([
    ///     Extent::new(0, 512, Action::Copy)?,
    ///     Extent::new(512, 3584, Action::Skip)?,
    /// ]);
    /// let base = ChainLayer::full("vda", "sunday", 4096);
    /// let monday = ChainLayer::incremental("vda", "monday", "sunday", 4096);
    /// let sources = Chain::onto(base, [(monday, changed)])?.restore().collect_vec()?;
    /// assert_eq!(sources[0].to_string(), "0..512 copy from layer 0");
    /// assert_eq!(sources[1].to_string(), "512..4096 below");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn onto(
        base: ChainLayer<I>,
        layers: impl IntoIterator<Item = (ChainLayer<I>, S)>,
    ) -> Result<Self, ChainError> {
        Self::checked(Some(base), layers)
    }

    fn checked(
        base: Option<ChainLayer<I>>,
        layers: impl IntoIterator<Item = (ChainLayer<I>, S)>,
    ) -> Result<Self, ChainError> {
        let layers: Vec<_> = layers.into_iter().collect();
        let stated: Vec<_> = layers.iter().map(|(layer, _)| layer).collect();
        rules::check(base.as_ref(), &stated)?;
        Ok(Self { layers, base, growth_is_zero: false })
    }

    /// The comparisons that could not be made, because one of two neighbouring layers does not
    /// state the fact.
    ///
    /// Where the parent's checksum was compared, there are none: it stands for all other facts.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainFact, ChainLayer, ParentLayer};
    /// use nbd_extents::stream::from_iter;
    ///
    /// let parent = ParentLayer { size: Some(4096), ..ParentLayer::default() };
    /// let chain = Chain::new([
    ///     (ChainLayer::full("vda", "sunday", 4096), from_iter([])),
    ///     (
    ///         ChainLayer {
    ///             disk: Some("vda"),
    ///             id: None,
    ///             size: 4096,
    ///             checksum: None,
    ///             parent: Some(parent),
    ///         },
    ///         from_iter([]),
    ///     ),
    /// ])?;
    /// let facts: Vec<_> = chain.unchecked().map(|unchecked| unchecked.fact).collect();
    /// assert_eq!(facts, [ChainFact::ParentName, ChainFact::ParentChecksum]);
    /// # Ok::<(), nbd_extents::chain::ChainError>(())
    /// ```
    pub fn unchecked(&self) -> impl Iterator<Item = Unchecked> {
        let below = self.base.iter().chain(self.layers());
        // without a base the first layer is compared with none
        let first = usize::from(self.base.is_none());
        let upper = self.layers().enumerate().skip(first);
        below.zip(upper).flat_map(|(below, (position, upper))| rules::unchecked(position, below, upper))
    }

    /// Takes bytes that a layer skips beyond the end of the layer before it for zeroes.
    ///
    /// Say so only if a disk that grows is known to get zeroes and the bitmap has recorded all the
    /// time, so that what it calls clean there has never been written: with backups of other tools,
    /// which store nothing for that part.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer, SourceError};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Action, Extent};
    ///
    /// let chain = Chain::new([
    ///     (
    ///         ChainLayer::full("vda", "sunday", 4096),
    ///         from_iter(Extent::new(0, 4096, Action::Copy)),
    ///     ),
    ///     (
    ///         ChainLayer::incremental("vda", "monday", "sunday", 8192),
    ///         from_iter(Extent::new(0, 8192, Action::Skip)),
    ///     ),
    /// ])?;
    /// let refused = chain.clone().restore().collect_vec();
    /// assert_eq!(refused, Err(SourceError::Grown { layer: 1, range: 4096..8192 }));
    ///
    /// let sources = chain.growth_reads_as_zero().restore().collect_vec()?;
    /// assert_eq!(sources[1].to_string(), "4096..8192 zero by layer 1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn growth_reads_as_zero(mut self) -> Self {
        self.growth_is_zero = true;
        self
    }

    /// The layers, oldest first. A [`Source`] counts them in this order.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let chain = Chain::new([(
    ///     ChainLayer::full("vda", "sunday", 4096),
    ///     from_iter(Extent::new(0, 4096, Action::Copy)),
    /// )])?;
    /// assert!(chain.layers().map(|layer| layer.id).eq([Some("sunday")]));
    /// assert_eq!(chain.size(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &ChainLayer<I>> {
        self.layers.iter().map(|(layer, _)| layer)
    }

    /// The size of the disk after a restore: that of the newest layer, in bytes.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let chain = Chain::new([
    ///     (
    ///         ChainLayer::full("vda", "sunday", 8192),
    ///         from_iter(Extent::new(0, 8192, Action::Copy)),
    ///     ),
    ///     (
    ///         ChainLayer::incremental("vda", "monday", "sunday", 4096),
    ///         from_iter(Extent::new(0, 4096, Action::Skip)),
    ///     ),
    /// ])?;
    /// assert_eq!(chain.size(), 4096, "the disk had shrunk by monday");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.last().map_or(0, |(layer, _)| layer.size)
    }

    /// Returns, for every range of the disk, the layer that serves it.
    ///
    /// The stream is lazy: it reads each layer once, holds one extent of each, and takes time by
    /// the number of extents, not by the depth of the chain. It covers `0..size` exactly once or
    /// fails: with [`SourceError::Uncovered`] or [`SourceError::Grown`] at the first bytes that no
    /// layer has.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Action, Extent};
    ///
    /// let chain = Chain::new([
    ///     (
    ///         ChainLayer::full("vda", "sunday", 8192),
    ///         from_iter(Extent::new(0, 8192, Action::Copy)),
    ///     ),
    ///     (
    ///         ChainLayer::incremental("vda", "monday", "sunday", 4096),
    ///         from_iter(Extent::new(0, 4096, Action::Skip)),
    ///     ),
    /// ])?;
    /// let sources = chain.restore().collect_vec()?;
    /// assert_eq!(sources[0].to_string(), "0..4096 copy from layer 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(self) -> Sources<S> {
        let below = self.base.map(|base| base.size);
        sources(self.layers, 0, below, self.growth_is_zero)
    }

    /// Makes one layer of those at positions `range`: its facts, and where each of its bytes comes
    /// from.
    ///
    /// From layer 0 on the result is a *synthetic full*: no guest, no server, nothing but the
    /// backups is read for it. Anywhere else it is an incremental that takes the place of several,
    /// and yields [`Source::Below`] where none of them has an action. It keeps the id of the
    /// newest and the parent of the oldest of them, so that the rest of the chain stands on it as
    /// before.
    ///
    /// # Errors
    ///
    /// [`ChainError::NoSuchLayers`] when the range is empty or leaves the chain.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Action, Extent};
    ///
    /// let all = |action| from_iter(Extent::new(0, 4096, action));
    /// let chain = Chain::new([
    ///     (ChainLayer::full("vda", "sunday", 4096), all(Action::Copy)),
    ///     (ChainLayer::incremental("vda", "monday", "sunday", 4096), all(Action::Copy)),
    ///     (ChainLayer::incremental("vda", "tuesday", "monday", 4096), all(Action::Skip)),
    /// ])?;
    /// let (layer, sources) = chain.clone().merge(1..3)?;
    /// assert_eq!(layer, ChainLayer::incremental("vda", "tuesday", "sunday", 4096));
    /// assert_eq!(sources.collect_vec()?[0].to_string(), "0..4096 copy from layer 1");
    ///
    /// let (full, _) = chain.merge(0..3)?;
    /// assert_eq!(full, ChainLayer::full("vda", "tuesday", 4096));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(mut self, range: Range<usize>) -> Result<(ChainLayer<I>, Sources<S>), ChainError> {
        let layers = self.layers.len();
        if range.is_empty() || range.end > layers {
            return Err(ChainError::NoSuchLayers { range, layers });
        }
        self.layers.truncate(range.end);
        let merged = self.layers.split_off(range.start);
        let (Some((oldest, _)), Some((newest, _))) = (merged.first(), merged.last()) else {
            return Err(ChainError::NoSuchLayers { range, layers });
        };
        let layer = ChainLayer { parent: oldest.parent.clone(), ..newest.clone() };
        let below = self.layers.last().map(|(layer, _)| layer).or(self.base.as_ref());
        let below = below.map(|layer| layer.size);
        Ok((layer, sources(merged, range.start, below, self.growth_is_zero)))
    }

    /// Reads every layer to its end, and then the whole restore: whether each layer covers its disk
    /// exactly once, and the chain can be restored.
    ///
    /// A restore alone reads only what it needs, and may miss a fault in a part that is hidden.
    ///
    /// # Errors
    ///
    /// [`SourceError::Layer`] names the layer, and the first gap or overlap in it;
    /// [`SourceError::Uncovered`] and [`SourceError::Grown`] the first bytes that no layer has.
    ///
    /// ```
    /// use nbd_extents::chain::{Chain, ChainLayer, SourceError};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent, StreamError};
    ///
    /// let cut_short = from_iter(vec![Extent::new(0, 4096, Action::Copy)?]);
    /// let chain = Chain::new([(ChainLayer::full(1, 1, 8192), cut_short)])?;
    /// let error = StreamError::Gap { range: 4096..8192 };
    /// assert_eq!(chain.check(), Err(SourceError::Layer { layer: 0, error }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self) -> Result<(), SourceError<S::Error>>
    where
        S: Clone,
    {
        for (nth, (layer, stream)) in self.layers.iter().enumerate() {
            let covering = stream.clone().covering(0..layer.size);
            covering.for_each(drop).map_err(|error| SourceError::Layer { layer: nth, error })?;
        }
        self.clone().restore().for_each(drop)
    }
}

fn sources<I, S: ExtentStream<Status = Action>>(
    layers: Vec<(ChainLayer<I>, S)>,
    first: usize,
    below: Option<u64>,
    growth_is_zero: bool,
) -> Sources<S> {
    let layers = layers.into_iter().map(|(layer, stream)| (layer.size, stream)).collect();
    Sources::new(layers, first, below, growth_is_zero)
}

impl<I: fmt::Debug, S> fmt::Debug for Chain<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.layers.iter().map(|(layer, _)| layer)).finish()
    }
}
