//! Several connections to one export, for servers that say that their connections see one another's
//! writes (CAN_MULTI_CONN).
//!
//! A pool is written once, as futures over the reports of its connections. In [`Pool`] threads move
//! the bytes of the connections, and blocking calls wait for the futures. In `aio::Pool` tasks move
//! the bytes, and the program awaits the futures.

mod blocking;
mod reports;
mod transfers;
mod worker;

use alloc::collections::VecDeque;

pub use blocking::more_connections;
pub(crate) use reports::{Job, Outbox};
use reports::{Reports, WorkerReport};
pub use worker::ThreadWorker;
pub(crate) use worker::Worker;

use crate::client::ClientOver;
use crate::error::Error;
use crate::export::Export;
use crate::number_map::NumberMap;
use crate::session::{BufferPool, Cookie, Event, Session, SessionConfig, SessionLimits, StartError};
use crate::stats::SessionStats;

/// Several connections to one export, each with a thread of its own, used as one: requests go to
/// the connection that has the fewest.
///
/// [`ReadAhead`](crate::ReadAhead) and [`WriteBehind`](crate::WriteBehind) run on it. A
/// [flush](Self::flush) is right for all of them: it begins when no request is in flight, and a
/// server with CAN_MULTI_CONN makes durable what any connection has written and was told to be done
/// (NBD protocol, "Transmission flags").
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
/// When one connection is lost, all are given up: the effect of its requests is not known. A pool
/// that is dropped gives up its requests in flight, and says goodbye in the background; over a
/// transport without a [waker](crate::transport::Transport::waker) only when the server has sent
/// something or its time is out.
///
/// Calls that do not wait are those of [`PoolOver`].
pub type Pool = PoolOver<ThreadWorker>;

/// A pool, named by what moves the bytes of its connections: [`Pool`] has threads, and `aio::Pool`
/// has tasks.
#[derive(Debug)]
pub struct PoolOver<W> {
    /// Never connected: it knows the export and what can be asked of it, and numbers requests.
    pub(crate) checks: Session,
    members: Vec<Member<W>>,
    reports: Reports,
    /// Requests in flight: which connection has them, and their bytes of reads and writes.
    in_flight: NumberMap<Cookie, (usize, u64)>,
    pub(crate) bytes_in_flight: u64,
    events: VecDeque<Event>,
    pub(crate) buffers: BufferPool,
    /// The error of a connection until it is reported, and [`Error::GivenUp`] from then on.
    lost: Option<Error>,
}

/// A connection of a pool.
#[derive(Debug)]
struct Member<W> {
    worker: W,
    /// The number of its transfers.
    load: usize,
}

impl<W: Worker> PoolOver<W> {
    /// A pool of connections to the same export: at least the first.
    pub(crate) fn of_connections<M>(
        first: ClientOver<M>,
        others: Vec<ClientOver<M>>,
        mut start: impl FnMut(ClientOver<M>, Outbox) -> Result<W, Error>,
    ) -> Result<Self, Error> {
        check_same(first.export(), others.iter().map(ClientOver::export))?;
        // their answers would be taken for those of the pool
        let busy: usize = core::iter::once(&first).chain(&others).map(ClientOver::in_flight).sum();
        if busy > 0 {
            return Err(StartError::Busy(busy).into());
        }
        if !others.is_empty() && !first.export().flags.can_multi_conn() {
            return Err(Error::Disagreement("content (it is not safe to use several at a time)"));
        }
        let mut config = SessionConfig::of_export(first.export().clone());
        // the least of all limits, since any connection may get any request
        let limits = core::iter::once(&first).chain(&others).map(|client| client.io.connection.limits());
        config.limits = limits.fold(config.limits, SessionLimits::lower);
        let reports = Reports::default();
        let buffers = BufferPool::default();
        let clients = core::iter::once(first).chain(others);
        let members = clients.map(|mut client| {
            client.io.connection.use_buffers(&buffers);
            Ok(Member { worker: start(client, reports.outbox())?, load: 0 })
        });
        Ok(Self {
            checks: Session::new(config),
            members: members.collect::<Result<_, Error>>()?,
            reports,
            in_flight: NumberMap::default(),
            bytes_in_flight: 0,
            events: VecDeque::new(),
            buffers,
            lost: None,
        })
    }

    /// The number of connections.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.members.len()
    }

    /// The export, as the server described it in the handshake.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.checks.export()
    }

    /// How many transfers are in flight, or have a result that was not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.events.iter().filter(|event| event.is_last()).count()
    }

    pub(crate) async fn abandon_all(&mut self) -> Result<(), Error> {
        while let Some(event) = self.next_event().await? {
            if let Event::Read { data, .. } = event {
                self.buffers.keep(data);
            }
        }
        Ok(())
    }

    /// As [`Self::abandon_all`], after an error that says more than these. A connection that is
    /// lost meanwhile is told by the next call.
    pub(crate) async fn abandon_quietly(&mut self) {
        if let Err(error) = self.abandon_all().await {
            self.lost = Some(error);
        }
    }

    pub(crate) async fn end_all(mut self) -> Result<Vec<SessionStats>, Error> {
        // the others are told by the drop
        self.lost.take().map_or(Ok(()), Err)?;
        // all are told before any is waited for
        self.members.iter_mut().for_each(|member| member.worker.queue(Job::End));
        self.announce();
        let mut ends = Vec::new();
        while ends.len() < self.members.len() {
            ends.extend(self.reports.wait().await.into_iter().filter_map(|report| match report {
                WorkerReport::Ended(ended) => Some(ended),
                WorkerReport::Event(_) => None,
            }));
        }
        ends.into_iter().collect()
    }
}

/// Up to `most` connections to an export that one connection has found, each by a call of
/// `connect`: none where the server does not say that several are safe, fewer where it takes no
/// more.
pub(crate) async fn connect_more<C, F: Future<Output = Result<C, Error>>>(
    export: &Export,
    most: usize,
    connect: impl Fn() -> F,
) -> Result<Vec<C>, Error> {
    let most = if export.flags.can_multi_conn() { most } else { 0 };
    let mut connections = Vec::new();
    while connections.len() < most {
        match connect().await {
            Ok(connection) => connections.push(connection),
            Err(Error::Timeout { .. } | Error::Connect { .. } | Error::ConnectionLost(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(connections)
}

/// An error if connections to what should be one export found different things.
pub(crate) fn check_same<'a>(
    export: &Export,
    others: impl IntoIterator<Item = &'a Export>,
) -> Result<(), Error> {
    for other in others {
        let facts = [
            (other.size() == export.size(), "size"),
            (other.flags.of_export() == export.flags.of_export(), "transmission flags"),
            (other.block_size == export.block_size, "block sizes"),
            (other.headers == export.headers, "headers"),
        ];
        if let Some((_, what)) = facts.into_iter().find(|(is_same, _)| !is_same) {
            return Err(Error::Disagreement(what));
        }
    }
    Ok(())
}
