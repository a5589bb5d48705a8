//! Several connections to one export, for servers that say that their connections see one another's
//! writes (CAN_MULTI_CONN).

mod transfers;
mod worker;

use alloc::collections::VecDeque;
use core::time::Duration;

use worker::{Reports, Worker, WorkerReport};

use crate::client::Client;
use crate::error::Error;
use crate::export::Export;
use crate::number_map::NumberMap;
use crate::options::Options;
use crate::pipeline::{JoinedWrites, PipelineOptions, ReadAhead, WriteBehind};
use crate::session::{BufferPool, Cookie, Event, ReadRequest, Session, SessionConfig, SessionLimits};
use crate::stats::SessionStats;
use crate::transport::Transport;
use crate::uri::Uri;

/// How long the second connection may take where the first came about: some servers take one client
/// only, and let others wait for ever.
const ANOTHER: Duration = Duration::from_secs(5);

/// Several connections to one export, each with a thread of its own, used as one: requests go to
/// the connection that has the fewest.
///
/// [`ReadAhead`] and [`WriteBehind`] run on it as they do on a [`Client`]. A [flush](Self::flush)
/// is right for all of them: it begins when no request is in flight, and a server with
/// CAN_MULTI_CONN makes durable what any connection has written and was told to be done (NBD
/// protocol, "Transmission flags").
///
/// ```no_run
/// use nbd_client::{Options, Pool, ReadAhead};
/// use nbd_client::pipeline::PipelineOptions;
///
/// let mut pool = Pool::connect(&"nbd://localhost/disk".parse()?, &Options::new(), 4)?;
/// println!("{} connections", pool.connections());
/// let size = pool.export().size();
/// let mut blocks = ReadAhead::new(&mut pool, Some(0..size), PipelineOptions::default().requests(64))?;
/// while let Some(block) = blocks.next_block()? {
///     println!("{}: {} bytes", block.offset, block.data.len());
/// }
/// pool.disconnect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// When one connection is lost, all are given up: what its requests did is not known.
#[derive(Debug)]
pub struct Pool {
    /// Never connected: it knows the export and what can be asked of it, and numbers requests.
    pub(crate) checks: Session,
    workers: Vec<Worker>,
    reports: Reports,
    /// Requests in flight: which connection has them, and their bytes of reads and writes.
    in_flight: NumberMap<Cookie, (usize, u64)>,
    bytes_in_flight: u64,
    events: VecDeque<Event>,
    pub(crate) buffers: BufferPool,
    /// The error of a connection until it is told, and [`Error::GivenUp`] from then on.
    lost: Option<Error>,
}

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
    /// there are others and the server does not say that several are safe.
    pub fn of<T>(first: Client<T>, others: Vec<Client<T>>) -> Result<Self, Error>
    where
        T: Transport + Send + core::fmt::Debug + 'static,
    {
        check_same(first.export(), others.iter().map(Client::export))?;
        if !others.is_empty() && !first.export().flags.can_multi_conn() {
            return Err(Error::Disagreement("content (it is not safe to use several at a time)"));
        }
        let mut config = SessionConfig::of_export(first.export().clone());
        // the least of all limits, since any connection may get any request
        let limits = others.iter().map(Client::limits).fold(first.limits(), SessionLimits::lower);
        config.limits = config.limits.lower(limits);
        let clients = core::iter::once(first).chain(others);
        let reports = Reports::default();
        let workers = clients.map(|client| Worker::start(client, reports.clone()));
        Ok(Self {
            checks: Session::new(config),
            workers: workers.collect::<Result<_, _>>()?,
            reports,
            in_flight: NumberMap::default(),
            bytes_in_flight: 0,
            events: VecDeque::new(),
            buffers: BufferPool::default(),
            lost: None,
        })
    }

    /// The number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.workers.len()
    }

    /// What the handshake found out.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.checks.export()
    }

    /// Reads from `offset` until `buffer` is full.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]; a request that failed is an [`Error::Request`], here and in the other
    /// calls.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.check_idle()?;
        if !buffer.is_empty() {
            self.checks.check_whole(ReadRequest::new(offset).of(buffer.len() as u64))?;
        }
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let mut blocks = ReadAhead::new(self, Some(range), PipelineOptions::default())?;
        let mut rest = buffer;
        while let Some(block) = blocks.next_block()? {
            let Some((now, later)) = rest.split_at_mut_checked(block.data.len()) else { break };
            now.copy_from_slice(block.data);
            rest = later;
        }
        Ok(())
    }

    /// Writes `data` to `offset`, in whole blocks or not. It is durable only after a
    /// [flush](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`Client::write`].
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.check_idle()?;
        self.checks.check_writable(offset, data.len() as u64)?;
        let mut writes = JoinedWrites::new(self, PipelineOptions::default())?;
        writes.write(offset, data)?;
        writes.wait()
    }

    /// Makes `length` bytes from `offset` read as zeroes, as [`Client::zero`] does.
    ///
    /// # Errors
    ///
    /// As [`Client::write`].
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        let mut writes = WriteBehind::new(self, PipelineOptions::default())?;
        writes.zero(offset, length)?;
        writes.wait()
    }

    /// Makes durable whatever was written before, through any of the connections.
    ///
    /// # Errors
    ///
    /// As [`Client::flush`].
    pub fn flush(&mut self) -> Result<(), Error> {
        WriteBehind::new(self, PipelineOptions::default())?.finish()
    }

    /// Waits until no request is in flight, and forgets their results: after a [`ReadAhead`]
    /// that was not read to its end.
    ///
    /// # Errors
    ///
    /// The errors of a connection. Requests that failed are forgotten as well.
    pub fn abandon(&mut self) -> Result<(), Error> {
        while let Some(event) = self.next_event()? {
            if let Event::Read { data, .. } = event {
                self.buffers.keep(data);
            }
        }
        Ok(())
    }

    /// How many transfers are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Says goodbye on all connections, and returns what each counted.
    ///
    /// # Errors
    ///
    /// The first error of a connection; all are closed all the same.
    pub fn disconnect(mut self) -> Result<Vec<SessionStats>, Error> {
        self.check_alive()?;
        // All are told before any is waited for.
        let ends: Vec<_> = self.workers.drain(..).map(Worker::end).collect();
        let ended: Vec<_> =
            ends.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Panicked))).collect();
        ended.into_iter().collect()
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
    let most = if export.flags.can_multi_conn() { most } else { 0 };
    let hurried = options.clone().connect_timeout(options.time.connect.min(ANOTHER));
    let mut clients = Vec::new();
    while clients.len() < most {
        match Client::connect(uri, &hurried) {
            Ok(client) => clients.push(client),
            Err(Error::Timeout { .. } | Error::Connect { .. } | Error::ConnectionLost(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(clients)
}

/// An error if connections to what should be one export found different things.
pub(crate) fn check_same<'a>(export: &Export, others: impl Iterator<Item = &'a Export>) -> Result<(), Error> {
    for other in others {
        let what = if other.size != export.size {
            "size"
        } else if other.flags.of_export() != export.flags.of_export() {
            "transmission flags"
        } else if other.block_size != export.block_size {
            "block sizes"
        } else if other.headers != export.headers {
            "headers"
        } else {
            continue;
        };
        return Err(Error::Disagreement(what));
    }
    Ok(())
}
