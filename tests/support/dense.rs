//! The slow and obvious model: one entry for each byte. Too large for disks, too simple to be
//! wrong.

use core::fmt::Debug;

use nbd_extents::Extent;

/// The status of each byte from 0 on; `None` for a gap.
pub(crate) type Dense<T> = Vec<Option<T>>;

/// Writes extents out byte by byte. They must be in order, disjoint, and end at or before `size`.
#[track_caller]
pub(crate) fn from_extents<T: Clone + Debug>(extents: &[Extent<T>], size: usize) -> Dense<T> {
    let mut dense = Dense::new();
    for extent in extents {
        let start = usize::try_from(extent.start()).unwrap();
        assert!(start >= dense.len(), "{extent:?} starts before byte {}", dense.len());
        assert!(extent.length() > 0, "{extent:?} is empty");
        dense.resize(start, None);
        dense.extend((0..extent.length()).map(|_| Some(extent.status().clone())));
    }
    assert!(dense.len() <= size, "{} bytes are described of {size}", dense.len());
    dense.resize(size, None);
    dense
}

/// The coalesced list of extents with the same statuses.
pub(crate) fn to_extents<T: Clone + PartialEq>(dense: &[Option<T>]) -> Vec<Extent<T>> {
    let mut extents = Vec::new();
    let mut start = 0;
    while start < dense.len() {
        let mut end = start + 1;
        while end < dense.len() && dense[end] == dense[start] {
            end += 1;
        }
        if let Some(status) = &dense[start] {
            extents.push(Extent::from_range(start as u64..end as u64, status.clone()).unwrap());
        }
        start = end;
    }
    extents
}

/// True if both describe the same bytes.
pub(crate) fn same_coverage<T, U>(a: &[Option<T>], b: &[Option<U>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_some() == b.is_some())
}

/// The merge: `f` of both statuses where both exist, a gap elsewhere.
pub(crate) fn merge<T, U, V>(a: &[Option<T>], b: &[Option<U>], f: impl Fn(&T, &U) -> V) -> Dense<V> {
    a.iter().zip(b).map(|(a, b)| Some(f(a.as_ref()?, b.as_ref()?))).collect()
}

/// The end of the described bytes.
pub(crate) fn end<T>(dense: &[Option<T>]) -> usize {
    dense.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
}

/// Checks that no two neighbours touch and are equal.
#[track_caller]
pub(crate) fn assert_canonical<T: PartialEq + Debug>(extents: &[Extent<T>]) {
    for pair in extents.windows(2) {
        let joined = pair[0].end() != pair[1].start() || pair[0].status() != pair[1].status();
        assert!(joined, "{:?} and {:?} should be one extent", pair[0], pair[1]);
    }
}
