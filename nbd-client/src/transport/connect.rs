//! Connecting, within a deadline and with a canceller.

use alloc::sync::Arc;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc;
use std::time::Instant;

use socket2::{Domain, Protocol, Type};

use super::{Canceller, Socket, timed_out};
use crate::uri::Address;

/// How often a unix socket with a full backlog is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// How often a cancellation is looked for while a name is resolved.
const LOOK_UP: Duration = Duration::from_millis(50);

impl Socket {
    /// Connects before `deadline`.
    ///
    /// TCP tries every address of the host, each with its share of the time left, and sets
    /// TCP_NODELAY. A unix socket with a full backlog is tried again until the deadline.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] at the deadline, [`Cancelled`](super::Cancelled) inside an
    /// error, or what the system says of the last address.
    pub fn connect(address: &Address, deadline: Instant, canceller: &Canceller) -> io::Result<Self> {
        canceller.check()?;
        let result = match address {
            Address::Tcp { host, port } => resolve(host, *port, deadline, canceller)
                .and_then(|addresses| connect_to_one(&addresses, deadline, canceller)),
            Address::Unix(name) => connect_unix(name, deadline, canceller),
        };
        canceller.check()?;
        result.map(|socket| Self::new(socket, canceller.clone()))
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(timed_out()) } else { Ok(left) }
}

/// Tries the addresses of a host, each with its share of the time left.
fn connect_to_one(
    addresses: &[SocketAddr],
    deadline: Instant,
    canceller: &Canceller,
) -> io::Result<Arc<socket2::Socket>> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (tried, &address) in addresses.iter().enumerate() {
        canceller.check()?;
        // an equal part of the time left, so that one that is silent leaves some for the others
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match connect_one(address, time_left(deadline)? / untried, canceller) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to one address. `canceller` can end the wait.
fn connect_one(
    address: SocketAddr,
    timeout: Duration,
    canceller: &Canceller,
) -> io::Result<Arc<socket2::Socket>> {
    let socket =
        Arc::new(socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?);
    canceller.attach(&socket)?;
    // a timeout of zero would be refused as a wrong argument, not as a connection out of time
    socket.connect_timeout(&address.into(), timeout.max(Duration::from_millis(1)))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// The system's resolver knows no deadline, so it runs in a thread of its own, which is abandoned
/// when it is late.
fn resolve(host: &str, port: u16, deadline: Instant, canceller: &Canceller) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = host.to_owned();
    std::thread::Builder::new().name("nbd-resolve".to_owned()).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // The receiver is gone when it was too late.
        let _ = sender.send(found);
    })?;
    loop {
        canceller.check()?;
        match receiver.recv_timeout(time_left(deadline)?.min(LOOK_UP)) {
            Ok(found) => return found,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the resolver's thread ended without an answer"));
            }
        }
    }
}

#[cfg(unix)]
fn connect_unix(name: &[u8], deadline: Instant, canceller: &Canceller) -> io::Result<Arc<socket2::Socket>> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let address = socket2::SockAddr::unix(OsStr::from_bytes(name))?;
    let socket = Arc::new(socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?);
    canceller.attach(&socket)?;
    socket.set_nonblocking(true)?;
    loop {
        match socket.connect(&address) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                canceller.check()?;
                std::thread::sleep(time_left(deadline)?.min(RETRY));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => canceller.check()?,
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(socket)
}

#[cfg(not(unix))]
fn connect_unix(_: &[u8], _: Instant, _: &Canceller) -> io::Result<Arc<socket2::Socket>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "no unix sockets on this system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose first address is silent, since the backlog of its listener is full.
    #[test]
    fn a_silent_address_leaves_time_for_the_next() {
        let silent = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let first = silent.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&first, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let second = listener.local_addr().unwrap();
        let end = || Instant::now() + Duration::from_secs(2);
        let canceller = &Canceller::new();
        let connected = connect_to_one(&[first, second], end(), canceller).unwrap();
        assert_eq!(connected.peer_addr().unwrap().as_socket(), Some(second));
        let error = connect_to_one(&[second, first][1..], end(), canceller).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(connect_to_one(&[], end(), canceller).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
