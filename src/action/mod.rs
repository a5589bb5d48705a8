//! Actions for each range, and the policies that choose them.
//!
//! A survey yields the status of a disk; a backup needs actions. A [`Policy`] chooses an [`Action`]
//! for each status. Neighbours are joined by the action and not by the flags, so a disk of 300,000
//! extents with two dirty blocks becomes five rows:
//!
//! ```
//! use nbd_extents::action::{Baseline, Incremental, StatusStream};
//! use nbd_extents::stream::{ExtentStream, from_iter};
//! use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Dirtiness, Extent, Status};
//!
//! const BLOCK: u64 = 65536;
//! let disk = (0..300_000).map(|n| {
//!     let zero = Allocation::from_flags(if n % 2 == 0 { 3 } else { 0 });
//!     let dirty = Dirtiness::from_flags(u64::from(n == 1001 || n == 200_001));
//!     Extent::new(
//!         n * BLOCK,
//!         BLOCK,
//!         Status::UNKNOWN.with_allocation(zero).with_bitmap(BitmapIndex::FIRST, dirty),
//!     )
//!     .unwrap()
//! });
//!
//! let size = 300_000 * BLOCK;
//! let policy = Incremental::new(Baseline::new(size, Bitmaps::FIRST), size)?;
//! let rows: Vec<_> = from_iter(disk)
//!     .decide(policy)
//!     .into_iter()
//!     .map(|row| row.unwrap().to_string())
//!     .collect();
//! assert_eq!(
//!     rows,
//!     [
//!         "0..65601536 skip",
//!         "65601536..65667072 copy",
//!         "65667072..13107265536 skip",
//!         "13107265536..13107331072 copy",
//!         "13107331072..19660800000 skip",
//!     ]
//! );
//! # Ok::<(), nbd_extents::action::BaselineError>(())
//! ```
//!
//! # Which policy
//!
//! | the backup is | policy | bytes that read as zero | other bytes |
//! |---|---|---|---|
//! | the first, of a whole disk | [`Full`] | zero | copy |
//! | the first, onto a target that reads as zero | [`Full::onto_zeroes`] | skip | copy |
//! | the changes since the previous backup | [`Incremental`] | zero where dirty, skip where clean | copy where dirty, skip where clean |
//! | one layer of a chain, without what lies under it | [`SingleLayer`] | zero where the layer has them, absent where not | copy |
//!
//! The unknown is taken for the worse: without `base:allocation` every byte may hold data, and a
//! hole without the zero bit has undefined content. Both are copied. If a missing context would
//! make the whole answer a guess, the policy refuses: an incremental without one of its bitmaps, a
//! single layer without the depth. [`Zeroes`] sets the treatment of zeroes: whether they may lose
//! their space, and whether their status is used at all.
//!
//! # Why is this range copied?
//!
//! [`StatusStream::explain`] answers with an [`Explanation`] for each range: the action, the
//! reason, and the status. Clip the disk to the range in question, or take a slice of its
//! [map](crate::map), and explain it with the policy that decided.
//!
//! # A policy of your own
//!
//! A program can define a [`Policy`] of its own. It names its base ([`Base`]), and the stream
//! checks every decision against that, so that a mistake in the policy is an error and not a lost
//! byte. Bytes are left out only explicitly: [`Policy::excluding`].

mod base;
mod baseline;
mod decide;
mod decision;
mod error;
mod excluding;
mod full;
mod incremental;
mod layer;
mod policy;
mod totals;
mod zeroes;

use core::fmt;

pub use base::Base;
pub use baseline::Baseline;
pub use decide::{Decide, Explain, StatusStream};
pub use decision::{Cause, Content, Decision, Explanation, Reason};
pub use error::{BaselineError, DecideError, PolicyError};
pub use excluding::Excluding;
pub use full::Full;
pub use incremental::Incremental;
pub use layer::SingleLayer;
pub use policy::Policy;
pub use totals::Totals;
pub use zeroes::Zeroes;

/// The action of a backup for a range of the disk.
///
/// ```
/// use nbd_extents::Action;
///
/// assert_eq!(Action::Copy.to_string(), "copy");
/// assert_eq!(Action::Zero { may_unmap: true }.to_string(), "zero");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the bytes and store them.
    Copy,
    /// Record that the bytes read as zero, and make them so on restore.
    ///
    /// Never by a TRIM alone, which promises nothing.
    Zero {
        /// True if the restore may leave the range without allocated space (`NBD_CMD_WRITE_ZEROES`
        /// without NO_HOLE).
        may_unmap: bool,
    },
    /// Leave the bytes as they are: the target has them already.
    Skip,
    /// The layer being backed up does not hold these bytes; a layer below it does.
    Absent,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copy => "copy",
            Self::Zero { .. } => "zero",
            Self::Skip => "skip",
            Self::Absent => "absent",
        })
    }
}
