//! Two maps into one. Maps have few statuses and know them all, so that the status of a merged run is one look into a table of pairs, and what is
//! left to do is to walk along two lists of ends.

use alloc::vec;
use core::hash::Hash;

use super::ExtentMap;
use super::palette::Palette;
use super::slice::MapSlice;
use crate::error::StreamError;
use crate::stream::ExtentStream;

/// Larger tables are not made: two maps with so many statuses go the way of streams.
const LARGEST_TABLE: usize = 1 << 12;

impl<T: Copy> MapSlice<'_, T> {
    /// A map of both: each byte gets what `combine` makes of its two statuses. It is about the bytes from where the first of the two starts to where
    /// the last one ends.
    ///
    /// Both must describe the same bytes, as in [`ExtentStream::merge`]; the answer is that of the two [streams](MapSlice::stream). `combine` must
    /// be pure: it is called once for many extents with the same pair of statuses.
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

/// The merge of two slices of the same range; `None` where there is another, slower way to go: for slices of two ranges, for very many statuses,
/// and to say which bytes only one of them describes.
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

/// What [`write`] has written: so many runs, whose statuses are in this palette.
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
    // places of merged statuses by pair, made when a pair first comes, so that the palette holds no other
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
        // a run that says the same as the one before it takes that one's place
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
