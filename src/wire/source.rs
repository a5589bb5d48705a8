//! Where [`place`](crate::stream::place) gets its descriptors from: a borrowed list, whose bytes a kernel may read in blocks, or any
//! other iterator, which is read one by one.

use core::iter::{
    Chain, Cloned, Copied, Empty, Filter, FilterMap, FlatMap, FromFn, Fuse, Map, Once, Rev, Skip, Take,
};
use core::{array, option};

use super::descriptor::{Compact, Descriptor, Descriptors, Extended, Pair32, Pair64, RawDescriptor};

/// A source of descriptors for [`place`](crate::stream::place): a list of [`Descriptors`], or any other iterator of them.
///
/// The iterators of the standard library are sources, [`Fuse`] among them, so an iterator of any other type becomes one by
/// [`fuse`](Iterator::fuse); or say `impl DescriptorSource for MyIterator {}`.
///
/// (It would be every iterator, if a stable compiler allowed to tell one of them apart.)
///
/// ```
/// use nbd_extents::stream::{ExtentStream, place};
/// use nbd_extents::wire::{Descriptor, DescriptorSource};
///
/// struct Alternating(u64);
///
/// impl Iterator for Alternating {
///     type Item = Descriptor;
///
///     fn next(&mut self) -> Option<Descriptor> {
///         self.0 = self.0.checked_sub(1)?;
///         Some(Descriptor { length: 512, flags: self.0 % 2 })
///     }
/// }
/// impl DescriptorSource for Alternating {}
///
/// assert_eq!(place(Alternating(3), 0).collect_vec()?.len(), 3);
/// # Ok::<(), nbd_extents::StreamError>(())
/// ```
pub trait DescriptorSource: Iterator<Item = Descriptor> {
    /// The descriptors that are still to be read, if they lie in memory.
    #[doc(hidden)]
    fn raw(&self) -> Option<RawList<'_>> {
        None
    }

    /// Passes over the first `count` descriptors of [`raw`](Self::raw).
    #[doc(hidden)]
    fn pass(&mut self, count: usize) {
        debug_assert!(count == 0, "there is no list to pass over");
    }

    /// Whether another list may follow the [raw](Self::raw) one.
    #[doc(hidden)]
    fn may_go_on(&self) -> bool {
        false
    }
}

impl<R: RawDescriptor> DescriptorSource for Descriptors<'_, R> {
    fn raw(&self) -> Option<RawList<'_>> {
        Some(R::raw_list(self.as_slice()))
    }

    fn pass(&mut self, count: usize) {
        *self = Self::new(self.as_slice().get(count..).unwrap_or_default());
    }
}

macro_rules! sources {
    ($([$($parameter:tt)*] $iterator:ty,)*) => {
        $(impl<$($parameter)*> DescriptorSource for $iterator where $iterator: Iterator<Item = Descriptor> {})*
    };
}

sources! {
    ['a, I: ?Sized] &'a mut I,
    [A, B] Chain<A, B>,
    [I] Cloned<I>,
    [I] Copied<I>,
    [] Empty<Descriptor>,
    [I, P] Filter<I, P>,
    [I, F] FilterMap<I, F>,
    [I, U: IntoIterator, F] FlatMap<I, U, F>,
    [F] FromFn<F>,
    [I] Fuse<I>,
    [I, F] Map<I, F>,
    [] Once<Descriptor>,
    [I] Rev<I>,
    [I] Skip<I>,
    [I] Take<I>,
    [const N: usize] array::IntoIter<Descriptor, N>,
    [] option::IntoIter<Descriptor>,
}

#[cfg(feature = "alloc")]
sources! {
    [] alloc::vec::IntoIter<Descriptor>,
    [I: ?Sized] alloc::boxed::Box<I>,
}

/// A borrowed list in any of the forms in which clients hold it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum RawList<'a> {
    Compact(&'a [Compact]),
    Extended(&'a [Extended]),
    Pair32(&'a [Pair32]),
    Pair64(&'a [Pair64]),
}

impl RawList<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Compact(list) => list.len(),
            Self::Extended(list) => list.len(),
            Self::Pair32(list) => list.len(),
            Self::Pair64(list) => list.len(),
        }
    }
}
