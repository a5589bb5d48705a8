//! Any stream of the caller's as a transport.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::time::Instant;

use super::{Transport, timed_out};

/// A stream that has no deadlines of its own, for example one through a proxy or a test's pipe.
///
/// The deadline is looked at when a call would block. One that blocks in the stream itself is not
/// woken: give such a stream a timeout of its own (`WouldBlock` is tried again until the deadline).
/// A stream that never blocks at all would be asked in a busy loop.
///
/// ```
/// use nbd_client::transport::{Transport, WithDeadline};
/// use std::io::{ErrorKind, Read};
/// use std::time::{Duration, Instant};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let silent = std::net::TcpStream::connect(listener.local_addr()?)?;
/// silent.set_read_timeout(Some(Duration::from_millis(5)))?;
/// let mut stream = WithDeadline::new(silent);
/// stream.set_deadline(Some(Instant::now()))?;
/// assert_eq!(stream.read(&mut [0; 3]).unwrap_err().kind(), ErrorKind::TimedOut);
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

    /// One call of the stream. Its own timeouts speak as blocking calls that would block.
    fn call<V>(&mut self, call: impl FnOnce(&mut S) -> io::Result<V>) -> io::Result<V> {
        call(&mut self.stream).map_err(|error| match self.deadline {
            _ if error.kind() != io::ErrorKind::WouldBlock => error,
            Some(deadline) if deadline <= Instant::now() => timed_out(),
            _ => io::ErrorKind::Interrupted.into(),
        })
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
