//! Writes of bytes that come in small pieces, joined into long requests.

use core::ops::Range;

use super::write_behind::call;
use super::{PipelineOptions, WriteBehind};
use crate::error::Error;
use crate::pool::{PoolOver, ThreadWorker, Worker};

/// The longest write in bytes: pieces are joined up to multiples of it.
const LONGEST: u64 = 256 << 10;

/// [`WriteBehind`] for bytes that follow each other in pieces, such as the payloads of a backup.
///
/// Pieces that follow each other are joined into writes of up to 256 KiB, which end at multiples of
/// 256 KiB. Nothing is durable before `finish`.
///
/// ```no_run
/// use nbd_client::pipeline::{JoinedWrites, PipelineOptions};
/// use nbd_client::{Options, Pool};
///
/// let mut pool = Pool::connect(&"nbd://localhost/disk".parse()?, &Options::new(), 1)?;
/// let mut writes = JoinedWrites::new(&mut pool, PipelineOptions::default())?;
/// writes.write(0, b"one write of ")?;
/// writes.write(13, b"two pieces")?;
/// writes.zero(4096..1 << 20)?;
/// writes.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct JoinedWrites<'a, W = ThreadWorker> {
    writes: WriteBehind<'a, W>,
    /// The first byte of the write that is being put together.
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a, W: Worker> JoinedWrites<'a, W> {
    /// Starts to write to the pool's export.
    ///
    /// # Errors
    ///
    /// As [`WriteBehind::new`].
    pub fn new(pool: &'a mut PoolOver<W>, options: PipelineOptions) -> Result<Self, Error> {
        Ok(Self { writes: WriteBehind::new(pool, options)?, offset: 0, bytes: Vec::new() })
    }

    pub(crate) fn write_call(
        &mut self,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Error>> {
        call!(self.writes, self.add(offset, bytes))
    }

    pub(crate) fn zero_call(&mut self, range: Range<u64>) -> impl Future<Output = Result<(), Error>> {
        call!(self.writes, self.add_zeroes(range))
    }

    pub(crate) async fn finish_call(mut self) -> Result<(), Error> {
        call!(self.writes, self.finish_all()).await
    }

    /// Waits until all writes have been answered, without a flush.
    pub(crate) async fn wait_call(mut self) -> Result<(), Error> {
        call!(self.writes, self.wait_for_all()).await
    }

    async fn add(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        if self.end() != offset {
            self.send().await?;
            self.offset = offset;
        }
        while !bytes.is_empty() {
            let room = LONGEST - self.end() % LONGEST;
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.end().is_multiple_of(LONGEST) {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn add_zeroes(&mut self, range: Range<u64>) -> Result<(), Error> {
        self.send().await?;
        self.writes.zero_all(range.start, range.end.saturating_sub(range.start)).await
    }

    async fn wait_for_all(&mut self) -> Result<(), Error> {
        self.send().await?;
        self.writes.wait_for_all().await
    }

    async fn finish_all(&mut self) -> Result<(), Error> {
        self.send().await?;
        self.writes.finish_all().await
    }

    /// The end of the bytes put together.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }

    async fn send(&mut self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let mut next = self.writes.buffer(0);
        next.clear();
        let (offset, end) = (self.offset, self.end());
        let bytes = core::mem::replace(&mut self.bytes, next);
        self.offset = end;
        self.writes.write_all(offset, bytes).await
    }
}
