//! From a URI to a stream of bytes, and through the handshake.

use core::fmt::Debug;
use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::error::Error;
use crate::frame::During;
use crate::options::Options;
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
    let during = During::Connect;
    let address = uri.address();
    let connected = before(connection.poll_timeout(), open(address)).await;
    let connected = connected.ok_or_else(|| connection.clock.timeout(during, Instant::now()))?;
    let stream = connected.map_err(|source| Error::connect(address, source))?;
    crate::trace::event!(info, "connected", address = address);
    Ok(stream)
}

async fn open(address: &Address) -> io::Result<BoxedStream> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
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

/// Waits for a future until a point in time, which may be never. `None` if it was too late.
pub(super) async fn before<F: Future>(end: Option<Instant>, future: F) -> Option<F::Output> {
    match end {
        Some(end) => tokio::time::timeout_at(end.into(), future).await.ok(),
        None => Some(future.await),
    }
}
