//! How an adapter that can fail by itself reads the stream below it to the end.

/// The reason for which a [`try_fold`](super::ExtentStream::try_fold) ended early: the error of the
/// stream below, or the adapter's own.
#[derive(Debug)]
pub(crate) enum Stop<S, A> {
    Stream(S),
    Adapter(A),
}

impl<S, A> From<S> for Stop<S, A> {
    fn from(error: S) -> Self {
        Self::Stream(error)
    }
}
