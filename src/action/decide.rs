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
