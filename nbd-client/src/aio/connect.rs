//! From a URI to a stream of bytes, and through the handshake.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::client::{Options, earlier, out_of_time};
use crate::error::{During, Error};
use crate::export::Export;
use crate::handshake::{Handshake, HandshakeConfig, HandshakeStatus};
use crate::stats::ForgivenCounts;
use crate::uri::{Address, Uri};

/// Bytes of the server are read so many at a time during the handshake.
const HELLO: usize = 4096;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A TCP or unix connection, whichever the URI said.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_client::aio::{BoxedStream, Connection};
///
/// /// What a connection from a URI is called where it is kept.
/// struct Disk {
///     connection: Connection<BoxedStream>,
/// }
///
/// # let _ = async {
/// let uri = "nbd://localhost/disk".parse().unwrap();
/// let disk = Disk { connection: Connection::connect(&uri, &Options::new()).await? };
/// println!("{} bytes", disk.connection.export().size);
/// # Ok::<(), nbd_client::Error>(())
/// # };
/// ```
pub struct BoxedStream(Box<dyn Duplex>);

impl fmt::Debug for BoxedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedStream")
    }
}

impl AsyncRead for BoxedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoxedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects to the server of a URI, within the time for connecting.
pub(super) async fn stream(uri: &Uri, options: &Options, started: Instant) -> Result<BoxedStream, Error> {
    if uri.is_tls() {
        return Err(Error::TlsNotSupported);
    }
    options.canceller.check().map_err(|_| Error::Cancelled { during: During::Connect })?;
    let address = uri.address();
    let connected = within(options, started, During::Connect, async {
        open(address).await.map_err(|source| Error::Connect { address: address.to_string(), source })
    });
    let stream = connected.await?;
    crate::trace::connected(address);
    Ok(stream)
}

async fn open(address: &Address) -> io::Result<BoxedStream> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(BoxedStream(Box::new(stream)))
        }
        #[cfg(unix)]
        Address::Unix(name) => {
            use std::ffi::OsStr;
            use std::os::unix::ffi::OsStrExt;

            // a name that starts with a NUL is one of the abstract namespace
            let stream = tokio::net::UnixStream::connect(OsStr::from_bytes(name.as_bytes())).await?;
            Ok(BoxedStream(Box::new(stream)))
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "no unix sockets on this system")),
    }
}

/// What the handshake left: the export, what was forgiven, and bytes of the server that came behind it.
pub(super) struct Begun {
    pub(super) export: Export,
    pub(super) forgiven: ForgivenCounts,
    pub(super) rest: Vec<u8>,
}

/// Drives a handshake to its end, within the time for connecting.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    export: &str,
    options: &Options,
    started: Instant,
) -> Result<Begun, Error> {
    let begun =
        within(options, started, During::Handshake, negotiate(stream, options.handshake(export))).await?;
    crate::trace::negotiated(&begun.export);
    Ok(begun)
}

async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    config: HandshakeConfig,
) -> Result<Begun, Error> {
    let mut handshake = Handshake::new(config)?;
    let mut input = Vec::with_capacity(HELLO);
    while handshake.status() == HandshakeStatus::NeedsInput {
        if input.is_empty() {
            let during = handshake.eof().during;
            let failed = |source| Error::Io { during, source };
            if stream.read_buf(&mut input).await.map_err(failed)? == 0 {
                return Err(handshake.eof().into());
            }
        }
        let fed = handshake.feed(&input);
        let output = handshake.take_output();
        if !output.is_empty() {
            let sent = stream.write_all(&output).await;
            // of a handshake that failed this is a last word, and the error is what counts
            if fed.is_ok() {
                sent.map_err(|source| Error::Io { during: During::Send, source })?;
            }
        }
        input.drain(..fed?);
    }
    let (export, forgiven) = handshake.into_export().ok_or(Error::TlsNotSupported)?;
    Ok(Begun { export, forgiven, rest: input })
}

/// Gives a future the time that is left for connecting.
async fn within<V>(
    options: &Options,
    started: Instant,
    during: During,
    future: impl Future<Output = Result<V, Error>>,
) -> Result<V, Error> {
    let Some(deadline) = earlier(started.checked_add(options.connect_timeout), options.deadline) else {
        return future.await;
    };
    match tokio::time::timeout_at(deadline.into(), future).await {
        Ok(result) => result,
        Err(_) => Err(out_of_time(Error::Timeout { during, after: started.elapsed() }, options.deadline)),
    }
}
