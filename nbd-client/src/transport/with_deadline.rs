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

    /// Gives the stream back.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn check(&self) -> io::Result<()> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(timed_out()),
            _ => Ok(()),
        }
    }

    /// The stream's own timeouts speak as blocking calls that would block.
    fn judge<V>(&self, result: io::Result<V>) -> io::Result<V> {
        match result {
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
        self.check()?;
        let result = self.stream.read(buf);
        self.judge(result)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.check()?;
        let result = self.stream.read_vectored(bufs);
        self.judge(result)
    }
}

impl<S: Write> Write for WithDeadline<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check()?;
        let result = self.stream.write(buf);
        self.judge(result)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.check()?;
        let result = self.stream.write_vectored(bufs);
        self.judge(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        let result = self.stream.flush();
        self.judge(result)
    }
}

impl<S: Read + Write> Transport for WithDeadline<S> {
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.deadline = deadline;
        Ok(())
    }
}
