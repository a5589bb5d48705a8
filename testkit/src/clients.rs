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

/// The kinds of surveyor: of either client, and asking in rounds or ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyKind {
    Blocking,
    BlockingAhead,
    Async,
    AsyncAhead,
}

impl SurveyKind {
    pub const ALL: [Self; 4] = [Self::Blocking, Self::BlockingAhead, Self::Async, Self::AsyncAhead];

    pub const fn is_async(self) -> bool {
        matches!(self, Self::Async | Self::AsyncAhead)
    }

    const fn asks_ahead(self) -> bool {
        matches!(self, Self::BlockingAhead | Self::AsyncAhead)
    }

    pub fn connect(
        self,
        uri: &Uri,
        options: &Options,
        contexts: &Contexts,
        order: Order,
    ) -> Result<AnySurveyor, SurveyorError> {
        if !self.is_async() {
            let surveyor = Surveyor::connect(uri, options, contexts, order)?;
            return Ok(AnySurveyor::blocking(surveyor, self.asks_ahead()));
        }
        let runtime = runtime();
        let surveyor = runtime.block_on(aio::Surveyor::connect(uri, options, contexts, order))?;
        Ok(AnySurveyor::awaited(runtime, surveyor, self.asks_ahead()))
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
        if !self.is_async() {
            let connect = |options: &Options| Client::over(Socket::try_from(next()).unwrap(), "", options);
            let surveyor = Surveyor::open(options, contexts, order, connect)?;
            return Ok(AnySurveyor::blocking(surveyor, self.asks_ahead()));
        }
        let runtime = runtime();
        let connect = |options: Options| {
            let stream = next();
            async move { aio::Driver::over(boxed(stream), "", &options).await }
        };
        let surveyor = runtime.block_on(aio::Surveyor::open(options, contexts, order, connect))?;
        Ok(AnySurveyor::awaited(runtime, surveyor, self.asks_ahead()))
    }
}

/// A surveyor of any kind, in blocking calls.
#[derive(Debug)]
pub struct AnySurveyor {
    surveyor: Either,
    asks_ahead: bool,
}

#[derive(Debug)]
enum Either {
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

/// A call for the next extent of a survey.
pub type NextExtent<'a> = dyn FnMut() -> Result<Option<Extent<Status>>, SurveyorError> + 'a;

impl AnySurveyor {
    fn blocking(surveyor: Surveyor, asks_ahead: bool) -> Self {
        Self { surveyor: Either::Blocking(Box::new(surveyor)), asks_ahead }
    }

    pub fn awaited(runtime: Runtime, surveyor: aio::Surveyor, asks_ahead: bool) -> Self {
        Self { surveyor: Either::Async(runtime, Box::new(surveyor)), asks_ahead }
    }

    pub fn export(&self) -> &Export {
        match &self.surveyor {
            Either::Blocking(surveyor) => surveyor.export(),
            Either::Async(_, surveyor) => surveyor.export(),
        }
    }

    pub fn is_read_only(&self) -> bool {
        match &self.surveyor {
            Either::Blocking(surveyor) => surveyor.is_read_only(),
            Either::Async(_, surveyor) => surveyor.is_read_only(),
        }
    }

    pub fn assumes_data(&self) -> bool {
        match &self.surveyor {
            Either::Blocking(surveyor) => surveyor.assumes_data(),
            Either::Async(_, surveyor) => surveyor.assumes_data(),
        }
    }

    pub fn connection_stats(&self) -> Vec<SessionStats> {
        match &self.surveyor {
            Either::Blocking(surveyor) => surveyor.connection_stats().collect(),
            Either::Async(_, surveyor) => surveyor.connection_stats().collect(),
        }
    }

    pub fn survey_options(&self) -> Result<SurveyOptions, SurveyorError> {
        match &self.surveyor {
            Either::Blocking(surveyor) => surveyor.survey_options(),
            Either::Async(_, surveyor) => surveyor.survey_options(),
        }
    }

    /// Starts a survey, and has `work` read it. Returns the survey's counters and where it can be
    /// resumed, too.
    pub fn read<R>(
        &mut self,
        options: SurveyOptions,
        work: impl FnOnce(&mut NextExtent<'_>) -> R,
    ) -> Result<(R, SurveyStats, ResumePoint), SurveyorError> {
        Ok(match &mut self.surveyor {
            Either::Blocking(surveyor) => {
                let stream = surveyor.survey(options)?;
                let mut stream = if self.asks_ahead { stream.ask_ahead() } else { stream };
                let done = work(&mut || stream.next_extent());
                (done, stream.stats(), stream.as_survey().resume_point())
            }
            Either::Async(runtime, surveyor) => {
                let stream = surveyor.survey(options)?;
                let mut stream = if self.asks_ahead { stream.ask_ahead() } else { stream };
                let done = work(&mut || runtime.block_on(stream.next_extent()));
                (done, stream.stats(), stream.as_survey().resume_point())
            }
        })
    }

    /// Surveys until the end, an error, or `most` extents.
    pub fn run(&mut self, options: SurveyOptions, most: usize) -> Result<SurveyRun, SurveyorError> {
        let mut extents = Vec::new();
        let (error, stats, resume_point) = self.read(options, |next| collect(&mut extents, most, next))?;
        Ok(SurveyRun { extents, error, stats, resume_point })
    }

    /// All extents of a survey that must come to its end.
    pub fn survey(&mut self, options: SurveyOptions) -> Result<Vec<Extent<Status>>, SurveyorError> {
        let run = self.run(options, usize::MAX)?;
        run.error.map_or(Ok(run.extents), Err)
    }

    pub fn disconnect(self) -> Result<(), SurveyorError> {
        match self.surveyor {
            Either::Blocking(surveyor) => surveyor.disconnect(),
            Either::Async(runtime, surveyor) => runtime.block_on(surveyor.disconnect()),
        }
    }
}

fn collect(
    extents: &mut Vec<Extent<Status>>,
    most: usize,
    next: &mut NextExtent<'_>,
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
