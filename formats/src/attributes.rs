//! The attributes of a range that any of the formats can state: the common ground on which lists are
//! read, converted and merged.

use std::collections::BTreeSet;

use nbd_extents::{Allocation, BitmapIndex, Depth, Dirtiness, Status};
use thiserror::Error;

/// The attributes of a range in a list, each `None` where the list does not state it.
///
/// ```
/// use nbd_extents_formats::Attributes;
///
/// let zero = Attributes { zero: Some(true), ..Attributes::default() };
/// assert_eq!(zero.dirty, None, "nobody has said so");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Whether every byte reads as zero.
    pub zero: Option<bool>,
    /// Known to be a hole, which says nothing of the content. `false` claims nothing, as a clear
    /// HOLE bit on the wire claims nothing.
    pub hole: bool,
    /// Whether the bytes have changed.
    pub dirty: Option<bool>,
    /// Which layer of the image holds the bytes.
    pub layer: Option<ImageLayer>,
    /// The `depth` of `qemu-img map` where it is not the number of a layer: the images that were
    /// looked at.
    pub searched: Option<u32>,
    /// Whether the bytes are stored compressed.
    pub compressed: Option<bool>,
    /// The offset in the image's file at which it holds the bytes as they are.
    pub host_offset: Option<u64>,
}

/// Which layer of an image holds a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageLayer {
    /// None of them.
    Absent,
    /// One of them.
    Present,
    /// One below the top, it is not known which.
    Backing,
    /// This one: 1 is the top, 2 its backing file. Never 0.
    Depth(u32),
}

impl ImageLayer {
    pub(crate) const fn from_depth(depth: u32) -> Self {
        if depth == 0 { Self::Absent } else { Self::Depth(depth) }
    }

    /// The layer in a format that knows only whether there is one.
    pub(crate) const fn coarse(self) -> Option<Self> {
        Some(if matches!(self, Self::Absent) { Self::Absent } else { Self::Present })
    }

    /// The layer in a format that numbers it.
    pub(crate) const fn numbered(self) -> Option<Self> {
        if matches!(self, Self::Absent | Self::Depth(_)) { Some(self) } else { None }
    }

    /// The layer in a format that tells the top from those below it.
    pub(crate) const fn top_or_backing(self) -> Option<Self> {
        match self {
            Self::Absent | Self::Depth(..=1) => Some(self),
            Self::Depth(_) | Self::Backing => Some(Self::Backing),
            Self::Present => None,
        }
    }

    /// The layer that two lists name together; `None` where they contradict each other.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (one, two) if one == two => Some(one),
            (Self::Absent, _) | (_, Self::Absent) => None,
            (Self::Present, finer) | (finer, Self::Present) => Some(finer),
            (Self::Backing, Self::Depth(2..)) => Some(other),
            (Self::Depth(2..), Self::Backing) => Some(self),
            _ => None,
        }
    }
}

/// A part of [`Attributes`]; as an error, the one that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum Attribute {
    /// [`Attributes::zero`].
    #[error("zero")]
    Zero,
    /// [`Attributes::hole`].
    #[error("hole")]
    Hole,
    /// [`Attributes::dirty`].
    #[error("dirty")]
    Dirty,
    /// [`Attributes::layer`].
    #[error("layer")]
    Layer,
    /// [`Attributes::searched`].
    #[error("searched")]
    Searched,
    /// [`Attributes::compressed`].
    #[error("compressed")]
    Compressed,
    /// [`Attributes::host_offset`].
    #[error("host-offset")]
    HostOffset,
}

impl Attribute {
    /// Every attribute, in the order of their fields.
    const ALL: [Self; 7] = [
        Self::Zero,
        Self::Hole,
        Self::Dirty,
        Self::Layer,
        Self::Searched,
        Self::Compressed,
        Self::HostOffset,
    ];
}

impl Attributes {
    /// Whether one attribute is the same there.
    fn agrees(&self, there: &Self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Zero => self.zero == there.zero,
            Attribute::Hole => self.hole == there.hole,
            Attribute::Dirty => self.dirty == there.dirty,
            Attribute::Layer => self.layer == there.layer,
            Attribute::Searched => self.searched == there.searched,
            Attribute::Compressed => self.compressed == there.compressed,
            Attribute::HostOffset => self.host_offset == there.host_offset,
        }
    }

    /// Whether one attribute is known here.
    pub(crate) const fn knows(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Zero => self.zero.is_some(),
            Attribute::Hole => self.hole,
            Attribute::Dirty => self.dirty.is_some(),
            Attribute::Layer => self.layer.is_some(),
            Attribute::Searched => self.searched.is_some(),
            Attribute::Compressed => self.compressed.is_some(),
            Attribute::HostOffset => self.host_offset.is_some(),
        }
    }

    /// The attributes that are known here.
    ///
    /// ```
    /// use nbd_extents_formats::{Attribute, Attributes};
    ///
    /// let clean = Attributes { dirty: Some(false), ..Attributes::default() };
    /// assert!(clean.known().eq([Attribute::Dirty]));
    /// ```
    pub fn known(&self) -> impl Iterator<Item = Attribute> {
        Attribute::ALL.into_iter().filter(|&attribute| self.knows(attribute))
    }

    /// The attributes that are known here and are not the same there.
    ///
    /// ```
    /// use nbd_extents_formats::{Attribute, Attributes};
    ///
    /// let both = Attributes { zero: Some(true), dirty: Some(true), ..Attributes::default() };
    /// let lost = both.lost_in(&Attributes { zero: Some(true), ..Attributes::default() });
    /// assert!(lost.into_iter().eq([Attribute::Dirty]));
    /// ```
    #[must_use]
    pub fn lost_in(&self, there: &Self) -> BTreeSet<Attribute> {
        // nearly every row of a list, and then without a set's memory
        if self == there {
            return BTreeSet::new();
        }
        self.known().filter(|&attribute| !self.agrees(there, attribute)).collect()
    }

    /// Combines the attributes of the same bytes from two lists.
    ///
    /// An attribute that only one of them states is taken over. Where they contradict each other, the
    /// safer answer holds: not zero, dirty. A layer, a compression or an offset in doubt becomes
    /// unknown.
    ///
    /// ```
    /// use nbd_extents_formats::Attributes;
    ///
    /// let dirty = Attributes { dirty: Some(true), ..Attributes::default() };
    /// let clean = Attributes { dirty: Some(false), ..Attributes::default() };
    /// let zero = Attributes { zero: Some(true), ..Attributes::default() };
    /// assert_eq!(dirty.combine(&clean), dirty);
    /// assert_eq!(clean.combine(&zero), Attributes { zero: Some(true), ..clean });
    /// ```
    #[must_use]
    pub fn combine(&self, other: &Self) -> Self {
        fn both<T>(one: Option<T>, two: Option<T>, combine: impl Fn(T, T) -> Option<T>) -> Option<T> {
            match (one, two) {
                (Some(one), Some(two)) => combine(one, two),
                (one, two) => one.or(two),
            }
        }
        fn same<T: PartialEq>(one: T, two: T) -> Option<T> {
            (one == two).then_some(one)
        }
        // a clear HOLE bit is an answer where the list is of the context that has it
        let both_know_holes = self.zero.and(other.zero).is_some();
        Self {
            zero: both(self.zero, other.zero, |one, two| Some(one && two)),
            hole: if both_know_holes { self.hole && other.hole } else { self.hole || other.hole },
            dirty: both(self.dirty, other.dirty, |one, two| Some(one || two)),
            layer: both(self.layer, other.layer, ImageLayer::and),
            searched: both(self.searched, other.searched, same),
            compressed: both(self.compressed, other.compressed, same),
            host_offset: both(self.host_offset, other.host_offset, same),
        }
    }

    /// The attributes as a [`Status`]; the dirty bitmap gets the index 0.
    ///
    /// A hole of which nobody says that it reads as zero is data with undefined content, as on the
    /// wire. A layer without a number has no place in a status, unless it is absent.
    ///
    /// ```
    /// use nbd_extents_formats::Attributes;
    ///
    /// let hole = Attributes { hole: true, ..Attributes::default() }.status();
    /// assert_eq!((hole.hole(), hole.zero(), hole.dirty()), (Some(true), Some(false), None));
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status::UNKNOWN;
        if self.zero.is_some() || self.hole {
            let zero = u64::from(self.zero == Some(true)) << 1;
            status = status.with_allocation(Allocation::from_flags(zero | u64::from(self.hole)));
        }
        if let Some(dirty) = self.dirty {
            status = status.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(u64::from(dirty)));
        }
        match self.layer {
            Some(ImageLayer::Absent) => status.with_depth(Depth::from_flags(0)),
            Some(ImageLayer::Depth(depth)) => status.with_depth(Depth::from_flags(u64::from(depth))),
            Some(ImageLayer::Present | ImageLayer::Backing) | None => status,
        }
    }
}

impl From<Status> for Attributes {
    /// The attributes in a survey's status; dirty is the union of its bitmaps.
    fn from(status: Status) -> Self {
        Self {
            zero: status.zero(),
            hole: status.hole() == Some(true),
            dirty: status.dirty(),
            layer: status.depth().map(ImageLayer::from_depth),
            ..Self::default()
        }
    }
}

/// The safe answers to assume where a format must give one and the list does not.
///
/// Nobody can assume that bytes are clean or zero.
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Assume, Attributes, Format, WriteOptions};
///
/// let assume = Assume { data: true, ..Assume::default() };
/// let options = WriteOptions { assume, ..WriteOptions::default() };
/// let mut writer = Format::ImageioZero.writer(Vec::new(), options);
/// writer.push(&Extent::new(0, 512, Attributes::default())?)?; // an error without it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assume {
    /// Take bytes for dirty if nothing says whether they have changed.
    pub dirty: bool,
    /// Take bytes for data if nothing says whether they read as zero.
    pub data: bool,
}

impl Assume {
    /// The attributes, with the assumptions in place of unknown ones.
    pub(crate) fn fill(self, known: &Attributes) -> Attributes {
        Attributes {
            dirty: known.dirty.or(self.dirty.then_some(true)),
            zero: known.zero.or(self.data.then_some(false)),
            ..*known
        }
    }
}
