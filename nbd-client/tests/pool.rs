//! Several connections used as one, against scripted and real servers; and what a server lists.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nbd_client::frame::{command, option_type};
use nbd_client::handshake::HandshakeError;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::StartError;
use nbd_client::transport::{Canceller, Socket, Transport};
use nbd_client::{Client, Error, ErrorClass, Options, Pool, Uri, aio};
use testkit::clients::{Kind, runtime};
use testkit::image::{MIB, Recipe};
use testkit::pools::{AnyPool, PoolKind};
use testkit::scripted::{DONE, Good, Reaction, ScriptedServer, bytes};
use testkit::server::{Server, folder};
use testkit::tools;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// HAS_FLAGS, SEND_FLUSH, SEND_WRITE_ZEROES, CAN_MULTI_CONN.
const FLAGS: u16 = 1 | 1 << 2 | 1 << 6 | 1 << 8;

fn pool(kind: PoolKind, server: &ScriptedServer, connections: usize) -> Result<AnyPool, Error> {
    kind.connect(&server.uri().parse().unwrap(), &Options::new(), connections)
}

#[test]
fn a_flush_comes_after_every_answer_and_covers_all_connections() {
    for kind in PoolKind::ALL {
        flush_after_every_answer(kind);
    }
}

fn flush_after_every_answer(kind: PoolKind) {
    let open = Arc::new(AtomicUsize::new(0));
    let writes = Arc::new(Mutex::new(vec![0; 4]));
    let flushes = Arc::new(AtomicUsize::new(0));
    let theirs = (Arc::clone(&open), Arc::clone(&writes), Arc::clone(&flushes));
    let server = ScriptedServer::start(move |conn| {
        let (open, writes, flushes) = &theirs;
        conn.handshake(&Good::extended().size(64 * MIB).flags(FLAGS))?;
        conn.serve(|conn, request| {
            if request.command == command::FLUSH {
                assert_eq!(open.load(Ordering::SeqCst), 0, "a write is not answered yet");
                flushes.fetch_add(1, Ordering::SeqCst);
                return conn.done(request);
            }
            open.fetch_add(1, Ordering::SeqCst);
            writes.lock().unwrap()[conn.number()] += 1;
            conn.pause(Duration::from_millis(5))?;
            open.fetch_sub(1, Ordering::SeqCst);
            conn.done(request)
        })
    })
    .unwrap();
    let mut pool = pool(kind, &server, 4).unwrap();
    assert_eq!(pool.connections(), 4);
    let mut behind = pool.write_behind(PipelineOptions::default()).unwrap();
    for nth in 0..32 {
        let data = behind.buffer(4096);
        behind.write(nth * 4096, data).unwrap();
    }
    behind.zero(MIB, MIB).unwrap();
    behind.finish().unwrap();
    assert_eq!(flushes.load(Ordering::SeqCst), 1);
    assert!(writes.lock().unwrap().iter().all(|&count| count >= 4), "{:?}", writes.lock().unwrap());
    pool.disconnect().unwrap();
}

#[test]
fn one_connection_where_the_server_does_not_say_that_more_are_safe() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().flags(FLAGS & !(1 << 8)))?;
        conn.serve(|conn, request| conn.hole(request, request.offset, request.length as u32, DONE))
    })
    .unwrap();
    for (nth, kind) in PoolKind::ALL.into_iter().enumerate() {
        let mut pool = pool(kind, &server, 4).unwrap();
        assert_eq!((pool.connections(), server.connections()), (1, nth + 1));
        let mut data = vec![1; 4 << 20];
        pool.read(0, &mut data).unwrap();
        assert!(data.iter().all(|&byte| byte == 0));
        let error = pool.read(1, &mut data).unwrap_err();
        assert!(matches!(error, Error::Start(StartError::PastEnd { .. })), "{error}");
    }
}

#[test]
fn connections_that_disagree_are_refused() {
    let server = ScriptedServer::start(|conn| {
        let size = MIB << conn.number();
        conn.handshake(&Good::extended().flags(FLAGS).size(size))?;
        conn.stall()
    })
    .unwrap();
    for kind in PoolKind::ALL {
        let error = pool(kind, &server, 2).unwrap_err();
        assert_eq!(error.to_string(), "two connections to one export disagree about its size");
        assert_eq!(error.class(), ErrorClass::Server);
    }
}

/// qemu announces BLOCK_STATUS_PAYLOAD only to a connection that has contexts, as the one that made a
/// survey has and the others have not.
#[test]
fn flags_of_the_negotiation_may_differ_and_those_of_the_export_may_not() {
    let (df, payload, fast_zero) = (1 << 7, 1 << 12, 1 << 11);
    let cases = [(df, true), (payload, true), (df | payload, true), (fast_zero, false)];
    for (kind, (more, agrees)) in PoolKind::ALL.iter().flat_map(|&kind| cases.map(|case| (kind, case))) {
        let server = ScriptedServer::start(move |conn| {
            let flags = if conn.number() == 1 { FLAGS | more } else { FLAGS };
            conn.handshake(&Good::extended().flags(flags))?;
            conn.serve(|conn, request| conn.done(request))
        })
        .unwrap();
        match pool(kind, &server, 2) {
            Ok(pool) => assert_eq!((pool.connections(), agrees), (2, true), "{more:#x}"),
            Err(error) => {
                assert!(!agrees, "{more:#x}: {error}");
                assert!(error.to_string().ends_with("about its transmission flags"), "{error}");
            }
        }
    }
}

#[test]
fn a_lost_connection_ends_the_pool_and_soon() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().flags(FLAGS).size(64 * MIB))?;
        let mut left = if conn.number() % 3 == 1 { 2 } else { usize::MAX };
        conn.serve(|conn, request| {
            left -= 1;
            if left == 0 {
                return conn.hang_up();
            }
            conn.hole(request, request.offset, request.length as u32, DONE)
        })
    })
    .unwrap();
    let started = Instant::now();
    // the second connection of a pool hangs up
    for (kind, first) in PoolKind::ALL.into_iter().zip([0, 3]) {
        let mut pool = pool(kind, &server, 3).unwrap();
        assert_eq!(server.connections(), first + 3);
        let error = pool.read_ahead(Some(0..64 * MIB), PipelineOptions::default()).unwrap().error();
        assert_eq!(error.class(), ErrorClass::Connection, "{error}");
        assert!(matches!(pool.read(0, &mut [0; 512]), Err(Error::GivenUp)));
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// The second connection has a request that is never answered.
#[test]
fn the_other_connections_of_a_lost_pool_are_closed() {
    for kind in PoolKind::ALL {
        let (tell, gone) = mpsc::channel();
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().flags(FLAGS).size(64 * MIB))?;
            if conn.number() == 0 {
                conn.request()?;
                return conn.hang_up();
            }
            // the runtime of an asynchronous pool ends with it, and its connections then just close
            let served = conn.serve(|_, _| Ok(()));
            tell.send(()).ok();
            served
        })
        .unwrap();
        let mut pool = pool(kind, &server, 2).unwrap();
        let error = pool.read_ahead([0..512, 1024..1536], PipelineOptions::default()).unwrap().error();
        assert_eq!(error.class(), ErrorClass::Connection, "{kind:?}: {error}");
        assert!(matches!(pool.disconnect(), Err(Error::GivenUp)), "{kind:?}");
        gone.recv_timeout(Duration::from_secs(10)).expect("the other connection is still there");
    }
}

/// A request fails, and then the server hangs up: the first is told, then the other.
#[test]
fn a_connection_that_is_lost_after_a_failure_is_told() {
    for kind in PoolKind::ALL {
        let server = ScriptedServer::start(|conn| {
            conn.handshake(&Good::extended().flags(FLAGS).size(64 * MIB))?;
            let first = conn.request()?;
            conn.request()?;
            conn.error(&first, 5, "bad sector", DONE)?;
            conn.pause(Duration::from_millis(50))?;
            conn.hang_up()
        })
        .unwrap();
        let mut pool = pool(kind, &server, 1).unwrap();
        let error = pool.read_ahead([0..512, 1024..1536], PipelineOptions::default()).unwrap().error();
        assert!(error.to_string().ends_with("EIO: bad sector"), "{kind:?}: {error}");
        let error = pool.read(0, &mut [0; 512]).unwrap_err();
        assert!(!matches!(error, Error::GivenUp), "{kind:?}: {error}");
        assert_eq!(error.class(), ErrorClass::Connection, "{kind:?}: {error}");
    }
}

/// The second answer drips until the first has been taken: a report waits for others, and not for
/// as long as bytes come.
#[test]
fn an_answer_is_handed_on_while_another_one_drips() {
    for kind in PoolKind::ALL {
        let taken = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&taken);
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().flags(FLAGS).size(64 * MIB))?;
            let requests = [conn.request()?, conn.request()?];
            conn.data(&requests[0], requests[0].offset, &[7; 512], DONE)?;
            let mut answer =
                bytes::extended_header(DONE, 1, requests[1].cookie, requests[1].offset, 65536 + 8);
            answer.extend(requests[1].offset.to_be_bytes());
            answer.resize(answer.len() + 65536, 8);
            for (nth, byte) in answer.iter().enumerate() {
                if theirs.load(Ordering::SeqCst) {
                    return conn.send(&answer[nth..]).and_then(|()| conn.stall());
                }
                conn.send(&[*byte])?;
                conn.pause(Duration::from_millis(1))?;
            }
            panic!("the first answer was not taken in {} ms", answer.len());
        })
        .unwrap();
        let mut pool = pool(kind, &server, 1).unwrap();
        let mut blocks = pool.read_ahead([0..512, MIB..MIB + 65536], PipelineOptions::default()).unwrap();
        assert!(blocks.next_block().unwrap().is_some_and(|block| block.data == [7; 512]), "{kind:?}");
        taken.store(true, Ordering::SeqCst);
        assert!(blocks.next_block().unwrap().is_some_and(|block| block.data == [8; 65536]), "{kind:?}");
    }
}

/// Its answer would be taken for that of the pool's request with the same number.
#[tokio::test]
async fn a_connection_with_a_request_in_flight_is_refused() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().flags(FLAGS))?;
        conn.serve(|conn, request| conn.done(request))
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let is_busy = |error: Error| assert!(matches!(error, Error::Start(StartError::Busy(1))), "{error}");
    let mut client = Client::connect(&uri, &Options::new()).unwrap();
    client.start(|session| session.start_flush()).unwrap();
    is_busy(Pool::of(client, Vec::new()).unwrap_err());
    let mut driver = aio::Driver::connect(&uri, &Options::new()).await.unwrap();
    driver.start(|session| session.start_flush()).unwrap();
    is_busy(aio::Pool::of(driver, Vec::new()).unwrap_err());
}

/// The server sends all answers at once: they are all there when the first block is taken.
#[test]
fn a_reader_that_is_left_early_keeps_the_pool_busy() {
    for kind in PoolKind::ALL {
        let server = ScriptedServer::start(|conn| {
            conn.handshake(&Good::extended().flags(FLAGS).size(64 * MIB))?;
            let requests: Vec<_> = (0..5).map(|_| conn.request()).collect::<io::Result<_>>()?;
            let answers = requests.iter().map(|request| {
                let payload = [&request.offset.to_be_bytes()[..], &[7; 512]].concat();
                let mut answer = bytes::extended_header(DONE, 1, request.cookie, request.offset, 520);
                answer.extend(payload);
                answer
            });
            conn.send(&answers.collect::<Vec<_>>().concat())?;
            conn.serve(|conn, request| conn.data(request, request.offset, &[8; 512], DONE))
        })
        .unwrap();
        let mut pool = pool(kind, &server, 1).unwrap();
        let ranges = (0..5).map(|nth| nth * 1024..nth * 1024 + 512);
        let mut blocks = pool.read_ahead(ranges, PipelineOptions::default()).unwrap();
        assert!(blocks.next_block().unwrap().is_some_and(|block| block.data == [7; 512]));
        drop(blocks);
        let error = pool.read(MIB, &mut [0; 512]).unwrap_err();
        assert!(matches!(error, Error::Start(StartError::Busy(1..=5))), "{kind:?}: {error}");
        pool.abandon().unwrap();
        let mut data = [0; 512];
        pool.read(MIB, &mut data).unwrap();
        assert_eq!(data, [8; 512], "{kind:?}");
    }
}

/// A socket that panics when it is first read after the handshake.
#[derive(Debug)]
struct Panicking {
    socket: Socket,
    is_armed: Arc<AtomicBool>,
}

impl Read for Panicking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!self.is_armed.load(Ordering::SeqCst), "the test asks for a panic");
        self.socket.read(buffer)
    }
}

impl Write for Panicking {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Transport for Panicking {
    fn set_deadline(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.socket.set_deadline(deadline)
    }
}

/// A stream of a runtime that panics.
#[derive(Debug)]
struct PanickingStream {
    stream: tokio::net::UnixStream,
    is_armed: Arc<AtomicBool>,
}

impl AsyncRead for PanickingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        assert!(!self.is_armed.load(Ordering::SeqCst), "the test asks for a panic");
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PanickingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// It is a fault of the program, which is said, and not that the server had ended the connection.
#[test]
fn a_transport_that_panics_ends_its_connection_and_is_blamed_on_no_server() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(FLAGS))?;
        conn.serve(|conn, request| conn.data(request, 0, &vec![7; request.length as usize], DONE))
    })
    .unwrap();
    let is_armed = Arc::new(AtomicBool::new(false));
    let uri: Uri = server.uri().parse().unwrap();
    let late = Instant::now() + Duration::from_secs(60);
    let socket = Socket::connect(uri.address(), late, &Canceller::new()).unwrap();
    let transport = Panicking { socket, is_armed: Arc::clone(&is_armed) };
    let client = Client::over(transport, "", &Options::new()).unwrap();
    let mut pool = Pool::of(client, Vec::new()).unwrap();
    is_armed.store(true, Ordering::SeqCst);
    let error = pool.read(0, &mut [0; 512]).unwrap_err();
    assert!(matches!(error, Error::Panicked), "{error}");
    assert_eq!(error.class(), ErrorClass::Other);
    assert!(matches!(pool.read(0, &mut [0; 512]), Err(Error::GivenUp)));

    let runtime = runtime();
    let is_armed = Arc::new(AtomicBool::new(false));
    let driver = async || {
        let stream = tokio::net::UnixStream::connect(server.path()).await.unwrap();
        let stream = PanickingStream { stream, is_armed: Arc::clone(&is_armed) };
        aio::Driver::over(stream, "", &Options::new()).await.unwrap()
    };
    runtime.block_on(async {
        let client = aio::Client::of(driver().await);
        let mut pool = aio::Pool::of(driver().await, Vec::new()).unwrap();
        is_armed.store(true, Ordering::SeqCst);
        let error = pool.read(0, &mut [0; 512]).await.unwrap_err();
        assert!(matches!(error, Error::Panicked), "{error}");
        assert!(matches!(pool.read(0, &mut [0; 512]).await, Err(Error::GivenUp)));
        // all who wait are told
        let (one, other) = tokio::join!(client.read(0, 512), client.write(512, vec![9; 512]));
        assert!(matches!(one, Err(Error::Panicked)), "{one:?}");
        assert!(matches!(other, Err(Error::Panicked)), "{other:?}");
        assert!(matches!(client.read(0, 512).await, Err(Error::GivenUp)));
    });
}

#[test]
fn four_connections_to_qemu_nbd_write_and_read_the_same_disk() {
    if !tools::require_qemu() {
        return;
    }
    for kind in PoolKind::ALL {
        let folder = folder();
        let image = Recipe::raw(32 * MIB, vec![]).make(folder.path());
        let server = Server::qemu_nbd_writable(&image, &["--discard=unmap"]);
        let mut pool = kind.connect(&server.uri("").parse().unwrap(), &Options::new(), 4).unwrap();
        assert_eq!(pool.connections(), 4);
        let data: Vec<u8> = (0..20 * MIB).map(|at| (at / 4096 * 37 + at % 253) as u8).collect();
        pool.write(MIB + 512, &data).unwrap();
        pool.zero(4 * MIB, 3 * MIB).unwrap();
        pool.flush().unwrap();
        let mut expected = vec![0; 32 << 20];
        expected[MIB as usize + 512..][..data.len()].copy_from_slice(&data);
        expected[4 << 20..7 << 20].fill(0);
        let mut back = vec![1; 32 << 20];
        pool.read(0, &mut back).unwrap();
        assert!(back == expected);
        pool.disconnect().unwrap();
        assert!(fs::read(&image.path).unwrap() == expected);
    }
}

// ---- what a server lists

#[test]
fn exports_and_contexts_of_real_servers() {
    if !tools::require_qemu() || !tools::require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let image = Recipe::qcow2(64 << 10, MIB, vec![testkit::image::Step::bitmap("b0")]).make(folder.path());
    let server =
        Server::qemu_nbd_writable(&image, &["-r", "-x", "disk", "-D", "the disk\nof it", "-A", "-B", "b0"]);
    let uri = server.uri("disk").parse().unwrap();
    for kind in Kind::WITH_LISTS {
        let exports = kind.list_exports(&uri, &Options::new()).unwrap();
        assert_eq!(exports.len(), 1, "{kind:?}");
        assert_eq!(exports[0].name, "disk");
        assert!(exports[0].description.as_ref().unwrap().to_string().starts_with("the disk"));
        let mut contexts = kind.list_contexts(&uri, &Options::new()).unwrap();
        contexts.sort();
        assert_eq!(contexts, ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"]);
    }

    let script = "case $1 in list_exports) echo INTERLEAVED; echo a; echo first; echo b; echo \
        second;; get_size) echo 512;; pread) head -c $3 /dev/zero;; *) exit 2;; esac";
    let server = Server::nbdkit_script(&format!("#!/bin/sh\n{script}\n"));
    for kind in Kind::WITH_LISTS {
        let exports = kind.list_exports(&server.uri("").parse().unwrap(), &Options::new()).unwrap();
        let names: Vec<_> = exports.iter().map(|export| export.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "{kind:?}");
    }
}

/// Replies to LIST, as (type, payload), and the error that they end in.
#[test]
fn lists_that_cannot_be() {
    let list = |replies: Vec<(u32, Vec<u8>)>| {
        let server = ScriptedServer::start(move |conn| {
            let good = Good::extended();
            conn.handshake_with(&good, |conn, option| {
                if option.number != option_type::LIST {
                    return Ok(Reaction::Honest);
                }
                for (kind, payload) in &replies {
                    conn.send(&bytes::option_reply(option_type::LIST, *kind, payload))?;
                }
                Ok(Reaction::Answered)
            })
        })
        .unwrap();
        let uri = server.uri().parse().unwrap();
        let [blocking, other] = Kind::WITH_LISTS.map(|kind| kind.list_exports(&uri, &Options::new()));
        assert_eq!(format!("{blocking:?}"), format!("{other:?}"));
        blocking
    };
    let name = |length: u32, name: &[u8]| (2, [&length.to_be_bytes()[..], name].concat());
    let ack = (1, vec![]);
    assert_eq!(list(vec![ack.clone()]).unwrap(), []);
    assert_eq!(list(vec![name(1, b"a"), name(0, b""), ack.clone()]).unwrap().len(), 2);
    let fails = |replies| match list(replies).unwrap_err() {
        Error::Handshake(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(fails(vec![name(2, b"a")]), HandshakeError::BadLength { kind: 2, .. }));
    assert!(matches!(fails(vec![(2, vec![0; 3])]), HandshakeError::BadLength { .. }));
    assert!(matches!(fails(vec![name(1, b"\xff")]), HandshakeError::BadName { .. }));
    assert!(matches!(fails(vec![name(4097, &[b'a'; 4097])]), HandshakeError::BadLength { .. }));
    assert!(matches!(fails(vec![(3, vec![0; 4])]), HandshakeError::UnexpectedReply { kind: 3, .. }));
    assert!(matches!(fails(vec![name(1, b"a"); 4097]), HandshakeError::TooManyReplies { .. }));
    let refused = fails(vec![name(1, b"a"), ((1 << 31) + 2, b"no".to_vec())]);
    assert_eq!(refused.to_string(), "the server refused LIST: forbidden by policy: no");
}
