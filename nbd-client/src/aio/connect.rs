//! From a URI to a connected stream of tokio.

use core::fmt::Debug;
use core::time::Duration;
use std::io;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::driver::Awaited;
use crate::client::{Dial, Driven};
use crate::error::Error;
use crate::frame::During;
use crate::transport::{Canceller, Socket};

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

/// Connects by the blocking client's code, in a thread of its own: those of the runtime may all be
/// busy for longer than `connect_timeout`. The thread ends when the call is dropped.
pub(super) async fn connect(dial: Dial) -> Result<Driven<Awaited<BoxedStream>>, Error> {
    let canceller = CancelOnDrop(Canceller::new());
    let theirs = canceller.0.clone();
    let (tell, connected) = oneshot::channel();
    let failed = |source| Error::io(During::Connect, source);
    std::thread::Builder::new()
        .name("nbd-connect".to_owned())
        .spawn(move || drop(tell.send(dial.connect(&theirs))))
        .map_err(failed)?;
    let Driven { mover, connection } = connected.await.unwrap_or(Err(Error::Panicked))?;
    let stream = stream(mover.0).map_err(failed)?;
    Ok(Driven { mover: Awaited(stream), connection })
}

struct CancelOnDrop(Canceller);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A connected socket as a stream of this runtime.
fn stream(socket: Socket) -> io::Result<BoxedStream> {
    let socket = socket.into_inner()?;
    socket.set_nonblocking(true)?;
    #[cfg(unix)]
    if socket.domain()? == socket2::Domain::UNIX {
        return Ok(Box::new(tokio::net::UnixStream::from_std(socket.into())?));
    }
    Ok(Box::new(TcpStream::from_std(socket.into())?))
}

/// Waits for a future until a point in time, which may be never. `None` if it was too late: the
/// runtime has time to look at its sockets in any case.
pub(super) async fn before<F: Future>(end: Option<Instant>, future: F) -> Option<F::Output> {
    match end {
        Some(end) => {
            let end = end.max(Instant::now() + Duration::from_millis(1));
            tokio::time::timeout_at(end.into(), future).await.ok()
        }
        None => Some(future.await),
    }
}
