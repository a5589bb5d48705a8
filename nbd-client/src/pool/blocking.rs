//! The pool of a program that blocks: connected by clients, served by threads.

use core::future::ready;

use super::{Pool, ThreadWorker, connect_more};
use crate::block_on::block_on;
use crate::client::Client;
use crate::error::Error;
use crate::export::Export;
use crate::options::Options;
use crate::stats::SessionStats;
use crate::transport::Transport;
use crate::uri::Uri;

impl Pool {
    /// Connects to the server of a URI up to `connections` times: once where the server does not
    /// say that several are safe, and fewer times where it takes no more within 5 seconds
    /// ([`Self::connections`] tells). Contexts in `options` are not asked for.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`] for the first connection; [`Error::Disagreement`] where a later one
    /// finds another export.
    pub fn connect(uri: &Uri, options: &Options, connections: usize) -> Result<Self, Error> {
        let options = options.clone().without_contexts();
        let first = Client::connect(uri, &options)?;
        let others = more_connections(first.export(), connections.saturating_sub(1), uri, &options)?;
        Self::of(first, others)
    }

    /// A pool of connections to the same export: at least the first.
    ///
    /// # Errors
    ///
    /// [`Error::Disagreement`] where they differ in size, flags, block sizes or headers, or where
    /// there are others and the server does not say that several are safe. [`Error::Start`] where
    /// one of them has a request in flight.
    pub fn of<T>(first: Client<T>, others: Vec<Client<T>>) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        Self::of_connections(first, others, ThreadWorker::start)
    }

    /// Waits until no request is in flight, and forgets their results: after a
    /// [`ReadAhead`](crate::ReadAhead) that was not read to its end.
    ///
    /// # Errors
    ///
    /// The errors of a connection. Requests that failed are forgotten as well.
    pub fn abandon(&mut self) -> Result<(), Error> {
        block_on(self.abandon_all())
    }

    /// Says goodbye on all connections, and returns what each counted.
    ///
    /// # Errors
    ///
    /// The first error of a connection; all are closed all the same.
    pub fn disconnect(self) -> Result<Vec<SessionStats>, Error> {
        block_on(self.end_all())
    }
}

/// Up to `most` further connections to an export that one connection has found: none where the
/// server does not say that several are safe, fewer where it takes no more within 5 seconds.
///
/// # Errors
///
/// As [`Client::connect`].
pub fn more_connections(
    export: &Export,
    most: usize,
    uri: &Uri,
    options: &Options,
) -> Result<Vec<Client>, Error> {
    let hurried = options.hurried();
    block_on(connect_more(export, most, || ready(Client::connect(uri, &hurried))))
}
