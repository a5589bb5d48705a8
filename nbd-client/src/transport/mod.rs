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

use std::io::{self, Read, Write};
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
}

/// The error of a call that is out of time.
fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "deadline passed")
}
