//! The fast way of a merge: tile by tile, where both sides are lists in memory.

use super::ExtentStream;
use super::merge::Merge;
use crate::extent::Extent;
use crate::kernel::{self, Segment, Tile};

/// From so many descriptors on, a tile is worth its memory.
const LONG: usize = 64;
/// Where a tile cannot be made, so many extents go the plain way before the next attempt.
const PLAIN: usize = 512;

impl<A, B, V, F> Merge<A, B, F>
where
    A: ExtentStream,
    B: ExtentStream<Error = A::Error>,
    F: Fn(&A::Status, &B::Status) -> V,
{
    /// Whether there is enough to read in tiles.
    pub(super) fn is_long(&self) -> bool {
        match (self.left.input(), self.right.input()) {
            (Some(left), Some(right)) => left.wire.list.len() + right.wire.list.len() >= LONG,
            _ => false,
        }
    }

    /// Reads until too little is left for tiles.
    pub(super) fn fold_tiles<Acc>(
        &mut self,
        init: Acc,
        f: &mut impl FnMut(Acc, Extent<V>) -> Acc,
    ) -> Result<Acc, A::Error> {
        let mut acc = init;
        let mut tile = Tile::new();
        while self.is_long() {
            if self.next_tile(&mut tile) {
                for Segment { start, end, code } in tile.segments() {
                    if let Some(status) = self.pair(code) {
                        acc = f(acc, Extent::trusted(start, end, status));
                    }
                }
                continue;
            }
            for _ in 0..PLAIN {
                let Some(extent) = self.next_extent()? else {
                    return Ok(acc);
                };
                acc = f(acc, extent);
            }
        }
        Ok(acc)
    }

    /// Merges into the tile. Returns whether there is anything in it.
    fn next_tile(&mut self, tile: &mut Tile) -> bool {
        let (Some(left), Some(right)) = (self.left.input(), self.right.input()) else {
            return false;
        };
        let Some(progress) = kernel::merge(&left, &right, tile) else {
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
