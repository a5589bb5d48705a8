//! The type of both clients, and the blocking one. Its calls return when the server has answered;
//! other requests are started now and answered later.
//!
//! A client never connects again by itself: only the caller knows the meaning of a lost connection.

mod calls;
mod dial;
mod driver;

pub(crate) use dial::Dial;
pub use driver::Blocking;
pub(crate) use driver::BlockingDriver;

use core::future::ready;
use std::time::Instant;

use nbd_extents::Admission;

use crate::block_on::block_on;
use crate::connection::Connection;
use crate::error::Error;
use crate::export::{Export, ListedExport};
use crate::options::Options;
use crate::session::{ChunkOffer, Cookie, Event, Session, StartError, take_all};
use crate::stats::SessionStats;
use crate::transport::{Socket, Transport};
use crate::uri::Uri;

/// A connection to one export.
///
/// ```no_run
/// use nbd_client::{Client, Options};
/// use nbd_client::session::StatusRequest;
///
/// let options = Options::new().require_context("base:allocation");
/// let mut client = Client::connect(&"nbd://localhost/disk".parse()?, &options)?;
/// let request = StatusRequest::new(0, client.export().size().min(1 << 30));
/// client.block_status(&request, &mut |context: u32, payload: &[u8]| {
///     println!("context {context}: {} bytes of descriptors", payload.len() - 4);
/// })?;
/// client.disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It moves bytes only during its calls. A program that keeps requests in flight and stops calling
/// leaves a server waiting, and a virtual machine with it: pipelines run on a
/// [`Pool`](crate::Pool), whose threads always receive.
///
/// Without [`Client::disconnect`] the connection just closes, which a server may log as a fault.
pub type Client<T = Socket> = ClientOver<Blocking<T>>;

/// A connection to one export, named by what moves its bytes: [`Client`] by blocking calls, and
/// `aio::Driver` while it is awaited.
#[derive(Debug)]
pub struct ClientOver<M> {
    pub(crate) io: Driven<M>,
    export: Export,
}

/// A connection, and what moves its bytes.
#[derive(Debug)]
pub(crate) struct Driven<M> {
    pub(crate) mover: M,
    pub(crate) connection: Connection,
}

/// The moves of bytes, in which alone the clients differ.
pub(crate) trait Drive {
    /// Sends as much as goes without waiting.
    fn send(&mut self) -> impl Future<Output = Result<(), Error>>;

    /// Moves bytes once, and waits for that no longer than there is time.
    fn exchange(&mut self) -> impl Future<Output = Result<(), Error>>;

    /// Closes the stream after the goodbye, if there is need to, within the time for it.
    fn close(&mut self) -> impl Future<Output = ()>;
}

impl<M> Driven<M>
where
    Self: Drive,
{
    /// Drives a handshake to its end.
    pub(crate) async fn open(mut self) -> Result<Self, Error> {
        let opened = loop {
            match self.connection.poll(&mut take_all, Instant::now()) {
                Ok(_) if self.connection.is_open() => break Ok(()),
                Ok(_) => Drive::exchange(&mut self).await?,
                Err(error) => break Err(error),
            }
        };
        // the goodbye after a list, or a last message, if there is one; the error is what counts
        Drive::send(&mut self).await.ok();
        opened.map(|()| self)
    }

    /// Drives the handshake for an export to its end.
    pub(crate) async fn into_client(self) -> Result<ClientOver<M>, Error> {
        let io = self.open().await?;
        let export = io.connection.export().cloned().ok_or(Error::GivenUp)?;
        Ok(ClientOver { io, export })
    }

    /// The exports of a connection that only asks for them.
    pub(crate) async fn list_exports(self) -> Result<Vec<ListedExport>, Error> {
        self.open().await?.connection.into_exports().ok_or(Error::GivenUp)
    }

    /// Waits for the next event of any request; `None` if none is in flight. A call that is dropped
    /// loses nothing.
    pub(crate) async fn event(
        &mut self,
        admit: &mut impl FnMut(&ChunkOffer) -> Admission,
    ) -> Result<Option<Event>, Error> {
        self.connection.clock.exclude_idle_time(Instant::now());
        let visit = Visit(self);
        loop {
            let event = visit.0.connection.poll(admit, Instant::now())?;
            if event.is_some() || visit.0.connection.is_idle() {
                return Ok(event);
            }
            Drive::exchange(visit.0).await?;
        }
    }

    /// Says goodbye, within the time for it.
    pub(crate) async fn say_goodbye(&mut self) -> Result<(), Error> {
        self.connection.disconnect(Instant::now())?;
        while self.connection.says_goodbye() {
            Drive::exchange(self).await?;
        }
        self.close().await;
        Ok(())
    }
}

/// A call that waits for an event: however it ends, the time after it is the caller's own.
struct Visit<'a, M>(&'a mut Driven<M>);

impl<M> Drop for Visit<'_, M> {
    fn drop(&mut self) {
        self.0.connection.clock.begin_idle_time(Instant::now());
    }
}

impl<M> ClientOver<M> {
    /// The export, as the server described it in the handshake.
    #[must_use]
    pub const fn export(&self) -> &Export {
        &self.export
    }

    /// The statistics of the connection.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.session().map(|session| *session.stats()).unwrap_or_default()
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.io.connection.in_flight()
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.io.connection.session()
    }

    /// The names of the contexts that were listed with the export, whatever becomes of the goodbye.
    pub(crate) async fn into_offered(mut self) -> Vec<String>
    where
        Driven<M>: Drive,
    {
        self.io.say_goodbye().await.ok();
        self.export.offered.unwrap_or_default()
    }

    /// Starts a request, which is sent when bytes are moved next. The time until then is the
    /// caller's own.
    pub(crate) fn queue(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        let now = Instant::now();
        let connection = &mut self.io.connection;
        connection.clock.exclude_idle_time(now);
        let cookie = connection.start(now, request);
        connection.clock.begin_idle_time(now);
        cookie
    }

    /// A buffer of `length` bytes for a read, out of memory that was used before if there is some.
    /// Its content has no meaning.
    #[must_use]
    pub fn buffer(&mut self, length: usize) -> Vec<u8> {
        self.io.connection.buffer(length)
    }

    /// Gives back the memory of a read's data, to be used for the next.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.io.connection.recycle_buffer(buffer);
    }

    /// Gives back the memory of a status event's payload, to be used for the next.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.io.connection.recycle(payload);
    }
}

impl Client<Socket> {
    /// Connects to the server of a URI and asks for its export.
    ///
    /// A server that hangs up when it is asked for extended headers is asked once more without
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Timeout`], [`Error::Handshake`], [`Error::Tls`] and the other
    /// errors of a connection.
    pub fn connect(uri: &Uri, options: &Options) -> Result<Self, Error> {
        block_on(Dial::new(uri, options).connect_by(|dial| ready(dial.connect(&options.canceller))))
    }

    /// Asks the server of a URI for its exports (LIST). The export that the URI names does not
    /// matter.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]. A server may refuse to tell.
    ///
    /// ```no_run
    /// use nbd_client::{Client, Options};
    ///
    /// for export in Client::list_exports(&"nbd://localhost".parse()?, &Options::new())? {
    ///     println!("{:?} {:?}", export.name, export.description);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_exports(uri: &Uri, options: &Options) -> Result<Vec<ListedExport>, Error> {
        block_on(Dial::listing(uri, options).connect(&options.canceller)?.list_exports())
    }

    /// Asks the server of a URI for the names of the meta contexts that its export has, whatever
    /// `options` ask for. Empty also where the server has no structured replies, or would not say.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn list_contexts(uri: &Uri, options: &Options) -> Result<Vec<String>, Error> {
        let client = Self::connect(uri, &options.clone().without_contexts().list_contexts(true))?;
        Ok(block_on(client.into_offered()))
    }
}

impl<T: Transport> Client<T> {
    /// Asks for an export over a stream that is already connected to a server.
    /// [`WithDeadline`](crate::transport::WithDeadline) makes a transport of any stream.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], except those of connecting.
    pub fn over(transport: T, export: &str, options: &Options) -> Result<Self, Error> {
        let connection = Connection::new(export, options, Instant::now())?;
        block_on(Driven { mover: Blocking(transport), connection }.into_client())
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most. Requests still in
    /// flight are given up.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub fn disconnect(mut self) -> Result<(), Error> {
        self.io.disconnect()
    }

    /// A blocking call is alone on the connection: the events of others would be lost.
    pub(crate) fn check_idle(&self) -> Result<(), Error> {
        self.io.connection.check_alive()?;
        match self.in_flight() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy(in_flight).into()),
        }
    }
}
