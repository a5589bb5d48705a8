//! The contexts that the server granted.

use alloc::borrow::Cow;
use alloc::string::ToString;

use smallvec::SmallVec;

#[cfg(doc)]
use super::Contexts;
use super::{Context, ContextKind};

/// A granted context: its id on this connection, its name and its meaning.
#[derive(Clone, Debug)]
pub(crate) struct GrantedContext {
    pub(crate) id: u32,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: ContextKind,
}

/// The contexts that the server granted on one connection, including every required one.
///
/// Made by [`Contexts::negotiate`].
#[derive(Clone, Debug)]
pub struct Negotiated {
    slots: SmallVec<[GrantedContext; 4]>,
}

impl Negotiated {
    pub(super) fn new(slots: SmallVec<[GrantedContext; 4]>) -> Self {
        Self { slots }
    }

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
        let (bitmaps, details) = self.slots.into_iter().partition(|slot| slot.kind.bitmap().is_some());
        (Self { slots: bitmaps }, Self { slots: details })
    }

    pub(crate) fn slots(&self) -> &[GrantedContext] {
        &self.slots
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
