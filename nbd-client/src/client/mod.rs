//! The blocking client: calls that return when the server has answered, and requests that are
//! answered later.
//!
//! It never connects again by itself: what a lost connection means is the caller's to know.

mod calls;
mod dial;
mod driver;

pub(crate) use dial::Dial;
pub(crate) use driver::BlockingDriver;

use std::time::Instant;

use crate::connection::Connection;
use crate::error::Error;
use crate::export::{Export, ListedExport};
use crate::options::Options;
use crate::session::{Session, StartError};
use crate::stats::SessionStats;
use crate::transport::{Canceller, Socket, Transport};
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
#[derive(Debug)]
pub struct Client<T = Socket> {
    driver: BlockingDriver<T>,
    export: Export,
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
        let connect = |dial: &Dial| {
            let (transport, connection) = dial.connect(&options.canceller)?;
            Self::begin(transport, connection)
        };
        let dial = Dial::new(uri, options);
        connect(&dial).or_else(|error| match dial.after_hang_up(&error) {
            Some(again) => connect(&again),
            None => Err(error),
        })
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
        let (transport, connection) = Dial::listing(uri, options).connect(&options.canceller)?;
        let mut driver = BlockingDriver::open(transport, connection)?;
        driver.send(&mut crate::connection::Lent::default()).ok();
        driver.connection.into_exports().ok_or(Error::GivenUp)
    }

    /// Asks the server of a URI for the names of the meta contexts that its export has, whatever
    /// `options` ask for. Empty also where the server has no structured replies, or would not say.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn list_contexts(uri: &Uri, options: &Options) -> Result<Vec<String>, Error> {
        let client = Self::connect(uri, &options.clone().without_contexts().list_contexts(true))?;
        let offered = client.export.offered.clone();
        client.disconnect()?;
        Ok(offered.unwrap_or_default())
    }

    /// A handle that ends this connection from any thread.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.driver.transport.canceller()
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
        Self::begin(transport, Connection::new(export, options, Instant::now())?)
    }

    fn begin(transport: T, connection: Connection) -> Result<Self, Error> {
        let driver = BlockingDriver::open(transport, connection)?;
        let export = driver.connection.export().cloned().ok_or(Error::GivenUp)?;
        Ok(Self { driver, export })
    }

    /// The export, as the server described it in the handshake.
    #[must_use]
    pub const fn export(&self) -> &Export {
        &self.export
    }

    /// The statistics of the connection.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.driver.connection.session().map(|session| *session.stats()).unwrap_or_default()
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.driver.connection.in_flight()
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.driver.connection.session()
    }

    pub(crate) fn into_driver(self) -> BlockingDriver<T> {
        self.driver
    }

    /// Says goodbye (DISC) and closes the connection, in 5 seconds at the most. Requests still in
    /// flight are given up.
    ///
    /// # Errors
    ///
    /// The errors of a connection; it is closed all the same.
    pub fn disconnect(mut self) -> Result<(), Error> {
        self.driver.disconnect()
    }

    /// A blocking call is alone on the connection: the events of others would be lost.
    pub(crate) fn check_idle(&self) -> Result<(), Error> {
        self.driver.connection.check_alive()?;
        match self.in_flight() {
            0 => Ok(()),
            in_flight => Err(StartError::Busy(in_flight).into()),
        }
    }
}
