//! Streams with deadlines: the only files that know sockets.
//!
//! A deadline is a point in time, not a time for each call: a server that sends a byte a second cannot push it away.

mod cancel;
mod connect;
mod foreign;
mod socket;

pub use cancel::{Cancelled, Canceller};
pub use foreign::Foreign;
pub(crate) use socket::SLACK;
pub use socket::Socket;

use std::io::{self, IoSlice, Read, Write};
use std::time::Instant;

/// A stream of bytes to a server that keeps a deadline.
///
/// After the deadline, reads and writes fail with [`io::ErrorKind::TimedOut`].
pub trait Transport: Read + Write {
    /// Sets the deadline of all later reads and writes; `None` is none.
    ///
    /// # Errors
    ///
    /// The stream's own, if it has to be told.
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()>;

    /// Writes as much as can be written without waiting, and fails with [`io::ErrorKind::WouldBlock`] where that is nothing.
    ///
    /// A peer may stop reading until its own answers are read, so a client that only writes until it is done may wait for ever. Unless
    /// implemented it is a plain write, which may wait: right for streams that take any amount, or a peer that always reads on.
    ///
    /// # Errors
    ///
    /// Those of a write.
    fn write_now(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(bufs)
    }

    /// Waits until there is something to read, or until something can be written, whichever comes first. Called only after
    /// [`Self::write_now`] could not write.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] at the deadline; [`io::ErrorKind::Interrupted`] is tried again.
    fn wait(&mut self) -> io::Result<Ready> {
        Ok(Ready { read: false, write: true })
    }
}

/// What can be done without waiting, see [`Transport::wait`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, an end or an error included.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

/// The error of a call that is out of time.
fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "deadline passed")
}
