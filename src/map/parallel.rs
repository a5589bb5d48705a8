//! Merges two maps on all cores. Both are cut at the same offsets into parts with equal work. Each
//! thread writes its part into the lists of the merged map, at the first place where it fits, and
//! at the end the parts are moved together.

use alloc::vec;
use alloc::vec::Vec;
use core::hash::Hash;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::ExtentMap;
use super::merge::{Part, write};
use super::palette::Palette;
use super::slice::MapSlice;
use crate::error::StreamError;

/// A smaller part, in runs, is merged before another thread has woken up.
const SMALLEST_PART: usize = 1 << 14;

impl<T: Copy + Sync> MapSlice<'_, T> {
    /// Like [`merge`](MapSlice::merge), on the threads of rayon's current pool.
    ///
    /// Small maps are merged on the calling thread.
    ///
    /// # Errors
    ///
    /// The same as those of [`merge`](MapSlice::merge).
    ///
    /// ```
    /// # use nbd_extents::Extent;
    /// # use nbd_extents::map::ExtentMap;
    /// # use nbd_extents::stream::from_iter;
    /// let a = (0..1000)
    ///     .map(|n| Extent::new(n * 6144, 6144, n % 3))
    ///     .collect::<Result<Vec<_>, _>>()?;
    /// let b = (0..1500)
    ///     .map(|n| Extent::new(n * 4096, 4096, n % 2))
    ///     .collect::<Result<Vec<_>, _>>()?;
    /// let a = ExtentMap::covering(from_iter(a), 0..6_144_000)?;
    /// let b = ExtentMap::covering(from_iter(b), 0..6_144_000)?;
    /// let merged = a.merge_parallel(&b, |&a, &b| (a, b))?;
    /// assert_eq!(merged, a.merge(&b, |&a, &b| (a, b))?);
    /// # Ok::<(), nbd_extents::StreamError>(())
    /// ```
    pub fn merge_parallel<U, V, F>(
        &self,
        other: MapSlice<'_, U>,
        combine: F,
    ) -> Result<ExtentMap<V>, StreamError>
    where
        U: Copy + Sync,
        V: Copy + Eq + Hash + Send,
        F: Fn(&T, &U) -> V + Sync,
    {
        let most = (self.run_count() + other.run_count()) / SMALLEST_PART;
        let count = rayon::current_num_threads().min(most);
        // after an error, one thread finds it again, and names the whole range even if it crosses a
        // seam
        in_parts(*self, other, count, &combine).map_or_else(|| self.merge(other, combine), Ok)
    }
}

/// Merges two slices of the same range; `None` if [`MapSlice::merge`] must take over.
fn in_parts<T, U, V>(
    left: MapSlice<'_, T>,
    right: MapSlice<'_, U>,
    count: usize,
    combine: &(impl Fn(&T, &U) -> V + Sync),
) -> Option<ExtentMap<V>>
where
    T: Copy + Sync,
    U: Copy + Sync,
    V: Copy + Eq + Hash + Send,
{
    if count < 2 || left.range() != right.range() {
        return None;
    }
    let pairs = pairs(left, right, count);
    let room: Vec<_> = pairs.iter().map(|(left, right)| left.run_count() + right.run_count()).collect();
    let most = room.iter().sum();
    // zeroed memory comes from the system when it is first written to: on each thread for its part
    let (mut ends, mut places) = (vec![0; most], vec![0; most]);
    let lists = cut(&mut ends, &room).into_iter().zip(cut(&mut places, &room));
    let work: Vec<_> = pairs.into_iter().zip(lists).collect();
    let parts: Option<Vec<_>> = work
        .into_par_iter()
        .map(|((left, right), (ends, places))| write(left, right, combine, ends, places))
        .collect();
    move_together(left.start, ends, places, &room, parts?)
}

/// Cuts a list into pieces of these lengths, which add up to its own.
fn cut<'a, N>(mut list: &'a mut [N], lengths: &[usize]) -> Vec<&'a mut [N]> {
    let mut pieces = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (piece, rest) = list.split_at_mut(length);
        pieces.push(piece);
        list = rest;
    }
    pieces
}

/// Joins parts, each of which lies at the start of its room, into one map. Equal neighbours are
/// joined across the seams. `None` if the parts together have more statuses than one byte can
/// index.
fn move_together<V: Copy + Eq + Hash>(
    start: u64,
    mut ends: Vec<u64>,
    mut places: Vec<u8>,
    room: &[usize],
    parts: Vec<Part<V>>,
) -> Option<ExtentMap<V>> {
    let mut palette = Palette::new();
    let (mut from, mut to) = (0, 0_usize);
    for (part, room) in parts.into_iter().zip(room) {
        let statuses = part.palette.statuses().iter();
        let renamed: Vec<_> =
            statuses.map(|&status| u8::try_from(palette.place(status)).ok()).collect::<Option<_>>()?;
        if (0..).zip(&renamed).any(|(old, &new)| old != new) {
            for place in places.get_mut(from..from + part.runs)? {
                *place = *renamed.get(usize::from(*place))?;
            }
        }
        // a run that continues across the seam ends where its part in the next piece ends
        let last = to.checked_sub(1).and_then(|last| places.get(last));
        to -= usize::from(last.is_some() && places.get(from) == last);
        ends.copy_within(from..from + part.runs, to);
        places.copy_within(from..from + part.runs, to);
        (from, to) = (from + room, to + part.runs);
    }
    ends.truncate(to);
    places.truncate(to);
    Some(ExtentMap::of_parts(start, ends, places, palette))
}

/// Cuts both slices, of the same range, at the same offsets into up to `count` pairs with about the
/// same number of runs.
fn pairs<'a, 'b, T, U>(
    mut left: MapSlice<'a, T>,
    mut right: MapSlice<'b, U>,
    count: usize,
) -> Vec<(MapSlice<'a, T>, MapSlice<'b, U>)> {
    let mut pairs = Vec::with_capacity(count);
    for remaining in (2..=count).rev() {
        // an equal share of the runs that are left, so that rounding does not fall on the last pair
        let offset = offset_of(left, right, (left.run_count() + right.run_count()) / remaining);
        let (left_part, left_rest) = left.split_at(offset);
        let (right_part, right_rest) = right.split_at(offset);
        if !left_part.is_empty() {
            pairs.push((left_part, right_part));
        }
        (left, right) = (left_rest, right_rest);
    }
    if !left.is_empty() {
        pairs.push((left, right));
    }
    pairs
}

/// The first offset before which `runs` runs of both slices together end.
fn offset_of<T, U>(left: MapSlice<'_, T>, right: MapSlice<'_, U>, runs: usize) -> u64 {
    let ended = |ends: &[u64], offset| ends.partition_point(|&end| end <= offset);
    let (mut low, mut high) = (left.start, left.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if ended(left.ends, middle) + ended(right.ends, middle) < runs {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::extent::Extent;
    use crate::stream::from_iter;
    use proptest::prelude::*;

    /// Extents and gaps, which need not reach the end of the map.
    fn map() -> impl Strategy<Value = ExtentMap<u8>> {
        let runs = prop::collection::vec((1_u64..6, prop::option::weighted(0.97, 0_u8..3)), 0..40);
        runs.prop_map(|runs| {
            let (mut list, mut start) = (Vec::new(), 0);
            for (length, status) in runs {
                let end = (start + length).min(100);
                list.extend(status.and_then(|status| Extent::from_range(start..end, status).ok()));
                start = end;
            }
            ExtentMap::within(from_iter(list), 0..100).unwrap()
        })
    }

    /// A map that describes the same bytes as another, with other statuses, at other cuts.
    fn like(map: &ExtentMap<u8>, cuts: &[u64]) -> ExtentMap<u8> {
        let mut list = Vec::new();
        for extent in map.extents() {
            let inner = cuts.iter().copied().filter(|&cut| extent.start() < cut && cut < extent.end());
            let ends = inner.chain([extent.end()]);
            let mut start = extent.start();
            for end in ends {
                list.push(Extent::from_range(start..end, (end % 3) as u8).unwrap());
                start = end;
            }
        }
        ExtentMap::within(from_iter(list), map.range()).unwrap()
    }

    proptest! {
        #[test]
        fn parts_give_the_same_map_as_one_thread(
            (left, other) in (map(), map()),
            cuts in prop::collection::btree_set(0_u64..100, 0..30),
            slice in (0_u64..50, 50_u64..=100),
            count in 0_usize..9,
        ) {
            let cuts: Vec<_> = cuts.into_iter().collect();
            let combine = |&a: &u8, &b: &u8| a * b;
            for right in [&like(&left, &cuts), &other] {
                let (left, right) = (left.slice(slice.0..slice.1), right.slice(slice.0..slice.1));
                let expected = left.merge(right, combine);
                let got = in_parts(left, right, count, &combine);
                // where the parallel merge returns `None`, a single thread must be needed, and
                // nowhere else
                let possible = count >= 2 && expected.is_ok();
                prop_assert_eq!(got.is_some(), possible);
                if let (Some(got), Ok(expected)) = (got, expected) {
                    prop_assert_eq!(got.totals(), expected.totals());
                    prop_assert_eq!(got, expected);
                }
            }
        }

        #[test]
        fn parts_are_even(
            map in map(),
            cuts in prop::collection::btree_set(0_u64..100, 0..30),
            count in 1_usize..9,
        ) {
            let cuts: Vec<_> = cuts.into_iter().collect();
            let right = like(&map, &cuts);
            let parts = pairs(map.as_slice(), right.as_slice(), count);
            prop_assert!(parts.len() <= count);
            prop_assert_eq!(ExtentMap::join(parts.iter().map(|(left, _)| *left)).unwrap(), map.clone());
            prop_assert_eq!(ExtentMap::join(parts.iter().map(|(_, right)| *right)).unwrap(), right.clone());
            // each cut adds at most one run to both sides
            let fair = (map.run_count() + right.run_count()) / count + 2 * count + 4;
            for (left, right) in &parts {
                prop_assert_eq!(left.range(), right.range());
                let (one, other) = (left.run_count(), right.run_count());
                prop_assert!(one + other <= fair, "{one} and {other} of {fair}");
            }
        }
    }

    #[test]
    fn large_maps_are_merged_in_parts() {
        let disk = |length: u64| {
            let list = (0..(60 << 16) / length).map(|n| Extent::new(n * length, length, n % 2 == 0).unwrap());
            ExtentMap::covering(from_iter(list), 0..60 << 16).unwrap()
        };
        let (left, right) = (disk(60), disk(80));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let merged = pool.install(|| left.merge_parallel(&right, |&a, &b| (a, b)));
        assert_eq!(merged, left.merge(&right, |&a, &b| (a, b)));
        assert_eq!(merged.unwrap().run_count(), 98_304, "two in three cuts are not the other side's");
    }
}
