//! Streams with deadlines. Only these files know sockets, and `aio/connect.rs`, which hands one
//! that is connected to tokio.
//!
//! A deadline is a point in time, not a time for each call: a server that sends a byte a second
//! cannot push it away.

mod cancel;
mod connect;
mod socket;
mod wake;
mod with_deadline;

pub use cancel::{Cancelled, Canceller};
pub(crate) use socket::SLACK;
pub use socket::Socket;
pub use wake::Waker;
pub use with_deadline::WithDeadline;

use std::io::{self, IoSlice, Read, Write};
use std::time::Instant;

/// A stream of bytes to a server that keeps a deadline.
///
/// After the deadline nothing is waited for: bytes that are there are read, and calls that would
/// have to wait fail with [`io::ErrorKind::TimedOut`].
///
/// ```
/// use nbd_client::transport::Transport;
/// use std::io::{self, Read, Write};
/// use std::net::TcpStream;
/// use std::time::{Duration, Instant};
///
/// /// A stream whose timeouts are all that it has: the deadline becomes one before each read.
/// struct Timed {
///     stream: TcpStream,
///     deadline: Option<Instant>,
/// }
///
/// impl Read for Timed {
///     fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
///         if let Some(deadline) = self.deadline {
///             let left = deadline.saturating_duration_since(Instant::now());
///             self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
///         }
///         self.stream.read(buf).map_err(|error| match error.kind() {
///             io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
///             _ => error,
///         })
///     }
/// }
///
/// impl Write for Timed {
///     fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
///         self.stream.write(buf)
///     }
///
///     fn flush(&mut self) -> io::Result<()> {
///         self.stream.flush()
///     }
/// }
///
/// impl Transport for Timed {
///     fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
///         self.deadline = deadline;
///         Ok(())
///     }
/// }
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let mut silent = Timed { stream, deadline: None };
/// silent.set_deadline(Some(Instant::now() + Duration::from_millis(5)))?;
/// let error = silent.read(&mut [0; 16]).unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::TimedOut);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Transport: Read + Write {
    /// Sets the deadline of all later reads and writes; `None` is none.
    ///
    /// # Errors
    ///
    /// The stream's own, if it has to be told.
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()>;

    /// Writes as much as can be written without waiting, and fails with
    /// [`io::ErrorKind::WouldBlock`] where that is nothing.
    ///
    /// A peer may stop reading until its own answers are read, so a client that only writes until
    /// it is done may wait for ever. Unless implemented it is a plain write, which may wait: right
    /// for streams that take any amount, or a peer that always reads on.
    ///
    /// # Errors
    ///
    /// Those of a write.
    fn write_now(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(bufs)
    }

    /// Waits until something wanted is possible: there is something to read, or something can be
    /// written. Returns early, with nothing, when the [waker](Self::waker) calls.
    ///
    /// Unless implemented it does not wait, and the next call of [`Read`] or [`Write`] does.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] at the deadline; [`io::ErrorKind::Interrupted`] is tried again.
    fn wait(&mut self, wanted: Ready) -> io::Result<Ready> {
        Ok(Ready { read: wanted.read && !wanted.write, write: wanted.write })
    }

    /// A handle that ends a [`Self::wait`] from another thread, if the transport has one. Without
    /// it a thread that waits for the server learns of a new request only after the next answer.
    ///
    /// # Errors
    ///
    /// Those of the system that has to make one.
    fn waker(&mut self) -> io::Result<Option<Waker>> {
        Ok(None)
    }
}

/// The directions that need no waiting, see [`Transport::wait`].
///
/// ```
/// # #[cfg(unix)] {
/// use nbd_client::transport::{Ready, Socket, Transport};
/// use std::os::unix::net::UnixStream;
///
/// let (ours, _theirs) = UnixStream::pair()?;
/// let mut socket = Socket::try_from(ours)?;
/// // Nothing has come, and there is room to write.
/// let wanted = Ready { read: true, write: true };
/// assert_eq!(socket.wait(wanted)?, Ready { read: false, write: true });
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, an end or an error included.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

/// The error of a call that is out of time.
pub(crate) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "deadline passed")
}
