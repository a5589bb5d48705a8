//! A deadline that holds while the program itself is blocked.
//!
//! [`Options::deadline`](crate::Options::deadline) ends every call of this crate. A program that is
//! blocked elsewhere, in a write to a pipe that nobody reads or a read of a standard input that
//! stalls, makes no such call.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Instant;

/// Calls a function at a point in time, in a thread of its own, unless it is dropped before.
///
/// ```
/// use nbd_client::Alarm;
/// use std::sync::mpsc::channel;
/// use std::time::{Duration, Instant};
///
/// let (ring, rang) = channel();
/// let end = Instant::now() + Duration::from_millis(5);
/// // A program would print a line and exit here.
/// let _alarm = Alarm::at(end, move || {
///     let _ = ring.send("out of time");
/// })?;
/// assert_eq!(rang.recv(), Ok("out of time"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an alarm that is dropped does not ring"]
pub struct Alarm {
    _armed: Sender<()>,
}

impl Alarm {
    /// Sets an alarm.
    ///
    /// # Errors
    ///
    /// Those of the system that has to start a thread.
    pub fn at(end: Instant, ring: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (armed, wait) = channel::<()>();
        std::thread::Builder::new().name("nbd-alarm".to_owned()).spawn(move || {
            // nothing is ever sent: the end of the channel is the end of the alarm
            let left = end.saturating_duration_since(Instant::now());
            if wait.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                ring();
            }
        })?;
        Ok(Self { _armed: armed })
    }
}
