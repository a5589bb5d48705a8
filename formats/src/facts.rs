//! What any of the formats can say of a range, and what goes lost between two of them.

use std::fmt;

use nbd_extents::{Allocation, BitmapIndex, Depth, Dirtiness, Status};

/// All that a format says of a range, and `None` where it says nothing. The common ground on which formats are turned into each other.
///
/// A row of a format becomes facts without loss ([`Row::facts`]); facts become a row where the format can say them
/// ([`Row::from_facts`]). What a row leaves out is [`lost_in`](Self::lost_in) it.
///
/// ```
/// use nbd_extents_formats::{Fact, Facts, Row, imageio};
///
/// let facts = Facts { dirty: Some(true), hole: true, ..Facts::default() };
/// let row = imageio::Dirty::from_facts(&facts)?;
/// assert_eq!(row, imageio::Dirty { dirty: true, zero: None });
/// assert!(facts.lost_in(&row.facts()).contains(Fact::Hole), "ovirt-imageio has no word for it");
/// # Ok::<(), Fact>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Whether every byte reads as zero.
    pub zero: Option<bool>,
    /// Known to be a hole, which says nothing of the content. `false` claims nothing, as a clear HOLE bit on the wire claims nothing.
    pub hole: bool,
    /// Whether the bytes have changed.
    pub dirty: Option<bool>,
    /// Which layer of the image holds the bytes.
    pub layer: Option<Layer>,
    /// Whether the bytes are stored compressed.
    pub compressed: Option<bool>,
    /// Where the image's file holds them as they are, in bytes.
    pub host_offset: Option<u64>,
}

/// Which layer of an image holds a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// None of them.
    Absent,
    /// One of them.
    Present,
    /// This one: 1 is the top, 2 its backing file. Never 0.
    Depth(u32),
}

/// One kind of thing that a format can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fact {
    /// [`Facts::zero`].
    Zero,
    /// [`Facts::hole`].
    Hole,
    /// [`Facts::dirty`].
    Dirty,
    /// [`Facts::layer`].
    Layer,
    /// [`Facts::compressed`].
    Compressed,
    /// [`Facts::host_offset`].
    HostOffset,
}

impl Fact {
    const ALL: [Self; 6] =
        [Self::Zero, Self::Hole, Self::Dirty, Self::Layer, Self::Compressed, Self::HostOffset];

    /// Its name, in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Hole => "hole",
            Self::Dirty => "dirty",
            Self::Layer => "layer",
            Self::Compressed => "compressed",
            Self::HostOffset => "host-offset",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds of facts.
///
/// ```
/// use nbd_extents_formats::{Fact, FactSet};
///
/// let set = FactSet::default().with(Fact::Layer).with(Fact::Hole);
/// assert_eq!(set.to_string(), "hole,layer");
/// assert!(!set.contains(Fact::Zero));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FactSet(u8);

impl FactSet {
    /// The same set with one kind more.
    #[must_use]
    pub const fn with(self, fact: Fact) -> Self {
        Self(self.0 | 1 << fact as u8)
    }

    /// The kinds of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a kind is in the set.
    #[must_use]
    pub const fn contains(self, fact: Fact) -> bool {
        self.0 & 1 << fact as u8 != 0
    }
}

impl fmt::Display for FactSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for fact in Fact::ALL.into_iter().filter(|&fact| self.contains(fact)) {
            write!(f, "{separator}{fact}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl Facts {
    /// The kinds of facts that are known here and are not the same there.
    #[must_use]
    pub fn lost_in(&self, there: &Self) -> FactSet {
        let differs = [
            (Fact::Zero, self.zero.is_some() && self.zero != there.zero),
            (Fact::Hole, self.hole && !there.hole),
            (Fact::Dirty, self.dirty.is_some() && self.dirty != there.dirty),
            (Fact::Layer, self.layer.is_some() && self.layer != there.layer),
            (Fact::Compressed, self.compressed.is_some() && self.compressed != there.compressed),
            (Fact::HostOffset, self.host_offset.is_some() && self.host_offset != there.host_offset),
        ];
        differs
            .into_iter()
            .filter(|&(_, lost)| lost)
            .fold(FactSet::default(), |set, (fact, _)| set.with(fact))
    }

    /// The same facts, with what is not known replaced by what is safe, as far as the caller wishes.
    ///
    /// ```
    /// use nbd_extents_formats::{Assume, Facts};
    ///
    /// let facts = Facts { zero: Some(true), ..Facts::default() };
    /// let assumed = facts.assuming(Assume { dirty: true, data: true });
    /// assert_eq!((assumed.dirty, assumed.zero), (Some(true), Some(true)), "what is known stays");
    /// ```
    #[must_use]
    pub fn assuming(mut self, assume: Assume) -> Self {
        if assume.dirty {
            self.dirty = self.dirty.or(Some(true));
        }
        if assume.data {
            self.zero = self.zero.or(Some(false));
        }
        self
    }

    /// The facts as a [`Status`]; a dirty bitmap gets the index 0.
    ///
    /// A hole of which nobody says that it reads as zero is data with undefined content, as on the wire. A layer without a number has no place in
    /// a status, except that it is absent.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status::UNKNOWN;
        if self.zero.is_some() || self.hole {
            let zero = if self.zero == Some(true) { 2 } else { 0 };
            status = status.with_allocation(Allocation::from_flags(zero | u64::from(self.hole)));
        }
        if let Some(dirty) = self.dirty {
            status = status.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(u64::from(dirty)));
        }
        match self.layer {
            Some(Layer::Absent) => status.with_depth(Depth::from_flags(0)),
            Some(Layer::Depth(depth)) => status.with_depth(Depth::from_flags(u64::from(depth))),
            Some(Layer::Present) | None => status,
        }
    }
}

impl From<Status> for Facts {
    /// What a survey's status says; dirty is the union of the bitmaps asked.
    fn from(status: Status) -> Self {
        Self {
            zero: status.zero(),
            hole: status.hole() == Some(true),
            dirty: status.dirty(),
            layer: status.depth().map(|depth| if depth == 0 { Layer::Absent } else { Layer::Depth(depth) }),
            ..Self::default()
        }
    }
}

/// What the caller allows to be taken for known where a format demands it. Only what is safe can be assumed: nobody can assume that bytes are clean
/// or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assume {
    /// Take bytes of which nobody says whether they have changed for dirty.
    pub dirty: bool,
    /// Take bytes of which nobody says whether they read as zero for data.
    pub data: bool,
}

/// What one format says of a range: its row without the range.
pub trait Row: Copy + PartialEq + fmt::Debug {
    /// All that the row says.
    fn facts(&self) -> Facts;

    /// The row that says these facts, or as many of them as the format can; [`Facts::lost_in`] tells the rest.
    ///
    /// # Errors
    ///
    /// The fact that the format must say and that is not known.
    fn from_facts(facts: &Facts) -> Result<Self, Fact>;
}

impl Row for Facts {
    fn facts(&self) -> Facts {
        *self
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(*facts)
    }
}
