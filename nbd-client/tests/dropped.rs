//! Futures dropped at each await point, and jobs cancelled from another thread at random times: the
//! connection is in its documented state afterwards.
#![cfg(target_os = "linux")]

use core::fmt::Debug;
use core::future::poll_fn;
use core::task::Poll;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::aio;
use nbd_client::frame::command;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{Event, ReadRequest, StartError, TrimRequest, WriteRequest, ZeroRequest, take_all};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Options, Pool, ReadAhead, Surveyor, Uri, WriteBehind};
use nbd_extents::stream::ExtentStream as _;
use nbd_extents::{Context, Contexts, Extent, Status};
use testkit::pki::Pki;
use testkit::random::Rng;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, SEND_CACHE.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 10;

/// Bytes that tell their place.
fn content(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| (at / 512 % 251) as u8).collect()
}

fn answer(conn: &mut Conn, request: &SeenRequest) -> std::io::Result<()> {
    match request.command {
        command::READ => {
            // in two chunks, with a pause that the client sees
            let half = request.length / 2;
            conn.data(request, request.offset, &content(request.offset, half), 0)?;
            conn.pause(Duration::from_micros(300))?;
            let (offset, rest) = (request.offset + half, request.length - half);
            conn.data(request, offset, &content(offset, rest), DONE)
        }
        command::BLOCK_STATUS => {
            let list: Vec<_> = (0..16).map(|nth| (request.length / 16, nth % 2 * 3)).collect();
            conn.status(request, 0, &list, DONE)
        }
        command::WRITE => {
            assert!(request.data.iter().all(|&byte| byte == 9), "other bytes among those of a write");
            conn.done(request)
        }
        _ => conn.done(request),
    }
}

fn server(flags: u16) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(flags))?;
        conn.serve(answer)
    })
    .unwrap()
}

/// Polls a future until it has been pending `times` times, and drops it then; its output if it was
/// ready before.
async fn poll_and_drop<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_driver_loses_nothing() {
    let server = server(WRITABLE);
    for times in 0..12 {
        let mut driver = aio::Driver::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
        for nth in 0..4 {
            let request = ReadRequest::new(nth * MIB);
            driver.start(|session| session.start_read(&request, vec![0; 100_000])).unwrap();
            let request = WriteRequest::new(nth * MIB);
            driver.start(|session| session.start_write(&request, vec![9; 300_000])).unwrap();
        }
        let (mut reads, mut done) = (0, 0);
        while driver.in_flight() > 0 {
            // a dropped call, then one that is awaited to its end
            let event = match poll_and_drop(driver.next_event(&mut take_all), times).await {
                Some(event) => event,
                None => driver.next_event(&mut take_all).await,
            };
            match event.unwrap().unwrap() {
                Event::Read { cookie, data } => {
                    assert!(data == content((cookie.get() - 1) / 2 * MIB, 100_000), "after {times} polls");
                    reads += 1;
                }
                Event::Done { .. } => done += 1,
                event => panic!("{event:?}"),
            }
        }
        assert_eq!((reads, done), (4, 8), "after {times} polls");
        driver.disconnect().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_stays_usable() {
    let server = server(WRITABLE);
    let client = aio::Client::connect(&server.uri().parse().unwrap(), &Options::new()).await.unwrap();
    for times in 0..12 {
        poll_and_drop(client.read(0, 4 << 20), times).await;
        poll_and_drop(client.write(0, vec![9; 4 << 20]), times).await;
        poll_and_drop(client.write_fua(0, vec![9; 4 << 20]), times).await;
        poll_and_drop(client.zero(0, 64 * MIB), times).await;
        poll_and_drop(client.write_zeroes(&ZeroRequest::new(0, 64 * MIB)), times).await;
        poll_and_drop(client.trim(&TrimRequest::new(0, 64 * MIB)), times).await;
        poll_and_drop(client.cache(0, 64 * MIB), times).await;
        poll_and_drop(client.flush(), times).await;
        assert!(client.read(MIB, 4096).await.unwrap() == content(MIB, 4096), "after {times} polls");
    }
    client.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let server = server(WRITABLE);
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
        let options = PipelineOptions::default().requests(4).piece(64 << 10);
        let mut blocks = aio::ReadAhead::new(&mut pool, [0..300_032, MIB..MIB + 512], options).unwrap();
        let mut data = Vec::new();
        let mut next = async || {
            let block = blocks.next_block().await.unwrap();
            block.map(|block| block.data.to_vec())
        };
        loop {
            let block = match poll_and_drop(next(), times).await {
                Some(block) => block,
                None => next().await,
            };
            match block {
                Some(block) => data.extend(block),
                None => break,
            }
        }
        assert!(data == [content(0, 300_032), content(MIB, 512)].concat(), "after {times} polls");
        pool.disconnect().await.unwrap();
    }
}

/// A write that was dropped may have lost bytes: nothing that follows says that all is written.
#[tokio::test]
async fn a_writer_is_stopped_and_its_pool_is_not() {
    let server = server(WRITABLE);
    let mut dropped = 0;
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default().requests(2)).unwrap();
        let write = async |writes: &mut aio::WriteBehind<'_>| {
            for nth in 0..16 {
                writes.write(nth * MIB, vec![9; 1 << 20]).await.unwrap();
            }
        };
        if poll_and_drop(write(&mut writes), times).await.is_some() {
            writes.finish().await.unwrap();
        } else {
            dropped += 1;
            assert!(matches!(writes.write(0, vec![9; 512]).await, Err(Error::Stopped)));
            assert!(matches!(writes.zero(0, 512).await, Err(Error::Stopped)));
            assert!(matches!(writes.finish().await, Err(Error::Stopped)));
        }
        pool.abandon().await.unwrap();
        assert_eq!(pool.in_flight(), 0);
        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default()).unwrap();
        poll_and_drop(writes.write(0, vec![9; 4 << 20]), times).await;
        assert!(poll_and_drop(writes.finish(), times).await.is_none_or(|end| end.is_ok()));
        pool.abandon().await.unwrap();
        pool.disconnect().await.unwrap();
    }
    assert!(dropped > 1, "{dropped} writes were dropped");
}

/// The second request fails, and the others are answered late: the error is told, however many calls
/// are dropped while they are waited for.
#[tokio::test]
async fn an_error_is_told_whatever_is_dropped() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.serve(|conn, request| {
            if request.offset == MIB {
                return conn.error(request, 5, "bad sector", DONE);
            }
            conn.pause(Duration::from_millis(2))?;
            answer(conn, request)
        })
    })
    .unwrap();
    let mut told = 0;
    for times in 0..12 {
        let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
        let pace = PipelineOptions::default();
        let mut blocks = aio::ReadAhead::new(&mut pool, Some(0..4 * MIB), pace).unwrap();
        let error = loop {
            match poll_and_drop(blocks.next_block(), times).await {
                Some(Ok(block)) => assert!(block.is_some_and(|block| block.offset < MIB), "{times} polls"),
                Some(Err(error)) => break error,
                // its tasks run meanwhile
                None => tokio::task::yield_now().await,
            }
        };
        assert!(error.to_string().ends_with("EIO: bad sector"), "after {times} polls: {error}");
        assert_eq!(blocks.next_block().await.unwrap(), None);
        pool.abandon().await.unwrap();

        let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default().requests(2)).unwrap();
        let mut error = None;
        for nth in 0..8 {
            let dropped = poll_and_drop(writes.write(nth * MIB, vec![9; 1 << 20]), times).await;
            if !matches!(dropped, Some(Ok(()))) {
                error = dropped.and_then(Result::err);
                break;
            }
        }
        drop(writes.write(0, vec![9; 512]));
        let error = error.unwrap_or(writes.write(0, vec![9; 512]).await.unwrap_err());
        if error.to_string().ends_with("EIO: bad sector") {
            told += 1;
        } else {
            assert!(matches!(error, Error::Stopped), "after {times} polls: {error}");
        }
        assert!(matches!(writes.finish().await, Err(Error::Stopped)));
        pool.abandon().await.unwrap();
        pool.disconnect().await.unwrap();
    }
    assert!(told > 3, "{told} causes were told");
}

/// As `select!` drops a call when another branch is ready at once.
#[tokio::test]
async fn a_write_that_was_never_polled_is_noticed() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
    let pace = PipelineOptions::default();
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    drop(writes.write(0, vec![9; 512]));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::WriteBehind::new(&mut pool, pace).unwrap();
    drop(writes.zero(0, 512));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::JoinedWrites::new(&mut pool, pace).unwrap();
    drop(writes.write(0, &[9; 512]));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    let mut writes = aio::JoinedWrites::new(&mut pool, pace).unwrap();
    writes.write(0, &[9; 512]).await.unwrap();
    drop(writes.zero(512..1024));
    assert!(matches!(writes.finish().await, Err(Error::Stopped)));
    pool.disconnect().await.unwrap();
}

/// The server never answers, and hears when its client is gone.
fn stalled() -> (ScriptedServer, mpsc::Receiver<()>) {
    let (tell, gone) = mpsc::channel();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE | 1 << 8))?;
        conn.serve(|_, _| Ok(()))?;
        tell.send(()).ok();
        Ok(())
    });
    (server.unwrap(), gone)
}

/// A job whose future is dropped ends, though the server has not answered and FLUSH has no limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_job_that_is_dropped_says_goodbye() {
    let (server, gone) = stalled();
    let uri = &server.uri().parse().unwrap();
    let options = &Options::new();
    let hurry = Duration::from_millis(300);
    let mut pool = aio::Pool::connect(uri, options, 2).await.unwrap();
    // the future owns the pool
    let write = async move { pool.write(0, &[9; 512]).await };
    tokio::time::timeout(hurry, write).await.unwrap_err();
    for _ in 0..2 {
        gone.recv_timeout(Duration::from_secs(10)).expect("a connection of the pool is still there");
    }
    let client = aio::Client::connect(uri, options).await.unwrap();
    let flush = async move { client.flush().await };
    tokio::time::timeout(hurry, flush).await.unwrap_err();
    gone.recv_timeout(Duration::from_secs(10)).expect("the client is still there");
    let mut ended = aio::Pool::connect(uri, options, 1).await.unwrap();
    poll_and_drop(ended.flush(), 0).await;
    tokio::time::timeout(hurry, ended.disconnect()).await.unwrap_err();
    gone.recv_timeout(Duration::from_secs(10)).expect("a pool is there whose goodbye was dropped");
    let ended = aio::Client::connect(uri, options).await.unwrap();
    // long enough for it to be sent
    tokio::time::timeout(hurry, ended.flush()).await.unwrap_err();
    tokio::time::timeout(hurry, ended.disconnect()).await.unwrap_err();
    gone.recv_timeout(Duration::from_secs(10)).expect("a client is there whose goodbye was dropped");
}

#[test]
fn a_blocking_pool_that_is_dropped_says_goodbye() {
    let (server, gone) = stalled();
    let mut pool = Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).unwrap();
    let mut writes = WriteBehind::new(&mut pool, PipelineOptions::default()).unwrap();
    writes.write(0, vec![9; 1 << 20]).unwrap();
    drop(pool);
    for _ in 0..2 {
        gone.recv_timeout(Duration::from_secs(10)).expect("a connection of the pool is still there");
    }
}

/// Counts the connections that its clients have not closed.
fn counting(open: &Arc<AtomicUsize>, tls: Option<&Pki>) -> ScriptedServer {
    let open = Arc::clone(open);
    let serve = move |conn: &mut Conn| {
        open.fetch_add(1, Ordering::SeqCst);
        let served =
            conn.handshake(&Good::extended().size(64 * MIB).flags(3)).and_then(|()| conn.serve(answer));
        open.fetch_sub(1, Ordering::SeqCst);
        served
    };
    match tls {
        Some(pki) => ScriptedServer::start_tls(pki.server.server(None), pki.client(), serve),
        None => ScriptedServer::start(serve),
    }
    .unwrap()
}

async fn connect_survey(uri: &Uri, order: Order) -> Result<aio::Surveyor, SurveyorError> {
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    aio::Surveyor::connect(uri, &Options::new(), &wanted, order).await
}

/// A dropped call that connects or says goodbye leaves no connection open.
#[tokio::test]
async fn a_connection_that_is_dropped_is_closed() {
    async fn ends<V, E: Debug>(future: impl Future<Output = Result<V, E>>, times: usize) {
        assert!(
            poll_and_drop(future, times).await.is_none_or(|ended| ended.map_err(|e| panic!("{e:?}")).is_ok())
        );
    }
    let (open, pki) = (Arc::new(AtomicUsize::new(0)), Pki::new());
    let servers = [counting(&open, None), counting(&open, Some(&pki))];
    let options = &Options::new();
    let wanted = &Contexts::new().require(Context::Allocation).unwrap();
    for (server, times) in servers.iter().flat_map(|server| (0..16).map(move |times| (server, times))) {
        let uri: &Uri = &server.uri().parse().unwrap();
        let driver = async || aio::Driver::connect(uri, options).await.unwrap();
        ends(aio::Driver::connect(uri, options), times).await;
        ends(aio::Client::connect(uri, options), times).await;
        ends(aio::Client::list_exports(uri, options), times).await;
        ends(aio::Client::list_contexts(uri, options), times).await;
        ends(aio::Pool::connect(uri, options, 2), times).await;
        ends(connect_survey(uri, Order::BitmapFirst), times).await;
        ends(aio::map(uri, options, wanted), times).await;
        let stream = tokio::net::UnixStream::connect(server.path()).await.unwrap();
        let over = Options::new().tls(pki.client());
        let over = if uri.tls().is_some() { &over } else { options };
        ends(aio::Driver::over(stream, "", over), times).await;
        let connect = |options: Options| async move { aio::Driver::connect(uri, &options).await };
        ends(aio::Surveyor::open(options, wanted, Order::Together, connect), times).await;

        ends(driver().await.disconnect(), times).await;
        ends(aio::Client::of(driver().await).disconnect(), times).await;
        ends(aio::Pool::of(driver().await, Vec::new()).unwrap().disconnect(), times).await;
        let surveyor = async || connect_survey(uri, Order::Together).await.unwrap();
        ends(surveyor().await.disconnect(), times).await;
        ends(surveyor().await.into_driver(), times).await;
        ends(surveyor().await.into_client(), times).await;
        let end = Instant::now() + Duration::from_secs(20);
        while open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "{} are open after {times} polls", open.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Joined writes lose no byte without a word, whichever of their calls is dropped.
#[tokio::test]
async fn joined_writes_are_stopped_and_their_pool_is_not() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
    let pace = PipelineOptions::default().requests(2);
    let mut dropped = 0;
    for (call, times) in (0..3).flat_map(|call| (0..12).map(move |times| (call, times))) {
        let mut writes = aio::JoinedWrites::new(&mut pool, pace).unwrap();
        writes.write(0, &[9; 8 << 20]).await.unwrap();
        let is_whole = match call {
            0 => {
                poll_and_drop(writes.write(8 * MIB, &[9; 8 << 20]), times).await.map(Result::unwrap).is_some()
            }
            1 => poll_and_drop(writes.zero(8 * MIB..64 * MIB), times).await.map(Result::unwrap).is_some(),
            _ => true,
        };
        if is_whole {
            dropped += usize::from(poll_and_drop(writes.finish(), times).await.map(Result::unwrap).is_none());
        } else {
            dropped += 1;
            assert!(matches!(writes.finish().await, Err(Error::Stopped)), "call {call}, {times} polls");
        }
        pool.abandon().await.unwrap();
        assert_eq!(pool.in_flight(), 0);
    }
    assert!(dropped > 3, "{dropped} calls were dropped");
    pool.disconnect().await.unwrap();
}

/// A whole pipeline that is dropped at a random time: its pool is usable when that is abandoned.
#[tokio::test]
async fn a_job_can_be_dropped_at_any_time() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 2).await.unwrap();
    let mut rng = Rng::new(13);
    for _ in 0..60 {
        let pause = Duration::from_micros(rng.below(20_000));
        let job = async {
            loop {
                let mut blocks =
                    aio::ReadAhead::new(&mut pool, Some(0..4 * MIB), PipelineOptions::default())?;
                while blocks.next_block().await?.is_some() {}
                let mut writes = aio::WriteBehind::new(&mut pool, PipelineOptions::default())?;
                writes.write(0, vec![9; 4 << 20]).await?;
                writes.zero(MIB, 32 * MIB).await?;
                writes.finish().await?;
            }
        };
        let job: Result<Result<(), Error>, _> = tokio::time::timeout(pause, job).await;
        assert!(job.is_err(), "{job:?}");
        pool.abandon().await.unwrap();
        let mut data = [0; 4096];
        pool.read(MIB, &mut data).await.unwrap();
        assert!(data[..] == content(MIB, 4096));
    }
    pool.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_pool_is_usable_when_what_was_dropped_is_abandoned() {
    let server = server(WRITABLE);
    let mut pool = aio::Pool::connect(&server.uri().parse().unwrap(), &Options::new(), 1).await.unwrap();
    for times in 0..12 {
        poll_and_drop(pool.read(0, &mut vec![0; 4 << 20]), times).await;
        poll_and_drop(pool.abandon(), times).await;
        let busy = pool.in_flight();
        match pool.write(0, &[9; 1000]).await {
            Err(Error::Start(StartError::Busy(count))) => assert_eq!((count, busy > 0), (busy, true)),
            done => assert_eq!((done.unwrap(), busy), ((), 0)),
        }
        pool.abandon().await.unwrap();
        poll_and_drop(pool.write(100, &[9; 4 << 20]), times).await;
        pool.abandon().await.unwrap();
        poll_and_drop(pool.zero(0, 64 * MIB), times).await;
        pool.abandon().await.unwrap();
        poll_and_drop(pool.flush(), times).await;
        pool.abandon().await.unwrap();
        let mut data = vec![0; 4096];
        pool.read(MIB, &mut data).await.unwrap();
        assert!(data == content(MIB, 4096), "after {times} polls");
    }
    pool.disconnect().await.unwrap();
}

#[tokio::test]
async fn a_survey_goes_on_where_it_was() {
    let server = server(3);
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let uri = server.uri().parse().unwrap();
    let mut expected: Option<Vec<Extent<Status>>> = None;
    for times in 0..8 {
        let mut surveyor =
            aio::Surveyor::connect(&uri, &Options::new(), &wanted, Order::Together).await.unwrap();
        let settled = surveyor.survey_options().unwrap().max_request(4 * MIB);
        let mut stream = surveyor.survey(settled).unwrap();
        let mut extents = Vec::new();
        loop {
            let next = match poll_and_drop(stream.next_extent(), times).await {
                Some(next) => next,
                None => stream.next_extent().await,
            };
            match next.unwrap() {
                Some(extent) => extents.push(extent),
                None => break,
            }
        }
        assert_eq!(*expected.get_or_insert_with(|| extents.clone()), extents, "after {times} polls");
        // a call that collects loses what it has, and the rest follows
        let settled = surveyor.survey_options().unwrap().max_request(4 * MIB);
        let mut stream = surveyor.survey(settled).unwrap();
        let rest = match poll_and_drop(stream.collect_vec(), times).await {
            Some(all) => all.unwrap(),
            None => stream.collect_vec().await.unwrap(),
        };
        assert!(extents.ends_with(&rest), "after {times} polls");
        surveyor.disconnect().await.unwrap();
    }
}

/// However far a job has got: it ends soon, with the error that says so, and the connection is
/// given up.
#[test]
fn a_job_can_be_cancelled_at_any_time() {
    let server = server(WRITABLE);
    let uri = server.uri().parse().unwrap();
    let started = Instant::now();
    for nth in 0..60_u64 {
        let canceller = Canceller::new();
        let options = Options::new().canceller(canceller.clone());
        let pause = Duration::from_micros(nth * nth * 7);
        let thread = thread::spawn(move || {
            thread::sleep(pause);
            canceller.cancel();
        });
        let cancelled = |error: &Error| matches!(error, Error::Cancelled(..) | Error::GivenUp);
        match Client::connect(&uri, &options) {
            Ok(client) if nth % 4 == 2 => {
                let wanted = Contexts::new().require(Context::Allocation).unwrap();
                drop(client);
                let mut jobs = core::iter::repeat_with(|| -> Result<(), SurveyorError> {
                    let mut surveyor = Surveyor::connect(&uri, &options, &wanted, Order::Together)?;
                    let settled = surveyor.survey_options()?.max_request(4 * MIB).allow_writable();
                    let mut stream = surveyor.survey(settled)?;
                    while stream.next_extent()?.is_some() {}
                    Ok(())
                });
                let Some(SurveyorError::Client(error)) = jobs.find_map(Result::err) else {
                    panic!("another error")
                };
                assert!(cancelled(&error), "{error}");
            }
            Ok(mut client) if nth % 4 == 0 => {
                let error = core::iter::repeat_with(|| client.read(0, &mut vec![0; 1 << 20]))
                    .find_map(Result::err)
                    .unwrap();
                assert!(cancelled(&error), "{error}");
                assert!(matches!(client.read(0, &mut [0]), Err(Error::GivenUp)));
            }
            Ok(client) => {
                let mut pool = Pool::of(client, Vec::new()).unwrap();
                let error = loop {
                    let mut blocks = ReadAhead::new(&mut pool, Some(0..8 * MIB), Default::default()).unwrap();
                    let read = core::iter::from_fn(|| match blocks.next_block() {
                        Ok(Some(_)) => Some(Ok(())),
                        Ok(None) => None,
                        Err(error) => Some(Err(error)),
                    });
                    if let Some(error) = read.filter_map(Result::err).next() {
                        break error;
                    }
                };
                assert!(cancelled(&error), "{error}");
                let again =
                    WriteBehind::new(&mut pool, Default::default()).and_then(|writes| writes.finish());
                assert!(matches!(again, Err(Error::GivenUp)), "{again:?}");
            }
            Err(error) => assert!(cancelled(&error), "{error}"),
        }
        thread.join().unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
