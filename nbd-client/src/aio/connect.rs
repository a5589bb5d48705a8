//! From a URI to a stream of bytes, and through the handshake.

use core::fmt::Debug;
use core::net::SocketAddr;
use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::connection::Connection;
use crate::error::Error;
use crate::options::Options;
use crate::transport::{no_address, share, timed_out};
use crate::uri::{Address, Uri};

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Debug + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> Duplex for S {}

/// A TCP or unix connection, whichever the URI said.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::{BoxedStream, Driver};
///
/// /// What a connection from a URI is called where it is kept.
/// struct Disk {
///     driver: Driver<BoxedStream>,
/// }
///
/// # let _ = async {
/// let uri = "nbd://localhost/disk".parse().unwrap();
/// let disk = Disk { driver: Driver::connect(&uri, &Options::new()).await? };
/// println!("{} bytes", disk.driver.export().size());
/// # Ok::<(), nbd_client::Error>(())
/// # };
/// ```
pub type BoxedStream = Box<dyn Duplex>;

/// Begins a connection. The files of certificates are read by a thread that may wait for them.
pub(super) async fn prepare(
    options: &Options,
    begin: impl FnOnce(&Options) -> Result<Connection, Error> + Send + 'static,
) -> Result<Connection, Error> {
    if options.tls.is_none() {
        return begin(options);
    }
    let options = options.clone();
    let read = tokio::task::spawn_blocking(move || begin(&options));
    // it fails only where the runtime ends
    read.await.unwrap_or(Err(Error::GivenUp))
}

/// Connects to the server of a URI, within the time for connecting.
pub(super) async fn stream(uri: &Uri, connection: &Connection) -> Result<BoxedStream, Error> {
    let address = uri.address();
    let end = connection.poll_timeout();
    let connected = before(end, open(address, end)).await.unwrap_or_else(|| Err(timed_out()));
    let stream = connected.map_err(|source| connection.connect_error(address, source, Instant::now()))?;
    crate::trace::event!(info, "connected", address = address);
    Ok(stream)
}

/// Connects to an address until `end`, and only to one of several before that.
async fn open(address: &Address, end: Option<Instant>) -> io::Result<BoxedStream> {
    match address {
        Address::Tcp { host, port } => {
            let addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
            let stream = connect_to_one(&addresses, end).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        Address::Unix(name) => {
            use std::ffi::OsStr;
            use std::os::unix::ffi::OsStrExt;

            use crate::transport::RETRY;

            // a name that starts with a NUL is one of the abstract namespace
            let path = OsStr::from_bytes(name.as_bytes());
            loop {
                match tokio::net::UnixStream::connect(path).await {
                    // a full backlog
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(RETRY).await
                    }
                    connected => return Ok(Box::new(connected?)),
                }
            }
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "no unix sockets on this system")),
    }
}

/// Tries the addresses of a host, each with its share of the time left.
async fn connect_to_one(addresses: &[SocketAddr], end: Option<Instant>) -> io::Result<TcpStream> {
    let mut failure = no_address();
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = end.map(|end| end.saturating_duration_since(now));
        let end = left.map(|left| now + share(left, addresses.len() - tried));
        match before(end, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => failure = timed_out(),
        }
    }
    Err(failure)
}

/// Waits for a future until a point in time, which may be never. `None` if it was too late.
pub(super) async fn before<F: Future>(end: Option<Instant>, future: F) -> Option<F::Output> {
    match end {
        Some(end) => tokio::time::timeout_at(end.into(), future).await.ok(),
        None => Some(future.await),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    /// A host whose first address is silent, since the backlog of its listener is full.
    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let first = silent.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&first, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let second = listener.local_addr().unwrap();
        let end = || Some(Instant::now() + Duration::from_secs(2));
        let connected = connect_to_one(&[first, second], end()).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), second);
        let error = connect_to_one(&[second, first][1..], end()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(connect_to_one(&[], end()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
