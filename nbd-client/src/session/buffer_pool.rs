//! Memory of payloads that were sent or handed out, kept to be used again.

/// The most buffers that are kept.
const MOST: usize = 64;
/// The most bytes that are kept in several buffers: twice what a pipeline has in flight unless told
/// otherwise.
const MOST_BYTES: usize = 32 << 20;

/// Buffers of any size with arbitrary content.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// Keeps a buffer, or gives its memory back where enough is kept.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        let bytes = self.bytes.saturating_add(buffer.capacity());
        let fits = self.buffers.is_empty() || self.buffers.len() < MOST && bytes <= MOST_BYTES;
        if buffer.capacity() > 0 && fits {
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }

    /// A buffer that was kept, or a new one without memory.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(buffer.capacity());
        buffer
    }

    /// A buffer of `length` bytes with any content, in memory that was kept if there is some.
    pub(crate) fn sized(&mut self, length: usize) -> Vec<u8> {
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
            let mut pool = BufferPool::default();
            for _ in 0..100 {
                pool.keep(Vec::with_capacity(length));
            }
            assert_eq!(pool.buffers.len(), most, "buffers of {length}");
            while pool.take().capacity() > 0 {}
            assert_eq!((pool.buffers.len(), pool.bytes), (0, 0), "buffers of {length}");
        }
    }
}
