//! Clients against scripted peers: deadlines, cancellation, ends of file, and the ways to a server.
//! No real server is needed.
//!
//! Four tests are of the blocking client alone. A [`Canceller`] ends its waits, where an
//! asynchronous program drops the future (`dropped.rs`); and a `Transport` of one's own exists for
//! it alone, since any `AsyncRead` and `AsyncWrite` will do for the other.
#![cfg(unix)]

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::{During, Headers};
use nbd_client::session::{Event, StatusRequest, take_all};
use nbd_client::transport::{Canceller, Ready, Socket, Transport, WithDeadline};
use nbd_client::uri::Address;
use nbd_client::{Client, Error, ErrorClass, Options, Pool, Uri, aio};
use testkit::clients::{AnyClient, Kind, runtime};
use testkit::peer::{self, Peer};
use testkit::scripted::bytes::structured_chunk;
use testkit::scripted::{Good, ScriptedServer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Structured replies, context 0, 1 MiB.
fn handshake() -> Vec<u8> {
    peer::handshake(&[(0, "base:allocation")], 3, 1 << 20, &[])
}

/// A chunk of one descriptor for a request.
fn status(done: u16, cookie: u64) -> Vec<u8> {
    structured_chunk(done, 5, cookie, &[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3])
}

fn options() -> Options {
    Options::new()
        .headers(Headers::Structured)
        .require_context("base:allocation")
        .connect_timeout(Duration::from_millis(300))
        .request_timeout(Duration::from_millis(300))
}

/// A peer in a thread of its own, and our end of its stream.
fn peer(script: impl FnOnce(UnixStream) + Send + 'static) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || script(theirs));
    ours
}

/// A client of a peer that says `words` after the first request.
fn client(kind: Kind, words: &[u8]) -> AnyClient {
    kind.over(Peer::new(handshake(), words.to_vec()).stream(), &options()).unwrap()
}

fn ask_status(client: &mut AnyClient) -> Result<(), Error> {
    client.block_status(&StatusRequest::new(0, 4096))
}

#[track_caller]
fn assert_timely(started: Instant) {
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn row_67_no_hello_is_a_timeout() {
    for kind in Kind::ALL {
        let started = Instant::now();
        let silent = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        let error = kind.over(silent, &options()).unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::Timeout { during: During::Hello, .. }), "{kind:?}: {error}");
        assert_eq!(error.class(), ErrorClass::Connection);
    }
}

#[test]
fn a_drip_does_not_push_the_deadline_away() {
    for kind in Kind::ALL {
        let started = Instant::now();
        let dripping = peer(|mut stream| {
            for byte in handshake() {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(40));
            }
        });
        let error = kind.over(dripping, &options()).unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
    }
}

#[test]
fn row_47_a_stall_in_a_header_is_a_timeout_of_the_request() {
    for kind in Kind::ALL {
        let mut client = client(kind, &status(1, 1)[..7]);
        let mut ask = || match kind {
            _ if Kind::WITH_EVENTS.contains(&kind) => ask_status(&mut client),
            _ => client.read(0, 4096).map(drop),
        };
        let started = Instant::now();
        let error = ask().unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::Timeout { during: During::ReplyHeader, .. }), "{kind:?}: {error}");
        let again = ask().unwrap_err();
        assert!(matches!(again, Error::GivenUp), "{kind:?}: {again}");
    }
}

#[test]
fn the_job_deadline_ends_a_request() {
    for kind in Kind::ALL {
        let started = Instant::now();
        let options = options()
            .request_timeout(Duration::from_secs(60))
            .deadline(Some(started + Duration::from_millis(300)));
        let mut client = kind.over(Peer::new(handshake(), Vec::new()).stream(), &options).unwrap();
        let error = client.read(0, 4096).unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::OutOfTime(..)), "{kind:?}: {error}");
    }
}

#[test]
fn row_45_a_close_is_an_end_of_file_with_numbers() {
    for (bytes, during, got, expected) in
        [(0, During::ReplyHeader, 0, 16), (18, During::ReplyHeader, 18, 20), (27, During::Payload, 7, 12)]
    {
        for kind in Kind::WITH_EVENTS {
            let answer = status(1, 1)[..bytes].to_vec();
            let peer = Peer { closes: true, ..Peer::new(handshake(), answer) };
            let mut client = kind.over(peer.stream(), &options()).unwrap();
            let Error::ConnectionLost(eof) = ask_status(&mut client).unwrap_err() else { panic!("{kind:?}") };
            assert_eq!((eof.during, eof.got, eof.expected), (during, got, expected), "{kind:?}");
        }
    }
}

#[test]
fn a_reply_is_delivered_and_several_requests_may_be_in_flight() {
    for kind in Kind::WITH_EVENTS {
        let answer = [status(0, 1), status(1, 2), status(1, 1)[..20].to_vec()].concat();
        let peer = Peer { requests: 2, ..Peer::new(handshake(), answer) };
        let mut client = kind.over(peer.stream(), &options()).unwrap();
        // The last chunk of request 1 is a NONE in truth.
        let request = StatusRequest::new(0, 4096);
        let first = client.start(|session| session.start_block_status(&request)).unwrap();
        let other = client.start(|session| session.start_block_status(&request)).unwrap();
        let mut next = || client.next_event(&mut take_all).unwrap().unwrap();
        assert!(matches!(next(), Event::Status { cookie, .. } if cookie == first), "{kind:?}");
        assert!(matches!(next(), Event::Status { cookie, .. } if cookie == other), "{kind:?}");
        assert_eq!(next(), Event::Done { cookie: other });
        assert_eq!(client.in_flight(), 1);
    }
}

#[test]
fn a_caller_gets_the_chunks_and_the_end_of_the_export_is_respected() {
    for kind in Kind::WITH_EVENTS {
        let mut client = client(kind, &status(1, 1));
        let past =
            client.start(|session| session.start_block_status(&StatusRequest::new(1 << 20, 1))).unwrap_err();
        assert_eq!(past.class(), ErrorClass::Other);
        let mut seen = Vec::new();
        let request = StatusRequest::new(0, 4096);
        if let AnyClient::Blocking(client) = &mut client {
            client.block_status(&request, |context, payload| seen.push((context, payload.len()))).unwrap();
        } else {
            client.start(|session| session.start_block_status(&request)).unwrap();
            while let Some(event) = client.next_event(&mut take_all).unwrap() {
                if let Event::Status { context, payload, .. } = event {
                    seen.push((context, payload.len()));
                }
            }
        }
        assert_eq!(seen, [(0, 12)], "{kind:?}");
        assert!(client.next_event(&mut take_all).unwrap().is_none(), "nothing is in flight");
        assert_eq!((client.stats().done, client.stats().bytes_sent), (1, 28), "{kind:?}");
        client.disconnect().unwrap();
    }
}

#[test]
fn cancelling_wakes_a_blocked_read() {
    let silent = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let socket = Socket::try_from(silent).unwrap();
    let canceller = socket.canceller();
    let started = Instant::now();
    let waker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        canceller.cancel();
    });
    let error = Client::over(socket, "", &options().connect_timeout(Duration::from_secs(60))).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Cancelled(During::Hello)), "{error}");
    waker.join().unwrap();
}

#[test]
fn cancelled_stays_cancelled() {
    let socket = Socket::try_from(Peer::new(handshake(), Vec::new()).stream()).unwrap();
    let canceller = socket.canceller();
    let mut client = Client::over(socket, "disk", &options()).unwrap();
    canceller.cancel();
    let error = client.start(|session| session.start_block_status(&StatusRequest::new(0, 4096))).unwrap_err();
    assert!(matches!(error, Error::Cancelled(..)), "{error}");
}

/// Without contexts, which a pool does not ask for.
fn plain_handshake() -> Vec<u8> {
    peer::handshake(&[], 3, 1 << 20, &[])
}

fn plain() -> Options {
    Options::new().headers(Headers::Structured).connect_timeout(Duration::from_millis(300))
}

fn unix_uri(path: &std::path::Path) -> Uri {
    use std::os::unix::ffi::OsStrExt;
    Uri::new(Address::Unix(path.as_os_str().as_bytes().into()), "", None).unwrap()
}

#[test]
fn a_full_backlog_is_tried_until_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    for kind in Kind::ALL {
        let started = Instant::now();
        let error = kind.connect(&unix_uri(&path), &plain()).unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::Timeout { during: During::Connect, .. }), "{kind:?}: {error}");
    }
    // each gets in when there is room again
    for kind in Kind::ALL {
        let server = thread::spawn({
            let socket = socket.try_clone().unwrap();
            move || {
                thread::sleep(Duration::from_millis(100));
                drop(socket.accept().unwrap());
                let mut stream = UnixStream::from(socket.accept().unwrap().0);
                stream.write_all(&plain_handshake()).unwrap();
                drop(stream.read_to_end(&mut Vec::new()));
            }
        });
        let patient = plain().connect_timeout(Duration::from_secs(60));
        let client = kind.connect(&unix_uri(&path), &patient).unwrap();
        assert_eq!(client.export().size(), 1 << 20, "{kind:?}");
        drop(client);
        server.join().unwrap();
        let again = UnixStream::connect(&path).unwrap();
        drop(again);
    }
    drop(first);
}

#[test]
fn a_full_backlog_can_be_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let canceller = Canceller::new();
    let later = canceller.clone();
    let started = Instant::now();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        later.cancel();
    });
    let patient = options().connect_timeout(Duration::from_secs(60)).canceller(canceller);
    let error = Client::connect(&unix_uri(&path), &patient).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Cancelled(During::Connect)), "{error}");
}

#[test]
fn a_socket_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let error = kind.connect(&unix_uri(&dir.path().join("none")), &plain()).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{kind:?}: {error}");
        assert_eq!(error.class(), ErrorClass::Connection);
    }
}

#[test]
fn tcp_connects_and_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let uri: Uri = format!("nbd://localhost:{port}/disk").parse().unwrap();
    let server = thread::spawn(move || {
        for _ in Kind::ALL {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&plain_handshake()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    for kind in Kind::ALL {
        let client = kind.connect(&uri, &plain().connect_timeout(Duration::from_secs(10))).unwrap();
        assert_eq!(client.export().size(), 1 << 20);
        client.disconnect().unwrap();
    }
    server.join().unwrap();
    for kind in Kind::ALL {
        let error = kind.connect(&uri, &plain()).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Connection, "{kind:?}: {error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("nbd-client-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    thread::spawn(move || {
        for _ in Kind::ALL {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&plain_handshake()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let uri: Uri = format!("nbd+unix:///?socket=%00{name}").parse().unwrap();
    for kind in Kind::ALL {
        let patient = plain().connect_timeout(Duration::from_secs(10));
        assert_eq!(kind.connect(&uri, &patient).unwrap().export().size(), 1 << 20, "{kind:?}");
    }
}

#[test]
fn any_stream_will_do() {
    // one read ends with the handshake
    struct Script(std::io::Chain<std::io::Cursor<Vec<u8>>, std::io::Cursor<Vec<u8>>>);
    impl Read for Script {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }
    impl Write for Script {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let [handshake, status] = [handshake(), status(1, 1)].map(std::io::Cursor::new);
    let script = Script(handshake.chain(status));
    let mut client = Client::over(WithDeadline::new(script), "disk", &options()).unwrap();
    let mut chunks = 0;
    client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| chunks += 1).unwrap();
    assert_eq!(chunks, 1);
}

/// A stream that takes its time for each write, and takes a part of it.
#[derive(Debug)]
struct SlowWriter(UnixStream);

impl Read for SlowWriter {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for SlowWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        thread::sleep(Duration::from_millis(100));
        self.0.write(&bytes[..bytes.len().min(128 << 10)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The whole write takes three times the limit, but some of it goes all the time.
#[test]
fn a_slow_line_is_no_dead_one_while_it_takes_bytes() {
    let server = ScriptedServer::start(|conn| {
        // HAS_FLAGS, SEND_FLUSH
        conn.handshake(&Good::extended().size(64 << 20).flags(1 | 1 << 2))?;
        conn.serve(|conn, request| conn.done(request))
    })
    .unwrap();
    let connect = || {
        let stream = UnixStream::connect(server.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let options = Options::new().request_timeout(Duration::from_secs(1));
        Client::over(WithDeadline::new(SlowWriter(stream)), "", &options).unwrap()
    };
    connect().write(0, &vec![1; 4 << 20]).unwrap();
    Pool::of(connect(), vec![]).unwrap().write(0, &vec![1; 4 << 20]).unwrap();
}

/// A stream that always has a byte, and takes its time for each.
#[derive(Debug)]
struct Drip(std::io::Cursor<Vec<u8>>);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        thread::sleep(Duration::from_millis(5));
        let first = buffer.len().min(1);
        self.0.read(&mut buffer[..first])
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut byte = [0];
        let count = self.read(&mut byte)?;
        buffer.put_slice(&byte[..count]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Drip {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// No wait is needed for a deadline to pass: of a stream that is always ready as well.
#[test]
fn a_stream_that_is_never_waited_for_is_out_of_time_as_well() {
    let drip = || Drip(std::io::Cursor::new(handshake()));
    for deadline in [None, Some(Duration::from_millis(300))] {
        let connecting = Duration::from_millis(if deadline.is_some() { 60_000 } else { 300 });
        let end = |after| Instant::now() + after;
        let options = || options().connect_timeout(connecting).deadline(deadline.map(end));
        let started = Instant::now();
        let blocking = Client::over(WithDeadline::new(drip()), "", &options()).unwrap_err();
        assert_timely(started);
        let started = Instant::now();
        let other =
            runtime().block_on(async { aio::Driver::over(drip(), "", &options()).await }).unwrap_err();
        assert_timely(started);
        for error in [blocking, other] {
            match deadline {
                None => assert!(matches!(error, Error::Timeout { .. }), "{error}"),
                Some(_) => assert!(matches!(error, Error::OutOfTime(_)), "{error}"),
            }
        }
    }
}

/// After its deadline a socket gives what it holds, takes what it has room for, and waits for nothing.
#[test]
fn a_socket_does_not_wait_after_its_deadline() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"answer").unwrap();
    let mut socket = Socket::try_from(ours).unwrap();
    socket.set_deadline(Some(Instant::now())).unwrap();
    let wanted = Ready { read: true, write: false };
    assert_eq!(socket.wait(wanted).unwrap(), wanted);
    assert_eq!(socket.write_now(&[IoSlice::new(b"request")]).unwrap(), 7);
    let mut answer = [0; 16];
    assert_eq!(socket.read(&mut answer).unwrap(), 6);
    for error in [socket.wait(wanted).unwrap_err(), socket.read(&mut answer).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

/// A stream of which every second call is interrupted: of reads, and of the others. Its peer gets
/// what is written when that is flushed.
#[derive(Debug)]
struct Interrupted {
    words: std::collections::VecDeque<Vec<u8>>,
    calls: [bool; 2],
    is_flushed: bool,
}

impl Interrupted {
    fn call(&mut self, which: usize) -> std::io::Result<()> {
        self.calls[which] ^= true;
        if self.calls[which] { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl Read for Interrupted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.is_flushed, "an answer to what the peer has not got is waited for");
        self.call(0)?;
        let words = self.words.pop_front().unwrap_or_default();
        words.as_slice().read(buffer)
    }
}

impl Write for Interrupted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.is_flushed = false;
        self.call(1).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.call(1).map(|()| self.is_flushed = true)
    }
}

impl AsyncRead for Interrupted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.read(buffer.initialize_unfilled())?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Interrupted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(self.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// It is nothing: the call is made again, also the last one before an answer is waited for.
#[test]
fn a_call_that_is_interrupted_is_made_again() {
    for calls in [[false, false], [false, true], [true, false], [true, true]] {
        let words = || [handshake(), status(1, 1)].into();
        let stream = || Interrupted { words: words(), calls, is_flushed: true };
        let request = StatusRequest::new(0, 4096);
        let mut client = Client::over(WithDeadline::new(stream()), "", &options()).unwrap();
        client.block_status(&request, |_, _| {}).unwrap();
        client.disconnect().unwrap();
        runtime().block_on(async {
            let mut driver = aio::Driver::over(stream(), "", &options()).await.unwrap();
            let cookie = driver.start(|session| session.start_block_status(&request)).unwrap();
            let status = driver.next_event(&mut take_all).await.unwrap();
            assert!(matches!(status, Some(Event::Status { .. })));
            assert_eq!(driver.next_event(&mut take_all).await.unwrap(), Some(Event::Done { cookie }));
            driver.disconnect().await.unwrap();
        });
    }
}

/// The peer reads no more, and keeps the connection: the error of sending comes within the limit of
/// requests, and FLUSH, which has none, is not waited for either.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_reads_no_more_is_left() {
    for kind in Kind::ALL {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // HAS_FLAGS, SEND_FLUSH
        let words = peer::handshake(&[(0, "base:allocation")], 1 | 1 << 2, 1 << 20, &[]);
        theirs.write_all(&words).unwrap();
        let mut client = kind.over(ours, &options()).unwrap();
        theirs.shutdown(std::net::Shutdown::Read).unwrap();
        let started = Instant::now();
        let error = client.flush().unwrap_err();
        assert_timely(started);
        assert!(matches!(error, Error::Io { during: During::Send, .. }), "{kind:?}: {error}");
        let started = Instant::now();
        client.flush().unwrap_err();
        assert!(started.elapsed() < Duration::from_millis(200), "{kind:?}: nothing is begun any more");
    }
}
