//! Equal neighbours joined: the one place where extents grow.

use super::blocks;
use super::{ExtentSource, ExtentStream};
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
#[must_use = "streams are lazy and do nothing unless they are read"]
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

impl<S: ExtentStream> ExtentSource for Coalesce<S>
where
    S::Status: PartialEq,
{
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
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
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { stream, growing, ended } = self;
        let mut state = (init, growing);
        if !ended {
            // blocks join equal neighbours themselves; the closure joins those that two blocks share, and
            // the extents of other streams
            let joins = Some(S::Status::eq as _);
            state = blocks::try_fold_numbered(stream, joins, state, |(acc, mut growing), next, _| {
                // an extent that `next` does not join is complete, and `next` takes its place
                let done = match &mut growing {
                    None => growing.replace(next),
                    Some(last) => last.absorb(next).and_then(|next| growing.replace(next)),
                };
                Ok::<_, E>((if let Some(done) = done { f(acc, done)? } else { acc }, growing))
            })?;
        }
        let (acc, growing) = state;
        if let Some(last) = growing { f(acc, last) } else { Ok(acc) }
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
