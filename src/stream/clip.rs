//! The part of a stream that lies in a range.

use core::ops::Range;

use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;

/// A stream cut to a range: see [`ExtentStream::clip`].
///
/// ```
/// # use nbd_extents::stream::{Clip, ExtentStream, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let clipped: Clip<_> = from_iter(list).clip(256..768);
/// assert_eq!(clipped.collect_vec()?[0].range(), 256..512);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Clip<S> {
    stream: S,
    range: Range<u64>,
    /// The end of the range has been reached; the rest of the stream is not read.
    done: bool,
}

impl<S> Clip<S> {
    pub(super) fn new(stream: S, range: Range<u64>) -> Self {
        let done = range.is_empty();
        Self { stream, range, done }
    }
}

impl<S: ExtentStream> ExtentSource for Clip<S> {
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        while !self.done {
            let Some(extent) = self.stream.next_extent()? else {
                self.done = true;
                break;
            };
            self.done = extent.end() >= self.range.end;
            if let Some(clipped) = extent.clip(&self.range) {
                return Ok(Some(clipped));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{from_iter, place};
    use crate::wire::Descriptors;
    use alloc::vec::Vec;

    #[test]
    fn keeps_what_lies_inside() {
        let list = [(0, 10, 'a'), (10, 10, 'b'), (30, 10, 'c')]
            .map(|(start, length, status)| Extent::new(start, length, status).unwrap());
        let clip = |range| {
            let clipped = from_iter(list).clip(range).collect_vec().unwrap();
            clipped.iter().map(|e| (e.start(), e.end(), *e.status())).collect::<Vec<_>>()
        };
        assert_eq!(clip(5..35), [(5, 10, 'a'), (10, 20, 'b'), (30, 35, 'c')]);
        assert_eq!(clip(12..13), [(12, 13, 'b')]);
        assert_eq!(clip(20..30), []);
        assert_eq!(clip(40..u64::MAX), []);
        assert_eq!(clip(5..5), []);
    }

    #[test]
    fn does_not_read_past_its_end() {
        // the third descriptor is invalid, and must not be looked at
        let placed = place(Descriptors::new(&[(10, 0), (10, 0), (0, 0)]), 0);
        assert_eq!(placed.clip(0..15).collect_vec().unwrap().len(), 2);
    }
}
