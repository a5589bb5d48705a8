//! A policy at work on a stream: cut where the policy cuts, decide, check, and join by what is shown.

use core::fmt;

use super::{Action, DecideError, Decision, Explanation, Policy, PolicyError, Reason};
use crate::extent::Extent;
use crate::status::Status;
use crate::stream::{Coalesce, ExtentStream};

/// What every stream of [`Status`] can do: be decided by a [`Policy`].
pub trait StatusStream: ExtentStream<Status = Status> + Sized {
    /// What to do with each range, neighbours with the same action joined.
    ///
    /// Reading fails where the policy cannot decide, and where its decision would lose bytes ([`PolicyError::Unsafe`]).
    ///
    /// ```
    /// use nbd_extents::action::{Baseline, Incremental, StatusStream};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let status = |dirty, flags| {
    ///     Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(dirty)).with_allocation(Allocation::from_flags(flags))
    /// };
    /// let disk = [
    ///     Extent::new(0, 512, status(0, 0))?,
    ///     Extent::new(512, 512, status(0, 3))?, // clean as well: joined
    ///     Extent::new(1024, 512, status(1, 3))?,
    /// ];
    /// let policy = Incremental::new(Baseline::new(1536, Bitmaps::FIRST), 1536)?;
    /// let actions = from_iter(disk).decide(policy).collect_vec()?;
    /// assert_eq!(actions.iter().map(|row| row.to_string()).collect::<Vec<_>>(), ["0..1024 skip", "1024..1536 zero"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn decide<P: Policy>(self, policy: P) -> Decide<Self, P> {
        Decide(Actions(Judge::new(self, policy)).coalesce())
    }

    /// What to do with each range, why, and what the contexts said; neighbours joined where all three are the same. It fails where
    /// [`decide`](Self::decide) does.
    ///
    /// ```
    /// use nbd_extents::action::{Baseline, Incremental, StatusStream};
    /// use nbd_extents::stream::{ExtentStream, from_iter};
    /// use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
    ///
    /// let status = |dirty, flags| {
    ///     Status::UNKNOWN.with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(dirty)).with_allocation(Allocation::from_flags(flags))
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
    ///         "65536..69632 copy: changed since the backup before, and holds data (dirty,data)",
    ///         "69632..131072 copy: changed since the backup before, and this is a hole that is not said to read as zero (dirty,hole)",
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

impl<S: StatusStream, P: Policy> ExtentStream for Decide<S, P> {
    type Status = Action;
    type Error = DecideError<S::Error>;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<Action>>, Self::Error> {
        self.0.next_extent()
    }
}

/// A stream of explanations: see [`StatusStream::explain`].
#[derive(Clone)]
pub struct Explain<S: StatusStream, P: Policy>(Coalesce<Judge<S, P>>);

impl<S: StatusStream, P: Policy> ExtentStream for Explain<S, P> {
    type Status = Explanation;
    type Error = DecideError<S::Error>;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<Explanation>>, Self::Error> {
        self.0.next_extent()
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

type Judged = (Extent<Status>, Decision);

/// Each extent decided and checked, not joined yet.
#[derive(Clone, Debug)]
struct Judge<S, P> {
    stream: S,
    policy: P,
    /// What is left of an extent that was cut.
    rest: Option<Extent<Status>>,
}

impl<S: StatusStream, P: Policy> Judge<S, P> {
    fn new(stream: S, policy: P) -> Self {
        Self { stream, policy, rest: None }
    }

    /// The extent up to where the policy may change its mind; the rest is kept.
    fn cut(&mut self, extent: Extent<Status>) -> Extent<Status> {
        let start = extent.start();
        let cuts = [self.policy.next_cut(start), self.policy.base().end()];
        let inside = cuts.into_iter().flatten().filter(|&cut| start < cut && cut < extent.end());
        let Some(end) = inside.min() else {
            return extent;
        };
        self.rest = extent.starting_at(end);
        extent.clip(&(start..end)).unwrap_or(extent)
    }

    /// The next extent and what is done with it.
    #[inline]
    fn judge(&mut self) -> Result<Option<Judged>, DecideError<S::Error>> {
        let next = match self.rest.take() {
            Some(rest) => Some(rest),
            None => self.stream.next_extent().map_err(DecideError::Stream)?,
        };
        let Some(next) = next else {
            return Ok(None);
        };
        let extent = self.cut(next);
        let decision = self.policy.decide(&extent)?;
        let (base, action) = (self.policy.base(), decision.action);
        if !base.permits(&extent, action) {
            let status = *extent.status();
            return Err(PolicyError::Unsafe { range: extent.range(), status, action, base }.into());
        }
        // after the check, which no policy passes by itself: this loss has to be named
        if action == Action::Copy && self.policy.leaves_out(&extent) {
            let decision = Decision { action: Action::Zero { may_unmap: true }, reason: Reason::LeftOut };
            return Ok(Some((extent, decision)));
        }
        Ok(Some((extent, decision)))
    }
}

impl<S: StatusStream, P: Policy> ExtentStream for Judge<S, P> {
    type Status = Explanation;
    type Error = DecideError<S::Error>;

    fn next_extent(&mut self) -> Result<Option<Extent<Explanation>>, Self::Error> {
        let judged = self.judge()?;
        Ok(judged.map(|(extent, decision)| extent.map(|status| Explanation { status, decision })))
    }
}

/// The actions alone: what is not shown need not be carried along.
#[derive(Clone, Debug)]
struct Actions<S, P>(Judge<S, P>);

impl<S: StatusStream, P: Policy> ExtentStream for Actions<S, P> {
    type Status = Action;
    type Error = DecideError<S::Error>;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<Action>>, Self::Error> {
        let judged = self.0.judge()?;
        Ok(judged.map(|(extent, decision)| extent.map(|_| decision.action)))
    }
}
