//! Applies a policy to a stream: cuts the extents, decides, checks the decisions, and joins equal
//! neighbours.

use core::fmt;

use super::{Action, DecideError, Decision, Explanation, Policy, PolicyError, Reason};
use crate::extent::{Extent, MAX_END};
use crate::kernel::{Block, Blocks, NextBlock};
use crate::status::Status;
use crate::stream::{Coalesce, ExtentSource, ExtentStream, NUMBERS};

/// Decides about every stream of [`Status`] by a [`Policy`].
pub trait StatusStream: ExtentStream<Status = Status> + Sized {
    /// The action for each range; neighbours with the same action are joined.
    ///
    /// Reading fails if the policy cannot decide, or if its decision would lose bytes
    /// ([`PolicyError::Unsafe`]).
    ///
    /// ```
    /// use nbd_extents::action::{Baseline, Incremental, StatusStream};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let status = |dirty, flags| {
    ///     Status::UNKNOWN
    ///         .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(dirty))
    ///         .with_allocation(Allocation::from_flags(flags))
    /// };
    /// let disk = [
    ///     Extent::new(0, 512, status(0, 0))?,
    ///     Extent::new(512, 512, status(0, 3))?, // clean as well: joined
    ///     Extent::new(1024, 512, status(1, 3))?,
    /// ];
    /// let policy = Incremental::new(Baseline::new(1536, Bitmaps::FIRST), 1536)?;
    /// let actions = from_iter(disk).decide(policy).collect_vec()?;
    /// assert_eq!(
    ///     actions.iter().map(|row| row.to_string()).collect::<Vec<_>>(),
    ///     ["0..1024 skip", "1024..1536 zero"]
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn decide<P: Policy>(self, policy: P) -> Decide<Self, P> {
        Decide(Judge::new(self, policy, |_, decision| decision.action).coalesce())
    }

    /// The action for each range, its reason, and the status.
    ///
    /// Neighbours are joined if all three are equal. Fails under the same conditions as
    /// [`decide`](Self::decide).
    ///
    /// ```
    /// use nbd_extents::action::{Baseline, Incremental, StatusStream};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let status = |dirty, flags| {
    ///     Status::UNKNOWN
    ///         .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(dirty))
    ///         .with_allocation(Allocation::from_flags(flags))
    /// };
    /// let disk = [
    ///     Extent::new(0, 65536, status(0, 0))?,
    ///     Extent::new(65536, 4096, status(1, 0))?,
    ///     Extent::new(69632, 61440, status(1, 1))?,
    /// ];
    /// let policy = Incremental::new(Baseline::new(131_072, Bitmaps::FIRST), 131_072)?;
    ///
    /// // a plan with blocks of 64 KiB copies bytes 65536..131072: why?
    /// let reasons = from_iter(disk).clip(65536..131_072).explain(policy).collect_vec()?;
    /// assert_eq!(
    ///     reasons.iter().map(|row| row.to_string()).collect::<Vec<_>>(),
    ///     [
    ///         "65536..69632 copy: changed since the previous backup, and holds data (dirty,data)",
    ///         "69632..131072 copy: changed since the previous backup, and this is a hole \
    ///          that is not said to read as zero (dirty,hole)",
    ///     ]
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn explain<P: Policy>(self, policy: P) -> Explain<Self, P> {
        Explain(Judge::new(self, policy, |status, decision| Explanation { status, decision }).coalesce())
    }
}

impl<S: ExtentStream<Status = Status>> StatusStream for S {}

/// A stream of actions: see [`StatusStream::decide`].
#[derive(Clone)]
pub struct Decide<S: StatusStream, P: Policy>(Coalesce<Judge<S, P, Action>>);

/// A stream of explanations: see [`StatusStream::explain`].
#[derive(Clone)]
pub struct Explain<S: StatusStream, P: Policy>(Coalesce<Judge<S, P, Explanation>>);

macro_rules! forward {
    ($($stream:ident => $status:ty;)*) => {$(
        impl<S: StatusStream, P: Policy> ExtentSource for $stream<S, P> {
            type Status = $status;
            type Error = DecideError<S::Error>;

            #[inline]
            fn pull(&mut self) -> Result<Option<Extent<$status>>, Self::Error> {
                self.0.pull()
            }

            #[inline]
            fn try_pull_all<A, E: From<Self::Error>>(
                self,
                init: A,
                f: impl FnMut(A, Extent<$status>) -> Result<A, E>,
            ) -> Result<A, E> {
                self.0.try_pull_all(init, f)
            }
        }

        impl<S: StatusStream + fmt::Debug, P: Policy + fmt::Debug> fmt::Debug for $stream<S, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($stream)).field(&self.0).finish()
            }
        }
    )*};
}

forward! {
    Decide => Action;
    Explain => Explanation;
}

/// A stream of decided and checked extents, not yet joined. A `T` is the part of a decision that is
/// shown.
#[derive(Clone, Debug)]
struct Judge<S, P, T> {
    stream: S,
    policy: P,
    show: fn(Status, Decision) -> T,
    /// The rest of an extent that was cut.
    rest: Option<Extent<Status>>,
    zone: Zone,
    known: Known<T>,
}

/// A range without a cut: in it, the decision about an extent depends on the status alone.
///
/// The policy is asked for the next cut only at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Zone {
    start: u64,
    end: u64,
}

/// The decisions about every code of a merge (`stream/blocks.rs`) in one zone, so that a merge is
/// decided about block by block: the kernel joins codes with equal decisions.
#[derive(Clone, Debug)]
struct Known<T> {
    /// The end of the zone.
    zone_end: u64,
    /// False where the policy fails for a code. Perhaps the code does not occur: the scalar way
    /// shows it.
    all: bool,
    by_code: [Option<T>; NUMBERS],
}

impl Zone {
    /// Cuts an extent at the end of its zone. Returns the first part, and the rest.
    #[inline]
    fn cut<P: Policy>(
        &mut self,
        policy: &P,
        extent: Extent<Status>,
    ) -> (Extent<Status>, Option<Extent<Status>>) {
        if extent.start() < self.start || extent.start() >= self.end {
            *self = Self::after(policy, extent.start());
        }
        if extent.end() <= self.end {
            return (extent, None);
        }
        let first = Extent::trusted(extent.start(), self.end, *extent.status());
        (first, extent.starting_at(self.end))
    }

    #[cold]
    fn after<P: Policy>(policy: &P, start: u64) -> Self {
        let cuts = [policy.next_cut(start), policy.base().end()];
        let end = cuts.into_iter().flatten().filter(|&cut| start < cut).min().unwrap_or(u64::MAX);
        Self { start, end }
    }
}

impl<S: StatusStream, P: Policy, T: Copy> Judge<S, P, T> {
    fn new(stream: S, policy: P, show: fn(Status, Decision) -> T) -> Self {
        let known = Known { zone_end: 0, all: false, by_code: [None; NUMBERS] };
        Self { stream, policy, show, rest: None, zone: Zone { start: 0, end: 0 }, known }
    }

    /// Decides about every code, once a zone. Returns `false` where the policy cannot.
    fn knows_all(&mut self) -> bool {
        let Zone { start, end } = self.zone;
        if self.known.zone_end != end {
            self.known.zone_end = end;
            self.known.all = true;
            for (code, known) in (0..).zip(&mut self.known.by_code) {
                *known = None;
                if let Some(status) = self.stream.status_of(code) {
                    let whole = Extent::trusted(start, end.min(MAX_END), status);
                    *known = decide(&self.policy, &whole).ok().map(|decision| (self.show)(status, decision));
                    self.known.all &= known.is_some();
                }
            }
        }
        self.known.all
    }
}

/// Decides about an extent without a cut inside, and checks the decision.
#[inline]
fn decide<P: Policy>(policy: &P, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
    let decision = policy.decide(extent)?;
    let (base, action) = (policy.base(), decision.action);
    if !base.permits(extent, action) {
        return Err(PolicyError::Unsafe { range: extent.range(), status: *extent.status(), action, base });
    }
    // After the check, which no policy can bypass by itself: this loss must be explicit.
    if action == Action::Copy && policy.leaves_out(extent) {
        return Ok(Decision { action: Action::Zero { may_unmap: true }, reason: Reason::LeftOut });
    }
    Ok(decision)
}

impl<S: StatusStream, P: Policy, T: Copy> ExtentSource for Judge<S, P, T> {
    type Status = T;
    type Error = DecideError<S::Error>;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<T>>, Self::Error> {
        let next = match self.rest.take() {
            Some(rest) => Some(rest),
            None => self.stream.next_extent().map_err(DecideError::Stream)?,
        };
        let Some(next) = next else {
            return Ok(None);
        };
        let (extent, rest) = self.zone.cut(&self.policy, next);
        self.rest = rest;
        let decision = decide(&self.policy, &extent)?;
        Ok(Some(extent.map(|status| (self.show)(status, decision))))
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        self.stream.blocks().is_some().then_some(self)
    }

    #[inline]
    fn status_of(&self, code: u64) -> Option<T> {
        *self.known.by_code.get(usize::try_from(code).ok()?)?
    }
}

impl<S: StatusStream, P: Policy, T: Copy> Blocks for Judge<S, P, T> {
    fn is_long(&mut self) -> bool {
        self.stream.blocks().is_some_and(Blocks::is_long)
    }

    fn next_block(&mut self, block: &mut Block, until: u64) -> NextBlock {
        if self.rest.is_some() || !self.knows_all() {
            return NextBlock::Scalar;
        }
        // A block that reaches beyond the zone is left to the scalar way, which finds the next one.
        block.hold_until(self.zone.end);
        self.stream.blocks().map_or(NextBlock::Scalar, |blocks| blocks.next_block(block, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Base;
    use crate::error::StreamError;
    use crate::status::Allocation;
    use crate::stream::{from_iter, place};
    use crate::wire::{Descriptors, Pair64};
    use alloc::vec;
    use alloc::vec::Vec;
    use core::cell::Cell;

    /// Copies everything, with a cut every 1000 bytes, and counts how often it is asked for one.
    #[derive(Default)]
    struct Counting {
        asked: Cell<usize>,
        is_unable: bool,
    }

    impl Policy for Counting {
        fn base(&self) -> Base {
            Base::Nothing
        }

        fn decide(&self, extent: &Extent<Status>) -> Result<Decision, PolicyError> {
            assert_eq!(extent.start() / 1000, (extent.end() - 1) / 1000, "cut where it asked for a cut");
            if self.is_unable {
                return Err(PolicyError::NoDepth { range: extent.range() });
            }
            Ok(Decision { action: Action::Copy, reason: Reason::Other("all") })
        }

        fn next_cut(&self, offset: u64) -> Option<u64> {
            self.asked.set(self.asked.get() + 1);
            Some(offset / 1000 * 1000 + 1000)
        }
    }

    fn judge<S: StatusStream>(stream: S, policy: &Counting) -> Judge<S, &Counting, Action> {
        Judge::new(stream, policy, |_, decision| decision.action)
    }

    fn extents(ranges: &[(u64, u64)]) -> Vec<Extent<Status>> {
        ranges.iter().map(|&(start, end)| Extent::from_range(start..end, Status::UNKNOWN).unwrap()).collect()
    }

    #[test]
    fn a_policy_is_asked_for_a_cut_once_a_zone() {
        let policy = Counting::default();
        let small: Vec<_> = (0..300).map(|nth| (nth * 10, nth * 10 + 10)).collect();
        assert_eq!(judge(from_iter(extents(&small)), &policy).collect_vec().unwrap().len(), 300);
        assert_eq!(policy.asked.take(), 3);
        assert_eq!(judge(from_iter(extents(&[(0, 2500)])), &policy).collect_vec().unwrap().len(), 3);
        assert_eq!(policy.asked.take(), 3);
    }

    /// A stream that breaks its promise to ascend, as only a faulty implementation does.
    struct Raw(vec::IntoIter<Extent<Status>>);

    impl ExtentSource for Raw {
        type Status = Status;
        type Error = StreamError;

        fn pull(&mut self) -> Result<Option<Extent<Status>>, StreamError> {
            Ok(self.0.next())
        }
    }

    #[test]
    fn extents_that_go_back_are_in_the_zone_where_they_are() {
        let policy = Counting::default();
        let back = extents(&[(1500, 1600), (900, 1100), (900, 950), (900, 950)]);
        let ranges: Vec<_> =
            judge(Raw(back.into_iter()), &policy).into_iter().map(|next| next.unwrap().range()).collect();
        assert_eq!(ranges, [1500..1600, 900..1000, 1000..1100, 900..950, 900..950]);
        assert_eq!(policy.asked.take(), 4, "the last is in the zone of the one before it");
    }

    fn merge(list: &[Pair64]) -> impl ExtentStream<Status = Status, Error = StreamError> {
        let side = || place(Descriptors::new(list), 0).map_status(Allocation::from_flags);
        side().merge(side(), |one, _| Status::UNKNOWN.with_allocation(*one))
    }

    #[test]
    fn a_merge_is_decided_block_by_block() {
        let list = |count: u64| (0..count).map(|nth| (1, nth & 3)).collect::<Vec<Pair64>>();
        let (long, short) = (list(600), list(500));
        let policy = Counting::default();
        let mut decided = judge(merge(&long), &policy);
        assert!(decided.blocks().is_some_and(Blocks::is_long));
        let mut block = Block::new();
        assert_eq!(decided.next_block(&mut block, u64::MAX), NextBlock::Scalar, "no zone yet");
        decided.next_extent().unwrap();
        assert_eq!(decided.next_block(&mut block, u64::MAX), NextBlock::Merged);
        assert_eq!(decided.status_of(0), Some(Action::Copy));
        assert!(!judge(merge(&short), &policy).blocks().is_some_and(Blocks::is_long));
        assert!(judge(from_iter(extents(&[(0, 10)])), &policy).blocks().is_none());
        // A policy that fails is asked about each extent that there is.
        let unable = Counting { is_unable: true, ..Counting::default() };
        let mut decided = judge(merge(&long), &unable);
        assert!(decided.next_extent().is_err());
        assert_eq!(decided.next_block(&mut block, u64::MAX), NextBlock::Scalar);
        assert_eq!(vec![decided.status_of(0), decided.status_of(64)], [None, None]);
    }
}
