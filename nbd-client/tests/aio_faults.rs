//! The asynchronous client with several calls at once, or dropped ones, where server or caller do not
//! keep step: shutdown, disconnecting while others wait, dropped writes, a caller that is busy
//! elsewhere, limits lower than what it would have in flight. One call at a time judges both clients,
//! in `out_of_step.rs`.
#![cfg(target_os = "linux")]

use std::io::Result;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::task::{Context, Poll};
use std::time::Duration;

use nbd_client::aio;
use nbd_client::frame::command;
use nbd_client::session::{Event, ReadRequest, SessionLimits, StartError, take_all};
use nbd_client::{Error, Options};
use nbd_extents::Context::Allocation;
use nbd_extents::Contexts;
use testkit::dropping::poll_and_drop;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::timeout;

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_WRITE_ZEROES.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 6;
const ESHUTDOWN: u32 = 108;
const TIMEOUT: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(10);

fn answer(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
    match request.command {
        command::READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
        _ => conn.done(request),
    }
}

fn good() -> Good {
    Good::extended().size(64 * MIB).flags(WRITABLE)
}

async fn connect(server: &ScriptedServer, options: &Options) -> aio::Client {
    aio::Client::connect(&server.uri().parse().unwrap(), options).await.unwrap()
}

fn is_shutdown<V>(result: &core::result::Result<V, Error>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.request().is_some_and(nbd_client::session::RequestError::is_shutdown))
}

/// A server whose script tells what it has seen, and where that is heard.
fn telling(
    script: impl Fn(&mut Conn, &Sender<bool>) -> Result<()> + Send + Sync + 'static,
) -> (ScriptedServer, Receiver<bool>) {
    let (tell, told) = mpsc::channel();
    (ScriptedServer::start(move |conn| script(conn, &tell)).unwrap(), told)
}

/// Goodbye comes when the last answer is here, though the handle lives on; and nothing can be asked
/// any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_gets_its_goodbye() {
    let (server, told) = telling(|conn, tell| {
        conn.handshake(&good())?;
        let (one, other) = (conn.request()?, conn.request()?);
        conn.error(&one, ESHUTDOWN, "going down", DONE)?;
        conn.pause(Duration::from_millis(50))?;
        answer(conn, &other)?;
        tell.send(conn.request()?.command == command::DISC).unwrap();
        Ok(())
    });
    let client = connect(&server, &Options::new()).await;
    let (one, other) = tokio::join!(client.read(0, 512), client.read(512, 512));
    assert!(is_shutdown(&one), "{one:?}");
    assert_eq!(other.unwrap(), [7; 512]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    let later = client.read(0, 512).await;
    assert!(matches!(later, Err(Error::Start(StartError::Ending))), "{later:?}");
}

/// One task says goodbye while the requests of others are in flight: those are answered, and later
/// calls fail at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnecting_waits_for_those_who_wait() {
    let (server, told) = telling(|conn, tell| {
        conn.handshake(&good())?;
        conn.serve(|conn, request| {
            conn.pause(Duration::from_millis(20))?;
            answer(conn, request)
        })?;
        tell.send(true).unwrap();
        Ok(())
    });
    let client = connect(&server, &Options::new()).await;
    let others: Vec<_> = (0..8)
        .map(|nth| {
            let client = client.clone();
            tokio::spawn(async move { client.read(nth * 512, 512).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let later = client.clone();
    client.disconnect().await.unwrap();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), [7; 512]);
    }
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    let result = timeout(PATIENCE, later.write(0, vec![1; 8 << 20])).await.unwrap();
    assert!(matches!(result, Err(Error::GivenUp)), "{result:?}");
    let result = timeout(PATIENCE, later.disconnect()).await.unwrap();
    assert!(matches!(result, Err(Error::GivenUp)), "{result:?}");
}

/// A write that is dropped half sent is sent to its end: later requests are in step. Dropped
/// writes give their places back, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_write_leaves_the_connection_in_step() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&good())?;
        conn.serve(|conn, request| {
            conn.pause(Duration::from_millis(2))?;
            if request.command == command::WRITE {
                assert!(request.data.iter().all(|&byte| byte == 9), "other bytes among those of a write");
            }
            answer(conn, request)
        })
    })
    .unwrap();
    let client = connect(&server, &Options::new()).await;
    for _ in 0..100 {
        let hasty = timeout(Duration::from_micros(500), client.write(0, vec![9; 1 << 20])).await;
        assert!(hasty.is_err(), "it should not have been answered yet");
    }
    assert_eq!(client.read(0, 512).await.unwrap(), [7; 512]);
    client.write(0, vec![9; 4 << 20]).await.unwrap();
    client.disconnect().await.unwrap();
}

/// The requests that the client itself has in flight stay within the limits of its session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_where_the_session_allows_less() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&good())?;
        conn.serve(answer)
    })
    .unwrap();
    let mut few = SessionLimits::default();
    few.max_in_flight = 2;
    let mut short = SessionLimits::default();
    short.max_bytes_in_flight = 1_500_000;
    let mut tiny = SessionLimits::default();
    tiny.max_bytes_in_flight = 1;
    let mut small = SessionLimits::default();
    small.max_payload = 100_000;
    for limits in [few, short, tiny, small] {
        let client = connect(&server, &Options::new().session_limits(limits)).await;
        let tasks: Vec<_> = (0..16)
            .map(|nth| {
                let client = client.clone();
                tokio::spawn(async move {
                    client.write(nth * MIB, vec![9; 700_000]).await?;
                    client.zero(nth * MIB, MIB).await?;
                    client.read(nth * MIB, 1 << 20).await.map(|data| data.len())
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 1 << 20, "{limits:?}");
        }
        client.flush().await.unwrap();
        client.disconnect().await.unwrap();
    }
}

/// Between two calls the time is the caller's own, before the first one too; a server that does not
/// answer is late all the same.
#[tokio::test]
async fn a_caller_that_takes_its_time_is_no_timeout() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&good())?;
        conn.serve(|conn, request| match request.offset {
            0..MIB => answer(conn, request),
            _ => conn.stall(),
        })
    })
    .unwrap();
    let options = Options::new().request_timeout(TIMEOUT);
    let uri = server.uri().parse().unwrap();
    let mut connection = aio::Driver::connect(&uri, &options).await.unwrap();
    let start = |connection: &mut aio::Driver, offset, length| {
        connection.start(|session| session.start_read(&ReadRequest::new(offset), vec![0; length])).unwrap();
    };
    for _ in 0..3 {
        start(&mut connection, 0, 1 << 20);
    }
    tokio::time::sleep(TIMEOUT * 2).await;
    let mut reads = 0;
    while let Some(event) = connection.next_event(&mut take_all).await.unwrap() {
        if matches!(event, Event::Read { .. }) {
            reads += 1;
            tokio::time::sleep(TIMEOUT + TIMEOUT / 4).await;
        }
    }
    assert_eq!(reads, 3);
    start(&mut connection, MIB, 512);
    let started = std::time::Instant::now();
    // calls that are dropped do not give it more time
    let error = loop {
        match timeout(Duration::from_millis(20), connection.next_event(&mut take_all)).await {
            Ok(result) => break result.unwrap_err(),
            Err(_) => assert!(started.elapsed() < PATIENCE, "it is never late"),
        }
    };
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(started.elapsed() >= TIMEOUT - Duration::from_millis(50), "{:?}", started.elapsed());
}

/// A stream that is never done with closing: one with a buffer of its own, whose peer has stopped.
#[derive(Debug)]
struct NeverClosed(UnixStream);

impl AsyncRead for NeverClosed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NeverClosed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Pending
    }
}

/// A goodbye ends in its time, also when the stream cannot be closed.
#[tokio::test]
async fn a_goodbye_does_not_wait_for_a_stream_that_is_never_closed() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&good())?;
        conn.serve(answer)
    })
    .unwrap();
    let stream = async || NeverClosed(UnixStream::connect(server.path()).await.unwrap());
    let options = Options::new().request_timeout(TIMEOUT);
    let driver = async || aio::Driver::over(stream().await, "", &options).await.unwrap();
    timeout(PATIENCE, driver().await.disconnect()).await.unwrap().unwrap();
    let client = aio::Client::of(driver().await);
    timeout(PATIENCE, client.disconnect()).await.unwrap().unwrap();
    let pool = aio::Pool::of(driver().await, vec![]).unwrap();
    timeout(PATIENCE, pool.disconnect()).await.unwrap().unwrap();
}

/// A goodbye closes the stream and does not only drop it: the server hears the end, though the caller
/// has another handle of the same socket.
#[tokio::test]
async fn a_goodbye_closes_a_stream_that_others_hold() {
    let (server, told) = telling(|conn, tell| {
        conn.handshake(&good())?;
        conn.serve(answer)?;
        conn.stall()?;
        tell.send(true).unwrap();
        Ok(())
    });
    let others = Mutex::new(Vec::new());
    let driver = async || {
        let stream = std::os::unix::net::UnixStream::connect(server.path()).unwrap();
        others.lock().unwrap().push(stream.try_clone().unwrap());
        stream.set_nonblocking(true).unwrap();
        let options = Options::new().require_context("base:allocation");
        aio::Driver::over(UnixStream::from_std(stream).unwrap(), "", &options).await.unwrap()
    };
    let hears_end = |which| told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{which}: no end"));
    driver().await.disconnect().await.unwrap();
    hears_end("a driver");
    aio::Client::of(driver().await).disconnect().await.unwrap();
    hears_end("a client");
    aio::Pool::of(driver().await, vec![]).unwrap().disconnect().await.unwrap();
    hears_end("a pool");
    let wanted = Contexts::new().require(Allocation).unwrap();
    aio::Surveyor::over(driver().await, &wanted).unwrap().disconnect().await.unwrap();
    hears_end("a surveyor");
}

/// The goodbye is not lost in the buffers of a tunnel that takes a few bytes at a time: to close the
/// stream sends the rest of it.
#[tokio::test]
async fn a_goodbye_passes_the_buffers_of_a_tunnel() {
    let (server, told) = telling(|conn, tell| {
        conn.handshake(&good())?;
        tell.send(conn.serve(answer).is_ok()).unwrap();
        Ok(())
    });
    let driver = async || {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut stream = UnixStream::connect(server.path()).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut theirs, &mut stream).await });
        let buffered = tokio::io::BufWriter::new(ours);
        aio::Driver::over(buffered, "", &Options::new()).await.unwrap()
    };
    driver().await.disconnect().await.unwrap();
    // the bytes that have left the tunnel's first half are on their way
    assert_eq!(heard(&told).await, Ok(true), "a driver");
    let client = aio::Client::of(driver().await);
    assert_eq!(client.read(0, 512).await.unwrap(), [7; 512]);
    client.disconnect().await.unwrap();
    assert_eq!(heard(&told).await, Ok(true), "a client");
    aio::Pool::of(driver().await, vec![]).unwrap().disconnect().await.unwrap();
    assert_eq!(heard(&told).await, Ok(true), "a pool");
}

/// What a server tells, while the tasks of this thread run.
async fn heard(told: &Receiver<bool>) -> core::result::Result<bool, TryRecvError> {
    let news = async {
        loop {
            match told.try_recv() {
                Err(TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
                other => return other,
            }
        }
    };
    timeout(PATIENCE, news).await.unwrap_or(Err(TryRecvError::Empty))
}

/// A server that keeps its answers to the first requests until it hears, and then tells what it is
/// asked: true for a write.
fn held(count: usize) -> (ScriptedServer, Receiver<bool>, Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let (server, told) = telling(move |conn, tell| {
        conn.handshake(&good())?;
        let mut first = Vec::new();
        while first.len() < count {
            first.push(conn.request()?);
            tell.send(first.iter().any(|request| request.command == command::WRITE)).ok();
        }
        wait.lock().unwrap().recv().unwrap();
        first.iter().try_for_each(|request| answer(conn, request))?;
        conn.serve(|conn, request| {
            tell.send(request.command == command::WRITE).ok();
            answer(conn, request)
        })
    });
    (server, told, go)
}

/// Lets the other tasks of this thread run.
async fn let_others_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Starts a call, and drops it when the task of the connection knows of it.
async fn start_and_drop<V>(call: impl Future<Output = V>) {
    tokio::select! {
        biased;
        _ = call => panic!("it should not have been answered yet"),
        () = let_others_run() => {}
    }
}

/// A write that waits for its place among those in flight is not sent once its call is dropped, though
/// the connection may know of it: a place becomes free right after that. (On one thread, where the task
/// runs only while the test waits.)
#[tokio::test]
async fn a_dropped_write_that_waits_for_its_place_is_not_sent() {
    for places in [1, 2] {
        let (server, told, go) = held(places);
        let mut limits = SessionLimits::default();
        limits.max_in_flight = places;
        let client = connect(&server, &Options::new().session_limits(limits)).await;
        let other = client.clone();
        let long = tokio::spawn(async move { other.read(0, 8 << 20).await });
        let_others_run().await;
        start_and_drop(client.write(0, vec![9; 4096])).await;
        go.send(()).unwrap();
        assert_eq!(long.await.unwrap().unwrap(), vec![7; 8 << 20]);
        client.flush().await.unwrap();
        client.disconnect().await.unwrap();
        assert!(told.try_iter().all(|is_write| !is_write), "the write was sent, with {places} places");
    }
}

/// A call that is dropped before the task of its connection has heard of it is not sent at all, and so
/// none of its parts.
#[tokio::test]
async fn a_call_that_is_dropped_before_its_task_runs_is_not_sent() {
    let (server, told, go) = held(0);
    go.send(()).unwrap();
    let client = connect(&server, &Options::new()).await;
    client.flush().await.unwrap();
    for _ in 0..4 {
        assert!(poll_and_drop(client.write(0, vec![9; 4 << 20]), 0).await.is_none(), "it was answered");
    }
    client.flush().await.unwrap();
    client.disconnect().await.unwrap();
    assert_eq!(told.try_iter().filter(|&is_write| is_write).count(), 0, "a dropped write was sent");
}

/// Of a long write that is dropped the parts in flight are finished, and no other is asked for: the
/// same whether or not others have calls under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_more_of_a_dropped_write_is_asked_for() {
    const IN_FLIGHT: usize = 8;
    for others in [0, 1] {
        let (server, told, go) = held(IN_FLIGHT + others);
        let client = connect(&server, &Options::new()).await;
        let reads: Vec<_> = (0..others)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.read(0, 512).await })
            })
            .collect();
        (0..others).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(false)));
        let writer = client.clone();
        let write = tokio::spawn(async move { writer.write(0, vec![9; 32 << 20]).await });
        (0..IN_FLIGHT).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(true)));
        write.abort();
        assert!(write.await.unwrap_err().is_cancelled());
        go.send(()).unwrap();
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap(), [7; 512]);
        }
        client.disconnect().await.unwrap();
        assert_eq!(told.try_iter().count(), 0, "more was asked for, with {others} others");
    }
}

/// A disconnect that is dropped while it waits for a call of another handle is none: that call is
/// answered, and so are later ones.
#[tokio::test]
async fn a_dropped_disconnect_gives_no_call_up() {
    let (server, _told, go) = held(1);
    let client = connect(&server, &Options::new()).await;
    let other = client.clone();
    let read = tokio::spawn(async move { other.read(0, 512).await });
    let_others_run().await;
    // two of them, and a call that comes after them
    let other = client.clone();
    let late = tokio::spawn(async move { other.read(512, 512).await });
    let [one, two] = [0, 1].map(|_| start_and_drop(client.clone().disconnect()));
    tokio::join!(one, two);
    go.send(()).unwrap();
    assert_eq!(read.await.unwrap().unwrap(), [7; 512]);
    assert_eq!(late.await.unwrap().unwrap(), [7; 512]);
    assert_eq!(client.read(0, 512).await.unwrap(), [7; 512]);
    client.disconnect().await.unwrap();
}

/// Where the runtime of the task ends, calls that other runtimes wait for are told.
#[tokio::test]
async fn a_runtime_that_ends_is_said() {
    let (server, ..) = held(1);
    for has_run in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let uri = server.uri().parse().unwrap();
        let (client, runtime) = std::thread::scope(|scope| {
            let connect = || {
                let client = runtime.block_on(async {
                    let client = aio::Client::connect(&uri, &Options::new()).await.unwrap();
                    if has_run {
                        tokio::task::yield_now().await;
                    }
                    client
                });
                (client, runtime)
            };
            scope.spawn(connect).join().unwrap()
        });
        let (read, ()) = tokio::join!(client.read(0, 512), async { runtime.shutdown_background() });
        assert!(matches!(read, Err(Error::Cancelled(_))), "{read:?}");
        let later = client.read(0, 512).await;
        assert!(matches!(later, Err(Error::GivenUp)), "{later:?}");
    }
}
