//! The client against scripted peers: deadlines, cancellation, ends of file. No real server is
//! needed.
#![cfg(unix)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::During;
use nbd_client::session::{Event, StatusRequest, take_all};
use nbd_client::transport::{Canceller, Socket, WithDeadline};
use nbd_client::uri::{Address, UnixSocket};
use nbd_client::{Client, Error, ErrorClass, Options, Uri};

const HELLO: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

fn rep(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut out = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    for word in [option, kind, u32::try_from(data.len()).unwrap()] {
        out.extend(word.to_be_bytes());
    }
    out.extend(data);
    out
}

/// Everything that a server says up to the transmission phase: structured replies, context 0, 1
/// MiB.
fn handshake() -> Vec<u8> {
    let export = [&[0, 0][..], &(1_u64 << 20).to_be_bytes(), &[0, 3]].concat();
    [
        HELLO.to_vec(),
        rep(8, 1, &[]),
        rep(10, 4, b"\0\0\0\0base:allocation"),
        rep(10, 1, &[]),
        rep(7, 3, &export),
        rep(7, 1, &[]),
    ]
    .concat()
}

/// A chunk of one descriptor for request 1.
fn status(done: u8) -> Vec<u8> {
    let mut chunk = vec![0x66, 0x8e, 0x33, 0xef, 0, done, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 12];
    chunk.extend([0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 3]);
    chunk
}

fn options() -> Options {
    Options::new()
        .extended_headers(false)
        .require_context("base:allocation")
        .connect_timeout(Duration::from_millis(300))
        .request_timeout(Duration::from_millis(300))
}

/// A peer in a thread of its own, and our end of its stream.
fn peer(script: impl FnOnce(UnixStream) + Send + 'static) -> Socket {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || script(theirs));
    Socket::try_from(ours).unwrap()
}

/// A peer that has answered the handshake before it was asked, and then says `words`; it closes if
/// told so.
fn client(words: Vec<u8>, close: bool) -> Client {
    let socket = peer(move |mut stream| {
        stream.write_all(&handshake()).unwrap();
        stream.write_all(&words).unwrap();
        if close {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        // Until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    Client::over(socket, "disk", &options()).unwrap()
}

#[track_caller]
fn assert_timely(started: Instant) {
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn row_67_no_hello_is_a_timeout() {
    let started = Instant::now();
    let socket = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let error = Client::over(socket, "", &options()).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Timeout { during: During::Hello, .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Connection);
}

#[test]
fn a_drip_does_not_push_the_deadline_away() {
    let started = Instant::now();
    let socket = peer(|mut stream| {
        for byte in handshake() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(40));
        }
    });
    let error = Client::over(socket, "", &options()).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn row_47_a_stall_in_a_header_is_a_timeout_of_the_request() {
    let mut client = client(status(1)[..7].to_vec(), false);
    let started = Instant::now();
    let error = client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| {}).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Timeout { during: During::ReplyHeader, .. }), "{error}");
    let again = client.start(|session| session.start_block_status(&StatusRequest::new(0, 4096))).unwrap_err();
    assert!(matches!(again, Error::GivenUp), "{again}");
}

#[test]
fn the_job_deadline_ends_a_request() {
    let socket = peer(|mut stream| {
        stream.write_all(&handshake()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let started = Instant::now();
    let options = options()
        .request_timeout(Duration::from_secs(60))
        .deadline(Some(started + Duration::from_millis(300)));
    let mut client = Client::over(socket, "", &options).unwrap();
    let error = client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| {}).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::OutOfTime(..)), "{error}");
}

#[test]
fn row_45_a_close_is_an_end_of_file_with_numbers() {
    for (bytes, during, got, expected) in
        [(0, During::ReplyHeader, 0, 16), (18, During::ReplyHeader, 18, 20), (27, During::Payload, 7, 12)]
    {
        let mut client = client(status(1)[..bytes].to_vec(), true);
        let error =
            client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| {}).unwrap_err();
        let Error::ConnectionLost(eof) = error else { panic!("{error}") };
        assert_eq!((eof.during, eof.got, eof.expected), (during, got, expected));
    }
}

#[test]
fn a_reply_is_delivered_and_several_requests_may_be_in_flight() {
    let mut second = status(1);
    second[15] = 2;
    let mut client = client([status(0), second, status(1)[..20].to_vec()].concat(), false);
    // The last chunk of request 1 is a NONE in truth.
    let request = StatusRequest::new(0, 4096);
    let first = client.start(|session| session.start_block_status(&request)).unwrap();
    let other = client.start(|session| session.start_block_status(&request)).unwrap();
    let mut next = || client.next_event(&mut take_all).unwrap().unwrap();
    assert!(matches!(next(), Event::Status { cookie, .. } if cookie == first));
    assert!(matches!(next(), Event::Status { cookie, .. } if cookie == other));
    assert_eq!(next(), Event::Done { cookie: other });
    assert_eq!(client.in_flight(), 1);
}

#[test]
fn a_callback_gets_the_chunks_and_the_end_of_the_export_is_respected() {
    let mut client = client(status(1), false);
    let past =
        client.start(|session| session.start_block_status(&StatusRequest::new(1 << 20, 1))).unwrap_err();
    assert_eq!(past.class(), ErrorClass::Other);
    let mut seen = Vec::new();
    client
        .block_status(&StatusRequest::new(0, 4096), &mut |context: u32, payload: &[u8]| {
            seen.push((context, payload.len()));
        })
        .unwrap();
    assert_eq!(seen, [(0, 12)]);
    assert!(client.next_event(&mut take_all).unwrap().is_none(), "nothing is in flight");
    assert_eq!((client.stats().done, client.stats().bytes_sent), (1, 28));
    client.disconnect().unwrap();
}

#[test]
fn cancelling_wakes_a_blocked_read() {
    let socket = peer(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
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
    let mut client = client(Vec::new(), false);
    client.canceller().cancel();
    let error = client.start(|session| session.start_block_status(&StatusRequest::new(0, 4096))).unwrap_err();
    assert!(matches!(error, Error::Cancelled(..)), "{error}");
}

fn unix_uri(path: &std::path::Path) -> Uri {
    use std::os::unix::ffi::OsStrExt;
    Uri::new(Address::Unix(UnixSocket::new(path.as_os_str().as_bytes()).unwrap()), "", None).unwrap()
}

#[test]
fn a_full_backlog_is_tried_until_the_deadline_and_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();

    let started = Instant::now();
    let error = Client::connect(&unix_uri(&path), &options()).unwrap_err();
    assert_timely(started);
    assert!(matches!(error, Error::Timeout { during: During::Connect, .. }), "{error}");

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
    let error = Client::connect(&unix_uri(&dir.path().join("none")), &options()).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Connection);
}

#[test]
fn tcp_connects_and_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let uri: Uri = format!("nbd://localhost:{port}/disk").parse().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&handshake()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let client = Client::connect(&uri, &options().connect_timeout(Duration::from_secs(10))).unwrap();
    assert_eq!(client.export().size(), 1 << 20);
    client.disconnect().unwrap();
    server.join().unwrap();
    let error = Client::connect(&uri, &options()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Connection, "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("nbd-client-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&handshake()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let uri: Uri = format!("nbd+unix:///?socket=%00{name}").parse().unwrap();
    assert_eq!(Client::connect(&uri, &options()).unwrap().export().size(), 1 << 20);
}

#[test]
fn any_stream_will_do() {
    struct Script(std::io::Cursor<Vec<u8>>);
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
    let script = Script(std::io::Cursor::new([handshake(), status(1)].concat()));
    let mut client = Client::over(WithDeadline::new(script), "disk", &options()).unwrap();
    let mut chunks = 0;
    client.block_status(&StatusRequest::new(0, 4096), &mut |_: u32, _: &[u8]| chunks += 1).unwrap();
    assert_eq!(chunks, 1);
}
