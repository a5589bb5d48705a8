//! Applies a policy to a stream: cuts the extents, decides, checks the decisions, and joins equal
//! neighbours.

use core::fmt;

use super::{Action, DecideError, Decision, Explanation, Policy, PolicyError, Reason};
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::{Coalesce, ExtentSource, ExtentStream, NUMBERS, Stop, UNNUMBERED, try_fold_numbered};

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
        Decide(Actions(Judge::new(self, policy)).coalesce())
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
        Explain(Judge::new(self, policy).coalesce())
    }
}

impl<S: ExtentStream<Status = Status>> StatusStream for S {}

/// A stream of actions: see [`StatusStream::decide`].
#[derive(Clone)]
pub struct Decide<S: StatusStream, P: Policy>(Coalesce<Actions<S, P>>);

impl<S: StatusStream, P: Policy> ExtentSource for Decide<S, P> {
    type Status = Action;
    type Error = DecideError<S::Error>;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<Action>>, Self::Error> {
        self.0.next_extent()
    }

    #[inline]
    fn try_pull_all<A, E: From<Self::Error>>(
        self,
        init: A,
        f: impl FnMut(A, Extent<Action>) -> Result<A, E>,
    ) -> Result<A, E> {
        self.0.try_fold(init, f)
    }
}

/// A stream of explanations: see [`StatusStream::explain`].
#[derive(Clone)]
pub struct Explain<S: StatusStream, P: Policy>(Coalesce<Judge<S, P>>);

impl<S: StatusStream, P: Policy> ExtentSource for Explain<S, P> {
    type Status = Explanation;
    type Error = DecideError<S::Error>;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<Explanation>>, Self::Error> {
        self.0.next_extent()
    }

    #[inline]
    fn try_pull_all<A, E: From<Self::Error>>(
        self,
        init: A,
        f: impl FnMut(A, Extent<Explanation>) -> Result<A, E>,
    ) -> Result<A, E> {
        self.0.try_fold(init, f)
    }
}

impl<S: StatusStream + fmt::Debug, P: Policy + fmt::Debug> fmt::Debug for Decide<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decide").field(&self.0).finish()
    }
}

impl<S: StatusStream + fmt::Debug, P: Policy + fmt::Debug> fmt::Debug for Explain<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Explain").field(&self.0).finish()
    }
}

/// An extent, and the decision about it.
type Decided = (Extent<Status>, Decision);

/// A stream of decided and checked extents, not yet joined.
#[derive(Clone, Debug)]
struct Judge<S, P> {
    stream: S,
    policy: P,
    /// The rest of an extent that was cut.
    rest: Option<Extent<Status>>,
    next_cut: NextCut,
}

/// The offset up to which a policy's answer depends on the status alone. The policy is asked for
/// the next cut only beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NextCut {
    /// The first byte for which `end` holds.
    start: u64,
    end: u64,
}

impl NextCut {
    /// True if the extent lies between two cuts.
    #[inline]
    fn holds_for(self, extent: &Extent<Status>) -> bool {
        self.start <= extent.start() && extent.end() <= self.end
    }

    /// Cuts an extent at the next offset where the policy's answer may change. Returns the first
    /// part, and the rest.
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

impl<S: StatusStream, P: Policy> Judge<S, P> {
    fn new(stream: S, policy: P) -> Self {
        Self { stream, policy, rest: None, next_cut: NextCut { start: 0, end: 0 } }
    }

    /// Yields the next extent, and the decision about it.
    #[inline]
    fn judge(&mut self) -> Result<Option<Decided>, DecideError<S::Error>> {
        let next = match self.rest.take() {
            Some(rest) => Some(rest),
            None => self.stream.next_extent().map_err(DecideError::Stream)?,
        };
        let Some(next) = next else {
            return Ok(None);
        };
        let (extent, rest) = self.next_cut.cut(&self.policy, next);
        self.rest = rest;
        let decision = decide(&self.policy, &extent)?;
        Ok(Some((extent, decision)))
    }

    /// Passes each extent to `f`, with the decision about it, until the first error.
    #[inline]
    fn try_judge<A, E: From<DecideError<S::Error>>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<Status>, Decision) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { stream, policy, rest, next_cut } = self;
        let mut judged = Judged { policy, next_cut, decisions: [None; NUMBERS] };
        let acc = if let Some(rest) = rest {
            judged.decide::<A, S::Error, E>(rest, UNNUMBERED, init, &mut f)?
        } else {
            init
        };
        let folded = try_fold_numbered(stream, None, acc, |acc, extent, number| {
            let acc = match judged.decision(&extent, number) {
                Some(decision) => f(acc, extent, decision),
                None => judged.decide::<A, S::Error, E>(extent, number, acc, &mut f),
            };
            acc.map_err(Stop::Adapter)
        });
        folded.map_err(|stop| match stop {
            Stop::Stream(error) => DecideError::Stream(error).into(),
            Stop::Adapter(error) => error,
        })
    }
}

/// The decisions since the last cut, by the number of the extent. Extents of one number have one
/// status, so up to the next cut they have one decision.
struct Judged<P> {
    policy: P,
    next_cut: NextCut,
    decisions: [Option<Decision>; NUMBERS],
}

impl<P: Policy> Judged<P> {
    /// The decision about an extent, if it is known.
    #[inline(always)]
    fn decision(&self, extent: &Extent<Status>, number: u64) -> Option<Decision> {
        let known = *self.decisions.get(usize::try_from(number).ok()?)?;
        known.filter(|_| self.next_cut.holds_for(extent))
    }

    /// Decides about an extent, cut if necessary, and passes each part to `f`.
    #[inline(never)]
    fn decide<A, S, E: From<DecideError<S>>>(
        &mut self,
        extent: Extent<Status>,
        number: u64,
        init: A,
        f: &mut impl FnMut(A, Extent<Status>, Decision) -> Result<A, E>,
    ) -> Result<A, E> {
        let (mut acc, mut next) = (init, Some(extent));
        while let Some(extent) = next {
            let before = self.next_cut;
            let (first, rest) = self.next_cut.cut(&self.policy, extent);
            if before != self.next_cut {
                self.decisions = [None; NUMBERS];
            }
            let decision = decide(&self.policy, &first).map_err(DecideError::<S>::from)?;
            let known = usize::try_from(number).ok().and_then(|number| self.decisions.get_mut(number));
            if let Some(known) = known {
                *known = Some(decision);
            }
            acc = f(acc, first, decision)?;
            next = rest;
        }
        Ok(acc)
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

impl<S: StatusStream, P: Policy> ExtentSource for Judge<S, P> {
    type Status = Explanation;
    type Error = DecideError<S::Error>;

    fn pull(&mut self) -> Result<Option<Extent<Explanation>>, Self::Error> {
        let judged = self.judge()?;
        Ok(judged.map(|(extent, decision)| extent.map(|status| Explanation { status, decision })))
    }

    #[inline]
    fn try_pull_all<A, E: From<Self::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<Explanation>) -> Result<A, E>,
    ) -> Result<A, E> {
        self.try_judge(init, |acc, extent, decision| {
            f(acc, extent.map(|status| Explanation { status, decision }))
        })
    }
}

/// The actions without the statuses, which need not be carried along.
#[derive(Clone, Debug)]
struct Actions<S, P>(Judge<S, P>);

impl<S: StatusStream, P: Policy> ExtentSource for Actions<S, P> {
    type Status = Action;
    type Error = DecideError<S::Error>;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<Action>>, Self::Error> {
        let judged = self.0.judge()?;
        Ok(judged.map(|(extent, decision)| extent.map(|_| decision.action)))
    }

    #[inline]
    fn try_pull_all<A, E: From<Self::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<Action>) -> Result<A, E>,
    ) -> Result<A, E> {
        self.0.try_judge(init, |acc, extent, decision| f(acc, extent.map(|_| decision.action)))
    }
}
