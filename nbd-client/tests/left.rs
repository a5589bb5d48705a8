//! Connections and jobs that are left: dropped while they connect, say goodbye or run. Nothing stays
//! open, and each is in its documented state. (`cancelled.rs` is of those that are cancelled.)
#![cfg(target_os = "linux")]

use core::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::aio;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Error, Options, Pool, Uri, WriteBehind};
use nbd_extents::{Context, Contexts};
use testkit::dropping::{MIB, WRITABLE, answer, content, poll_and_drop, server};
use testkit::pki::Pki;
use testkit::random::Rng;
use testkit::scripted::{Conn, Good, ScriptedServer};

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
        let halves = surveyor().await;
        ends(async { Ok::<_, Error>(halves.into_driver().await) }, times).await;
        let end = Instant::now() + Duration::from_secs(20);
        while open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "{} are open after {times} polls", open.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// How many threads of this process connect.
fn connecting() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "nbd-connect").count()
}

/// The thread that connects ends with its call, and a runtime does not wait for it.
#[test]
fn a_call_that_is_dropped_while_it_connects_leaves_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let address = socket2::SockAddr::unix(dir.path().join("full")).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let full = core::iter::repeat_with(|| {
        let waiting = socket();
        waiting.set_nonblocking(true).unwrap();
        waiting.connect(&address).map(|()| waiting)
    });
    let _waiting: Vec<_> = full.map_while(Result::ok).collect();
    let uri: Uri = format!("nbd+unix:///?socket={}/full", dir.path().display()).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let options = Options::new().connect_timeout(Duration::from_secs(600));
    runtime.block_on(async {
        let connect = aio::Driver::connect(&uri, &options);
        tokio::time::timeout(Duration::from_millis(100), connect).await.unwrap_err();
    });
    drop(runtime);
    // other tests connect as well, now and then
    while connecting() > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "a thread is left");
        thread::sleep(Duration::from_millis(1));
    }
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
