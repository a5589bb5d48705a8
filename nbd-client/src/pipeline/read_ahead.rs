//! A sequence of ranges, read ahead and handed out in order.

use alloc::collections::VecDeque;
use core::ops::Range;

use super::PipelineOptions;
use crate::connection::{Transfer, in_memory};
use crate::error::Error;
use crate::pool::{PoolOver, ThreadWorker, Worker};
use crate::session::{Cookie, Event};

/// Reads a sequence of ranges in order, with the next requests in flight while the last are used.
///
/// It is the loop of a copy tool: give it the ranges to read, take one block after the other. Each
/// block lies inside one range; the blocks of a range follow each other without a gap. Blocks come
/// into memory that is used again, straight from the socket; blocks that the server answers with a
/// hole take none. The pool receives every reply, also while the program is busy with a block or
/// blocked.
///
/// ```no_run
/// use nbd_client::pipeline::PipelineOptions;
/// use nbd_client::{Options, Pool, ReadAhead};
/// use std::io::Write;
///
/// let mut pool = Pool::connect(&"nbd://localhost/disk".parse()?, &Options::new(), 1)?;
/// let size = pool.export().size();
/// let mut blocks = ReadAhead::new(&mut pool, Some(0..size), PipelineOptions::default())?;
/// let mut out = std::io::stdout().lock();
/// while let Some(block) = blocks.next_block()? {
///     out.write_all(block.data)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// If it is dropped before its end, requests stay in flight: the pool's
/// [`abandon`](crate::Pool::abandon) waits for them.
///
/// It runs on a [`Pool`](crate::Pool), or on an `aio::Pool`, where `next_block` is awaited. There a
/// call that is dropped loses nothing: the next one goes on.
#[derive(Debug)]
#[must_use]
pub struct ReadAhead<'a, I, W = ThreadWorker> {
    pool: &'a mut PoolOver<W>,
    ranges: I,
    /// The rest of the range under way.
    range: Range<u64>,
    options: PipelineOptions,
    /// Blocks in order, each in flight or waiting for its turn.
    blocks: VecDeque<PendingBlock>,
    /// Bytes of those blocks.
    held: u64,
    /// The block that was handed out last.
    current: Option<PendingBlock>,
    /// The content of every block that is a hole, as long as the longest of them.
    zeroes: Vec<u8>,
    failed: bool,
    /// The first error, until it is told.
    error: Option<Error>,
}

#[derive(Debug)]
struct PendingBlock {
    cookie: Cookie,
    offset: u64,
    length: u64,
    /// What the server has answered; without bytes, if all of it is a hole.
    data: Option<Vec<u8>>,
}

/// A block of an export, see [`ReadAhead::next_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block<'a> {
    /// Its offset, in bytes.
    pub offset: u64,
    /// Its content.
    pub data: &'a [u8],
}

impl<'a, I: Iterator<Item = Range<u64>>, W: Worker> ReadAhead<'a, I, W> {
    /// Prepares to read these ranges, in their order; empty ones are left out. Reads nothing before
    /// the first `next_block`.
    ///
    /// # Errors
    ///
    /// [`StartError::Busy`](crate::session::StartError::Busy) while other requests are in flight.
    pub fn new(
        pool: &'a mut PoolOver<W>,
        ranges: impl IntoIterator<IntoIter = I, Item = Range<u64>>,
        options: PipelineOptions,
    ) -> Result<Self, Error> {
        pool.check_idle()?;
        Ok(Self {
            options: options.within(pool.checks.config.limits, pool.checks.longest_payload()),
            pool,
            ranges: ranges.into_iter(),
            range: 0..0,
            blocks: VecDeque::new(),
            held: 0,
            current: None,
            zeroes: Vec::new(),
            failed: false,
            error: None,
        })
    }

    /// The next block. After an error nothing is in flight, and no block follows.
    pub(crate) async fn next_call(&mut self) -> Result<Option<Block<'_>>, Error> {
        if !self.failed {
            match self.advance().await {
                Ok(()) => return Ok(self.current_block()),
                Err(error) => self.error = Some(error),
            }
            self.failed = true;
            self.blocks.clear();
        }
        // the other requests report nothing; if this call is dropped here, the next one has the
        // error
        self.pool.abandon_quietly().await;
        self.error.take().map_or(Ok(None), Err)
    }

    /// Makes the next block the current one, if there is a next.
    async fn advance(&mut self) -> Result<(), Error> {
        if let Some(last) = self.current.take() {
            self.held = self.held.saturating_sub(last.length);
            self.pool.buffers.keep_for_later(last.data.unwrap_or_default());
        }
        loop {
            self.fill()?;
            match self.blocks.front() {
                // all data are there, but the last reply may not have ended
                None => return self.pool.abandon_all().await,
                Some(PendingBlock { data: Some(_), .. }) => {
                    self.current = self.blocks.pop_front();
                    return Ok(());
                }
                Some(PendingBlock { data: None, .. }) => self.receive().await?,
            }
        }
    }

    fn current_block(&mut self) -> Option<Block<'_>> {
        let Self { current, zeroes, .. } = self;
        let PendingBlock { offset, length, data, .. } = current.as_ref()?;
        let data = match data.as_deref() {
            Some(data) if !data.is_empty() => data,
            _ => {
                let length = in_memory(*length);
                zeroes.resize(zeroes.len().max(length), 0);
                zeroes.get(..length).unwrap_or_default()
            }
        };
        Some(Block { offset: *offset, data })
    }

    /// Starts requests as long as there is room, once a quarter of it is free: several are handed
    /// to the pool at a time.
    fn fill(&mut self) -> Result<(), Error> {
        if self.options.is_nearly_full(self.blocks.len(), self.held) {
            return Ok(());
        }
        loop {
            if self.range.is_empty() {
                let Some(next) = self.ranges.next() else { break };
                self.range = next;
                continue;
            }
            let Range { start: offset, end } = self.range;
            let length = self.options.cut(offset, end);
            if !self.options.has_room(self.blocks.len(), self.held, length) {
                break;
            }
            let cookie = self.pool.begin(Transfer::sparse_read(offset..offset + length))?;
            self.blocks.push_back(PendingBlock { cookie, offset, length, data: None });
            self.held += length;
            self.range.start += length;
        }
        self.pool.announce();
        Ok(())
    }

    /// Waits for one event.
    async fn receive(&mut self) -> Result<(), Error> {
        match self.pool.next_event().await? {
            Some(Event::Read { cookie, data }) => {
                let index = self.blocks.partition_point(|block| block.cookie < cookie);
                let block = self.blocks.get_mut(index).filter(|block| block.cookie == cookie);
                let is_whole = |block: &&mut PendingBlock| [0, block.length].contains(&(data.len() as u64));
                debug_assert!(block.as_ref().is_some_and(is_whole));
                block.ok_or(Error::GivenUp)?.data = Some(data);
                Ok(())
            }
            Some(Event::Failed { error, .. }) => Err(error.into()),
            Some(_) => Ok(()),
            None => Err(Error::GivenUp),
        }
    }
}
