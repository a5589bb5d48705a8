//! Merges two maps. Maps have few statuses, so the status of a merged run is one look-up in a table
//! of pairs, and the rest of the work is to walk along two lists of ends. Maps that it cannot merge
//! go to `stream::Merge`.
//!
//! The walk is a loop of its own, since it writes columns of a known size, in parts on several
//! threads (`parallel.rs`). The step of `stream::Merge` and a map built of its extents take 2.4
//! (random), 2.8 (grid), 1.5 (skewed) and 2.1 (heavy-tailed) times as long (a million runs a side, 29
//! November 2026).

use alloc::vec;
use core::hash::Hash;

use super::ExtentMap;
use super::palette::Palette;
use super::slice::MapSlice;
use crate::error::StreamError;
use crate::stream::ExtentStream;

/// The largest table of pairs. Two maps with more pairs are merged as streams.
const LARGEST_TABLE: usize = 1 << 12;

impl<T: Copy> MapSlice<'_, T> {
    /// Merges two slices: each byte gets `combine` of its two statuses.
    ///
    /// The map reaches from the start of the first slice to the end of the last.
    ///
    /// Both must describe the same bytes, as in [`ExtentStream::merge`]; the result equals the
    /// merge of the two [streams](MapSlice::stream). `combine` must be pure: one call serves many
    /// extents with the same pair of statuses.
    ///
    /// # Errors
    ///
    /// [`StreamError::Uneven`] names the first bytes that only one of them describes.
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let dirty = [Extent::new(0, 1024, false)?, Extent::new(1024, 3072, true)?];
    /// let zero = [Extent::new(0, 2048, false)?, Extent::new(2048, 2048, true)?];
    /// let dirty = ExtentMap::covering(from_iter(dirty), 0..4096)?;
    /// let zero = ExtentMap::covering(from_iter(zero), 0..4096)?;
    /// let read = dirty.merge(&zero, |&dirty, &zero| dirty && !zero)?;
    /// let ranges: Vec<_> = read.extents().filter(|e| *e.status()).map(|e| e.range()).collect();
    /// assert_eq!(ranges, [1024..2048]);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn merge<U, V, F>(&self, other: MapSlice<'_, U>, combine: F) -> Result<ExtentMap<V>, StreamError>
    where
        U: Copy,
        V: Copy + Eq + Hash,
        F: Fn(&T, &U) -> V,
    {
        if let Some(map) = by_table(*self, other, &combine) {
            return Ok(map);
        }
        let start = self.start.min(other.start);
        let end = self.end.max(other.end);
        ExtentMap::within(self.stream().merge(other.stream(), combine), start..end)
    }
}

/// Merges two slices of the same range by a table. Returns `None` if the merge of streams must take
/// over: for slices of two ranges, for very many statuses, and to name the bytes that only one of
/// them describes.
fn by_table<T: Copy, U: Copy, V: Copy + Eq + Hash>(
    left: MapSlice<'_, T>,
    right: MapSlice<'_, U>,
    combine: &impl Fn(&T, &U) -> V,
) -> Option<ExtentMap<V>> {
    if left.range() != right.range() {
        return None;
    }
    let most = left.run_count() + right.run_count();
    // zeroed memory that is never written to costs nothing, and is given back at the end
    let (mut ends, mut places) = (vec![0; most], vec![0; most]);
    let Part { runs, palette } = write(left, right, combine, &mut ends, &mut places)?;
    ends.truncate(runs);
    places.truncate(runs);
    Some(ExtentMap::of_parts(left.start, ends, places, palette))
}

/// The result of [`write`]: the number of runs, and the palette of their statuses.
pub(super) struct Part<V> {
    pub(super) runs: usize,
    pub(super) palette: Palette<V>,
}

/// Merges two slices of the same range into lists that have room for the runs of both.
pub(super) fn write<T: Copy, U: Copy, V: Copy + Eq + Hash>(
    left: MapSlice<'_, T>,
    right: MapSlice<'_, U>,
    combine: &impl Fn(&T, &U) -> V,
    ends: &mut [u64],
    places: &mut [u8],
) -> Option<Part<V>> {
    let columns = right.palette.len();
    let pairs = left.palette.len().checked_mul(columns).filter(|&pairs| pairs <= LARGEST_TABLE)?;
    // The places of merged statuses by pair. A place is assigned when its pair first occurs, so
    // that the palette holds no unused status.
    let mut table = vec![None; pairs];
    let mut palette = Palette::new();
    let (mut i, mut j, mut runs) = (0, 0, 0);
    let mut last = None;
    while let (Some(&left_end), Some(&right_end)) = (left.ends.get(i), right.ends.get(j)) {
        let (row, column) = (left.indices.get(i)?, right.indices.get(j)?);
        let slot = table.get_mut(row * columns + column)?;
        let place = match *slot {
            Some(place) => place,
            None => {
                let status = match (left.palette.get(row)?, right.palette.get(column)?) {
                    (Some(left), Some(right)) => Some(combine(left, right)),
                    (None, None) => None,
                    _ => return None,
                };
                *slot.insert(u8::try_from(palette.place(status)).ok()?)
            }
        };
        // a run with the same status as the one before it overwrites that one's end
        runs += usize::from(last != Some(place));
        last = Some(place);
        // the last run of a slice may reach beyond it, and both slices end together
        *ends.get_mut(runs - 1)? = left_end.min(right_end).min(left.end);
        *places.get_mut(runs - 1)? = place;
        i += usize::from(left_end <= right_end);
        j += usize::from(right_end <= left_end);
    }
    Some(Part { runs, palette })
}
