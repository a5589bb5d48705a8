//! From a stream to a map, at the speed of memory: one comparison says that an extent follows where the one before it ended.

use alloc::vec::Vec;
use core::hash::Hash;
use core::ops::Range;

use super::ExtentMap;
use super::recent::Recent;
use crate::error::StreamError;
use crate::extent::Extent;
use crate::stream::{ExtentStream, check, from_iter};

/// Reads a stream that must stay within `range` and, unless it may leave gaps, must cover it.
pub(super) fn read<S>(mut stream: S, range: Range<u64>, gaps: bool) -> Result<ExtentMap<S::Status>, S::Error>
where
    S: ExtentStream<Status: Copy + Eq + Hash>,
{
    let mut map = ExtentMap::starting_at(range.start);
    let mut position = range.start;
    let mut last = None;
    let mut recent = Recent::new();
    while let Some(extent) = stream.next_extent()? {
        if extent.start() != position || extent.end() > range.end {
            check(&extent.range(), position, &range, gaps)?;
            map.push(extent.start(), None);
            last = None;
        }
        position = extent.end();
        let status = Some(*extent.status());
        match map.ends.last_mut() {
            Some(end) if last == status => *end = position,
            _ => {
                let place = recent.place(&mut map.palette, status);
                map.ends.push(position);
                map.indices.push(place);
            }
        }
        last = status;
    }
    if position < range.end {
        if !gaps {
            return Err(StreamError::Gap { range: position..range.end }.into());
        }
        map.push(range.end, None);
    }
    map.finish();
    Ok(map)
}

/// A map of a list without gaps, from the start of its first extent to the end of its last. Of an empty list it is the empty map at byte 0.
///
/// The range follows from the list: where the size of the disk is known, [`ExtentMap::covering`] also notices an end that is missing.
///
/// # Errors
///
/// [`StreamError::Gap`] and [`StreamError::Overlap`] name the first fault.
///
/// ```
/// use nbd_extents::map::ExtentMap;
/// use nbd_extents::{Extent, StreamError};
///
/// let map = ExtentMap::try_from(vec![Extent::new(512, 512, 'a')?, Extent::new(1024, 512, 'b')?])?;
/// assert_eq!(map.range(), 512..1536);
///
/// let refused = ExtentMap::try_from(vec![Extent::new(0, 512, 'a')?, Extent::new(1024, 512, 'b')?]);
/// assert_eq!(refused, Err(StreamError::Gap { range: 512..1024 }));
/// # Ok::<(), StreamError>(())
/// ```
impl<T: Copy + Eq + Hash> TryFrom<Vec<Extent<T>>> for ExtentMap<T> {
    type Error = StreamError;

    fn try_from(list: Vec<Extent<T>>) -> Result<Self, StreamError> {
        let start = list.first().map_or(0, Extent::start);
        // in a list that goes back this is not the end of the last extent, so that the fault is found where it goes back
        let end = list.iter().map(Extent::end).max().unwrap_or(start);
        Self::covering(from_iter(list), start..end)
    }
}
