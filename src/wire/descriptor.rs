//! One descriptor, and lists of them in all layouts that clients hold: the two wire forms, and the
//! host-order pairs of libnbd's callbacks.

use core::fmt;
use core::iter::FusedIterator;
use core::slice;

use super::raw::Raw;
use crate::error::DecodeError;

/// A descriptor: a length and flags, unchecked. The length may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// The length in bytes.
    pub length: u64,
    /// The flags, whose meaning depends on the context.
    pub flags: u64,
}

/// A compact descriptor: 32-bit length, 32-bit flags, big-endian.
pub type Compact = [u8; 8];
/// An extended descriptor: 64-bit length, 64-bit flags, big-endian.
pub type Extended = [u8; 16];
/// A (length, flags) pair of 32-bit numbers in host order, from libnbd's `block_status` callback.
pub type Pair32 = [u32; 2];
/// A (length, flags) pair of 64-bit numbers in host order, from libnbd's `block_status_64`
/// callback.
pub type Pair64 = (u64, u64);

/// The representations of a descriptor: [`Compact`], [`Extended`], [`Pair32`] and [`Pair64`].
pub trait RawDescriptor: Raw {
    /// Decodes the descriptor.
    #[inline]
    fn read(self) -> Descriptor {
        self.decode()
    }
}

impl RawDescriptor for Compact {}
impl RawDescriptor for Extended {}
impl RawDescriptor for Pair32 {}
impl RawDescriptor for Pair64 {}

/// An iterator over the descriptors of one context in one reply, borrowed.
#[derive(Clone)]
#[must_use = "iterators are lazy"]
pub struct Descriptors<'a, R> {
    raw: slice::Iter<'a, R>,
}

impl<'a, R: RawDescriptor> Descriptors<'a, R> {
    /// Iterates over a slice of raw descriptors: [`Pair64`] for libnbd's 64-bit callback, say.
    ///
    /// ```
    /// use nbd_extents::wire::{Descriptor, Descriptors};
    ///
    /// let mut list = Descriptors::new(&[(65536, 0), (4096, 3)]);
    /// assert_eq!(list.next(), Some(Descriptor { length: 65536, flags: 0 }));
    /// assert_eq!(list.len(), 1);
    /// ```
    pub fn new(raw: &'a [R]) -> Self {
        Self { raw: raw.iter() }
    }

    /// The descriptors not yet read.
    pub(crate) fn as_slice(&self) -> &'a [R] {
        self.raw.as_slice()
    }
}

/// Splits the flat list of libnbd's `block_status` callback: length, flags, length, flags, ...
///
/// # Errors
///
/// [`DecodeError::OddPairs`] when the last flags are missing.
///
/// ```
/// use nbd_extents::wire::pairs;
///
/// assert_eq!(pairs(&[65536, 0, 4096, 3])?.map(|d| d.length).sum::<u64>(), 69632);
/// assert!(pairs(&[65536]).is_err());
/// # Ok::<(), nbd_extents::DecodeError>(())
/// ```
pub fn pairs(entries: &[u32]) -> Result<Descriptors<'_, Pair32>, DecodeError> {
    match entries.as_chunks() {
        (list, []) => Ok(Descriptors::new(list)),
        _ => Err(DecodeError::OddPairs { got: entries.len() }),
    }
}

impl<R: RawDescriptor> Iterator for Descriptors<'_, R> {
    type Item = Descriptor;

    #[inline]
    fn next(&mut self) -> Option<Descriptor> {
        self.raw.next().map(|raw| raw.read())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.raw.size_hint()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Descriptor) -> B>(self, init: B, mut f: F) -> B {
        self.raw.fold(init, |acc, raw| f(acc, raw.read()))
    }
}

impl<R: RawDescriptor> DoubleEndedIterator for Descriptors<'_, R> {
    fn next_back(&mut self) -> Option<Descriptor> {
        self.raw.next_back().map(|raw| raw.read())
    }
}

impl<R: RawDescriptor> ExactSizeIterator for Descriptors<'_, R> {}
impl<R: RawDescriptor> FusedIterator for Descriptors<'_, R> {}

impl<R: RawDescriptor> fmt::Debug for Descriptors<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
