//! One harness over the drivers of a connection: a fault that is scripted once judges each of them.
//!
//! All calls block, whatever the client. A test runs over [`Kind::ALL`], over [`Kind::WITH_CALLS`]
//! where a call makes several requests, or over [`Kind::WITH_EVENTS`] where the test itself starts
//! requests and takes their events. Surveys have [`SurveyKind`].

use std::os::unix::net::UnixStream;

use nbd_client::aio::BoxedStream;
use nbd_client::export::{Export, ListedExport};
use nbd_client::session::{
    ChunkOffer, Cookie, Event, ReadRequest, Session, StartError, StatusRequest, TrimRequest, WriteRequest,
    ZeroRequest, take_all,
};
use nbd_client::stats::SessionStats;
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Socket;
use nbd_client::{Admission, Client, Error, Options, Surveyor, Uri, aio};
use nbd_extents::stream::ExtentStream;
use nbd_extents::{Contexts, Extent, ResumePoint, Status, SurveyOptions, SurveyStats};
use tokio::runtime::{Builder, Runtime};

use crate::pools::{AnyPool, PoolKind};

/// The kinds of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Blocking,
    Pool,
    AsyncPool,
    /// A handle, and the task that it talks to.
    Async,
    /// The asynchronous connection without a task.
    AsyncDriver,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Blocking, Self::Pool, Self::AsyncPool, Self::Async, Self::AsyncDriver];
    /// Those whose calls take a range of any length, and cut it into requests.
    pub const WITH_CALLS: [Self; 4] = [Self::Blocking, Self::Pool, Self::AsyncPool, Self::Async];
    /// Those whose callers start requests and take events.
    pub const WITH_EVENTS: [Self; 2] = [Self::Blocking, Self::AsyncDriver];

    /// Those that can list what a server has.
    pub const WITH_LISTS: [Self; 2] = [Self::Blocking, Self::Async];

    pub fn is_pool(self) -> bool {
        matches!(self, Self::Pool | Self::AsyncPool)
    }

    pub fn connect(self, uri: &Uri, options: &Options) -> Result<AnyClient, Error> {
        Ok(match self {
            Self::Blocking => AnyClient::Blocking(Box::new(Client::connect(uri, options)?)),
            Self::Pool => AnyClient::Pool(PoolKind::Blocking.connect(uri, options, 1)?),
            Self::AsyncPool => AnyClient::Pool(PoolKind::Async.connect(uri, options, 1)?),
            Self::Async => {
                let runtime = runtime();
                let client = runtime.block_on(aio::Client::connect(uri, options))?;
                AnyClient::Async(runtime, client)
            }
            Self::AsyncDriver => {
                let runtime = runtime();
                let driver = runtime.block_on(aio::Driver::connect(uri, options))?;
                AnyClient::AsyncDriver(runtime, Box::new(driver))
            }
        })
    }
}

impl Kind {
    pub fn list_exports(self, uri: &Uri, options: &Options) -> Result<Vec<ListedExport>, Error> {
        match self {
            Self::Blocking => Client::list_exports(uri, options),
            Self::Async => runtime().block_on(aio::Client::list_exports(uri, options)),
            _ => panic!("a client without lists"),
        }
    }

    pub fn list_contexts(self, uri: &Uri, options: &Options) -> Result<Vec<String>, Error> {
        match self {
            Self::Blocking => Client::list_contexts(uri, options),
            Self::Async => runtime().block_on(aio::Client::list_contexts(uri, options)),
            _ => panic!("a client without lists"),
        }
    }

    /// As [`Self::connect`], over a stream that is connected.
    pub fn over(self, stream: UnixStream, options: &Options) -> Result<AnyClient, Error> {
        Ok(match self {
            Self::Blocking => {
                let socket = Socket::try_from(stream).unwrap();
                AnyClient::Blocking(Box::new(Client::over(socket, "", options)?))
            }
            Self::Pool => AnyClient::Pool(AnyPool::over(PoolKind::Blocking, stream, options)?),
            Self::AsyncPool => AnyClient::Pool(AnyPool::over(PoolKind::Async, stream, options)?),
            Self::Async => {
                let runtime = runtime();
                let client = runtime.block_on(async {
                    Ok::<_, Error>(aio::Client::of(aio::Driver::over(boxed(stream), "", options).await?))
                })?;
                AnyClient::Async(runtime, client)
            }
            Self::AsyncDriver => {
                let runtime = runtime();
                let driver =
                    runtime.block_on(async { aio::Driver::over(boxed(stream), "", options).await })?;
                AnyClient::AsyncDriver(runtime, Box::new(driver))
            }
        })
    }
}

/// A stream for a runtime, which must be entered.
pub(crate) fn boxed(stream: UnixStream) -> BoxedStream {
    stream.set_nonblocking(true).unwrap();
    Box::new(tokio::net::UnixStream::from_std(stream).unwrap())
}

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A client of any kind, in blocking calls.
#[derive(Debug)]
pub enum AnyClient {
    Blocking(Box<Client>),
    Pool(AnyPool),
    Async(Runtime, aio::Client),
    AsyncDriver(Runtime, Box<aio::Driver>),
}

/// One call of the kinds that have it, and a request with its events for the asynchronous driver.
macro_rules! call {
    ($client:expr, $call:ident($($argument:expr),*), $pool:expr, |$session:ident| $start:expr) => {
        match $client {
            AnyClient::Blocking(client) => client.$call($($argument),*),
            AnyClient::Pool(pool) => $pool(pool),
            AnyClient::Async(runtime, client) => runtime.block_on(client.$call($($argument),*)),
            client @ AnyClient::AsyncDriver(..) => client.one(|$session| $start).map(drop),
        }
    };
}

fn no_such_call(_: &mut AnyPool) -> Result<(), Error> {
    panic!("a pool has no such call")
}

impl AnyClient {
    pub fn export(&self) -> &Export {
        match self {
            Self::Blocking(client) => client.export(),
            Self::Pool(pool) => pool.export(),
            Self::Async(_, client) => client.export(),
            Self::AsyncDriver(_, driver) => driver.export(),
        }
    }

    pub fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        // bytes that no answer may leave there
        let mut buffer = vec![0x11; length];
        match self {
            Self::Blocking(client) => client.read(offset, &mut buffer)?,
            Self::Pool(pool) => pool.read(offset, &mut buffer)?,
            Self::Async(runtime, client) => return runtime.block_on(client.read(offset, length)),
            Self::AsyncDriver(..) => {
                return self.one(|session| session.start_read(&ReadRequest::new(offset), buffer));
            }
        }
        Ok(buffer)
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.write(offset, data),
            Self::Pool(pool) => pool.write(offset, data),
            Self::Async(runtime, client) => runtime.block_on(client.write(offset, data.to_vec())),
            Self::AsyncDriver(..) => {
                let request = WriteRequest::new(offset);
                self.one(|session| session.start_write(&request, data.to_vec())).map(drop)
            }
        }
    }

    /// A pool has no FUA of its own: it writes, and flushes.
    pub fn write_fua(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.write_fua(offset, data),
            Self::Pool(pool) => pool.write(offset, data).and_then(|()| pool.flush()),
            Self::Async(runtime, client) => runtime.block_on(client.write_fua(offset, data.to_vec())),
            Self::AsyncDriver(..) => {
                let request = WriteRequest::new(offset).fua();
                self.one(|session| session.start_write(&request, data.to_vec())).map(drop)
            }
        }
    }

    /// Zeroes in the best way; the asynchronous driver knows WRITE_ZEROES alone.
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        let request = ZeroRequest::new(offset, length);
        call!(self, zero(offset, length), |pool: &mut AnyPool| pool.zero(offset, length), |session| session
            .start_write_zeroes(&request))
    }

    pub fn write_zeroes(&mut self, request: &ZeroRequest) -> Result<(), Error> {
        call!(self, write_zeroes(request), no_such_call, |session| session.start_write_zeroes(request))
    }

    pub fn trim(&mut self, request: &TrimRequest) -> Result<(), Error> {
        call!(self, trim(request), no_such_call, |session| session.start_trim(request))
    }

    pub fn cache(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        call!(self, cache(offset, length), no_such_call, |session| session.start_cache(offset, length))
    }

    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.export().flags.can_flush() {
            return Ok(());
        }
        call!(self, flush(), |pool: &mut AnyPool| pool.flush(), |session| session.start_flush())
    }

    pub fn disconnect(self) -> Result<(), Error> {
        match self {
            Self::Blocking(client) => client.disconnect(),
            Self::Pool(pool) => pool.disconnect().map(drop),
            Self::Async(runtime, client) => runtime.block_on(client.disconnect()),
            Self::AsyncDriver(runtime, driver) => runtime.block_on(driver.disconnect()),
        }
    }

    // ---- of the kinds with events

    pub fn stats(&self) -> SessionStats {
        match self {
            Self::Blocking(client) => client.stats(),
            Self::AsyncDriver(_, driver) => driver.stats(),
            _ => panic!("a client without statistics of its connection"),
        }
    }

    pub fn in_flight(&self) -> usize {
        match self {
            Self::Blocking(client) => client.in_flight(),
            Self::AsyncDriver(_, driver) => driver.in_flight(),
            _ => panic!("a client without requests of its own"),
        }
    }

    pub fn start(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Cookie, Error> {
        match self {
            Self::Blocking(client) => client.start(request),
            Self::AsyncDriver(_, driver) => driver.start(request),
            _ => panic!("a client without requests of its own"),
        }
    }

    pub fn next_event(
        &mut self,
        admit: &mut impl FnMut(&ChunkOffer) -> Admission,
    ) -> Result<Option<Event>, Error> {
        match self {
            Self::Blocking(client) => client.next_event(admit),
            Self::AsyncDriver(runtime, driver) => runtime.block_on(driver.next_event(admit)),
            _ => panic!("a client without events"),
        }
    }

    /// One block status request, whose answer is thrown away.
    pub fn block_status(&mut self, request: &StatusRequest<'_>) -> Result<(), Error> {
        if let Self::Blocking(client) = self {
            return client.block_status(request, &mut |_: u32, _: &[u8]| {});
        }
        self.one(|session| session.start_block_status(request)).map(drop)
    }

    /// One request and all of its events: the data that it read.
    pub fn one(
        &mut self,
        request: impl FnOnce(&mut Session) -> Result<Cookie, StartError>,
    ) -> Result<Vec<u8>, Error> {
        let cookie = self.start(request)?;
        let mut read = Vec::new();
        loop {
            match self.next_event(&mut take_all)? {
                Some(event) if event.cookie() != cookie => {}
                Some(Event::Read { data, .. }) => read = data,
                Some(Event::Done { .. }) => return Ok(read),
                Some(Event::Failed { error, .. }) => return Err(error.into()),
                Some(_) => {}
                None => panic!("request {cookie} has no last event"),
            }
        }
    }
}

/// The kinds of surveyor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyKind {
    Blocking,
    Async,
}

impl SurveyKind {
    pub const ALL: [Self; 2] = [Self::Blocking, Self::Async];

    pub fn connect(
        self,
        uri: &Uri,
        options: &Options,
        contexts: &Contexts,
        order: Order,
    ) -> Result<AnySurveyor, SurveyorError> {
        Ok(match self {
            Self::Blocking => {
                AnySurveyor::Blocking(Box::new(Surveyor::connect(uri, options, contexts, order)?))
            }
            Self::Async => {
                let runtime = runtime();
                let surveyor = runtime.block_on(aio::Surveyor::connect(uri, options, contexts, order))?;
                AnySurveyor::Async(runtime, Box::new(surveyor))
            }
        })
    }

    /// As [`Self::connect`], over connected streams, one connection after the other.
    pub fn over<const COUNT: usize>(
        self,
        options: &Options,
        contexts: &Contexts,
        order: Order,
        streams: [UnixStream; COUNT],
    ) -> Result<AnySurveyor, SurveyorError> {
        let mut streams = streams.into_iter();
        let mut next = || streams.next().expect("no more connections");
        Ok(match self {
            Self::Blocking => {
                let connect =
                    |options: &Options| Client::over(Socket::try_from(next()).unwrap(), "", options);
                AnySurveyor::Blocking(Box::new(Surveyor::open(options, contexts, order, connect)?))
            }
            Self::Async => {
                let runtime = runtime();
                let connect = |options: Options| {
                    let stream = next();
                    async move { aio::Driver::over(boxed(stream), "", &options).await }
                };
                let surveyor = runtime.block_on(aio::Surveyor::open(options, contexts, order, connect))?;
                AnySurveyor::Async(runtime, Box::new(surveyor))
            }
        })
    }
}

/// A surveyor of any kind, in blocking calls.
#[derive(Debug)]
pub enum AnySurveyor {
    Blocking(Box<Surveyor>),
    Async(Runtime, Box<aio::Surveyor>),
}

/// A survey as far as it came.
#[derive(Debug)]
pub struct SurveyRun {
    pub extents: Vec<Extent<Status>>,
    /// Why it ended before its end.
    pub error: Option<SurveyorError>,
    pub stats: SurveyStats,
    pub resume_point: ResumePoint,
}

impl AnySurveyor {
    pub fn export(&self) -> &Export {
        match self {
            Self::Blocking(surveyor) => surveyor.export(),
            Self::Async(_, surveyor) => surveyor.export(),
        }
    }

    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Blocking(surveyor) => surveyor.is_read_only(),
            Self::Async(_, surveyor) => surveyor.is_read_only(),
        }
    }

    pub fn assumes_data(&self) -> bool {
        match self {
            Self::Blocking(surveyor) => surveyor.assumes_data(),
            Self::Async(_, surveyor) => surveyor.assumes_data(),
        }
    }

    pub fn connection_stats(&self) -> Vec<SessionStats> {
        match self {
            Self::Blocking(surveyor) => surveyor.connection_stats().collect(),
            Self::Async(_, surveyor) => surveyor.connection_stats().collect(),
        }
    }

    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        match self {
            Self::Blocking(surveyor) => surveyor.survey_options(),
            Self::Async(_, surveyor) => surveyor.survey_options(),
        }
    }

    /// Surveys until the end, an error, or `most` extents.
    pub fn run(&mut self, options: SurveyOptions, most: usize) -> Result<SurveyRun, SurveyorError> {
        let mut extents = Vec::new();
        Ok(match self {
            Self::Blocking(surveyor) => {
                let mut stream = surveyor.survey(options)?;
                let error = collect(&mut extents, most, || stream.next_extent());
                let (stats, resume_point) = (stream.stats(), stream.as_survey().resume_point());
                SurveyRun { extents, error, stats, resume_point }
            }
            Self::Async(runtime, surveyor) => {
                let mut stream = surveyor.survey(options)?;
                let error = collect(&mut extents, most, || runtime.block_on(stream.next_extent()));
                let (stats, resume_point) = (stream.stats(), stream.as_survey().resume_point());
                SurveyRun { extents, error, stats, resume_point }
            }
        })
    }

    /// All extents of a survey that must come to its end.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<Vec<Extent<Status>>, SurveyorError> {
        let run = self.run(options, usize::MAX)?;
        run.error.map_or(Ok(run.extents), Err)
    }

    pub fn disconnect(self) -> Result<(), SurveyorError> {
        match self {
            Self::Blocking(surveyor) => surveyor.disconnect(),
            Self::Async(runtime, surveyor) => runtime.block_on(surveyor.disconnect()),
        }
    }
}

fn collect(
    extents: &mut Vec<Extent<Status>>,
    most: usize,
    mut next: impl FnMut() -> Result<Option<Extent<Status>>, SurveyorError>,
) -> Option<SurveyorError> {
    while extents.len() < most {
        match next() {
            Ok(Some(extent)) => extents.push(extent),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
    None
}
