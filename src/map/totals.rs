//! How much of a disk has which status.

use alloc::vec;
use alloc::vec::Vec;

use super::slice::MapSlice;

/// What there is of one status: see [`MapSlice::totals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Total<T> {
    /// The status.
    pub status: T,
    /// The bytes that have it.
    pub bytes: u64,
    /// The extents that these bytes are in.
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
