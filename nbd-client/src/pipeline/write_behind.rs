//! Writes that are not waited for one by one, in whole blocks of the target.

use core::ops::Range;

use super::PipelineOptions;
use crate::connection::{Transfer, TransferBytes};
use crate::error::Error;
use crate::pool::{PoolOver, ThreadWorker, Worker};
use crate::session::{Cookie, Event, ReadRequest, RequestInfo, WriteRequest};

/// A call of a writer. It begins now and not when it is polled, so that one is noticed that is
/// dropped before.
macro_rules! call {
    ($writer:expr, $work:expr) => {{
        let was_stopped = $writer.enter();
        async move {
            if was_stopped {
                return Err($writer.cause());
            }
            let result = $work.await;
            $writer.leave(result).await
        }
    }};
}
pub(super) use call;

/// The longest range of zeroes in one transfer, in bytes, so that several connections share a
/// longer one.
const LONG_ZERO: u64 = 1 << 30;

/// Writes data and zeroes with several requests in flight, and waits for all of them in the end.
///
/// A server may do requests in any order, so one that overlaps another waits for it: the export ends
/// up as if they had been done one after the other.
///
/// Any range can be written, whatever the target's minimum block: neighbours are joined to whole
/// blocks, and the rest of a block is read, modified and written.
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
    /// Bytes of data in flight.
    held: u64,
    /// The end of the last write, where it is not the end of a block.
    partial: Option<Partial>,
    /// The block that [`Self::write_partial`] has read, to modify it.
    read: Option<Vec<u8>>,
    /// During a call, and after one that failed or was dropped.
    is_stopped: bool,
    /// The first error, until it is told.
    error: Option<Error>,
}

#[derive(Debug)]
struct PendingWrite {
    cookie: Cookie,
    range: Range<u64>,
    /// Bytes of data.
    moved: u64,
}

/// Bytes inside one block that are not written yet.
#[derive(Debug)]
struct Partial {
    offset: u64,
    bytes: Vec<u8>,
}

impl Partial {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
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
            options: options.within(pool.checks.config().limits, pool.checks.longest_payload()),
            pool,
            in_flight: Vec::new(),
            held: 0,
            partial: None,
            read: None,
            is_stopped: false,
            error: None,
        })
    }

    /// A buffer of `length` bytes for `write`, out of memory that was used before if there
    /// is some. Its content is arbitrary.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        let mut buffer = self.pool.buffers.take();
        buffer.resize(length, 0);
        buffer
    }

    pub(crate) fn write_call(
        &mut self,
        offset: u64,
        data: Vec<u8>,
    ) -> impl Future<Output = Result<(), Error>> {
        call!(self, self.write_all(offset, data))
    }

    pub(crate) fn zero_call(&mut self, offset: u64, length: u64) -> impl Future<Output = Result<(), Error>> {
        call!(self, self.zero_all(offset, length))
    }

    /// Waits for all that was started.
    pub(crate) async fn wait_call(mut self) -> Result<(), Error> {
        call!(self, self.wait_for_all()).await
    }

    /// Waits for all that was started, and then flushes.
    pub(crate) async fn finish_call(mut self) -> Result<(), Error> {
        call!(self, self.finish_all()).await
    }

    /// Begins a call. True if an earlier one failed or was dropped before its end.
    pub(super) fn enter(&mut self) -> bool {
        core::mem::replace(&mut self.is_stopped, true)
    }

    /// Why no call can begin.
    pub(super) fn cause(&mut self) -> Error {
        self.error.take().unwrap_or(Error::Stopped)
    }

    /// Ends a call. After a failure the writer stays stopped, and nothing is in flight.
    pub(super) async fn leave(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        self.is_stopped = result.is_err();
        let Err(error) = result else { return Ok(()) };
        self.in_flight.clear();
        self.partial = None;
        // of the others nothing is reported; a call that is dropped here leaves the error to the next
        self.error = Some(error);
        self.pool.abandon_quietly().await;
        self.error.take().map_or(Ok(()), Err)
    }

    // ---- whole blocks

    pub(super) async fn write_all(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let end = self.check(WriteRequest::new(offset).of(data.len() as u64))?;
        let (joined, whole) = self.split(offset, end).await?;
        if whole == (offset..end) {
            // nothing to join: the buffer is sent as it is, without a copy
            return if data.is_empty() { Ok(()) } else { self.start_write(offset, data).await };
        }
        let part = |from: u64, to: u64| {
            let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let bytes = data.get(index(from)..index(to));
            debug_assert!(bytes.is_some(), "bytes {from} to {to} of a write of {offset} to {end}");
            bytes.unwrap_or_default()
        };
        self.join(offset, part(offset, joined)).await?;
        self.join(joined, part(joined, whole.start)).await?;
        if !whole.is_empty() {
            let mut copy = self.buffer(part(whole.start, whole.end).len());
            copy.copy_from_slice(part(whole.start, whole.end));
            self.start_write(whole.start, copy).await?;
        }
        self.join(whole.end, part(whole.end, end)).await
    }

    pub(super) async fn zero_all(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        let zeroes = Transfer::zero(offset, length);
        let end = self.check(zeroes.terms(self.pool.export().flags))?;
        let (joined, whole) = self.split(offset, end).await?;
        // parts of a block, whose length is that of a block at most
        let zeroes = |from: u64, to: u64| vec![0; usize::try_from(to - from).unwrap_or(usize::MAX)];
        self.join(offset, &zeroes(offset, joined)).await?;
        self.join(joined, &zeroes(joined, whole.start)).await?;
        let mut at = whole.start;
        while at < whole.end {
            let next = whole.end.min((at - at % LONG_ZERO).saturating_add(LONG_ZERO));
            self.start(Transfer::zero(at, next - at)).await?;
            at = next;
        }
        self.join(whole.end, &zeroes(whole.end, end)).await
    }

    /// The end of a request's range, which lies inside the export if it is not empty.
    fn check(&self, request: RequestInfo) -> Result<u64, Error> {
        if request.length > 0 {
            self.pool.checks.check_writable(request)?;
        }
        Ok(request.offset.saturating_add(request.length))
    }

    /// Divides a range: returns the end of its bytes that belong to the partial block, and the whole
    /// blocks after these. A partial block that the range does not continue is written first.
    async fn split(&mut self, offset: u64, end: u64) -> Result<(u64, Range<u64>), Error> {
        let mut joined = offset;
        if let Some(partial) = &self.partial {
            if partial.end() == offset {
                joined = end.min(self.block_of(partial.offset).end);
            } else if offset < end {
                self.write_partial().await?;
            }
        }
        let block = self.pool.export().minimum_block();
        let last = if end == self.pool.export().size() { end } else { end - end % block };
        let first = joined.div_ceil(block).saturating_mul(block).min(end);
        Ok((joined, first..last.max(first)))
    }

    /// The block in which a byte lies; at the end of the export there may be less than a whole one.
    fn block_of(&self, offset: u64) -> Range<u64> {
        let block = self.pool.export().minimum_block();
        let start = offset - offset % block;
        start..(start + block).min(self.pool.export().size())
    }

    /// Adds bytes to the partial block that they follow, or begins one. One that is full is
    /// written.
    async fn join(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let partial = self.partial.get_or_insert_with(|| Partial { offset, bytes: Vec::new() });
        debug_assert_eq!(partial.end(), offset, "a partial block with a gap");
        partial.bytes.extend_from_slice(bytes);
        let (first, end) = (partial.offset, partial.end());
        if end == self.block_of(first).end { self.write_partial().await } else { Ok(()) }
    }

    /// Writes the partial block, if there is one. If bytes of the block are missing, the block is
    /// read first.
    async fn write_partial(&mut self) -> Result<(), Error> {
        let Some(Partial { offset, bytes }) = self.partial.take() else { return Ok(()) };
        let block = self.block_of(offset);
        if offset == block.start && bytes.len() as u64 == block.end - block.start {
            return self.start_write(offset, bytes).await;
        }
        let length = block.end - block.start;
        let mut buffer = self.buffer(usize::try_from(length).unwrap_or(usize::MAX));
        buffer.fill(0);
        let read = Transfer::new(ReadRequest::new(block.start).of(length));
        let cookie = self.start(read.with(TransferBytes::Own(buffer))).await?;
        // its data come before its end
        while self.in_flight.iter().any(|request| request.cookie == cookie) {
            self.receive().await?;
        }
        let mut whole = self.read.take().ok_or(Error::GivenUp)?;
        let at = usize::try_from(offset - block.start).unwrap_or(usize::MAX);
        // a block of another length than was read must not go back without the new bytes
        whole.get_mut(at..at + bytes.len()).ok_or(Error::GivenUp)?.copy_from_slice(&bytes);
        self.start_write(block.start, whole).await
    }

    // ---- requests

    async fn start_write(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        let write = Transfer::new(WriteRequest::new(offset).of(data.len() as u64));
        self.start(write.with(TransferBytes::Own(data))).await.map(drop)
    }

    async fn start(&mut self, transfer: Transfer) -> Result<Cookie, Error> {
        let RequestInfo { offset, length, .. } = transfer.request;
        let (range, moved) = (offset..offset + length, transfer.request.moves());
        self.wait_for_room(&range, moved).await?;
        let cookie = self.pool.begin(transfer)?;
        self.held += moved;
        self.in_flight.push(PendingWrite { cookie, range, moved });
        Ok(cookie)
    }

    /// Waits until nothing in flight overlaps this range, and `moved` more bytes may be held.
    ///
    /// It ends, since an empty pipeline has room for any request.
    async fn wait_for_room(&mut self, range: &Range<u64>, moved: u64) -> Result<(), Error> {
        loop {
            let overlaps =
                |other: &PendingWrite| other.range.start < range.end && range.start < other.range.end;
            let has_room = self.options.has_room(self.in_flight.len(), self.held, moved);
            if has_room && !self.in_flight.iter().any(overlaps) {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    pub(super) async fn wait_for_all(&mut self) -> Result<(), Error> {
        self.write_partial().await?;
        while !self.in_flight.is_empty() {
            self.receive().await?;
        }
        Ok(())
    }

    /// Flushes after all writes were answered: FLUSH covers no others.
    pub(super) async fn finish_all(&mut self) -> Result<(), Error> {
        self.wait_for_all().await?;
        if self.pool.export().flags.can_flush() {
            self.start(Transfer::new(RequestInfo::FLUSH)).await?;
        }
        self.wait_for_all().await
    }

    /// Waits for one event.
    async fn receive(&mut self) -> Result<(), Error> {
        match self.pool.next_event().await? {
            Some(Event::Read { data, .. }) => self.read = Some(data),
            Some(Event::Done { cookie }) => self.forget(cookie),
            Some(Event::Failed { cookie, error }) => {
                self.forget(cookie);
                return Err(error.into());
            }
            Some(Event::Status { .. } | Event::Drained { .. }) => {}
            None => return Err(Error::GivenUp),
        }
        Ok(())
    }

    fn forget(&mut self, cookie: Cookie) {
        if let Some(index) = self.in_flight.iter().position(|request| request.cookie == cookie) {
            self.held -= self.in_flight.swap_remove(index).moved;
        }
    }
}
