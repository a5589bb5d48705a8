//! From a URI to an open connection, for both clients: the socket, and a second attempt without
//! extended headers.

use core::time::Duration;
use std::time::Instant;

use super::{Blocking, BlockingDriver, ClientOver, Drive, Driven};
use crate::connection::Connection;
use crate::error::Error;
use crate::options::Options;
use crate::transport::{Canceller, SLACK, Socket};
use crate::uri::{Address, Uri};

/// A connection that is to be made, by a thread that may wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    address: Address,
    export: String,
    options: Options,
    started: Instant,
}

impl Dial {
    /// A connection to the export of a URI.
    pub(crate) fn new(uri: &Uri, options: &Options) -> Self {
        Self {
            address: uri.address().clone(),
            export: uri.export().to_owned(),
            options: options.for_uri(uri),
            started: Instant::now(),
        }
    }

    /// A connection that only asks for the exports.
    pub(crate) fn listing(uri: &Uri, options: &Options) -> Self {
        let mut listing = Self { export: String::new(), ..Self::new(uri, options) };
        listing.options.handshake.list_exports = true;
        listing
    }

    /// Connects by `connect`, and once more without extended headers where the server hangs up on
    /// them.
    pub(crate) async fn connect_by<M, F>(self, connect: impl Fn(Self) -> F) -> Result<ClientOver<M>, Error>
    where
        Driven<M>: Drive,
        F: Future<Output = Result<Driven<M>, Error>>,
    {
        let attempt = async |dial| connect(dial).await?.into_client().await;
        let error = match attempt(self.clone()).await {
            Err(error) => error,
            connected => return connected,
        };
        match self.options.after_hang_up(&error) {
            Some(options) => attempt(Self { options, ..self }).await,
            None => Err(error),
        }
    }

    /// Connects within the time for it, until `canceller` ends it.
    pub(crate) fn connect(&self, canceller: &Canceller) -> Result<BlockingDriver<Socket>, Error> {
        // a fault of the options or their files is known before anything is sent
        let connection = Connection::new(&self.export, &self.options, self.started)?;
        // stands for a timeout beyond the clock's range
        let end = connection.poll_timeout().unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
        let socket = Socket::connect(&self.address, end, canceller).map_err(|source| {
            // the kernel's clock may be a little early
            connection.connect_error(&self.address, source, Instant::now() + SLACK)
        })?;
        crate::trace::event!(info, "connected", address = self.address);
        Ok(Driven { mover: Blocking(socket), connection })
    }
}
