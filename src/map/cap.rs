//! A map of actions that never takes more memory than its limit, whatever the disk: if necessary,
//! short ranges that need no copy become `Copy`.

use core::ops::Range;

use thiserror::Error;

use super::ExtentMap;
use super::index::FANOUT;
use crate::action::Action;
use crate::stream::{ExtentStream, Stop};

/// The limit on the memory of a map of actions: see [`ExtentMap::capped`].
///
/// ```
/// use nbd_extents::map::Cap;
///
/// let cap = Cap::bytes(64 << 20).keeping_skipped();
/// assert_eq!(Cap::bytes(1), Cap::bytes(Cap::MIN));
/// # let _ = cap;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cap {
    bytes: usize,
    keeps_skipped: bool,
}

impl Cap {
    /// The lowest cap in bytes. A lower one is raised to it.
    pub const MIN: usize = 64;

    /// Creates a cap of `bytes` bytes. `Zero` and `Skip` may become `Copy`.
    #[must_use]
    pub const fn bytes(bytes: usize) -> Self {
        let bytes = if bytes < Self::MIN { Self::MIN } else { bytes };
        Self { bytes, keeps_skipped: false }
    }

    /// Allows only `Zero` to become `Copy`.
    ///
    /// For exports where a skipped byte cannot be read: on qemu's snapshot-access export, reading a
    /// clean byte fails.
    ///
    /// ```
    /// use nbd_extents::map::{Cap, CapError, ExtentMap};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// let action = |n| if n % 2 == 0 { Action::Copy } else { Action::Skip };
    /// let list: Vec<_> =
    ///     (0..100).map(|n| Extent::new(n * 512, 512, action(n))).collect::<Result<_, _>>()?;
    /// let capped =
    ///     ExtentMap::capped(from_iter(list.clone()), 0..51200, Cap::bytes(500)).unwrap();
    /// assert!(capped.map.memory_usage() <= 500 && capped.skip_copied > 0);
    ///
    /// let refused =
    ///     ExtentMap::capped(from_iter(list), 0..51200, Cap::bytes(500).keeping_skipped());
    /// assert!(matches!(refused, Err(CapError::Full { cap: 500, .. })));
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    #[must_use]
    pub const fn keeping_skipped(self) -> Self {
        Self { keeps_skipped: true, ..self }
    }

    /// The number of runs that fit.
    const fn most(self) -> usize {
        let palette = STATUSES * size_of::<Option<Action>>();
        // Each 64 runs have a sample of 8 bytes, each 64 samples another one, and so on: together at
        // most one for each 63 runs.
        const GROUP: usize = FANOUT - 1;
        const BYTES: usize = GROUP * (size_of::<u64>() + size_of::<u8>()) + size_of::<u64>();
        let room = self.bytes - palette;
        room / BYTES * GROUP + room % BYTES * GROUP / BYTES
    }

    /// True if a range with this action may be copied instead.
    ///
    /// `Absent` may not: the layer being backed up does not hold these bytes. A read would return
    /// other content, which the backup would store as the layer's own, hiding the layers below.
    const fn allows(self, action: Action) -> bool {
        match action {
            Action::Zero { .. } => true,
            Action::Skip => !self.keeps_skipped,
            Action::Copy | Action::Absent => false,
        }
    }
}

/// The number of statuses in the palette of a map of actions.
const STATUSES: usize = 8;

/// Why a map under a cap cannot be built. `E` is the error of the stream.
///
/// ```
/// # use nbd_extents::map::{Cap, CapError, ExtentMap};
/// # use nbd_extents::stream::from_iter;
/// # use nbd_extents::{Action, Extent, StreamError};
/// let list = [Extent::new(0, 512, Action::Copy)?, Extent::new(512, 512, Action::Skip)?];
/// let refused = ExtentMap::capped(from_iter(list), 0..2048, Cap::bytes(1000));
/// assert_eq!(refused, Err(CapError::Stream(StreamError::Gap { range: 1024..2048 })));
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CapError<E> {
    /// The stream failed, or does not cover the range.
    #[error("{0}")]
    Stream(E),
    /// Ranges that may not become `Copy` fill three quarters of the map.
    #[error(
        "up to byte {offset} there are {needed} extents that may not be copied instead; a map of \
            {cap} bytes holds {most}"
    )]
    Full {
        /// The end of the part of the stream that had been read.
        offset: u64,
        /// The number of extents that cannot be joined.
        needed: usize,
        /// The number of extents that fit.
        most: usize,
        /// The cap, in bytes.
        cap: usize,
    },
}

/// A map of actions under a cap, and the cost of the cap.
///
/// ```
/// # use nbd_extents::map::{Cap, ExtentMap};
/// # use nbd_extents::stream::from_iter;
/// # use nbd_extents::{Action, Extent};
/// let list = [Extent::new(0, 512, Action::Copy)?, Extent::new(512, 512, Action::Skip)?];
/// let capped = ExtentMap::capped(from_iter(list), 0..1024, Cap::bytes(1000)).unwrap();
/// assert_eq!((capped.map.run_count(), capped.copied_more()), (2, 0), "it fits as it is");
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capped {
    /// The actions: `Copy` as in the stream, and for the bytes counted below.
    pub map: ExtentMap<Action>,
    /// The bytes that are copied because of the cap although they read as zero.
    pub zero_copied: u64,
    /// The bytes that are copied because of the cap although they could be skipped.
    pub skip_copied: u64,
}

impl Capped {
    /// The bytes that are copied only because of the cap.
    #[must_use]
    pub const fn copied_more(&self) -> u64 {
        self.zero_copied + self.skip_copied
    }
}

impl ExtentMap<Action> {
    /// Reads a stream of actions into a map whose memory never exceeds the cap.
    ///
    /// The stream must cover every byte of `range` exactly once.
    /// [`memory_usage`](Self::memory_usage) stays within the cap; to stay there, the map copies
    /// more.
    ///
    /// Whenever the map is full, the shortest ranges that are zeroed or skipped become `Copy`,
    /// until half of it is free. That is always safe: the copied bytes are those of the disk.
    /// `Copy` never becomes anything else, nor does `Absent`. A disk that fits stays unchanged.
    ///
    /// # Errors
    ///
    /// [`CapError::Stream`] with the stream's first error; [`CapError::Full`] when ranges that may
    /// not be copied fill the map.
    ///
    /// ```
    /// use nbd_extents::map::{Cap, ExtentMap};
    /// use nbd_extents::stream::from_iter;
    /// use nbd_extents::{Action, Extent};
    ///
    /// // 1000 dirty blocks of 64 KiB between clean ones that are longer and longer
    /// let mut list = Vec::new();
    /// let mut end = 0;
    /// for n in 1..=1000 {
    ///     for (length, action) in [(65536, Action::Copy), (n * 512, Action::Skip)] {
    ///         list.push(Extent::new(end, length, action)?);
    ///         end += length;
    ///     }
    /// }
    /// let capped = ExtentMap::capped(from_iter(list), 0..end, Cap::bytes(9000)).unwrap();
    /// assert!(capped.map.memory_usage() <= 9000);
    /// assert!(
    ///     capped.map.get(65536).is_some_and(|e| *e.status() == Action::Copy),
    ///     "the shortest was given up"
    /// );
    /// assert!(
    ///     capped.map.get(end - 1).is_some_and(|e| *e.status() == Action::Skip),
    ///     "the longest was not"
    /// );
    /// assert_eq!(capped.copied_more(), capped.skip_copied);
    /// # Ok::<(), nbd_extents::ExtentError>(())
    /// ```
    pub fn capped<S>(stream: S, range: Range<u64>, cap: Cap) -> Result<Capped, CapError<S::Error>>
    where
        S: ExtentStream<Status = Action>,
    {
        let mut builder = CappedBuilder::new(range.start, cap);
        let read = stream.covering(range).try_for_each(|extent| {
            if builder.push(extent.end(), *extent.status()) { Ok(()) } else { Err(Stop::Adapter(())) }
        });
        match read {
            Ok(()) => {}
            Err(Stop::Stream(error)) => return Err(CapError::Stream(error)),
            Err(Stop::Adapter(())) => return Err(builder.full()),
        }
        builder.capped.map.finish();
        Ok(builder.capped)
    }
}

/// A capped map being built.
struct CappedBuilder {
    capped: Capped,
    cap: Cap,
    /// The number of runs that fit.
    most: usize,
}

impl CappedBuilder {
    fn new(start: u64, cap: Cap) -> Self {
        let capped = Capped { map: ExtentMap::starting_at(start), zero_copied: 0, skip_copied: 0 };
        Self { capped, cap, most: cap.most() }
    }

    /// Adds a run; returns `false` if it does not fit even after coarsening.
    fn push(&mut self, end: u64, action: Action) -> bool {
        let grows = self.capped.map.last_status() == Some(Some(action));
        if !grows && self.capped.map.run_count() >= self.most {
            self.coarsen();
            // beyond three quarters, a pass would free less than it costs
            if self.capped.map.run_count() > self.most / 4 * 3 {
                return false;
            }
        }
        self.make_room();
        self.capped.map.push(end, Some(action));
        true
    }

    /// Makes room for one more run. Doubles like a `Vec`, but never beyond the cap.
    fn make_room(&mut self) {
        let map = &mut self.capped.map;
        let runs = map.ends.len();
        if runs == map.ends.capacity() {
            let more = runs.max(4).min(self.most.saturating_sub(runs));
            map.ends.reserve_exact(more);
            map.indices.reserve_exact(more);
        }
    }

    /// Turns the shortest ranges into copies until half of the map is free, or none is left. Each
    /// pass takes half of the ranges that may become copies.
    fn coarsen(&mut self) {
        while self.capped.map.run_count() > self.most / 2 {
            let mut wanted = Lengths::new();
            for extent in self.capped.map.extents().filter(|extent| self.cap.allows(*extent.status())) {
                wanted.add(extent.length());
            }
            if wanted.all == 0 {
                return;
            }
            self.give_up(wanted.shorter_half());
        }
    }

    fn give_up(&mut self, mut quota: Quota) {
        let Capped { map, zero_copied, skip_copied } = &mut self.capped;
        map.rewrite(|length, action| {
            if !self.cap.allows(action) || !quota.takes(length) {
                return action;
            }
            match action {
                Action::Skip => *skip_copied += length,
                _ => *zero_copied += length,
            }
            Action::Copy
        });
    }

    fn full<E>(&self) -> CapError<E> {
        let map = &self.capped.map;
        CapError::Full { offset: map.end(), needed: map.run_count(), most: self.most, cap: self.cap.bytes }
    }
}

/// Four classes for each power of two: fine enough to find the shorter half, and of constant size.
const CLASSES: usize = 4 * 64;

/// The number of ranges in each class of lengths.
struct Lengths {
    counts: [usize; CLASSES],
    all: usize,
}

impl Lengths {
    const fn new() -> Self {
        Self { counts: [0; CLASSES], all: 0 }
    }

    fn class(length: u64) -> usize {
        debug_assert!(length > 0, "an extent has at least one byte");
        let log = length.checked_ilog2().unwrap_or(0);
        let quarter = usize::try_from((length >> log.saturating_sub(2)) & 3).unwrap_or(0);
        log as usize * 4 + quarter
    }

    fn add(&mut self, length: u64) {
        if let Some(count) = self.counts.get_mut(Self::class(length)) {
            *count += 1;
            self.all += 1;
        }
    }

    /// The classes that hold the shorter half of all ranges, the last of them in part.
    fn shorter_half(&self) -> Quota {
        let mut left = self.all.div_ceil(2);
        for (class, &count) in self.counts.iter().enumerate() {
            if count >= left {
                return Quota { class, left };
            }
            left -= count;
        }
        Quota { class: CLASSES, left: 0 }
    }
}

/// The ranges to turn into copies: all of the classes below `class`, and `left` of that class.
struct Quota {
    class: usize,
    left: usize,
}

impl Quota {
    fn takes(&mut self, length: u64) -> bool {
        let class = Lengths::class(length);
        if class == self.class && self.left > 0 {
            self.left -= 1;
            return true;
        }
        class < self.class
    }
}
