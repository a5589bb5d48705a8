//! `Extent<T>`: a range of bytes and its status. All other modules use extents. No empty, inverted
//! or overflowing extent can be built, so they need not check again.

use core::fmt;
use core::ops::{Bound, Range, RangeBounds};

use crate::error::ExtentError;

/// The highest end of an extent, in bytes: `i64::MAX`.
///
/// NBD offsets are unsigned, but operating systems count file offsets in signed 64-bit integers. A
/// server that claims more is mistaken or hostile (CVE-2023-5215 is the result of a client that
/// believed it).
pub const MAX_END: u64 = i64::MAX as u64;

/// The half-open range with these bounds. An open side reaches to the end of `whole`.
pub(crate) fn half_open(range: &impl RangeBounds<u64>, whole: Range<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => whole.start,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => whole.end,
    };
    start..end
}

/// A non-empty range of bytes, half-open (`start..end`), with one status for every byte.
///
/// `T` is any status: the [`Allocation`](crate::Allocation) flags of one reply, the
/// [`Status`](crate::Status) of a whole survey, an action, a `bool`. The fields are private, so
/// every `Extent` is valid: its length is not zero and it ends at or below [`MAX_END`].
///
/// ```
/// use nbd_extents::Extent;
///
/// let extent = Extent::new(65536, 4096, "dirty")?;
/// assert_eq!(extent.range(), 65536..69632);
/// assert_eq!(extent.length(), 4096);
/// assert_eq!(extent.to_string(), "65536..69632 dirty");
/// # Ok::<(), nbd_extents::ExtentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent<T> {
    start: u64,
    end: u64,
    status: T,
}

impl<T> Extent<T> {
    /// Creates the extent that starts at byte `start` and has `length` bytes.
    ///
    /// # Errors
    ///
    /// [`ExtentError::Empty`] when `length` is 0, [`ExtentError::TooLarge`] when the end lies above
    /// [`MAX_END`].
    ///
    /// ```
    /// use nbd_extents::{Extent, ExtentError};
    ///
    /// assert_eq!(Extent::new(512, 0, ()), Err(ExtentError::Empty { start: 512 }));
    /// assert!(Extent::new(u64::MAX, 1, ()).is_err());
    /// ```
    pub fn new(start: u64, length: u64, status: T) -> Result<Self, ExtentError> {
        if length == 0 {
            return Err(ExtentError::Empty { start });
        }
        match start.checked_add(length) {
            Some(end) if end <= MAX_END => Ok(Self { start, end, status }),
            _ => Err(ExtentError::TooLarge { start, length }),
        }
    }

    /// Creates the extent over `range`, in bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Extent::new`], and [`ExtentError::Inverted`] for a range that ends before it
    /// starts.
    ///
    /// ```
    /// # use nbd_extents::{Extent, ExtentError};
    /// assert_eq!(Extent::from_range(10..30, 'x')?, Extent::new(10, 20, 'x')?);
    /// # #[allow(clippy::reversed_empty_ranges)]
    /// let inverted = Extent::from_range(30..10, 'x');
    /// assert_eq!(inverted, Err(ExtentError::Inverted { start: 30, end: 10 }));
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    pub fn from_range(range: Range<u64>, status: T) -> Result<Self, ExtentError> {
        let Range { start, end } = range;
        let length = end.checked_sub(start).ok_or(ExtentError::Inverted { start, end })?;
        Self::new(start, length, status)
    }

    /// Creates an extent whose invariants the caller has checked. Only for adapters that cut
    /// existing extents.
    pub(crate) fn trusted(start: u64, end: u64, status: T) -> Self {
        debug_assert!(start < end && end <= MAX_END, "{start}..{end} is not an extent");
        Self { start, end, status }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The end: the first byte after the extent.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The length in bytes; never 0.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }

    /// The bytes that the extent covers, `start..end`.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// The status of every byte in the extent.
    #[must_use]
    pub const fn status(&self) -> &T {
        &self.status
    }

    /// Returns the status and drops the range.
    #[must_use]
    pub fn into_status(self) -> T {
        self.status
    }

    /// Returns the same range with a status computed from the old one.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// assert_eq!(Extent::new(0, 8, 2)?.map(|n| n * 2), Extent::new(0, 8, 4)?);
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Extent<U> {
        Extent { start: self.start, end: self.end, status: f(self.status) }
    }

    /// The part of the extent that lies in `range`, or `None` if they share no byte.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// let extent = Extent::new(10, 10, ())?;
    /// assert_eq!(extent.clip(&(0..15)), Some(Extent::new(10, 5, ())?));
    /// assert_eq!(extent.clip(&(20..30)), None);
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    #[must_use]
    pub fn clip(self, range: &Range<u64>) -> Option<Self> {
        let start = self.start.max(range.start);
        let end = self.end.min(range.end);
        (start < end).then_some(Self { start, end, ..self })
    }

    /// Cuts the front off: the part from `offset` on, or `None` if nothing remains.
    pub(crate) fn starting_at(self, offset: u64) -> Option<Self> {
        (offset < self.end).then(|| Self { start: self.start.max(offset), ..self })
    }

    /// Joins `next` to this extent if it starts at this extent's end and has an equal status;
    /// returns it otherwise.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// let mut extent = Extent::new(0, 512, "zero")?;
    /// assert_eq!(extent.absorb(Extent::new(512, 512, "zero")?), None);
    /// assert_eq!(extent.range(), 0..1024);
    ///
    /// let other = Extent::new(1024, 512, "data")?;
    /// assert_eq!(extent.absorb(other), Some(other));
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    #[must_use = "an extent that does not fit is returned"]
    pub fn absorb(&mut self, next: Self) -> Option<Self>
    where
        T: PartialEq,
    {
        if self.end == next.start && self.status == next.status {
            self.end = next.end;
            return None;
        }
        Some(next)
    }
}

impl<T: fmt::Display> fmt::Display for Extent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} {}", self.start, self.end, self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_extent_ends_at_max_end() {
        assert_eq!(Extent::new(0, MAX_END, ()).unwrap().end(), MAX_END);
        assert_eq!(Extent::new(1, MAX_END, ()), Err(ExtentError::TooLarge { start: 1, length: MAX_END }));
        assert_eq!(Extent::new(MAX_END, 1, ()), Err(ExtentError::TooLarge { start: MAX_END, length: 1 }));
    }

    #[test]
    fn an_inverted_range_is_named_with_both_ends() {
        let inverted = Range { start: 9, end: 3 };
        assert_eq!(Extent::from_range(inverted, ()), Err(ExtentError::Inverted { start: 9, end: 3 }));
        assert_eq!(Extent::from_range(9..9, ()), Err(ExtentError::Empty { start: 9 }));
    }

    #[test]
    fn clipping_keeps_the_common_bytes() {
        let extent = Extent::new(10, 10, 'a').unwrap();
        assert_eq!(extent.clip(&(0..100)), Some(extent));
        assert_eq!(extent.clip(&(12..14)), Some(Extent::new(12, 2, 'a').unwrap()));
        assert_eq!(extent.clip(&(0..10)), None);
        assert_eq!(extent.clip(&(15..15)), None);
    }

    #[test]
    fn absorbing_needs_touch_and_equality() {
        let mut extent = Extent::new(0, 10, 'a').unwrap();
        let apart = Extent::new(11, 1, 'a').unwrap();
        let other = Extent::new(10, 1, 'b').unwrap();
        assert_eq!(extent.absorb(apart), Some(apart));
        assert_eq!(extent.absorb(other), Some(other));
        assert_eq!(extent.absorb(Extent::new(10, 5, 'a').unwrap()), None);
        assert_eq!(extent.range(), 0..15);
    }
}
