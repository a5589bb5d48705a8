//! Any stream of the caller's as a transport.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::time::Instant;

use super::{Transport, timed_out};

/// A stream that has no deadlines of its own, for example one through a proxy or a test's pipe.
///
/// The deadline is looked at before each call, and when one would block. A call that blocks in the
/// stream itself is not woken: give such a stream a timeout of its own (`WouldBlock` is tried again
/// until the deadline). A stream that never blocks at all would be asked in a busy loop.
///
/// ```
/// use nbd_client::transport::{Transport, WithDeadline};
/// use std::io::{Cursor, Read};
/// use std::time::Instant;
///
/// let mut stream = WithDeadline::new(Cursor::new(vec![1, 2, 3]));
/// stream.set_deadline(Some(Instant::now()))?;
/// assert!(stream.read(&mut [0; 3]).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WithDeadline<S> {
    stream: S,
    deadline: Option<Instant>,
}

impl<S> WithDeadline<S> {
    /// Wraps a stream.
    pub const fn new(stream: S) -> Self {
        Self { stream, deadline: None }
    }

    fn check(&self) -> io::Result<()> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(timed_out()),
            _ => Ok(()),
        }
    }

    /// One call of the stream. Its own timeouts speak as blocking calls that would block.
    fn call<V>(&mut self, call: impl FnOnce(&mut S) -> io::Result<V>) -> io::Result<V> {
        self.check()?;
        match call(&mut self.stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.check()?;
                Err(io::ErrorKind::Interrupted.into())
            }
            other => other,
        }
    }
}

impl<S: Read> Read for WithDeadline<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.call(|stream| stream.read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.call(|stream| stream.read_vectored(bufs))
    }
}

impl<S: Write> Write for WithDeadline<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.call(|stream| stream.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.call(|stream| stream.write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(Write::flush)
    }
}

impl<S: Read + Write> Transport for WithDeadline<S> {
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.deadline = deadline;
        Ok(())
    }
}
