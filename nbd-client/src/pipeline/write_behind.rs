//! Writes that are not waited for one by one, in whole blocks of the target.

use core::ops::Range;

use super::PipelineOptions;
use crate::connection::{Transfer, in_memory};
use crate::error::Error;
use crate::pool::{PoolOver, ThreadWorker, Worker};
use crate::session::{Cookie, Event, RequestInfo, WriteRequest};

/// Joined bytes are written up to each multiple of this, in bytes. Blocks end there too, since no
/// minimum block is longer than 64 KiB.
const LONGEST_JOINED: u64 = 256 << 10;

/// The longest range of zeroes in one transfer, in bytes, so that several connections share a
/// longer one.
const LONG_ZERO: u64 = 1 << 30;

/// Writes data and zeroes with several requests in flight, and waits for all of them in the end.
///
/// A server may do requests in any order, so one that overlaps another waits for it: the export
/// ends up as if they had been done one after the other.
///
/// Any range can be written, whatever the target's minimum block: neighbours are joined to whole
/// blocks, and the rest of a block is read, modified and written. Bytes that follow each other in
/// small pieces, such as the payloads of a backup, are [joined](Self::write_joined) into long
/// writes.
///
/// ```no_run
/// use nbd_client::pipeline::PipelineOptions;
/// use nbd_client::{Options, Pool, WriteBehind};
///
/// let mut pool = Pool::connect(&"nbd://localhost/disk".parse()?, &Options::new(), 1)?;
/// let mut writes = WriteBehind::new(&mut pool, PipelineOptions::default())?;
/// for block in 0..16 {
///     let mut data = writes.buffer(1 << 20);
///     data.fill(block);
///     writes.write(u64::from(block) << 20, data)?;
/// }
/// writes.zero(16 << 20, 16 << 20)?;
/// writes.write_joined(32 << 20, b"one write of ")?;
/// writes.write_joined((32 << 20) + 13, b"two pieces")?;
/// // Only now is all of it written, and durable.
/// writes.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without `finish` nothing is known of the last writes.
///
/// It runs on a [`Pool`](crate::Pool), or on an `aio::Pool`, where its calls are awaited. There a
/// call that is dropped may have been done in part: the next call fails with the error that the
/// call was about to return, or with [`Error::Stopped`], so that no `finish` speaks for bytes that
/// were lost. The requests in flight are waited for by the pool's `abandon`.
#[derive(Debug)]
#[must_use]
pub struct WriteBehind<'a, W = ThreadWorker> {
    pool: &'a mut PoolOver<W>,
    options: PipelineOptions,
    in_flight: Vec<PendingWrite>,
    /// Bytes that are not written yet, since others may follow them.
    joined: JoinedBytes,
    /// The block that [`Self::read_block`] has read.
    block: Option<Vec<u8>>,
    /// During a call, and after one that failed or was dropped.
    is_stopped: bool,
    /// The first error, until it is told.
    error: Option<Error>,
}

/// A call of a writer.
#[derive(Debug)]
pub(crate) enum WriteCall<'a> {
    /// Write these bytes to this offset.
    Data(u64, Vec<u8>),
    /// Write them joined to those before and after them.
    Joined(u64, &'a [u8]),
    /// Make a range zero: its offset, and its length.
    Zero(u64, u64),
    /// Wait for all that was started.
    Wait,
    /// The same, and make it durable.
    Finish,
}

#[derive(Debug)]
struct PendingWrite {
    cookie: Cookie,
    range: Range<u64>,
}

/// Bytes that follow each other.
#[derive(Debug, Default)]
struct JoinedBytes {
    /// The first byte of a block.
    offset: u64,
    /// Those of that block which come before the joined ones have no meaning yet.
    bytes: Vec<u8>,
    /// The number of bytes without a meaning.
    skipped: usize,
}

impl JoinedBytes {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl<'a, W: Worker> WriteBehind<'a, W> {
    /// Starts to write to the pool's export.
    ///
    /// # Errors
    ///
    /// [`StartError::Busy`](crate::session::StartError::Busy) while other requests are in flight.
    pub fn new(pool: &'a mut PoolOver<W>, options: PipelineOptions) -> Result<Self, Error> {
        pool.check_idle()?;
        Ok(Self {
            options: options.within(pool.checks.config.limits, pool.checks.longest_payload()),
            pool,
            in_flight: Vec::new(),
            joined: JoinedBytes::default(),
            block: None,
            is_stopped: false,
            error: None,
        })
    }

    /// A buffer of `length` bytes for `write`, out of memory that was used before if there
    /// is some. Its content is arbitrary.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        self.pool.buffers.sized(length)
    }

    /// Makes a call, unless an earlier one failed or was dropped before its end. It begins now and
    /// not when it is polled, so that the next call notices one that was dropped unpolled. After a
    /// failure nothing is in flight.
    pub(crate) fn call(&mut self, call: WriteCall<'_>) -> impl Future<Output = Result<(), Error>> {
        let was_stopped = core::mem::replace(&mut self.is_stopped, true);
        async move {
            if was_stopped {
                return Err(self.error.take().unwrap_or(Error::Stopped));
            }
            let result = match call {
                WriteCall::Data(offset, data) => self.write_data(offset, data).await,
                WriteCall::Joined(offset, bytes) => self.write_joined_bytes(offset, bytes).await,
                WriteCall::Zero(offset, length) => self.zero_range(offset, length).await,
                WriteCall::Wait => self.wait_for_all().await,
                WriteCall::Finish => self.wait_and_flush().await,
            };
            self.is_stopped = result.is_err();
            let Err(error) = result else { return Ok(()) };
            // the other requests report nothing; if this call is dropped, the next has the error
            self.error = Some(error);
            self.pool.abandon_quietly().await;
            self.error.take().map_or(Ok(()), Err)
        }
    }

    // ---- whole blocks

    async fn write_data(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let range = self.check(WriteRequest::new(offset).of(data.len() as u64))?;
        let blocks = self.whole_blocks(&range);
        if blocks == range && !data.is_empty() {
            // nothing to join: the buffer is sent as it is, without a copy
            self.send_joined().await?;
            return self.start_write(offset, data).await;
        }
        let block = self.pool.export().minimum_block();
        let (first, last) = data.split_at(in_memory(blocks.end - offset));
        self.join(offset, first, block).await?;
        self.join(blocks.end, last, block).await
    }

    async fn write_joined_bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let Range { start: mut at, end } = self.check(WriteRequest::new(offset).of(bytes.len() as u64))?;
        let mut rest = bytes;
        while at < end {
            let next = end.min((at + 1).next_multiple_of(LONGEST_JOINED));
            let (now, later) = rest.split_at(in_memory(next - at));
            self.join(at, now, LONGEST_JOINED).await?;
            (at, rest) = (next, later);
        }
        Ok(())
    }

    async fn zero_range(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        let zeroes = Transfer::zero(offset, length);
        let range = self.check(zeroes.whole(self.pool.export().flags))?;
        let blocks = self.whole_blocks(&range);
        let block = self.pool.export().minimum_block();
        // parts of a block, whose length is that of a block at most
        self.join(range.start, &vec![0; in_memory(blocks.start - range.start)], block).await?;
        if !blocks.is_empty() {
            self.send_joined().await?;
        }
        let mut at = blocks.start;
        while at < blocks.end {
            let next = blocks.end.min((at + 1).next_multiple_of(LONG_ZERO));
            self.start(Transfer::zero(at, next - at)).await?;
            at = next;
        }
        self.join(blocks.end, &vec![0; in_memory(range.end - blocks.end)], block).await
    }

    /// The range of a request, which lies inside the export if it is not empty.
    fn check(&self, request: RequestInfo) -> Result<Range<u64>, Error> {
        if request.length > 0 {
            self.pool.checks.check_writable(request)?;
        }
        Ok(request.offset..request.offset.saturating_add(request.length))
    }

    /// The whole blocks of a range; where it has none, an empty range after its part of the first
    /// block. The last block of the export may be short.
    fn whole_blocks(&self, range: &Range<u64>) -> Range<u64> {
        let (block, size) = (self.pool.export().minimum_block(), self.pool.export().size());
        let start = range.start.div_ceil(block).saturating_mul(block).min(range.end);
        let end = if range.end == size { size } else { range.end - range.end % block };
        start..end.max(start)
    }

    /// Adds bytes to those that they follow, and writes all of these if they end at a multiple of
    /// `multiple` or at the end of the export. Bytes that they do not follow are written first.
    async fn join(&mut self, offset: u64, bytes: &[u8], multiple: u64) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.joined.end() != offset {
            self.send_joined().await?;
            let skipped = offset % self.pool.export().minimum_block();
            let bytes = self.buffer(in_memory(skipped));
            self.joined = JoinedBytes { offset: offset - skipped, bytes, skipped: in_memory(skipped) };
        }
        self.joined.bytes.extend_from_slice(bytes);
        let end = self.joined.end();
        if end.is_multiple_of(multiple) || end == self.pool.export().size() {
            self.send_joined().await?;
        }
        Ok(())
    }

    /// Writes the joined bytes, if there are some. The missing bytes of the first block and of the
    /// last are read before.
    async fn send_joined(&mut self) -> Result<(), Error> {
        let JoinedBytes { offset, mut bytes, skipped } = core::mem::take(&mut self.joined);
        if bytes.is_empty() {
            return Ok(());
        }
        if skipped > 0 {
            let block = self.read_block(offset).await?;
            let (before, _) = block.split_at_checked(skipped).ok_or(Error::GivenUp)?;
            bytes.get_mut(..skipped).ok_or(Error::GivenUp)?.copy_from_slice(before);
            // if they end in this block, it is the only one, and whole now
            bytes.extend_from_slice(block.get(bytes.len()..).unwrap_or_default());
            self.pool.buffers.keep(block);
        }
        let end = offset + bytes.len() as u64;
        let over = end % self.pool.export().minimum_block();
        if over > 0 && end < self.pool.export().size() {
            let block = self.read_block(end - over).await?;
            bytes.extend_from_slice(block.get(in_memory(over)..).ok_or(Error::GivenUp)?);
            self.pool.buffers.keep(block);
        }
        self.start_write(offset, bytes).await
    }

    /// Reads the block that begins there.
    async fn read_block(&mut self, start: u64) -> Result<Vec<u8>, Error> {
        let end = self.pool.export().size().min(start + self.pool.export().minimum_block());
        let cookie = self.start(Transfer::read(start..end)).await?;
        // its data come before its end
        while self.in_flight.iter().any(|request| request.cookie == cookie) {
            self.receive().await?;
        }
        self.block.take().ok_or(Error::GivenUp)
    }

    // ---- requests

    async fn start_write(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let write = Transfer::new(WriteRequest::new(offset).of(data.len() as u64));
        self.start(write.with(data)).await.map(drop)
    }

    async fn start(&mut self, transfer: Transfer) -> Result<Cookie, Error> {
        let RequestInfo { offset, length, .. } = transfer.request;
        let range = offset..offset + length;
        self.wait_for_room(&range, transfer.request.moves()).await?;
        let cookie = self.pool.begin(transfer)?;
        self.in_flight.push(PendingWrite { cookie, range });
        Ok(cookie)
    }

    /// Waits until nothing in flight overlaps this range, and `moved` more bytes may be held.
    ///
    /// It ends, since an empty pipeline has room for any request.
    async fn wait_for_room(&mut self, range: &Range<u64>, moved: u64) -> Result<(), Error> {
        loop {
            let overlaps =
                |other: &PendingWrite| other.range.start < range.end && range.start < other.range.end;
            let has_room = self.options.has_room(self.in_flight.len(), self.pool.bytes_in_flight, moved);
            if has_room && !self.in_flight.iter().any(overlaps) {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    async fn wait_for_all(&mut self) -> Result<(), Error> {
        self.send_joined().await?;
        while !self.in_flight.is_empty() {
            self.receive().await?;
        }
        Ok(())
    }

    /// Flushes after all writes were answered: FLUSH covers no others.
    async fn wait_and_flush(&mut self) -> Result<(), Error> {
        self.wait_for_all().await?;
        if self.pool.export().flags.can_flush() {
            self.start(Transfer::new(RequestInfo::FLUSH)).await?;
        }
        self.wait_for_all().await
    }

    /// Waits for one event.
    async fn receive(&mut self) -> Result<(), Error> {
        match self.pool.next_event().await? {
            Some(Event::Read { data, .. }) => self.block = Some(data),
            Some(Event::Done { cookie }) => self.in_flight.retain(|request| request.cookie != cookie),
            Some(Event::Failed { error, .. }) => return Err(error.into()),
            Some(Event::Status { .. } | Event::Drained { .. }) => {}
            None => return Err(Error::GivenUp),
        }
        Ok(())
    }
}
