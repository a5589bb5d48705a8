//! Equal neighbours joined: the one place where extents grow.

use super::pick::Joined;
use super::{ExtentStream, UNNUMBERED};
use crate::extent::Extent;

/// A stream whose touching equal neighbours are joined: see [`ExtentStream::coalesce`].
///
/// ```
/// # use nbd_extents::stream::{Coalesce, ExtentStream, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let joined: Coalesce<_> = from_iter(list).map_status(|_| 'c').coalesce();
/// assert_eq!(joined.collect_vec()?, [Extent::new(0, 1024, 'c')?]);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Coalesce<S: ExtentStream> {
    stream: S,
    /// The extent that may still grow.
    growing: Option<Extent<S::Status>>,
    ended: bool,
}

impl<S: ExtentStream> Coalesce<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, growing: None, ended: false }
    }
}

impl<S: ExtentStream> ExtentStream for Coalesce<S>
where
    S::Status: PartialEq,
{
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn next_extent(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        while !self.ended {
            let Some(next) = self.stream.next_extent()? else {
                self.ended = true;
                break;
            };
            let Some(growing) = &mut self.growing else {
                self.growing = Some(next);
                continue;
            };
            if let Some(other) = growing.absorb(next) {
                return Ok(self.growing.replace(other));
            }
        }
        Ok(self.growing.take())
    }

    #[inline]
    fn fold<A>(self, init: A, mut f: impl FnMut(A, Extent<S::Status>) -> A) -> Result<A, S::Error> {
        let Self { mut stream, growing, ended } = self;
        let growing = match growing {
            None if !ended && !stream.skips() => stream.next_extent()?,
            growing => growing,
        };
        let (acc, last) =
            match growing {
                Some(last) if ended => (init, last),
                // to carry an extent and not perhaps one is several times as fast
                Some(first) => stream.fold_picked(Joined, (init, first), |(acc, mut growing), next| {
                    match growing.absorb(next) {
                        None => (acc, growing),
                        Some(other) => (f(acc, growing), other),
                    }
                })?,
                // one that skips might look for the first through the whole disk, one by one; what is left of it is little
                None if !ended => {
                    let (acc, last) = stream.fold_picked(Joined, (init, None), |(acc, growing), next| {
                        let Some(mut growing) = growing else {
                            return (acc, Some(next));
                        };
                        match growing.absorb(next) {
                            None => (acc, Some(growing)),
                            Some(other) => (f(acc, growing), Some(other)),
                        }
                    })?;
                    match last {
                        Some(last) => (acc, last),
                        None => return Ok(acc),
                    }
                }
                None => return Ok(init),
            };
        Ok(f(acc, last))
    }

    #[inline]
    fn for_each_while(self, mut f: impl FnMut(Extent<S::Status>, u64) -> bool) -> Result<(), S::Error> {
        let Self { stream, growing, ended } = self;
        let mut growing = growing.map(|growing| (growing, UNNUMBERED));
        let mut goes_on = true;
        if !ended {
            stream.for_each_while(|next, number| {
                let other = match &mut growing {
                    None => Some(next),
                    Some((growing, _)) => growing.absorb(next),
                };
                if let Some(other) = other
                    && let Some((whole, number)) = growing.replace((other, number))
                {
                    goes_on = f(whole, number);
                }
                goes_on
            })?;
        }
        if goes_on && let Some((last, number)) = growing {
            f(last, number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{from_iter, place};
    use crate::wire::Descriptors;

    fn extent(start: u64, end: u64, status: char) -> Extent<char> {
        Extent::from_range(start..end, status).unwrap()
    }

    #[test]
    fn joins_what_touches_and_is_equal() {
        let list = [extent(0, 1, 'a'), extent(1, 2, 'a'), extent(2, 3, 'b'), extent(4, 5, 'b')];
        let joined = from_iter(list).coalesce().collect_vec().unwrap();
        assert_eq!(joined, [extent(0, 2, 'a'), extent(2, 3, 'b'), extent(4, 5, 'b')]);
    }

    #[test]
    fn runs_beyond_32_bits_grow_on() {
        let run = [(u64::from(u32::MAX), 0); 3];
        let joined = place(Descriptors::new(&run), 0).coalesce().collect_vec().unwrap();
        assert_eq!(joined, [Extent::new(0, 3 * u64::from(u32::MAX), 0).unwrap()]);
    }
}
