//! A buffered transport that knows what it is doing and since when, so that its errors can say so.

use std::io::{BufRead, BufReader, Error as IoError, ErrorKind, Read, Write};
use std::time::Instant;

use crate::error::{During, Error};
use crate::transport::{Cancelled, Transport};

/// Small replies come in one read; a large payload goes past the buffer, straight to its place.
const BUFFER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Stream<T> {
    inner: BufReader<T>,
    started: Instant,
}

impl<T: Transport> Stream<T> {
    pub(super) fn new(transport: T, started: Instant) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, transport), started }
    }

    pub(super) fn get_ref(&self) -> &T {
        self.inner.get_ref()
    }

    /// What follows began at `started` and has to end before `deadline`.
    pub(super) fn set_deadline(&mut self, started: Instant, deadline: Option<Instant>) -> Result<(), Error> {
        self.started = started;
        self.inner.get_mut().set_deadline(deadline).map_err(|error| failure(error, During::Send, started))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let started = self.started;
        let stream = self.inner.get_mut();
        stream
            .write_all(bytes)
            .and_then(|()| flush(stream))
            .map_err(|error| failure(error, During::Send, started))
    }

    /// At least one byte, or none at the end of the stream.
    pub(super) fn buffered(&mut self, during: During) -> Result<&[u8], Error> {
        let started = self.started;
        loop {
            match self.inner.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, during, started)),
            }
        }
        Ok(self.inner.buffer())
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }

    /// Bytes into `space`; 0 at the end of the stream.
    pub(super) fn read(&mut self, space: &mut [u8], during: During) -> Result<usize, Error> {
        loop {
            match self.inner.read(space) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(error, during, self.started)),
            }
        }
    }
}

/// Flushes to the end: what `write_all` does for writing.
fn flush(stream: &mut impl Write) -> Result<(), IoError> {
    loop {
        match stream.flush() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
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
