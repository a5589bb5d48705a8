//! The bytes of a disk by status.

use alloc::vec;
use alloc::vec::Vec;

use super::slice::MapSlice;

/// The bytes and extents of one status: see [`MapSlice::totals`].
///
/// ```
/// # use nbd_extents::Extent;
/// # use nbd_extents::map::ExtentMap;
/// # use nbd_extents::stream::from_iter;
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?];
/// let map = ExtentMap::within(from_iter(list), 0..2048)?;
/// use nbd_extents::map::Total;
///
/// assert_eq!(map.totals()[0], Total { status: 'a', bytes: 512, extents: 1 });
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Total<T> {
    /// The status.
    pub status: T,
    /// The bytes that have it.
    pub bytes: u64,
    /// The number of extents that have it.
    pub extents: u64,
}

pub(super) fn totals<T: Copy>(slice: &MapSlice<'_, T>) -> Vec<Total<T>> {
    let mut sums = vec![Sum::default(); slice.palette.len()];
    let mut order = Vec::new();
    let mut position = slice.start;
    for (run, &end) in slice.ends.iter().enumerate() {
        let end = end.min(slice.end);
        if let Some((place, sum)) =
            slice.indices.get(run).and_then(|place| Some((place, sums.get_mut(place)?)))
        {
            if sum.extents == 0 {
                order.push(place);
            }
            sum.bytes += end - position;
            sum.extents += 1;
        }
        position = end;
    }
    order.iter().filter_map(|&place| sums.get(place)?.total(*slice.palette.get(place)?)).collect()
}

#[derive(Clone, Copy, Default)]
struct Sum {
    bytes: u64,
    extents: u64,
}

impl Sum {
    fn total<T>(self, status: Option<T>) -> Option<Total<T>> {
        status.map(|status| Total { status, bytes: self.bytes, extents: self.extents })
    }
}
