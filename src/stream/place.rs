//! From lengths to offsets: the descriptors of one reply, laid one behind the other from where the request started.

use super::ExtentStream;
use crate::error::{ExtentError, StreamError};
use crate::extent::{Extent, MAX_END};
use crate::kernel::Wire;
use crate::wire::{Descriptor, DescriptorSource};

/// Descriptors at their offsets: see [`place`].
#[derive(Clone, Debug)]
pub struct Place<I> {
    descriptors: I,
    position: u64,
    /// The flags of the descriptor that was read last.
    flags: u64,
    /// The descriptors have ended; they are not asked again.
    ended: bool,
}

/// Lays descriptors one behind the other from byte `start` on. The status is the raw flags; the context decides what they mean, so
/// the next step is [`map_status`](ExtentStream::map_status) with [`Allocation::from_flags`](crate::Allocation::from_flags) or one of its siblings.
///
/// It reads [`Descriptors`](crate::wire::Descriptors), a [chain](crate::wire::chain) of them, or any other [source](DescriptorSource).
///
/// Lengths are checked while they are read: reading fails with [`StreamError::Extent`] at a descriptor of length 0 and where the sum of the lengths
/// leaves [`MAX_END`]. Rules that need more than the list (the request's length, the size of the export) are
/// [`Survey`](crate::Survey)'s.
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place};
/// use nbd_extents::wire::Descriptors;
///
/// let mut placed = place(Descriptors::new(&[(512, 0), (512, 3)]), 4096);
/// assert_eq!(placed.next_extent()?.map(|e| e.range()), Some(4096..4608));
/// assert_eq!(placed.next_extent()?.map(|e| e.range()), Some(4608..5120));
/// assert_eq!(placed.position(), 5120);
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub fn place<I>(descriptors: I, start: u64) -> Place<I::IntoIter>
where
    I: IntoIterator<Item = Descriptor, IntoIter: DescriptorSource>,
{
    Place { descriptors: descriptors.into_iter(), position: start, flags: 0, ended: false }
}

impl<I> Place<I> {
    /// The byte behind the last extent that was handed out.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl<I: DescriptorSource> ExtentStream for Place<I> {
    type Status = u64;
    type Error = StreamError;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<u64>>, StreamError> {
        if self.ended {
            return Ok(None);
        }
        let Some(Descriptor { length, flags }) = self.descriptors.next() else {
            self.ended = true;
            return Ok(None);
        };
        let start = self.position;
        // one comparison for both faults: a length of 0 wraps to the largest number
        if length.wrapping_sub(1) >= MAX_END.saturating_sub(start) {
            return Err(refused(start, length));
        }
        self.position = start + length;
        self.flags = flags;
        Ok(Some(Extent::trusted(start, self.position, flags)))
    }

    fn wire(&self) -> Option<Wire<'_>> {
        let list = self.descriptors.raw()?;
        let goes_on = self.descriptors.may_go_on();
        Some(Wire { list, goes_on, position: self.position, flags: self.flags })
    }

    fn pass(&mut self, count: usize, position: u64, flags: u64) {
        self.descriptors.pass(count);
        self.position = position;
        self.flags = flags;
    }

    #[inline]
    fn status_of(&self, flags: u64) -> Option<u64> {
        Some(flags)
    }
}

#[cold]
fn refused(start: u64, length: u64) -> StreamError {
    StreamError::Extent(if length == 0 {
        ExtentError::Empty { start }
    } else {
        ExtentError::TooLarge { start, length }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Descriptors;

    #[test]
    fn a_length_of_zero_is_refused_where_it_stands() {
        let mut placed = place(Descriptors::new(&[(512, 0), (0, 1)]), 0);
        assert!(placed.next_extent().unwrap().is_some());
        assert_eq!(placed.next_extent(), Err(ExtentError::Empty { start: 512 }.into()));
        assert_eq!(placed.position(), 512);
    }

    #[test]
    fn the_sum_may_reach_max_end_and_no_further() {
        let mut placed = place(Descriptors::new(&[(MAX_END - 1, 0), (1, 0), (1, 0)]), 0);
        assert_eq!(placed.next_extent().unwrap().unwrap().end(), MAX_END - 1);
        assert_eq!(placed.next_extent().unwrap().unwrap().end(), MAX_END);
        let refused = ExtentError::TooLarge { start: MAX_END, length: 1 };
        assert_eq!(placed.next_extent(), Err(refused.into()));
    }

    #[test]
    fn no_sum_overflows() {
        for start in [0, 1, MAX_END, MAX_END + 1, u64::MAX] {
            for length in [u64::MAX, u64::MAX - 1, MAX_END + 1] {
                let list = [(length, 0)];
                let mut placed = place(Descriptors::new(&list), start);
                assert_eq!(placed.next_extent(), Err(ExtentError::TooLarge { start, length }.into()));
            }
        }
    }
}
