//! The fast way of a merge: tile by tile, where both sides are lists in memory.

use super::merge::Merge;
use super::pick::Pick;
use super::{ExtentStream, UNNUMBERED};
use crate::extent::{Extent, MAX_END};
use crate::kernel::{self, Input, Joins, Picker, Picking, Picks, Processor, Progress, Segment, Tile};

/// From so many descriptors on, a tile is worth its memory, which has to be filled with zeroes first.
const LONG: usize = 512;
/// Where a tile cannot be made, so many extents go the plain way before the next attempt.
const PLAIN: usize = 512;

impl<A, B, V, F> Merge<A, B, F>
where
    A: ExtentStream,
    B: ExtentStream<Error = A::Error>,
    F: Fn(&A::Status, &B::Status) -> V,
{
    pub(super) fn fold_tiles<Acc>(
        self,
        init: Acc,
        f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        self.fold_tiles_after(|_, _| {}, init, f)
    }

    /// With equal neighbours joined.
    pub(super) fn fold_tiles_joined<Acc, P: Pick<V>>(
        self,
        pick: P,
        init: Acc,
        f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut joins = Joins::new();
        let join = |this: &Self, tile: &mut Tile| joins.join(tile, |a, b| this.joins(&pick, a, b));
        self.fold_tiles_after(join, init, f)
    }

    /// Does `first` to each tile before its segments are given to `f`.
    #[inline]
    fn fold_tiles_after<Acc>(
        mut self,
        mut first: impl FnMut(&Self, &mut Tile),
        init: Acc,
        mut f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut acc = init;
        if self.is_long() {
            let mut tile = Tile::new();
            while self.is_long() {
                if self.next_tile(&mut tile) {
                    first(&self, &mut tile);
                    acc = self.give_tile(&tile, acc, &mut f);
                } else {
                    acc = self.fold_plain(PLAIN, acc, &mut f)?;
                }
            }
        }
        self.fold_plain(usize::MAX, acc, f)
    }

    fn joins<P: Pick<V>>(&self, pick: &P, one: u64, other: u64) -> bool {
        self.pair(one).zip(self.pair(other)).is_some_and(|(one, other)| pick.joins(one, other))
    }

    /// Only what is wanted, with equal neighbours joined.
    pub(super) fn fold_tiles_picked<Acc, P: Pick<V>>(
        mut self,
        pick: P,
        init: Acc,
        mut f: impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut acc = init;
        if self.is_long() {
            let mut picker = Picker::new();
            while self.is_long() {
                acc = self.pick_tiles(&mut picker, &pick, acc, &mut f);
                acc = self.fold_plain(PLAIN, acc, &mut f)?;
            }
        }
        self.fold_plain(usize::MAX, acc, f)
    }

    /// Gives what is wanted to `f`, as far as the kernel comes.
    fn pick_tiles<Acc, P: Pick<V>>(
        &mut self,
        picker: &mut Picker,
        pick: &P,
        init: Acc,
        f: &mut impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Acc {
        let this = &*self;
        let Some((left, right)) = this.inputs() else {
            return init;
        };
        let keeps = |code| this.pair(code).is_some_and(|status| pick.keeps(status));
        let joins = |one, other| this.joins(pick, one, other);
        let picks = Picks { keeps: &keeps, joins: P::JOINS.then_some(&joins) };
        let (mut acc, mut picking) = (init, Picking::new(left, right));
        while picking.next(picker, &picks) {
            acc = this.give(picker.segments(), acc, f);
        }
        if let Some(progress) = picking.progress() {
            self.pass(progress);
        }
        acc
    }

    /// Gives the segments of a tile to `f`.
    ///
    /// A fold that carries its state along is compiled for wider registers, in which the compiler can do several extents at once. One that has
    /// its state elsewhere (`for_each`) loses by that: across the call it cannot keep that state in registers. In the narrow registers of any processor all lose.
    #[inline]
    fn give_tile<Acc>(&self, tile: &Tile, init: Acc, f: &mut impl FnMut(Acc, Extent<V>) -> Acc) -> Acc {
        if size_of::<Acc>() > 0 && Processor::found() > Processor::Any {
            kernel::dispatch(|| self.give(tile.segments::<true>(), init, f))
        } else {
            self.give(tile.segments::<false>(), init, f)
        }
    }

    /// The numbers of the extents are their codes.
    pub(super) fn for_each_while_tiles(
        mut self,
        mut f: impl FnMut(Extent<V>, u64) -> bool,
    ) -> Result<(), A::Error> {
        if self.is_long() {
            let mut tile = Tile::new();
            while self.is_long() {
                let goes_on = if self.next_tile(&mut tile) {
                    tile.segments::<false>().all(|Segment { start, end, code }| match self.pair(code) {
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
    #[inline(always)]
    fn give<Acc>(
        &self,
        segments: impl Iterator<Item = Segment>,
        init: Acc,
        f: &mut impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Acc {
        segments.fold(init, |acc, Segment { start, end, code }| match self.pair(code) {
            Some(status) => f(acc, Extent::trusted(start, end, status)),
            None => acc,
        })
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

    /// Both sides, if a kernel can read them. One that stands behind [`MAX_END`] has an error to report, and no sum of it fits.
    fn inputs(&self) -> Option<(Input<'_>, Input<'_>)> {
        let inputs = self.left.input().zip(self.right.input());
        inputs.filter(|(left, right)| left.start.max(right.start) <= MAX_END)
    }

    /// Merges into the tile. `false` where the plain way must go on.
    fn next_tile(&mut self, tile: &mut Tile) -> bool {
        let Some((left, right)) = self.inputs() else {
            return false;
        };
        let Some(progress) = kernel::merge(&left, &right, tile) else {
            return false;
        };
        self.pass(progress);
        true
    }

    /// Passes over what a kernel has used.
    fn pass(&mut self, Progress { position, left, right }: Progress) {
        self.position = position;
        self.left.pass(left, position);
        self.right.pass(right, position);
    }

    /// The status of a pair of flags.
    #[inline]
    fn pair(&self, code: u64) -> Option<V> {
        let (left, right) = kernel::sides_of(code);
        Some((self.combine)(&self.left.status_of(left)?, &self.right.status_of(right)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StreamError;
    use crate::stream::{place, place_all};
    use crate::wire::Descriptors;
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
            [(256, 256, true), (511, 1, true), (256, 255, false), (0, 512, true), (0, 511, false)]
        {
            let (left, right) = (list(left), list(right));
            let merge = side(&left).merge(side(&right), |a, b| a | b);
            assert_eq!(merge.is_long(), long, "{} and {}", left.len(), right.len());
        }
        // how long a list in pieces is shows only at its end
        let pieces = list(2);
        let pieces = || place_all((0..2).map(|_| Descriptors::new(&pieces)), 0).map_status(|flags| flags & 1);
        let short = list(2);
        assert!(pieces().merge(side(&short), |a, b| a | b).is_long());
        assert!(side(&short).merge(pieces(), |a, b| a | b).is_long());
        let (left, right) = (list(512), list(512));
        let mut merge = side(&left).merge(side(&right), |a, b| a | b);
        let mut tile = Tile::new();
        assert!(merge.next_tile(&mut tile));
        assert!(tile.segments::<false>().count() > 0);
        assert!(merge.position() >= 512);
        assert!(!merge.is_long() || merge.next_tile(&mut tile), "it goes on behind what was taken");
    }
}
