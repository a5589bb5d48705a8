//! The contexts that a survey wants, and those that the server granted. The decision between the
//! two must not be silent: a missing required context is an error, a missing optional one is `None`
//! in every status.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

use super::error::ContextError;
use crate::status::{Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, Status};

/// The longest name of a metadata context, in bytes. NBD protocol, "Values", strings.
const MAX_NAME: usize = 4096;
const ALLOCATION: &str = "base:allocation";
const DEPTH: &str = "qemu:allocation-depth";
const BITMAP_PREFIX: &str = "qemu:dirty-bitmap:";

/// A metadata context whose meaning this library knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Context {
    /// `base:allocation`: which bytes read as zero, and which are a hole.
    Allocation,
    /// `qemu:allocation-depth`: which layer of the image holds the bytes.
    Depth,
    /// `qemu:dirty-bitmap:NAME`: the changes since a checkpoint. Holds NAME.
    Bitmap(String),
}

impl Context {
    /// The context of the dirty bitmap called `name`, without the prefix `qemu:dirty-bitmap:`.
    ///
    /// ```
    /// use nbd_extents::Context;
    ///
    /// assert_eq!(Context::bitmap("b0").to_string(), "qemu:dirty-bitmap:b0");
    /// ```
    pub fn bitmap(name: impl Into<String>) -> Self {
        Self::Bitmap(name.into())
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocation => f.write_str(ALLOCATION),
            Self::Depth => f.write_str(DEPTH),
            Self::Bitmap(name) => write!(f, "{BITMAP_PREFIX}{name}"),
        }
    }
}

/// Parses a full name.
///
/// Fails with [`ContextError::Unknown`] if the library does not know its meaning.
///
/// ```
/// use nbd_extents::{Context, ContextError};
///
/// assert_eq!("qemu:dirty-bitmap:b0".parse(), Ok(Context::bitmap("b0")));
/// assert!(matches!("base:other".parse::<Context>(), Err(ContextError::Unknown { .. })));
/// ```
impl FromStr for Context {
    type Err = ContextError;

    fn from_str(name: &str) -> Result<Self, ContextError> {
        match name {
            ALLOCATION => Ok(Self::Allocation),
            DEPTH => Ok(Self::Depth),
            _ => match name.strip_prefix(BITMAP_PREFIX) {
                Some(bitmap) => Ok(Self::bitmap(bitmap)),
                None => Err(ContextError::Unknown { name: name.into() }),
            },
        }
    }
}

/// The need of a survey for a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

/// The meaning of a context's flags; a bitmap has its place among the bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextKind {
    Allocation,
    Depth,
    Bitmap(BitmapIndex),
}

impl ContextKind {
    /// The typed meaning of a descriptor's flags. Flags that are invalid for an allocation mean
    /// doubt.
    #[inline]
    pub(super) fn status(self, flags: u64) -> Status {
        match self {
            Self::Allocation if is_wide(flags) => self.safe_status(),
            Self::Allocation => Status::UNKNOWN.with_allocation(Allocation::from_flags(flags)),
            Self::Depth => Status::UNKNOWN.with_depth(Depth::from_flags(flags)),
            Self::Bitmap(index) => Status::UNKNOWN.with_bitmap(index, Dirtiness::from_flags(flags)),
        }
    }

    /// The status where the server's answer is in doubt: data, dirty, depth unknown.
    pub(super) fn safe_status(self) -> Status {
        self.status(self.safe_flags())
    }

    /// The flags that mean the safe status. A depth beyond 32 bits stands for doubt.
    pub(super) fn safe_flags(self) -> u64 {
        match self {
            Self::Allocation => Allocation::DATA.flags(),
            Self::Depth => 1 << 32,
            Self::Bitmap(_) => Dirtiness::DIRTY.flags(),
        }
    }

    /// The flags without meaningless bits: below 2^33, so that there is room for a mark.
    pub(super) fn known_flags(self, flags: u64) -> u64 {
        match self {
            Self::Allocation if is_wide(flags) => self.safe_flags(),
            Self::Allocation => flags & 3,
            Self::Depth => flags.min(self.safe_flags()),
            Self::Bitmap(_) => flags & 1,
        }
    }

    /// The flags of the safer of two answers about the same bytes. Both are
    /// [`known_flags`](Self::known_flags).
    pub(super) fn safer(self, a: u64, b: u64) -> u64 {
        match self {
            Self::Allocation => a & b,
            Self::Depth if a == b => a,
            Self::Depth => self.safe_flags(),
            Self::Bitmap(_) => a | b,
        }
    }
}

/// True if flags use bits that the 32-bit contexts do not have.
pub(super) fn is_wide(flags: u64) -> bool {
    flags >> 32 != 0
}

/// The contexts that a survey wants, each required or optional.
///
/// ```
/// use nbd_extents::{Context, Contexts};
///
/// let wanted = Contexts::new()
///     .require(Context::Allocation)?
///     .require(Context::bitmap("b0"))?
///     .optional(Context::Depth)?;
/// // ask for these in NBD_OPT_SET_META_CONTEXT
/// assert!(wanted.names().eq([
///     "base:allocation",
///     "qemu:dirty-bitmap:b0",
///     "qemu:allocation-depth"
/// ]));
///
/// // the server answered with ids for two of them: the optional one may be missing
/// let granted = wanted.negotiate([(0, "base:allocation"), (2, "qemu:dirty-bitmap:b0")])?;
/// assert!(granted.has(&Context::Allocation) && !granted.has(&Context::Depth));
///
/// // a required one may not
/// let error = wanted.negotiate([(0, "base:allocation")]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the server did not grant the context qemu:dirty-bitmap:b0"
/// );
/// # Ok::<(), nbd_extents::ContextError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    wanted: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    context: Context,
    name: String,
    need: Need,
    kind: ContextKind,
}

impl Contexts {
    /// Creates an empty set of contexts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a context that the survey cannot do without.
    ///
    /// The `n`-th bitmap added, required or optional, is bitmap `n` of every [`Status`] (from 0).
    ///
    /// # Errors
    ///
    /// A [`ContextError`] when the context has already been added, when it exceeds
    /// [`MAX_BITMAPS`](crate::MAX_BITMAPS) bitmaps, and when a bitmap's name is empty, too long or
    /// has a NUL.
    pub fn require(self, context: Context) -> Result<Self, ContextError> {
        self.add(context, Need::Required)
    }

    /// Adds contexts that the survey cannot do without, each as [`require`](Self::require) does.
    ///
    /// # Errors
    ///
    /// As [`require`](Self::require), for the first context that cannot be added.
    ///
    /// ```
    /// use nbd_extents::{Context, Contexts};
    ///
    /// let bitmaps = ["daily", "weekly"].map(Context::bitmap);
    /// let wanted = Contexts::new().require_all([Context::Allocation])?.require_all(bitmaps)?;
    /// assert_eq!(wanted.names().count(), 3);
    /// # Ok::<(), nbd_extents::ContextError>(())
    /// ```
    pub fn require_all(self, contexts: impl IntoIterator<Item = Context>) -> Result<Self, ContextError> {
        contexts.into_iter().try_fold(self, Self::require)
    }

    /// Adds a context that may be missing; its part of every [`Status`] is then `None`.
    ///
    /// # Errors
    ///
    /// As [`require`](Self::require).
    pub fn optional(self, context: Context) -> Result<Self, ContextError> {
        self.add(context, Need::Optional)
    }

    fn add(mut self, context: Context, need: Need) -> Result<Self, ContextError> {
        let name = context.to_string();
        if self.wanted.iter().any(|wanted| wanted.context == context) {
            return Err(ContextError::Twice { name });
        }
        let kind = match &context {
            Context::Allocation => ContextKind::Allocation,
            Context::Depth => ContextKind::Depth,
            Context::Bitmap(leaf) if leaf.is_empty() || leaf.contains('\0') || name.len() > MAX_NAME => {
                return Err(ContextError::BadName { name });
            }
            Context::Bitmap(_) => {
                let next = BitmapIndex::try_from(self.bitmap_count());
                ContextKind::Bitmap(next.map_err(|_| ContextError::TooManyBitmaps)?)
            }
        };
        self.wanted.push(Wanted { context, name, need, kind });
        Ok(self)
    }

    fn bitmap_count(&self) -> usize {
        self.wanted.iter().filter(|wanted| matches!(wanted.kind, ContextKind::Bitmap(_))).count()
    }

    /// The indices of all bitmaps that were added, whether the server grants them or not.
    ///
    /// An incremental follows these unless it names [some](Self::bitmap_set). A bitmap that the
    /// server does not have is then reported as missing, not taken for clean.
    #[must_use]
    pub fn all_bitmaps(&self) -> Bitmaps {
        let index = |wanted: &Wanted| match wanted.kind {
            ContextKind::Bitmap(index) => Some(index),
            ContextKind::Allocation | ContextKind::Depth => None,
        };
        self.wanted.iter().filter_map(index).collect()
    }

    /// The indices of the bitmaps with these names (without the prefix `qemu:dirty-bitmap:`).
    ///
    /// # Errors
    ///
    /// [`ContextError::NotAsked`] for a name that was not added.
    ///
    /// ```
    /// use nbd_extents::{BitmapIndex, Bitmaps, Context, ContextError, Contexts};
    ///
    /// let contexts = Contexts::new()
    ///     .require(Context::bitmap("daily"))?
    ///     .require(Context::bitmap("weekly"))?;
    /// assert_eq!(contexts.bitmap_set(["weekly"])?, Bitmaps::only(BitmapIndex::of::<1>()));
    /// assert_eq!(contexts.all_bitmaps(), contexts.bitmap_set(["daily", "weekly"])?);
    /// assert!(matches!(contexts.bitmap_set(["monthly"]), Err(ContextError::NotAsked { .. })));
    /// # Ok::<(), ContextError>(())
    /// ```
    pub fn bitmap_set<N: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<Bitmaps, ContextError> {
        let mut set = Bitmaps::NONE;
        for name in names {
            let context = Context::bitmap(name.as_ref());
            match self.wanted.iter().find(|wanted| wanted.context == context).map(|wanted| wanted.kind) {
                Some(ContextKind::Bitmap(index)) => set = set.with(index),
                _ => return Err(ContextError::NotAsked { name: context.to_string() }),
            }
        }
        Ok(set)
    }

    /// The full names in the order of their addition: the queries of `NBD_OPT_SET_META_CONTEXT`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(|wanted| wanted.name.as_str())
    }

    /// The full names, each with `true` if it is required.
    pub fn queries(&self) -> impl Iterator<Item = (&str, bool)> {
        self.wanted.iter().map(|wanted| (wanted.name.as_str(), wanted.need == Need::Required))
    }

    /// Only the bitmaps, with the same indices: for the first connection of a bitmap-first survey.
    #[must_use]
    pub fn bitmaps(&self) -> Self {
        self.only(|kind| matches!(kind, ContextKind::Bitmap(_)))
    }

    /// All contexts but the bitmaps: for the second connection of a bitmap-first survey.
    #[must_use]
    pub fn details(&self) -> Self {
        self.only(|kind| !matches!(kind, ContextKind::Bitmap(_)))
    }

    fn only(&self, keep: impl Fn(ContextKind) -> bool) -> Self {
        Self { wanted: self.wanted.iter().filter(|wanted| keep(wanted.kind)).cloned().collect() }
    }

    /// Compares the contexts that the server granted, as (id, name) pairs, with those wanted.
    ///
    /// Ignores names that nobody asked for.
    ///
    /// # Errors
    ///
    /// [`ContextError::Missing`] when a required context was not granted, [`ContextError::Twice`]
    /// and [`ContextError::SharedId`] when the server names a context or uses an id twice.
    pub fn negotiate<N: AsRef<str>>(
        &self,
        granted: impl IntoIterator<Item = (u32, N)>,
    ) -> Result<Negotiated, ContextError> {
        let mut slots = SmallVec::<[GrantedContext; 4]>::new();
        for (id, name) in granted {
            let Some(wanted) = self.wanted.iter().find(|wanted| wanted.name == name.as_ref()) else {
                continue;
            };
            if slots.iter().any(|slot| slot.kind == wanted.kind) {
                return Err(ContextError::Twice { name: wanted.name.clone() });
            }
            if slots.iter().any(|slot| slot.id == id) {
                return Err(ContextError::SharedId { id });
            }
            slots.push(GrantedContext { id, name: wanted.name.clone(), kind: wanted.kind });
        }
        let missing = |wanted: &&Wanted| {
            wanted.need == Need::Required && !slots.iter().any(|slot| slot.kind == wanted.kind)
        };
        match self.wanted.iter().find(missing) {
            Some(wanted) => Err(ContextError::Missing { name: wanted.name.clone(), offered: None }),
            None => Ok(Negotiated { slots }),
        }
    }

    /// Like [`negotiate`](Self::negotiate), for clients that learn names but no ids, as with
    /// libnbd.
    ///
    /// The ids in [`Negotiated::ids`] are then made up. Replies go to
    /// [`Survey::extents32`](crate::Survey::extents32) and
    /// [`Survey::extents64`](crate::Survey::extents64), which take a context's name.
    ///
    /// # Errors
    ///
    /// As [`negotiate`](Self::negotiate).
    ///
    /// ```
    /// use nbd_extents::{Context, Contexts};
    ///
    /// let wanted = Contexts::new().require(Context::Allocation)?.optional(Context::Depth)?;
    /// # let can_meta_context = |name: &str| name == "base:allocation";
    /// let granted =
    ///     wanted.negotiate_names(wanted.names().filter(|name| can_meta_context(name)))?;
    /// assert!(granted.has(&Context::Allocation) && !granted.has(&Context::Depth));
    /// # Ok::<(), nbd_extents::ContextError>(())
    /// ```
    pub fn negotiate_names<N: AsRef<str>>(
        &self,
        granted: impl IntoIterator<Item = N>,
    ) -> Result<Negotiated, ContextError> {
        self.negotiate((0..).zip(granted))
    }
}

/// A granted context: its id on this connection, its name and its meaning.
#[derive(Clone, Debug)]
pub(super) struct GrantedContext {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) kind: ContextKind,
}

/// The contexts that the server granted on one connection, including every required one.
///
/// Made by [`Contexts::negotiate`].
#[derive(Clone, Debug)]
pub struct Negotiated {
    slots: SmallVec<[GrantedContext; 4]>,
}

impl Negotiated {
    /// True if this context was granted.
    #[must_use]
    pub fn has(&self, context: &Context) -> bool {
        self.id_of(context).is_some()
    }

    /// The id of this context on the connection, or `None` if it was not granted.
    #[must_use]
    pub fn id_of(&self, context: &Context) -> Option<u32> {
        let name = context.to_string();
        self.slots.iter().find(|slot| slot.name == name).map(|slot| slot.id)
    }

    /// The context ids, in the order in which the server granted them.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.id)
    }

    /// Splits the bitmaps from the other contexts.
    ///
    /// A bitmap-first survey over one connection (with payload-form requests) needs both halves.
    #[must_use]
    pub fn split(self) -> (Self, Self) {
        let (bitmaps, details) =
            self.slots.into_iter().partition(|slot| matches!(slot.kind, ContextKind::Bitmap(_)));
        (Self { slots: bitmaps }, Self { slots: details })
    }

    pub(super) fn slots(&self) -> &[GrantedContext] {
        &self.slots
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MAX_BITMAPS;

    fn both() -> Contexts {
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap()
    }

    #[test]
    fn a_context_is_wanted_once() {
        let twice = both().optional(Context::bitmap("b0")).unwrap_err();
        assert_eq!(twice, ContextError::Twice { name: "qemu:dirty-bitmap:b0".into() });
    }

    #[test]
    fn one_bitmap_too_many_is_an_error() {
        let mut contexts = Contexts::new();
        for n in 0..MAX_BITMAPS {
            contexts = contexts.require(Context::bitmap(n.to_string())).unwrap();
        }
        assert_eq!(contexts.require(Context::bitmap("more")).unwrap_err(), ContextError::TooManyBitmaps);
    }

    #[test]
    fn names_that_no_server_can_have_are_refused() {
        for name in ["", "a\0b", &"x".repeat(4096)] {
            let error = Contexts::new().require(Context::bitmap(name)).unwrap_err();
            assert!(matches!(error, ContextError::BadName { .. }), "{error}");
        }
        let longest = "x".repeat(MAX_NAME - BITMAP_PREFIX.len());
        Contexts::new().require(Context::bitmap(longest)).unwrap();
    }

    #[test]
    fn the_server_may_answer_in_any_order_and_with_more() {
        let granted = [(7, "qemu:dirty-bitmap:b0"), (9, "x:y"), (0, "base:allocation")];
        let negotiated = both().negotiate(granted).unwrap();
        assert!(negotiated.ids().eq([7, 0]));
        assert_eq!(negotiated.id_of(&Context::bitmap("b0")), Some(7));
        assert_eq!(negotiated.id_of(&Context::Depth), None);
        assert!(negotiated.has(&Context::Allocation) && !negotiated.has(&Context::Depth));
        let (bitmaps, details) = negotiated.split();
        assert!(bitmaps.ids().eq([7]) && details.ids().eq([0]));
    }

    #[test]
    fn a_name_or_an_id_twice_is_an_error() {
        let name = both().negotiate([(0, "base:allocation"), (1, "base:allocation")]).unwrap_err();
        assert_eq!(name, ContextError::Twice { name: "base:allocation".into() });
        let id = both().negotiate([(5, "base:allocation"), (5, "qemu:dirty-bitmap:b0")]).unwrap_err();
        assert_eq!(id, ContextError::SharedId { id: 5 });
    }

    /// The mark of a dispute lies above them: no flags from a server may set it.
    #[test]
    fn known_flags_leave_room_for_a_mark_and_change_no_meaning() {
        let kinds = [ContextKind::Allocation, ContextKind::Depth, ContextKind::Bitmap(BitmapIndex::FIRST)];
        for kind in kinds {
            for bit in 0..64 {
                for flags in [1 << bit, (1 << bit) | 1, u64::MAX >> bit] {
                    let known = kind.known_flags(flags);
                    assert!(known < 1 << 33, "{kind:?} {flags:#x} became {known:#x}");
                    assert_eq!(kind.status(known), kind.status(flags), "{kind:?} {flags:#x}");
                }
            }
        }
    }

    #[test]
    fn bitmaps_are_named_by_their_places() {
        let contexts = both().optional(Context::bitmap("b1")).unwrap();
        assert_eq!(contexts.bitmap_set(["b1"]), Ok(Bitmaps::only(BitmapIndex::of::<1>())));
        assert_eq!(contexts.bitmap_set(["b1", "b0"]), Ok(contexts.all_bitmaps()));
        assert_eq!(contexts.all_bitmaps(), Bitmaps::FIRST.with(BitmapIndex::of::<1>()));
        let unknown = ContextError::NotAsked { name: "qemu:dirty-bitmap:b2".into() };
        assert_eq!(contexts.bitmap_set(["b0", "b2"]), Err(unknown));
    }

    #[test]
    fn bitmaps_keep_their_places_when_asked_alone() {
        let contexts = both().require(Context::bitmap("b1")).unwrap();
        assert!(contexts.bitmaps().names().eq(["qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"]));
        assert!(contexts.details().names().eq(["base:allocation"]));
        assert_eq!(contexts.bitmaps().wanted[1].kind, ContextKind::Bitmap(BitmapIndex::of::<1>()));
    }
}
