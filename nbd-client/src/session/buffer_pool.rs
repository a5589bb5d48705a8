//! Memory of payloads that were sent or handed out, kept to be used again.

use alloc::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most buffers that are kept.
const MOST: usize = 64;
/// The most bytes that are kept in several buffers: twice what a pipeline has in flight unless told
/// otherwise.
const MOST_BYTES: usize = 32 << 20;

/// Buffers of any size with arbitrary content. A clone has the same ones: what one connection of a
/// pool no longer needs, another one takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct BufferPool(Arc<Mutex<Buffers>>);

#[derive(Debug, Default)]
struct Buffers {
    /// The one that was used last is at the end.
    kept: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a buffer, or gives its memory back where enough is kept.
    pub(crate) fn keep(&self, buffer: Vec<u8>) {
        let mut buffers = self.lock();
        let bytes = buffers.bytes.saturating_add(buffer.capacity());
        let fits = buffers.kept.is_empty() || buffers.kept.len() < MOST && bytes <= MOST_BYTES;
        if buffer.capacity() > 0 && fits {
            buffers.bytes = bytes;
            buffers.kept.push(buffer);
        }
    }

    /// A buffer that was kept, or a new one without memory.
    ///
    /// It is the one that was used last, which may still be in the processor's cache.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut buffers = self.lock();
        let buffer = buffers.kept.pop().unwrap_or_default();
        buffers.bytes = buffers.bytes.saturating_sub(buffer.capacity());
        buffer
    }

    /// A buffer of `length` bytes with any content, in memory that was kept if there is some.
    pub(crate) fn sized(&self, length: usize) -> Vec<u8> {
        let mut buffer = self.take();
        buffer.resize(length, 0);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 buffers of 32 MiB, the longest write, would be 2 GiB.
    #[test]
    fn few_bytes_are_kept_however_long_the_buffers() {
        for (length, most) in [(512, 64), (1 << 20, 32), (24 << 20, 1), (64 << 20, 1), (0, 0)] {
            let pool = BufferPool::default();
            for _ in 0..100 {
                pool.keep(Vec::with_capacity(length));
            }
            assert_eq!(pool.lock().kept.len(), most, "buffers of {length}");
            while pool.take().capacity() > 0 {}
            let buffers = pool.lock();
            assert_eq!((buffers.kept.len(), buffers.bytes), (0, 0), "buffers of {length}");
        }
    }
}
