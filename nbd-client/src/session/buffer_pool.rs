//! Memory of payloads that were sent or handed out, kept to be used again.

use alloc::collections::VecDeque;
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
    /// The next to be taken is at the end.
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a buffer, or gives its memory back where enough is kept. It is the next to be taken,
    /// since it may still be in the processor's cache.
    pub(crate) fn keep(&self, buffer: Vec<u8>) {
        self.keep_by(VecDeque::push_back, buffer);
    }

    /// Keeps a buffer that another thread has used. It is the last to be taken: as long as it is in
    /// that processor's cache, to write to it takes longer than to memory that is in none.
    pub(crate) fn keep_for_later(&self, buffer: Vec<u8>) {
        self.keep_by(VecDeque::push_front, buffer);
    }

    fn keep_by(&self, push: impl FnOnce(&mut VecDeque<Vec<u8>>, Vec<u8>), buffer: Vec<u8>) {
        let mut buffers = self.lock();
        let bytes = buffers.bytes.saturating_add(buffer.capacity());
        let fits = buffers.kept.is_empty() || buffers.kept.len() < MOST && bytes <= MOST_BYTES;
        if buffer.capacity() > 0 && fits {
            buffers.bytes = bytes;
            push(&mut buffers.kept, buffer);
        }
    }

    /// A buffer that was kept, or a new one without memory.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut buffers = self.lock();
        let buffer = buffers.kept.pop_back().unwrap_or_default();
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

    #[test]
    fn what_another_thread_has_used_is_taken_last() {
        let pool = BufferPool::default();
        pool.keep(vec![1]);
        pool.keep_for_later(vec![2]);
        pool.clone().keep_for_later(vec![3]);
        pool.keep(vec![4]);
        assert_eq!([(); 5].map(|()| pool.take()), [vec![4], vec![1], vec![2], vec![3], vec![]]);
    }
}
