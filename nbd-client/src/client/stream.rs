//! A buffered transport that knows what it is doing and since when, so that its errors can say so.

use std::io::{Error as IoError, ErrorKind, IoSlice, IoSliceMut};
use std::time::Instant;

use crate::error::{During, Error};
use crate::transport::{Cancelled, Ready, Transport};

/// Small replies come in one read, and so does a large payload with the header behind it: only what goes into this buffer is copied.
const BUFFER: usize = 4 << 10;

#[derive(Debug)]
pub(super) struct Stream<T> {
    transport: T,
    buffer: Box<[u8]>,
    /// What of the buffer is filled and not yet taken.
    start: usize,
    end: usize,
    started: Instant,
}

impl<T: Transport> Stream<T> {
    pub(super) fn new(transport: T, started: Instant) -> Self {
        Self { transport, buffer: vec![0; BUFFER].into(), start: 0, end: 0, started }
    }

    pub(super) const fn get_ref(&self) -> &T {
        &self.transport
    }

    /// What follows began at `started` and has to end before `deadline`.
    pub(super) fn set_deadline(&mut self, started: Instant, deadline: Option<Instant>) -> Result<(), Error> {
        self.started = started;
        self.transport.set_deadline(deadline).map_err(|error| failure(error, During::Send, started))
    }

    /// All of it, however long it takes: for a peer that owes nothing.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let started = self.started;
        self.transport.write_all(bytes).map_err(|error| failure(error, During::Send, started))?;
        self.flush()
    }

    /// As much of it as goes without waiting; 0 if nothing does.
    pub(super) fn send_now(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, Error> {
        loop {
            match self.transport.write_now(pieces) {
                Ok(0) => return Err(failure(ErrorKind::WriteZero.into(), During::Send, self.started)),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, During::Send, self.started)),
            }
        }
    }

    /// Flushes to the end: what `write_all` does for writing.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        loop {
            match self.transport.flush() {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, During::Send, self.started)),
            }
        }
    }

    /// Waits until there is something to read or room to write.
    pub(super) fn wait(&mut self) -> Result<Ready, Error> {
        if self.start < self.end {
            return Ok(Ready { read: true, write: false });
        }
        loop {
            match self.transport.wait() {
                Ok(ready) => return Ok(ready),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, During::Send, self.started)),
            }
        }
    }

    /// At least one byte, or none at the end of the stream.
    pub(super) fn buffered(&mut self, during: During) -> Result<&[u8], Error> {
        if self.start == self.end {
            self.fill(&mut [], during)?;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Bytes into `space`; 0 at the end of the stream.
    pub(super) fn read(&mut self, space: &mut [u8], during: During) -> Result<usize, Error> {
        if self.start == self.end && space.len() >= BUFFER {
            return self.fill(space, during);
        }
        let buffered = self.buffered(during)?;
        let count = buffered.len().min(space.len());
        if let (Some(from), Some(to)) = (buffered.get(..count), space.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }

    /// One read into `space` and, behind it, into the empty buffer. Says how many bytes of `space` came.
    fn fill(&mut self, space: &mut [u8], during: During) -> Result<usize, Error> {
        let room = space.len();
        loop {
            let mut pieces = [IoSliceMut::new(space), IoSliceMut::new(&mut self.buffer)];
            let from = usize::from(room == 0);
            match self.transport.read_vectored(pieces.get_mut(from..).unwrap_or_default()) {
                Ok(count) => {
                    (self.start, self.end) = (0, count.saturating_sub(room));
                    return Ok(count.min(room));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, during, self.started)),
            }
        }
    }
}

/// The error of a stream, by its meaning.
pub(super) fn failure(error: IoError, during: During, started: Instant) -> Error {
    if Cancelled::is(&error) {
        Error::Cancelled { during }
    } else if error.kind() == ErrorKind::TimedOut {
        Error::Timeout { during, after: started.elapsed() }
    } else {
        Error::Io { during, source: error }
    }
}
