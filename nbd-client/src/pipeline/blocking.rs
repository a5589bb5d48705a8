//! Pipelines, and calls of a pool, for a program that blocks.

use core::ops::Range;

use super::{Block, ReadAhead, WriteBehind, WriteCall};
use crate::block_on::block_on;
use crate::error::Error;
use crate::pool::Pool;

impl<I: Iterator<Item = Range<u64>>> ReadAhead<'_, I> {
    /// The next block; `None` at the end of all ranges.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for the first request that failed, which may be that of a later block.
    /// The connection is usable: the other requests in flight have been waited for.
    /// [`Error::Start`] for a range that cannot be read. Otherwise the errors of a connection. No
    /// block follows an error.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, Error> {
        block_on(self.next_call())
    }
}

impl WriteBehind<'_> {
    /// Waits for room, and starts to write `data` to `offset`.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] if a request of this pipeline has failed; all of them have then been
    /// waited for, and the connection is usable. [`Error::Start`] for a range that cannot be
    /// written, [`Error::Stopped`] after an earlier error, the errors of a connection otherwise.
    pub fn write(&mut self, offset: u64, data: Vec<u8>) -> Result<(), Error> {
        block_on(self.call(WriteCall::Data(offset, data)))
    }

    /// Adds bytes to those that they follow. They are written up to each multiple of 256 KiB, and
    /// the rest before anything else is, or by [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_joined(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        block_on(self.call(WriteCall::Joined(offset, bytes)))
    }

    /// Starts to make `length` bytes from `offset` read as zeroes, in the best way that the server
    /// has: quickly (FAST_ZERO), else slowly, else by writing zeroes. The range may become a hole.
    /// Never by a TRIM, which promises nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        block_on(self.call(WriteCall::Zero(offset, length)))
    }

    /// Waits for all that was started, and then makes it durable (FLUSH, where the server has it).
    ///
    /// # Errors
    ///
    /// As [`Self::write`]. Only without an error is everything written.
    pub fn finish(mut self) -> Result<(), Error> {
        block_on(self.call(WriteCall::Finish))
    }
}

impl Pool {
    /// Reads from `offset` until `buffer` is full.
    ///
    /// # Errors
    ///
    /// As [`Client::read`](crate::Client::read); a request that failed is an [`Error::Request`],
    /// here and in the other calls.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        block_on(self.read_call(offset, buffer))
    }

    /// Writes `data` to `offset`, in whole blocks or not. It is durable only after a
    /// [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`Client::write`](crate::Client::write).
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        block_on(self.write_call(WriteCall::Joined(offset, data)))
    }

    /// Makes `length` bytes from `offset` read as zeroes, as
    /// [`Client::zero`](crate::Client::zero) does.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        block_on(self.write_call(WriteCall::Zero(offset, length)))
    }

    /// Makes durable whatever was written before, through any of the connections.
    ///
    /// # Errors
    ///
    /// As [`Client::flush`](crate::Client::flush).
    pub fn flush(&mut self) -> Result<(), Error> {
        block_on(self.write_call(WriteCall::Finish))
    }
}
