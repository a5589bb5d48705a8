//! The status of an extent in the flags of C, and back.

use nbd_extents::action::Action;
use nbd_extents::{Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, Extent, Status};

use super::border::CallFailure;
use super::layout::{
    NBDX_ABSENT, NBDX_COPY, NBDX_DEPTH_KNOWN, NBDX_DIRTY, NBDX_DIRTY_KNOWN, NBDX_HOLE, NBDX_HOLE_KNOWN,
    NBDX_MAY_UNMAP, NBDX_SKIP, NBDX_WRITE_ZEROES, NBDX_ZERO, NBDX_ZERO_KNOWN, nbdx_action, nbdx_extent,
};

const KNOWN: u32 = NBDX_DIRTY_KNOWN | NBDX_ZERO_KNOWN | NBDX_HOLE_KNOWN | NBDX_DEPTH_KNOWN;
const FLAGS: u32 = KNOWN | NBDX_DIRTY | NBDX_ZERO | NBDX_HOLE;

/// A status as C sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) flags: u32,
    pub(crate) depth: u32,
    pub(crate) bitmaps: u32,
}

impl Columns {
    pub(crate) fn of(status: &Status) -> Self {
        Masks::default().columns(status)
    }
}

/// Turns statuses into columns, one after the other. Counting the bitmaps of a set takes longer than all
/// else about an extent, and the set is mostly that of an extent before: it is remembered.
#[derive(Debug)]
pub(crate) struct Masks {
    set: Bitmaps,
    mask: u32,
}

impl Default for Masks {
    fn default() -> Self {
        Self { set: Bitmaps::NONE, mask: 0 }
    }
}

impl Masks {
    #[inline]
    fn mask(&mut self, set: Bitmaps) -> u32 {
        if set.is_empty() {
            return 0;
        }
        if set != self.set {
            *self = Self { set, mask: mask(set) };
        }
        self.mask
    }

    #[inline]
    fn columns(&mut self, status: &Status) -> Columns {
        // without branches: neighbours differ, so none of them could be foretold
        let flag = |answer: Option<bool>, known: u32, yes: u32| {
            (known * u32::from(answer.is_some())) | (yes * u32::from(answer == Some(true)))
        };
        let depth = status.depth();
        let flags = flag(status.dirty(), NBDX_DIRTY_KNOWN, NBDX_DIRTY)
            | flag(status.zero(), NBDX_ZERO_KNOWN, NBDX_ZERO)
            | flag(status.hole(), NBDX_HOLE_KNOWN, NBDX_HOLE)
            | (NBDX_DEPTH_KNOWN * u32::from(depth.is_some()));
        Columns { flags, depth: depth.unwrap_or(0), bitmaps: self.mask(status.dirty_set()) }
    }

    #[inline]
    pub(crate) fn extent(&mut self, extent: &Extent<Status>) -> nbdx_extent {
        let Columns { flags, depth, bitmaps } = self.columns(extent.status());
        let (start, length) = (extent.start(), extent.length());
        nbdx_extent { start, length, flags, depth, bitmaps, reserved: 0 }
    }
}

impl Columns {
    /// The status that the columns mean. `asked` are the bitmaps that were asked.
    ///
    /// # Errors
    ///
    /// Flags that contradict each other or `asked`: taking either side would be a guess.
    pub(crate) fn status(self, asked: Bitmaps) -> Result<Status, CallFailure> {
        let Self { flags, depth, bitmaps } = self;
        let is = |flag| flags & flag != 0;
        if flags & !FLAGS != 0 {
            return Err(CallFailure::new(format_args!("the flags {flags:#x} have bits without a meaning")));
        }
        let marked_unknown = is(NBDX_DIRTY) && !is(NBDX_DIRTY_KNOWN)
            || is(NBDX_ZERO) && !is(NBDX_ZERO_KNOWN)
            || is(NBDX_HOLE) && !is(NBDX_HOLE_KNOWN)
            || depth != 0 && !is(NBDX_DEPTH_KNOWN)
            || is(NBDX_ZERO_KNOWN) != is(NBDX_HOLE_KNOWN);
        if marked_unknown {
            return Err(CallFailure::new(format_args!(
                "the flags {flags:#x} and the depth {depth} state what they call unknown"
            )));
        }
        // dirtiness is known just where a bitmap was asked for
        if bitmaps & !mask(asked) != 0 || is(NBDX_DIRTY_KNOWN) == asked.is_empty() {
            return Err(CallFailure::new(format_args!(
                "the flags {flags:#x} and bitmaps {bitmaps:#x} do not fit the bitmaps {:#x} of the map",
                mask(asked)
            )));
        }
        if is(NBDX_DIRTY) != (bitmaps != 0) {
            return Err(CallFailure::new(format_args!(
                "the flags {flags:#x} and the bitmaps {bitmaps:#x} contradict each other"
            )));
        }
        let mut status = Status::UNKNOWN;
        if is(NBDX_ZERO_KNOWN) {
            let wire = u64::from(is(NBDX_HOLE)) | u64::from(is(NBDX_ZERO)) << 1;
            status = status.with_allocation(Allocation::from_flags(wire));
        }
        if is(NBDX_DEPTH_KNOWN) {
            status = status.with_depth(Depth::from_flags(depth.into()));
        }
        Ok(asked.indices().fold(status, |status, index| {
            let dirty = bitmaps >> usize::from(index) & 1;
            status.with_bitmap(index, Dirtiness::from_flags(dirty.into()))
        }))
    }
}

/// A set of bitmaps as the bits of a number.
pub(crate) fn mask(set: Bitmaps) -> u32 {
    set.indices().fold(0, |mask, index| mask | 1 << usize::from(index))
}

/// The bits of a number as a set of bitmaps.
pub(crate) fn bitmaps(mask: u32) -> Bitmaps {
    let index = |bit: usize| BitmapIndex::try_from(bit).ok();
    (0..32).filter(|bit| mask >> bit & 1 != 0).filter_map(index).collect()
}

pub(crate) fn extent(extent: &Extent<Status>) -> nbdx_extent {
    Masks::default().extent(extent)
}

pub(crate) fn action(extent: &Extent<Action>) -> nbdx_action {
    let (action, flags) = match *extent.status() {
        Action::Copy => (NBDX_COPY, 0),
        Action::Zero { may_unmap } => (NBDX_WRITE_ZEROES, if may_unmap { NBDX_MAY_UNMAP } else { 0 }),
        Action::Skip => (NBDX_SKIP, 0),
        Action::Absent => (NBDX_ABSENT, 0),
    };
    nbdx_action { start: extent.start(), length: extent.length(), action, flags }
}
