//! Reads and writes that go wrong: answers that leave bytes out, bring them twice or bring others,
//! and servers that die or stop in the middle of the data. A read is whole or it is an error; after
//! a failed request the connection serves the next one, after a broken protocol it does not.
#![cfg(target_os = "linux")]

use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nbd_client::copy::{Copy, CopyError, CopyOptions};
use nbd_client::frame::chunk_type::{BLOCK_STATUS, OFFSET_DATA, OFFSET_HOLE};
use nbd_client::frame::command;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{Errno, ProtocolError, RequestFault};
use nbd_client::survey::Order;
use nbd_client::{Error, ErrorClass, Options, Surveyor};
use nbd_extents::action::Full;
use nbd_extents::{Context, Contexts};
use testkit::clients::{AnyClient, Kind};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

/// Each test reads this much, from `AT` on.
const LENGTH: usize = 8192;
const HALF: u32 = 4096;
const AT: u64 = 1 << 20;
const MIDDLE: u64 = AT + HALF as u64;
/// The byte that an honest server has there.
const BYTE: u8 = 0xa5;
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time that a busy machine may add.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = fn(&mut Conn, &SeenRequest) -> Result<()>;

fn goods() -> [Good; 2] {
    [Good::compact().flags(1), Good::extended().flags(1)]
}

/// The first request is answered like this, all others as they should be.
fn server(good: Good, answer: Answer) -> ScriptedServer {
    let honest = Arc::new(AtomicBool::new(false));
    let started = ScriptedServer::start(move |conn| {
        conn.handshake(&good)?;
        conn.serve(|conn, request| {
            if honest.swap(true, Ordering::SeqCst) {
                conn.data(request, request.offset, &[BYTE; LENGTH], DONE)
            } else {
                answer(conn, request)
            }
        })
    });
    started.unwrap()
}

fn client(kind: Kind, server: &ScriptedServer, strict: bool) -> AnyClient {
    let options = Options::new().strict(strict).request_timeout(TIMEOUT);
    kind.connect(&server.uri().parse().unwrap(), &options).unwrap()
}

fn read(client: &mut AnyClient) -> core::result::Result<Vec<u8>, Error> {
    client.read(AT, LENGTH)
}

/// Each kind of client, with each form of headers.
fn all() -> impl Iterator<Item = (Kind, Good)> {
    Kind::ALL.into_iter().flat_map(|kind| goods().map(|good| (kind, good)))
}

/// Lenient and strict, in both forms of headers: the read fails like this, and the next one on the
/// same connection is served.
#[track_caller]
fn fails(answer: Answer, is_it: fn(&RequestFault) -> bool) {
    for (kind, good) in all() {
        for strict in [false, true] {
            let server = server(good.clone(), answer);
            let mut client = client(kind, &server, strict);
            match read(&mut client) {
                Err(Error::Request(error)) => assert!(is_it(&error.fault), "{error:?}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(read(&mut client).unwrap(), [BYTE; LENGTH]);
        }
    }
}

/// As [`fails`], where nothing comes after it.
#[track_caller]
fn ends(answer: Answer, is_it: fn(&Error) -> bool) {
    for (kind, good) in all() {
        let server = server(good, answer);
        let mut client = client(kind, &server, false);
        let started = Instant::now();
        let error = read(&mut client).unwrap_err();
        assert!(is_it(&error), "{error:?}");
        assert!(started.elapsed() < TIMEOUT + PATIENCE);
        read(&mut client).unwrap_err();
    }
}

/// Any order, data and holes: all of it is there.
#[test]
fn pieces_in_any_order_are_a_whole_read() {
    let answer: Answer = |conn, request| {
        conn.hole(request, MIDDLE, HALF, 0)?;
        conn.data(request, AT, &[BYTE; HALF as usize], 0)?;
        conn.done(request)
    };
    for (kind, good) in all() {
        let server = server(good, answer);
        let whole = read(&mut client(kind, &server, true)).unwrap();
        assert_eq!(whole, [[BYTE; HALF as usize], [0; HALF as usize]].concat());
    }
}

#[test]
fn bytes_that_are_left_out() {
    fails(
        |conn, request| conn.data(request, AT, &[BYTE; HALF as usize], DONE),
        |error| matches!(error, RequestFault::MissingData(MIDDLE)),
    );
    fails(
        |conn, request| conn.hole(request, MIDDLE, HALF, DONE),
        |error| matches!(error, RequestFault::MissingData(AT)),
    );
    fails(|conn, request| conn.done(request), |error| matches!(error, RequestFault::MissingData(AT)));
}

#[test]
fn bytes_that_were_not_asked_for() {
    fn is_outside(error: &RequestFault) -> bool {
        matches!(error, RequestFault::OutsideRead { .. })
    }
    fails(|conn, request| conn.data(request, AT - 1, &[BYTE; LENGTH], DONE), is_outside);
    fails(|conn, request| conn.data(request, AT + 1, &[BYTE; LENGTH], DONE), is_outside);
    fails(|conn, request| conn.data(request, 0, &[BYTE; LENGTH], DONE), is_outside);
    fails(|conn, request| conn.data(request, AT, &[BYTE; LENGTH + 1], DONE), is_outside);
    fails(|conn, request| conn.hole(request, AT, u32::MAX, DONE), is_outside);
    fails(|conn, request| conn.hole(request, u64::MAX, HALF, DONE), is_outside);
}

#[test]
fn bytes_that_come_twice() {
    fn is_overlap(error: &RequestFault) -> bool {
        matches!(error, RequestFault::Overlap { .. })
    }
    // also where the sum of the lengths is that of the read
    fails(
        |conn, request| {
            conn.data(request, AT, &[BYTE; HALF as usize], 0)?;
            conn.hole(request, AT, HALF, DONE)
        },
        is_overlap,
    );
    fails(
        |conn, request| {
            conn.data(request, AT, &[BYTE; LENGTH], 0)?;
            conn.data(request, MIDDLE - 1, &[BYTE; 1], DONE)
        },
        is_overlap,
    );
}

#[test]
fn chunks_without_content() {
    fn is_empty(error: &RequestFault) -> bool {
        matches!(error, RequestFault::BadContent { .. })
    }
    fails(|conn, request| conn.chunk(request, DONE, OFFSET_DATA, &AT.to_be_bytes()), is_empty);
    fails(|conn, request| conn.chunk(request, DONE, OFFSET_DATA, &[0; 3]), is_empty);
    fails(|conn, request| conn.chunk(request, DONE, OFFSET_DATA, &[]), is_empty);
    fails(|conn, request| conn.chunk(request, DONE, OFFSET_HOLE, &[0; 11]), is_empty);
    fails(|conn, request| conn.chunk(request, DONE, OFFSET_HOLE, &[0; 13]), is_empty);
    fails(|conn, request| conn.hole(request, AT, 0, DONE), is_empty);
}

/// Data that came before an error are worth nothing.
#[test]
fn an_error_after_the_data() {
    fails(
        |conn, request| {
            conn.data(request, AT, &[BYTE; LENGTH], 0)?;
            conn.error(request, 5, "\x1b[2Jdisk\r\n", DONE)
        },
        |fault| {
            matches!(fault, RequestFault::Server { errno: Errno(5), .. })
                && !fault.to_string().contains(char::is_control)
        },
    );
}

#[test]
fn answers_of_another_kind() {
    fn is_protocol(error: &Error) -> bool {
        matches!(error, Error::Protocol(_)) && error.class() == ErrorClass::Server
    }
    ends(|conn, request| conn.chunk(request, DONE, BLOCK_STATUS, &[0; 12]), is_protocol);
    ends(|conn, request| conn.chunk(request, DONE, 0x7fff, &[0; 12]), is_protocol);
    // success without data, where only chunks carry data
    ends(|conn, request| conn.simple(request, 0), is_protocol);
    ends(|conn, request| conn.chunk_header(request, DONE, OFFSET_DATA, 0xffff_ffff), is_protocol);
    ends(
        |conn, request| {
            let mut other = request.clone();
            other.cookie += 1;
            conn.data(&other, AT, &[BYTE; LENGTH], DONE)
        },
        is_protocol,
    );
}

/// Nothing new in any of them: it is not borne for ever.
#[test]
fn chunks_without_end() {
    ends(
        |conn, request| {
            conn.data(request, AT, &[BYTE; LENGTH], 0)?;
            loop {
                conn.hole(request, AT, HALF, 0)?;
            }
        },
        |error| matches!(error, Error::Protocol(ProtocolError::EndlessReply { .. })),
    );
}

#[test]
fn servers_that_die_or_stop_in_the_data() {
    fn half(conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        conn.chunk_header(request, DONE, OFFSET_DATA, 8 + LENGTH as u64)?;
        conn.send(&AT.to_be_bytes())?;
        conn.send(&[BYTE; 100])
    }
    fn is_lost(error: &Error) -> bool {
        matches!(error, Error::ConnectionLost(_) | Error::Io { .. })
            && error.class() == ErrorClass::Connection
    }
    fn is_late(error: &Error) -> bool {
        matches!(error, Error::Timeout { .. }) && error.class() == ErrorClass::Connection
    }
    ends(|conn, request| half(conn, request).and_then(|()| conn.hang_up()), is_lost);
    ends(|conn, _| conn.hang_up(), is_lost);
    ends(|conn, request| half(conn, request).and_then(|()| conn.stall()), is_late);
    ends(
        |conn, request| half(conn, request).and_then(|()| conn.drip(&[BYTE; LENGTH], Duration::from_secs(1))),
        is_late,
    );
}

/// A write has no data in its answer, and is not taken for done before the server says so.
#[test]
fn writes_that_fail() {
    Kind::ALL.into_iter().for_each(writes_of_a_kind_that_fail);
}

fn writes_of_a_kind_that_fail(kind: Kind) {
    let write = |answer: Answer| {
        let server = server(Good::compact().flags(1), answer);
        let mut client = client(kind, &server, false);
        let failed = client.write(AT, &[BYTE; LENGTH]).unwrap_err();
        (failed, read(&mut client).is_ok())
    };
    let (full, goes_on) = write(|conn, request| conn.error(request, 28, "no space", DONE));
    assert!(matches!(full, Error::Request(ref error) if error.errno() == Some(Errno(28))), "{full}");
    assert_eq!((full.class(), goes_on), (ErrorClass::Other, true), "a full disk is no fault of the server");
    let (simple, goes_on) = write(|conn, request| conn.simple(request, 1));
    assert!(matches!(simple, Error::Request(ref error) if error.errno() == Some(Errno(1))), "{simple}");
    assert_eq!((simple.class(), goes_on), (ErrorClass::Server, true));
    let (data, goes_on) = write(|conn, request| conn.data(request, AT, &[BYTE; 512], DONE));
    assert!(matches!(data, Error::Protocol(ProtocolError::UnexpectedChunk { .. })), "{data}");
    assert!(!goes_on);
    let (lost, goes_on) = write(|conn, _| conn.hang_up());
    assert_eq!((lost.class(), goes_on), (ErrorClass::Connection, false));
    let (late, goes_on) = write(|conn, _| conn.stall());
    assert!(matches!(late, Error::Timeout { .. }) && !goes_on, "{late}");
}

/// A long write that is refused is asked for again in shorter requests. A server that hangs up then
/// has said why.
#[test]
fn the_reason_before_a_hang_up_is_told() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().flags(1))?;
        let request = conn.request()?;
        conn.error(&request, 22, "the image is corrupt", DONE)?;
        conn.hang_up()
    })
    .unwrap();
    for kind in Kind::ALL {
        let error = client(kind, &server, false).write(0, &[BYTE; 128 << 10]).unwrap_err();
        assert!(error.to_string().ends_with("failed with EINVAL: the image is corrupt"), "{kind:?}: {error}");
    }
}

// ---- copies

const PIECE: u32 = 64 << 10;

/// The first data that are read or written are answered with these bytes after the answer.
fn side(flags: u16, extra: fn(&SeenRequest) -> Vec<u8>) -> ScriptedServer {
    let started = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(8 * u64::from(PIECE)).flags(flags))?;
        let mut is_first = true;
        conn.serve(|conn, request| {
            let data = [&request.offset.to_be_bytes()[..], &[BYTE; PIECE as usize]].concat();
            let (kind, payload) = match request.command {
                command::READ => (OFFSET_DATA, &data[..]),
                command::WRITE => (0, &[][..]),
                _ => return conn.honest(request, 0),
            };
            let mut answer = bytes::extended_chunk(DONE, kind, request.cookie, request.offset, payload);
            if core::mem::take(&mut is_first) {
                answer.extend(extra(request));
            }
            conn.send(&answer)
        })
    });
    started.unwrap()
}

/// The error of a copy that asks for one piece after the other.
fn copy(source: &ScriptedServer, target: &ScriptedServer) -> CopyError {
    let options = Options::new().request_timeout(PATIENCE);
    let (from, to) = (source.uri().parse().unwrap(), target.uri().parse().unwrap());
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let surveyor = Surveyor::connect(&from, &options, &wanted, Order::Together).unwrap();
    let copy = Copy::connect(surveyor, (&from, &options), (&to, &options), 1).unwrap();
    let survey = copy.surveyor().survey_options().unwrap();
    let one = CopyOptions::new().pipeline(PipelineOptions::default().requests(1).piece(PIECE));
    copy.run(Full::new(), survey, &one).unwrap_err()
}

/// An answer too many comes while nothing is in flight: it answers no later request.
#[test]
fn a_copy_ends_with_an_answer_that_nobody_asked_for() {
    let twice = |request: &SeenRequest| bytes::extended_chunk(DONE, 0, request.cookie, request.offset, &[]);
    let early = |request: &SeenRequest| {
        bytes::extended_chunk(DONE, 0, request.cookie + 2, request.offset + u64::from(PIECE), &[])
    };
    let honest = || (side(1 | 2, |_| Vec::new()), side(1, |_| Vec::new()));
    for extra in [twice, early] {
        let error = copy(&side(1 | 2, extra), &honest().1);
        assert!(matches!(error, CopyError::Source(Error::Protocol(_))), "{error}");
        let error = copy(&honest().0, &side(1, extra));
        assert!(matches!(error, CopyError::Target(Error::Protocol(_))), "{error}");
    }
}

/// A target that hangs up while nothing is in flight there is lost: no earlier error is blamed.
#[test]
fn a_copy_whose_target_hangs_up_while_it_waits_for_its_source() {
    let (tell, told) = mpsc::channel();
    let source = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(u64::from(PIECE)).flags(1 | 2))?;
        conn.serve(|conn, request| match request.command {
            command::READ => tell.send(()).map_err(std::io::Error::other).and_then(|()| conn.stall()),
            _ => conn.honest(request, 0),
        })
    });
    let told = Mutex::new(told);
    let target = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(u64::from(PIECE)).flags(1))?;
        told.lock().unwrap().recv().unwrap();
        conn.hang_up()
    });
    let error = copy(&source.unwrap(), &target.unwrap());
    assert!(matches!(error, CopyError::Target(Error::ConnectionLost(_))), "{error}");
}
