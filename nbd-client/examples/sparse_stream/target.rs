//! The disk that a restore writes to: writes and zeroes, several in flight, in pieces that the server takes.

use core::ops::Range;

use nbd_client::{Client, Error, Event, TakeAll, WriteRequest, ZeroRequest};

use crate::common::failure::Failure;

/// The longest write, unless the server takes less.
const WRITE: u64 = 256 << 10;
/// The most requests in flight.
const IN_FLIGHT: usize = 16;
/// Longer zeroes are done by themselves, in the best way that the server has.
const LONG_ZERO: u64 = 16 << 20;

/// A writable export. Nothing written is durable before [`finish`](Self::finish).
pub(crate) struct Target {
    client: Client,
    longest: usize,
    /// A write being put together, from this byte of the disk on.
    offset: u64,
    bytes: Vec<u8>,
}

impl Target {
    pub(crate) fn new(client: Client) -> Self {
        let maximum = client.export().block_size.map_or(u32::MAX, |sizes| sizes.maximum());
        let longest = usize::try_from(WRITE.min(u64::from(maximum))).unwrap_or(usize::MAX);
        Self { client, longest, offset: 0, bytes: Vec::new() }
    }

    pub(crate) fn write(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), Failure> {
        if self.offset + self.bytes.len() as u64 != offset {
            self.send()?;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        while !bytes.is_empty() {
            let room = self.longest.saturating_sub(self.bytes.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.bytes.len() >= self.longest {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Never by a TRIM, which promises nothing.
    pub(crate) fn zero(&mut self, range: Range<u64>) -> Result<(), Failure> {
        self.send()?;
        let length = range.end - range.start;
        if length <= LONG_ZERO && self.client.export().flags.send_write_zeroes() {
            self.make_room(IN_FLIGHT - 1)?;
            self.client.start_write_zeroes(&ZeroRequest::new(range.start, length))?;
            return Ok(());
        }
        self.make_room(0)?;
        Ok(self.client.zero(range.start, length)?)
    }

    /// All of it durable, and goodbye.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.send()?;
        self.make_room(0)?;
        self.client.flush()?;
        self.client.disconnect().ok(); // all of it is there
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.make_room(IN_FLIGHT - 1)?;
        let mut next = self.client.buffer(0);
        next.clear();
        let bytes = core::mem::replace(&mut self.bytes, next);
        let request = WriteRequest::new(self.offset);
        self.offset += bytes.len() as u64;
        self.client.start_write(&request, bytes)?;
        Ok(())
    }

    /// Waits until no more than `most` requests are in flight.
    fn make_room(&mut self, most: usize) -> Result<(), Failure> {
        while self.client.in_flight() > most {
            match self.client.next_event(&mut TakeAll)? {
                Some(Event::Failed { error, .. }) => return Err(Error::from(error).into()),
                Some(_) => {}
                None => return Err(Error::GivenUp.into()),
            }
        }
        Ok(())
    }
}
