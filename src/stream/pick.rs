//! What a reader behind a stream wants to see of it, said beforehand: [`filter`](super::ExtentStream::filter) does not want everything, and
//! [`coalesce`](super::ExtentStream::coalesce) does not want equal neighbours apart. A merge that knows both before it merges has less to do.

/// What may be left out of a stream, and what may be joined in it. A permission: a stream that makes no use of it is as right.
#[doc(hidden)]
pub trait Pick<V> {
    /// Whether some statuses may not be wanted.
    const DROPS: bool;
    /// Whether some extents may be joined.
    const JOINS: bool;

    /// Whether extents with this status are wanted.
    fn keeps(&self, status: V) -> bool;

    /// Whether touching extents with these statuses may be handed out as one, with the status of either.
    fn joins(&self, one: V, other: V) -> bool;
}

/// Everything, with equal neighbours joined.
#[derive(Debug)]
pub(super) struct Joined;

impl<V: PartialEq> Pick<V> for Joined {
    const DROPS: bool = false;
    const JOINS: bool = true;

    #[inline]
    fn keeps(&self, _: V) -> bool {
        true
    }

    #[inline]
    fn joins(&self, one: V, other: V) -> bool {
        one == other
    }
}

/// What a filter keeps.
pub(super) struct Kept<'a, F>(pub(super) &'a F);

impl<V, F: Fn(&V) -> bool> Pick<V> for Kept<'_, F> {
    const DROPS: bool = true;
    const JOINS: bool = false;

    #[inline]
    fn keeps(&self, status: V) -> bool {
        self.0(&status)
    }

    #[inline]
    fn joins(&self, _: V, _: V) -> bool {
        false
    }
}

/// What a filter keeps of what is wanted of the filter.
pub(super) struct KeptOf<'a, F, P>(pub(super) &'a F, pub(super) P);

impl<V, F: Fn(&V) -> bool, P: Pick<V>> Pick<V> for KeptOf<'_, F, P> {
    const DROPS: bool = true;
    const JOINS: bool = P::JOINS;

    #[inline]
    fn keeps(&self, status: V) -> bool {
        self.0(&status) && self.1.keeps(status)
    }

    #[inline]
    fn joins(&self, one: V, other: V) -> bool {
        self.1.joins(one, other)
    }
}

/// What is wanted of the statuses that a function makes.
pub(super) struct Mapped<'a, F, P>(pub(super) &'a F, pub(super) P);

impl<V, U, F: Fn(V) -> U, P: Pick<U>> Pick<V> for Mapped<'_, F, P> {
    const DROPS: bool = P::DROPS;
    const JOINS: bool = P::JOINS;

    #[inline]
    fn keeps(&self, status: V) -> bool {
        self.1.keeps(self.0(status))
    }

    #[inline]
    fn joins(&self, one: V, other: V) -> bool {
        self.1.joins(self.0(one), self.0(other))
    }
}
