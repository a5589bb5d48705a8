//! From a stream to a map, at the speed of memory: one comparison says that an extent follows where the one before it ended.

use core::hash::Hash;
use core::ops::Range;

use super::ExtentMap;
use super::recent::Recent;
use crate::error::StreamError;
use crate::stream::{ExtentStream, check};

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
