//! Equal neighbours joined: the one place where extents grow.

use super::blocks::{self, UNNUMBERED};
use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;
use crate::kernel::Block;

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
    fn pull_all<A>(self, init: A, mut f: impl FnMut(A, Extent<S::Status>) -> A) -> Result<A, S::Error> {
        let Self { mut stream, mut growing, ended } = self;
        let mut acc = init;
        if !ended && blocks::is_long(&mut stream) {
            let mut block = Block::keeping();
            // A filter may drop block after block before the first extent.
            while growing.is_none() && blocks::is_long(&mut stream) {
                let mut next = |(acc, growing), next| grow_or_begin(acc, growing, next, &mut f);
                (acc, growing) =
                    blocks::fold_next(&mut stream, &mut block, S::Status::eq, (acc, growing), &mut next)?;
            }
            // To carry an extent, and not an `Option` of one, is several times as fast.
            if let Some(mut last) = growing {
                while blocks::is_long(&mut stream) {
                    let mut next = |(acc, last), next| grow(acc, last, next, &mut f);
                    (acc, last) =
                        blocks::fold_next(&mut stream, &mut block, S::Status::eq, (acc, last), &mut next)?;
                }
                growing = Some(last);
            }
        }
        if growing.is_none() && !ended {
            growing = stream.next_extent()?;
        }
        match growing {
            None => Ok(acc),
            Some(last) if ended => Ok(f(acc, last)),
            Some(last) => {
                let next = |(acc, last), next| grow(acc, last, next, &mut f);
                let (acc, last) = stream.fold((acc, last), next)?;
                Ok(f(acc, last))
            }
        }
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { mut stream, growing, ended } = self;
        let mut state = (init, growing);
        if !ended {
            let mut next = |(acc, mut growing): (A, Option<Extent<_>>), next, _| {
                let done = match &mut growing {
                    None => growing.replace(next),
                    Some(last) => last.absorb(next).and_then(|next| growing.replace(next)),
                };
                Ok::<_, E>((if let Some(done) = done { f(acc, done)? } else { acc }, growing))
            };
            if blocks::is_long(&mut stream) {
                let mut block = Block::keeping();
                while blocks::is_long(&mut stream) {
                    state = blocks::try_fold_next(&mut stream, &mut block, S::Status::eq, state, &mut next)?;
                }
            }
            state = stream.try_fold(state, |state, extent| next(state, extent, UNNUMBERED))?;
        }
        let (acc, growing) = state;
        if let Some(last) = growing { f(acc, last) } else { Ok(acc) }
    }
}

/// Lets `last` grow by the extent after it, or gives it to `f` where it cannot.
#[inline]
fn grow<A, T: PartialEq>(
    acc: A,
    mut last: Extent<T>,
    next: Extent<T>,
    f: &mut impl FnMut(A, Extent<T>) -> A,
) -> (A, Extent<T>) {
    match last.absorb(next) {
        None => (acc, last),
        Some(next) => (f(acc, last), next),
    }
}

/// The same, where there may be no extent yet.
#[inline]
fn grow_or_begin<A, T: PartialEq>(
    acc: A,
    last: Option<Extent<T>>,
    next: Extent<T>,
    f: &mut impl FnMut(A, Extent<T>) -> A,
) -> (A, Option<Extent<T>>) {
    let (acc, last) = match last {
        None => (acc, next),
        Some(last) => grow(acc, last, next, f),
    };
    (acc, Some(last))
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
