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

/// How often a unix socket with a full backlog is tried again, and how often a slow connection is
/// looked at.
const RETRY: Duration = Duration::from_millis(10);
/// How often a cancellation is looked for while a call waits that it may not wake.
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

/// Makes steps until one has a result, the deadline passes or `canceller` fires. A step waits no longer
/// than it is told.
fn wait_for<V>(
    deadline: Instant,
    canceller: &Canceller,
    mut step: impl FnMut(Duration) -> io::Result<Option<V>>,
) -> io::Result<V> {
    loop {
        canceller.check()?;
        if let Some(result) = step(time_left(deadline)?.min(LOOK_UP))? {
            return Ok(result);
        }
    }
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
        let share = Instant::now() + time_left(deadline)? / untried;
        match connect_one(address, share, canceller) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Connects to one address. `canceller` can end the wait.
fn connect_one(
    address: SocketAddr,
    deadline: Instant,
    canceller: &Canceller,
) -> io::Result<Arc<socket2::Socket>> {
    let socket =
        Arc::new(socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?);
    canceller.attach(&socket)?;
    establish(&socket, address, deadline, canceller)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Connects a socket. Before it is connected, few systems let a shutdown end the wait, so the canceller
/// is looked at.
fn establish(
    socket: &socket2::Socket,
    address: SocketAddr,
    deadline: Instant,
    canceller: &Canceller,
) -> io::Result<()> {
    let mut first = Some(address.into());
    wait_for(deadline, canceller, |time| {
        // nearly all connect during this call, which returns at once then
        if let Some(address) = first.take() {
            return match socket.connect_timeout(&address, time) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
                connected => connected.map(Some),
            };
        }
        std::thread::sleep(time.min(RETRY));
        match socket.take_error()? {
            Some(error) => Err(error),
            // the address of the peer is known once it is connected
            None => Ok(socket.peer_addr().ok().map(drop)),
        }
    })
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
    wait_for(deadline, canceller, |time| match receiver.recv_timeout(time) {
        Ok(found) => found.map(Some),
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the resolver's thread ended without an answer"))
        }
    })
}

#[cfg(unix)]
fn connect_unix(name: &[u8], deadline: Instant, canceller: &Canceller) -> io::Result<Arc<socket2::Socket>> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let address = socket2::SockAddr::unix(OsStr::from_bytes(name))?;
    let socket = Arc::new(socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?);
    canceller.attach(&socket)?;
    socket.set_nonblocking(true)?;
    wait_for(deadline, canceller, |time| match socket.connect(&address) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            std::thread::sleep(time.min(RETRY));
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        connected => connected.map(Some),
    })?;
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
    use crate::transport::Cancelled;

    /// An address that is silent, since the backlog of its listener is full, for as long as the
    /// sockets live.
    fn silent() -> (SocketAddr, socket2::Socket, Vec<std::net::TcpStream>) {
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        (address, listener, waiting)
    }

    #[test]
    fn a_silent_address_leaves_time_for_the_next() {
        let (first, _listener, _waiting) = silent();
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

    /// The socket is not the canceller's: so it is where a shutdown does nothing before the socket is
    /// connected. (Linux remembers it.)
    #[test]
    fn a_cancel_ends_the_wait_where_a_shutdown_does_not() {
        let (address, _listener, _waiting) = silent();
        let far = Instant::now() + Duration::from_secs(30);
        for pause in [0, 100] {
            let canceller = &Canceller::new();
            let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let started = Instant::now();
            let error = std::thread::scope(|scope| {
                let cancelling = scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(pause));
                    canceller.cancel();
                });
                if pause == 0 {
                    cancelling.join().unwrap();
                }
                establish(&socket, address, far, canceller).unwrap_err()
            });
            assert!(Cancelled::is(&error), "{error}");
            assert!(started.elapsed() < Duration::from_secs(10), "after {:?}", started.elapsed());
        }
    }

    /// Longer than the call waits that connects: the address answers when the system asks again, by a
    /// connection or by a refusal.
    #[test]
    fn a_slow_connection_is_seen_and_so_is_a_late_refusal() {
        for accepts in [true, false] {
            let (address, listener, waiting) = silent();
            let end = Instant::now() + Duration::from_secs(60);
            let (connected, kept) = std::thread::scope(|scope| {
                let later = scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(200));
                    // without the listener the next packet is refused
                    accepts.then(|| {
                        let accepted = waiting.iter().map(|_| listener.accept().unwrap());
                        (accepted.collect::<Vec<_>>(), listener)
                    })
                });
                (connect_one(address, end, &Canceller::new()), later.join().unwrap())
            });
            match (accepts, connected) {
                (true, Ok(socket)) => assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(address)),
                (false, Err(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}"),
                (_, other) => panic!("accepts: {accepts}, {other:?}"),
            }
            drop(kept);
        }
    }
}
