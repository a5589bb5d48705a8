//! The fast way of a merge: tile by tile, where both sides are lists in memory.

use super::merge::Merge;
use super::{ExtentStream, UNNUMBERED};
use crate::extent::Extent;
use crate::kernel::{self, Input, Kept, Segment, Tile};

/// From so many descriptors on, a tile is worth its memory.
const LONG: usize = 64;
/// Where a tile cannot be made, so many extents go the plain way before the next attempt.
const PLAIN: usize = 512;

/// Whether a merge's status for a code is wanted.
type Wants<'a, M> = &'a dyn Fn(&M, u64) -> bool;

impl<A, B, V, F> Merge<A, B, F>
where
    A: ExtentStream,
    B: ExtentStream<Error = A::Error>,
    F: Fn(&A::Status, &B::Status) -> V,
{
    pub(super) fn fold_tiles<Acc>(
        mut self,
        init: Acc,
        mut f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut acc = init;
        if self.is_long() {
            let mut tile = Tile::new();
            while self.is_long() {
                if self.next_tile(&mut tile, None) {
                    acc = self.give(tile.segments(), acc, &mut f);
                } else {
                    acc = self.fold_plain(PLAIN, acc, &mut f)?;
                }
            }
        }
        self.fold_plain(usize::MAX, acc, f)
    }

    pub(super) fn fold_tiles_if<Acc>(
        mut self,
        keep: impl Fn(&V) -> bool,
        init: Acc,
        mut f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut f_if = |acc, extent: Extent<V>| if keep(extent.status()) { f(acc, extent) } else { acc };
        let mut acc = init;
        if self.is_long() {
            let (mut tile, mut kept) = (Tile::new(), Kept::new());
            while self.is_long() {
                let judge = |merge: &Self, code| merge.pair(code).is_some_and(|status| keep(&status));
                let wants = |merge: &Self, code| kept.wants(code, |code| judge(merge, code));
                if self.next_tile(&mut tile, Some(&wants)) {
                    kept.keep(&mut tile, |code| judge(&self, code));
                    acc = self.give(kept.segments(&tile), acc, &mut f_if);
                } else {
                    acc = self.fold_plain(PLAIN, acc, &mut f_if)?;
                }
            }
        }
        self.fold_plain(usize::MAX, acc, f_if)
    }

    /// The numbers of the extents are their codes.
    pub(super) fn for_each_while_tiles(
        mut self,
        mut f: impl FnMut(Extent<V>, u64) -> bool,
    ) -> Result<(), A::Error> {
        if self.is_long() {
            let mut tile = Tile::new();
            while self.is_long() {
                let goes_on = if self.next_tile(&mut tile, None) {
                    tile.segments().all(|Segment { start, end, code }| match self.pair(code) {
                        Some(status) => f(Extent::trusted(start, end, status), code),
                        None => true,
                    })
                } else {
                    self.plain_while(PLAIN, &mut f)?
                };
                if !goes_on {
                    return Ok(());
                }
            }
        }
        self.plain_while(usize::MAX, &mut f)?;
        Ok(())
    }

    /// Gives at most so many extents to `f`, one by one. `false` once `f` has said so.
    #[inline]
    fn plain_while(
        &mut self,
        most: usize,
        f: &mut impl FnMut(Extent<V>, u64) -> bool,
    ) -> Result<bool, A::Error> {
        for _ in 0..most {
            let Some(extent) = self.next_extent()? else {
                break;
            };
            if !f(extent, UNNUMBERED) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives segments to `f`, with their statuses.
    ///
    /// A fold that carries its state along is compiled for wider registers, in which the compiler can do several extents at once. One that has
    /// its state elsewhere (`for_each`) loses by that: across the call it cannot keep that state in registers.
    #[inline]
    fn give<Acc>(
        &self,
        segments: impl Iterator<Item = Segment>,
        init: Acc,
        f: &mut impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Acc {
        let all = || {
            segments.fold(init, |acc, Segment { start, end, code }| match self.pair(code) {
                Some(status) => f(acc, Extent::trusted(start, end, status)),
                None => acc,
            })
        };
        if size_of::<Acc>() == 0 { all() } else { kernel::dispatch(all) }
    }

    /// Gives at most so many extents to `f`, one by one.
    fn fold_plain<Acc>(
        &mut self,
        most: usize,
        init: Acc,
        mut f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut acc = init;
        for _ in 0..most {
            let Some(extent) = self.next_extent()? else {
                break;
            };
            acc = f(acc, extent);
        }
        Ok(acc)
    }

    /// Whether there is enough to read in tiles.
    fn is_long(&self) -> bool {
        match (self.left.input(), self.right.input()) {
            (Some(Input { wire: left, .. }), Some(Input { wire: right, .. })) => {
                left.list.len() + right.list.len() >= LONG || left.goes_on || right.goes_on
            }
            _ => false,
        }
    }

    /// Merges into the tile, but may leave out what is not wanted. `false` where the plain way must go on.
    fn next_tile(&mut self, tile: &mut Tile, wants: Option<Wants<'_, Self>>) -> bool {
        let this = &*self;
        let (Some(left), Some(right)) = (this.left.input(), this.right.input()) else {
            return false;
        };
        let wants = wants.map(|wants| move |code| wants(this, code));
        let wants = wants.as_ref().map(|wants| wants as &dyn Fn(u64) -> bool);
        let Some(progress) = kernel::merge(&left, &right, tile, wants) else {
            return false;
        };
        self.position = progress.position;
        self.left.pass(progress.left, progress.position);
        self.right.pass(progress.right, progress.position);
        true
    }

    /// The status of a pair of flags.
    #[inline]
    fn pair(&self, code: u64) -> Option<V> {
        let (left, right) = kernel::flags_of(code);
        Some((self.combine)(&self.left.status_of(left)?, &self.right.status_of(right)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StreamError;
    use crate::stream::place;
    use crate::wire::{Descriptors, chain};
    use alloc::vec::Vec;

    fn list(count: u64) -> Vec<(u64, u64)> {
        (0..count).map(|nth| (512, nth & 3)).collect()
    }

    fn side(list: &[(u64, u64)]) -> impl ExtentStream<Status = u64, Error = StreamError> {
        place(Descriptors::new(list), 0).map_status(|flags| flags & 1)
    }

    /// Both ways give the same (`tests/kernel.rs`); this is that the fast one is taken, and not below the length from which it pays.
    #[test]
    fn long_lists_go_tile_by_tile() {
        for (left, right, long) in
            [(32, 32, true), (63, 1, true), (32, 31, false), (0, 64, true), (0, 63, false)]
        {
            let (left, right) = (list(left), list(right));
            let merge = side(&left).merge(side(&right), |a, b| a | b);
            assert_eq!(merge.is_long(), long, "{} and {}", left.len(), right.len());
        }
        // how long a list in pieces is shows only at its end
        let pieces = list(2);
        let pieces =
            || place(chain((0..2).map(|_| Descriptors::new(&pieces))), 0).map_status(|flags| flags & 1);
        let short = list(2);
        assert!(pieces().merge(side(&short), |a, b| a | b).is_long());
        assert!(side(&short).merge(pieces(), |a, b| a | b).is_long());
        let (left, right) = (list(64), list(64));
        let mut merge = side(&left).merge(side(&right), |a, b| a | b);
        let mut tile = Tile::new();
        assert!(merge.next_tile(&mut tile, None));
        assert!(tile.segments().count() > 0);
        assert!(merge.position() >= 512);
        assert!(!merge.is_long() || merge.next_tile(&mut tile, None), "it goes on behind what was taken");
    }
}
