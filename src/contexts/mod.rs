//! Metadata contexts: their names, the contexts that a caller wants, and those that the server
//! granted. The decision between the two must not be silent: a missing required context is an error,
//! a missing optional one is `None` in every status.
//!
//! A handshake asks for them before there is any survey.

mod error;
mod kind;
mod negotiated;

pub use error::ContextError;
pub(crate) use kind::{ContextKind, is_wide};
pub(crate) use negotiated::GrantedContext;
pub use negotiated::Negotiated;

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use smallvec::SmallVec;

#[cfg(doc)]
use crate::status::Status;
use crate::status::{BitmapIndex, Bitmaps};

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
    name: Cow<'static, str>,
    required: bool,
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
        self.add(context, true)
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
        self.add(context, false)
    }

    fn add(mut self, context: Context, required: bool) -> Result<Self, ContextError> {
        let name: Cow<'static, str> = match &context {
            Context::Allocation => ALLOCATION.into(),
            Context::Depth => DEPTH.into(),
            Context::Bitmap(name) => [BITMAP_PREFIX, name].concat().into(),
        };
        if self.wanted.iter().any(|wanted| wanted.context == context) {
            return Err(ContextError::Twice { name: name.into() });
        }
        let kind = match &context {
            Context::Allocation => ContextKind::Allocation,
            Context::Depth => ContextKind::Depth,
            Context::Bitmap(leaf) if leaf.is_empty() || leaf.contains('\0') || name.len() > MAX_NAME => {
                return Err(ContextError::BadName { name: name.into() });
            }
            Context::Bitmap(_) => {
                let next = BitmapIndex::try_from(self.bitmaps().wanted.len());
                ContextKind::Bitmap(next.map_err(|_| ContextError::TooManyBitmaps)?)
            }
        };
        self.wanted.push(Wanted { context, name, required, kind });
        Ok(self)
    }

    /// The indices of all bitmaps that were added, whether the server grants them or not.
    ///
    /// An incremental follows these unless it names [some](Self::bitmap_set). A bitmap that the
    /// server does not have is then reported as missing, not taken for clean.
    #[must_use]
    pub fn all_bitmaps(&self) -> Bitmaps {
        self.wanted.iter().filter_map(|wanted| wanted.kind.bitmap()).collect()
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
            let wanted = self.wanted.iter().find(|wanted| wanted.context == context);
            let index = wanted.and_then(|wanted| wanted.kind.bitmap());
            set = set.with(index.ok_or_else(|| ContextError::NotAsked { name: context.to_string() })?);
        }
        Ok(set)
    }

    /// The full names in the order of their addition: the queries of `NBD_OPT_SET_META_CONTEXT`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(|wanted| &*wanted.name)
    }

    /// The full names, each with `true` if it is required.
    pub fn queries(&self) -> impl Iterator<Item = (&str, bool)> {
        self.wanted.iter().map(|wanted| (&*wanted.name, wanted.required))
    }

    /// Only the bitmaps, with the same indices: for the first connection of a bitmap-first survey.
    #[must_use]
    pub fn bitmaps(&self) -> Self {
        self.only(|kind| kind.bitmap().is_some())
    }

    /// All contexts but the bitmaps: for the second connection of a bitmap-first survey.
    #[must_use]
    pub fn details(&self) -> Self {
        self.only(|kind| kind.bitmap().is_none())
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
                return Err(ContextError::Twice { name: wanted.name.to_string() });
            }
            if slots.iter().any(|slot| slot.id == id) {
                return Err(ContextError::SharedId { id });
            }
            slots.push(GrantedContext { id, name: wanted.name.clone(), kind: wanted.kind });
        }
        let is_granted = |wanted: &Wanted| slots.iter().any(|slot| slot.kind == wanted.kind);
        match self.wanted.iter().find(|wanted| wanted.required && !is_granted(wanted)) {
            Some(wanted) => Err(ContextError::Missing { name: wanted.name.to_string(), offered: None }),
            None => Ok(Negotiated::new(slots)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::MAX_BITMAPS;

    fn both() -> Contexts {
        Contexts::new().require(Context::Allocation).unwrap().require(Context::bitmap("b0")).unwrap()
    }

    #[test]
    fn each_name_is_read_as_it_is_written() {
        for context in [Context::Allocation, Context::Depth, Context::bitmap("b0")] {
            assert_eq!(context.to_string().parse(), Ok(context));
        }
    }

    #[test]
    fn queries_name_each_context_and_whether_it_is_required() {
        let contexts = both().optional(Context::Depth).unwrap();
        let queries: Vec<_> = contexts.queries().collect();
        let expected =
            [("base:allocation", true), ("qemu:dirty-bitmap:b0", true), ("qemu:allocation-depth", false)];
        assert_eq!(queries, expected);
        assert!(contexts.names().eq(expected.map(|(name, _)| name)));
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
