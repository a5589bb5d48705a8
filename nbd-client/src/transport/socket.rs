//! A TCP or unix socket that keeps a deadline and can be cancelled.

use alloc::sync::Arc;
use core::time::Duration;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::time::Instant;

#[cfg(unix)]
use super::Waker;
use super::{Canceller, Ready, Transport, timed_out};

/// A timeout of the kernel's may be this much longer than the time left: it saves a system call
/// before most calls.
pub(crate) const SLACK: Duration = Duration::from_millis(20);

/// A peer that has closed is an error, not a signal: SIGPIPE would end a host program that is not
/// Rust's own.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
/// Apple's sockets are told when they are made (socket2 does), others have no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: i32 = 0;

/// A connected stream socket.
///
/// ```
/// use nbd_client::transport::{Socket, Transport};
/// use std::io::{ErrorKind, Read};
/// use std::time::{Duration, Instant};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
/// let mut socket = Socket::try_from(stream)?;
/// socket.set_deadline(Some(Instant::now() + Duration::from_millis(5)))?;
/// let error = socket.read(&mut [0; 16]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::TimedOut);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    inner: Arc<socket2::Socket>,
    canceller: Canceller,
    deadline: Option<Instant>,
    /// The timeout that the kernel was told last; `None` is none.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// A byte comes here when another thread calls.
    #[cfg(unix)]
    wakes: Option<std::os::unix::net::UnixStream>,
}

impl Socket {
    /// Takes over a connected, blocking socket without timeouts.
    pub(super) fn new(inner: Arc<socket2::Socket>, canceller: Canceller) -> Self {
        Self {
            inner,
            canceller,
            deadline: None,
            read_timeout: None,
            write_timeout: None,
            #[cfg(unix)]
            wakes: None,
        }
    }

    /// Takes over a connected socket. It blocks and has no timeouts: deadlines are set for each
    /// call.
    fn adopt(inner: socket2::Socket) -> io::Result<Self> {
        inner.set_nonblocking(false)?;
        inner.set_read_timeout(None)?;
        inner.set_write_timeout(None)?;
        let inner = Arc::new(inner);
        let canceller = Canceller::new();
        canceller.attach(&inner)?;
        Ok(Self::new(inner, canceller))
    }

    /// The socket without deadlines, which no canceller ends any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_inner(self) -> io::Result<socket2::Socket> {
        Arc::into_inner(self.inner).ok_or_else(|| io::Error::other(super::Cancelled))
    }

    /// A handle that ends this connection from any thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Lets this canceller close the connection as well, which then looks as if the server had.
    pub(crate) fn attach(&self, canceller: &Canceller) {
        canceller.attach(&self.inner).ok();
    }

    /// The timeout for the next call: `None` if the kernel's own, `last`, will do.
    fn timeout(&self, last: Option<Duration>) -> io::Result<Option<Option<Duration>>> {
        self.canceller.check()?;
        let Some(deadline) = self.deadline else { return Ok(last.map(|_| None)) };
        // never zero, which would be none: what is there is taken after the deadline as well
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match last {
            Some(last) if last <= left + SLACK && left <= last + SLACK => Ok(None),
            _ => Ok(Some(Some(left))),
        }
    }

    /// Waits for a wanted direction of this socket or of another one, or for the waker of this one,
    /// until the earlier deadline of both.
    #[cfg(unix)]
    fn poll(&self, wanted: Ready, other: Option<(&Self, Ready)>) -> io::Result<[Ready; 2]> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let flags = |wanted: Ready| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, wanted.read);
            flags.set(PollFlags::OUT, wanted.write);
            // the end counts also where nothing is wanted
            #[cfg(target_os = "linux")]
            flags.set(PollFlags::RDHUP, wanted == Ready::default());
            flags
        };
        // a missing waker or other socket is replaced by this socket, polled for no event
        let stand_in = || PollFd::new(&*self.inner, PollFlags::empty());
        let wakes = self.wakes.as_ref();
        let mut polled = [
            PollFd::new(&*self.inner, flags(wanted)),
            wakes.map_or_else(stand_in, |wakes| PollFd::new(wakes, PollFlags::IN)),
            other.map_or_else(stand_in, |(other, wanted)| PollFd::new(&*other.inner, flags(wanted))),
        ];
        let mut left = self.timeout(None)?.flatten();
        if let Some((other, _)) = other {
            left = left.into_iter().chain(other.timeout(None)?.flatten()).min();
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let count = poll(&mut polled, left.as_ref())?;
        self.canceller.check()?;
        if count == 0 {
            return Err(timed_out());
        }
        let [found, woken, others] = polled.map(|polled| polled.revents());
        if let Some(mut wakes) = wakes.filter(|_| woken.contains(PollFlags::IN)) {
            // one byte a wake, and another one at most while this is read
            let _ = wakes.read(&mut [0; 8]);
        }
        // an error or an end is for the next read to tell
        let ready = |found: PollFlags| Ready {
            read: found.intersects(!PollFlags::OUT),
            write: found.contains(PollFlags::OUT),
        };
        let others = if other.is_some() { ready(others) } else { Ready::default() };
        Ok([ready(found), others])
    }

    /// Waits for this socket and another one, which one thread drives, as [`Transport::wait`] does
    /// for one.
    pub(crate) fn wait_either(
        &mut self,
        wanted: Ready,
        other: &mut Self,
        others: Ready,
    ) -> io::Result<[Ready; 2]> {
        #[cfg(unix)]
        return self.poll(wanted, Some((other, others)));
        // one after the other; where nothing is wanted it does not wait
        #[cfg(not(unix))]
        let _ = (self.timeout(None)?, other.timeout(None)?);
        #[cfg(not(unix))]
        if wanted == Ready::default() {
            Ok([wanted, other.wait(others)?])
        } else {
            Ok([self.wait(wanted)?, Ready::default()])
        }
    }

    /// Reads the bytes that are there; [`io::ErrorKind::WouldBlock`] if there are none.
    pub(crate) fn read_now(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        #[cfg(unix)]
        {
            use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

            self.canceller.check()?;
            let result =
                recvmsg(&*self.inner, bufs, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT);
            self.canceller.check()?;
            Ok(result?.bytes)
        }
        // after a wait for it there is something
        #[cfg(not(unix))]
        self.read_vectored(bufs)
    }

    /// Translates the result of a call: a cancellation looks like an end of file or a reset, a
    /// timeout like a blocking call.
    fn judge(&self, result: io::Result<usize>) -> io::Result<usize> {
        self.canceller.check()?;
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.deadline {
                    // A kernel's clock may be a little early; the caller tries again.
                    Some(deadline) if Instant::now() < deadline => Err(io::ErrorKind::Interrupted.into()),
                    _ => Err(timed_out()),
                }
            }
            other => other,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if let Some(timeout) = self.timeout(self.read_timeout)? {
            self.inner.set_read_timeout(timeout)?;
            self.read_timeout = timeout;
        }
        let result = (&*self.inner).read_vectored(bufs);
        self.judge(result)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(timeout) = self.timeout(self.write_timeout)? {
            self.inner.set_write_timeout(timeout)?;
            self.write_timeout = timeout;
        }
        let result = self.inner.send_with_flags(buf, SEND_FLAGS);
        self.judge(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Socket {
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.deadline = deadline;
        Ok(())
    }

    #[cfg(unix)]
    fn write_now(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.canceller.check()?;
        let result = self.inner.send_vectored_with_flags(bufs, SEND_FLAGS | libc::MSG_DONTWAIT);
        self.canceller.check()?;
        result
    }

    #[cfg(unix)]
    fn wait(&mut self, wanted: Ready) -> io::Result<Ready> {
        self.poll(wanted, None).map(|[ready, _]| ready)
    }

    #[cfg(unix)]
    fn waker(&mut self) -> io::Result<Option<Waker>> {
        let (wakes, calls) = std::os::unix::net::UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        calls.set_nonblocking(true)?;
        self.wakes = Some(wakes);
        // a full buffer has woken it already
        Ok(Some(Waker::new(move || drop((&calls).write(&[0])))))
    }
}

impl TryFrom<std::net::TcpStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Self::adopt(stream.into())
    }
}

#[cfg(unix)]
impl TryFrom<std::os::unix::net::UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Self::adopt(stream.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_end_of_either_of_two_is_seen_also_where_nothing_is_wanted_of_it() {
        // the first is how TCP tells of it
        for how in [Shutdown::Write, Shutdown::Both] {
            for ended in [0, 1] {
                let [(ours, theirs), (other, others)] = [(); 2].map(|()| UnixStream::pair().unwrap());
                let [mut ours, mut other] = [ours, other].map(|stream| Socket::try_from(stream).unwrap());
                ours.set_deadline(Some(Instant::now() + Duration::from_secs(20))).unwrap();
                [&theirs, &others][ended].shutdown(how).unwrap();
                let ready = ours.wait_either(Ready::default(), &mut other, Ready::default()).unwrap();
                assert_eq!(ready.map(|ready| ready.read), [ended == 0, ended == 1], "{how:?}");
            }
        }
    }
}
