//! A look at each extent on its way: for progress, logs and totals.

use super::{ExtentSource, ExtentStream};
use crate::extent::Extent;

/// A stream that shows each extent to a function: see [`ExtentStream::inspect`].
///
/// ```
/// # use nbd_extents::stream::{ExtentStream, Inspect, from_iter};
/// # use nbd_extents::{Extent, StreamError};
/// let list = [Extent::new(0, 512, 'a')?, Extent::new(512, 512, 'b')?];
/// let inspected: Inspect<_, _> = from_iter(list).inspect(|extent| println!("{extent}"));
/// assert_eq!(inspected.collect_vec()?, list);
/// # Ok::<(), StreamError>(())
/// ```
#[derive(Clone)]
#[must_use = "streams are lazy and do nothing unless they are read"]
pub struct Inspect<S, F> {
    pub(super) stream: S,
    pub(super) f: F,
}

impl<S: ExtentStream, F: FnMut(&Extent<S::Status>)> ExtentSource for Inspect<S, F> {
    type Status = S::Status;
    type Error = S::Error;

    #[inline]
    fn pull(&mut self) -> Result<Option<Extent<S::Status>>, S::Error> {
        let next = self.stream.next_extent()?;
        if let Some(extent) = &next {
            (self.f)(extent);
        }
        Ok(next)
    }

    #[inline]
    fn try_pull_all<A, E: From<S::Error>>(
        self,
        init: A,
        mut f: impl FnMut(A, Extent<S::Status>) -> Result<A, E>,
    ) -> Result<A, E> {
        let Self { stream, f: mut inspect } = self;
        stream.try_fold(init, |acc, extent| {
            inspect(&extent);
            f(acc, extent)
        })
    }
}
