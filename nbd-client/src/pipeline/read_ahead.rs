//! A sequence of ranges, read ahead and handed out in order.

use alloc::collections::VecDeque;
use core::ops::Range;

use super::PipelineOptions;
use crate::connection::{Transfer, TransferBytes};
use crate::error::Error;
use crate::pool::Pool;
use crate::session::{Cookie, Event, ReadRequest};

/// Reads a sequence of ranges in order, with the next requests in flight while the last are used.
///
/// It is the loop of a copy tool: give it the ranges to read, take one block after the other. Each
/// block lies inside one range; the blocks of a range follow each other without a gap. Blocks come
/// into memory that is used again, straight from the socket. Every request is received by the
/// pool's thread, also while the program is busy with a block or blocked.
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
/// If it is dropped before its end, requests stay in flight: [`Pool::abandon`] waits for them.
#[derive(Debug)]
#[must_use]
pub struct ReadAhead<'a, I> {
    pool: &'a mut Pool,
    ranges: I,
    /// The rest of the range under way.
    range: Range<u64>,
    options: PipelineOptions,
    /// Blocks in order, each in flight or waiting for its turn.
    blocks: VecDeque<PendingBlock>,
    /// Bytes of those blocks.
    held: u64,
    /// The block that was handed out last.
    current: Vec<u8>,
    failed: bool,
}

#[derive(Debug)]
struct PendingBlock {
    cookie: Cookie,
    offset: u64,
    length: u64,
    data: Option<Vec<u8>>,
}

/// A block of an export, see [`ReadAhead::next_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block<'a> {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its content.
    pub data: &'a [u8],
}

impl<'a, I: Iterator<Item = Range<u64>>> ReadAhead<'a, I> {
    /// Prepares to read these ranges, in their order; empty ones are left out. Reads nothing before
    /// the first [`Self::next_block`].
    ///
    /// # Errors
    ///
    /// [`StartError::Busy`](crate::session::StartError::Busy) while other requests are in flight.
    pub fn new(
        pool: &'a mut Pool,
        ranges: impl IntoIterator<IntoIter = I, Item = Range<u64>>,
        options: PipelineOptions,
    ) -> Result<Self, Error> {
        pool.check_idle()?;
        Ok(Self {
            options: options.within(pool.checks.config().limits, pool.checks.longest_payload()),
            pool,
            ranges: ranges.into_iter(),
            range: 0..0,
            blocks: VecDeque::new(),
            held: 0,
            current: Vec::new(),
            failed: false,
        })
    }

    /// The next block; `None` at the end of all ranges.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for the first request that failed, which may be that of a later block. The
    /// connection is usable: the other requests in flight have been waited for. [`Error::Start`] for
    /// a range that cannot be read. Otherwise the errors of a connection. No block follows an error.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        match self.advance() {
            Ok(next) => Ok(next.map(|offset| Block { offset, data: &self.current })),
            Err(error) => {
                // only the first error is reported
                self.pool.abandon().ok();
                self.blocks.clear();
                self.range = 0..0;
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Puts the next block into `current` and says where it begins.
    fn advance(&mut self) -> Result<Option<u64>, Error> {
        let last = core::mem::take(&mut self.current);
        self.held = self.held.saturating_sub(last.len() as u64);
        self.pool.buffers.keep(last);
        loop {
            self.fill()?;
            match self.blocks.front_mut() {
                None => {
                    // all data are there, but the last reply may not have ended
                    self.pool.abandon()?;
                    return Ok(None);
                }
                Some(PendingBlock { data: Some(data), .. }) => {
                    self.current = core::mem::take(data);
                    return Ok(self.blocks.pop_front().map(|block| block.offset));
                }
                Some(PendingBlock { data: None, .. }) => self.receive()?,
            }
        }
    }

    /// Starts requests as long as there is room, once half of it is free: several are handed to the
    /// pool at a time.
    fn fill(&mut self) -> Result<(), Error> {
        if self.options.is_half_full(self.blocks.len(), self.held) {
            return Ok(());
        }
        let filled = self.start_all();
        self.pool.announce();
        filled
    }

    fn start_all(&mut self) -> Result<(), Error> {
        loop {
            while self.range.is_empty() {
                match self.ranges.next() {
                    Some(next) if !self.failed => self.range = next,
                    _ => return Ok(()),
                }
            }
            let Range { start: offset, end } = self.range;
            let length = self.options.cut(offset, end);
            if !self.options.has_room(self.blocks.len(), self.held, length) {
                return Ok(());
            }
            let mut buffer = self.pool.buffers.take();
            buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            let read = Transfer::new(ReadRequest::new(offset).of(length)).with(TransferBytes::Own(buffer));
            let cookie = self.pool.begin(read)?;
            self.blocks.push_back(PendingBlock { cookie, offset, length, data: None });
            self.held += length;
            self.range.start += length;
        }
    }

    /// Waits for one event.
    fn receive(&mut self) -> Result<(), Error> {
        match self.pool.next_event()? {
            Some(Event::Read { cookie, data }) => {
                let index = self.blocks.partition_point(|block| block.cookie < cookie);
                let block = self.blocks.get_mut(index).filter(|block| block.cookie == cookie);
                debug_assert!(block.as_ref().is_some_and(|block| block.length == data.len() as u64));
                block.ok_or(Error::GivenUp)?.data = Some(data);
                Ok(())
            }
            Some(Event::Failed { error, .. }) => Err(error.into()),
            Some(_) => Ok(()),
            None => Err(Error::GivenUp),
        }
    }
}
