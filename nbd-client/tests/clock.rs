//! Limits of time: in simulated time to the tick, over thousands of schedules; once each in real
//! time.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nbd_client::connection::Connection;
use nbd_client::copy::{Copy, CopyError, CopyOptions};
use nbd_client::frame::{Headers, command};
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{ReadRequest, WriteRequest, take_all};
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Error, Options, Surveyor, Uri};
use nbd_extents::action::Full;
use nbd_extents::{Context, Contexts};
use proptest::prelude::*;
use testkit::pki::Pki;
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest, bytes};

use testkit::clients::{AnyClient, Kind, SurveyKind};

const MIB: u64 = 1 << 20;
/// HAS_FLAGS, SEND_FLUSH, SEND_WRITE_ZEROES.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 6;
const LIMIT: Duration = Duration::from_millis(400);

/// Bytes of payload that are progress.
const PROGRESS: u64 = 64 << 10;

fn feed(connection: &mut Connection, mut input: &[u8], now: Instant) {
    while !input.is_empty() {
        let space = connection.space();
        let count = space.len().min(input.len());
        space[..count].copy_from_slice(&input[..count]);
        connection.received(count, now).unwrap();
        input = &input[count..];
        while connection.poll(&mut take_all, now).unwrap().is_some() {}
        send(connection, now);
    }
}

fn send(connection: &mut Connection, now: Instant) {
    let count = connection.output().map(<[u8]>::len).sum();
    connection.sent(count, now);
}

/// A connection whose handshake is over, with structured replies and an export of 1 GiB.
fn opened(options: Options, now: Instant) -> Connection {
    let mut connection = Connection::new("", &options.headers(Headers::Structured), now).unwrap();
    let hello = [
        bytes::hello(3),
        bytes::option_reply(8, 1, &[]),
        bytes::option_reply(7, 3, &bytes::export_info(1 << 30, WRITABLE)),
        bytes::option_reply(7, 1, &[]),
    ];
    feed(&mut connection, &hello.concat(), now);
    assert!(connection.is_open());
    connection
}

/// The next event: time passes, or bytes of the server come.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Bytes(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..900_u64).prop_map(Step::Wait),
        Just(Step::Bytes(1)),
        (1..100_000_usize).prop_map(Step::Bytes),
        (PROGRESS as usize - 1..PROGRESS as usize + 2).prop_map(Step::Bytes),
    ];
    prop::collection::vec(step, 1..60)
}

/// Says what the time is; false when it has run out, which must be exactly at `end`.
fn tick(connection: &mut Connection, now: Instant, limit: Instant, job: Option<Instant>) -> bool {
    let end = job.map_or(limit, |job| job.min(limit));
    assert_eq!(connection.poll_timeout(), Some(end));
    match connection.handle_timeout(now) {
        Ok(()) => assert!(now < end, "it is late and nobody says so"),
        Err(Error::OutOfTime(..)) => assert!(now >= end && job.is_some_and(|job| now >= job)),
        Err(Error::Timeout { .. }) => assert!(now >= end && job.is_none_or(|job| now < job)),
        Err(error) => panic!("{error}"),
    }
    now < end
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// One long read: 64 KiB of payload restart the limit, fewer do not.
    #[test]
    fn payload_is_progress(steps in steps(), limit in 1..1000_u64, job in prop::option::of(1..20_000_u64)) {
        let start = Instant::now();
        let (limit, job) = (Duration::from_millis(limit), job.map(|job| start + Duration::from_millis(job)));
        let mut connection = opened(Options::new().request_timeout(limit).deadline(job), start);
        let request = ReadRequest::new(0);
        connection.start(start, |session| session.start_read(&request, vec![0; 1 << 20])).unwrap();
        send(&mut connection, start);
        let mut reply = bytes::structured_header(DONE, 1, 1, (1 << 20) + 8);
        reply.extend(0_u64.to_be_bytes());
        feed(&mut connection, &reply[..20], start);
        let (mut now, mut restarted, mut moved) = (start, start, 0);
        let payload = [&reply[20..], &vec![7; 1 << 20]].concat();
        let mut rest = payload.as_slice();
        for step in steps {
            match step {
                Step::Wait(time) => now += Duration::from_millis(time),
                Step::Bytes(count) => {
                    let (some, later) = rest.split_at(count.min(rest.len()));
                    // pieces as a socket may bring them, each of which is looked at
                    for piece in some.chunks(16 << 10) {
                        feed(&mut connection, piece, now);
                        moved += piece.len() as u64;
                        if moved >= PROGRESS {
                            (restarted, moved) = (now, 0);
                        }
                    }
                    rest = later;
                }
            }
            if rest.is_empty() {
                prop_assert_eq!(connection.poll_timeout(), job);
                return Ok(());
            }
            if !tick(&mut connection, now, restarted + limit, job) {
                return Ok(());
            }
        }
    }

    /// One long write: 64 KiB of payload that were sent restart the limit, fewer do not.
    #[test]
    fn sent_payload_is_progress(
        steps in steps(),
        limit in 1..1000_u64,
        job in prop::option::of(1..20_000_u64),
    ) {
        let start = Instant::now();
        let (limit, job) = (Duration::from_millis(limit), job.map(|job| start + Duration::from_millis(job)));
        let mut connection = opened(Options::new().request_timeout(limit).deadline(job), start);
        let request = WriteRequest::new(0);
        connection.start(start, |session| session.start_write(&request, vec![7; 1 << 20])).unwrap();
        // a structured server's request has a header of 28 bytes
        connection.sent(28, start);
        let (mut now, mut restarted, mut moved) = (start, start, 0);
        for step in steps {
            match step {
                Step::Wait(time) => now += Duration::from_millis(time),
                Step::Bytes(count) => {
                    let count = count.min(connection.output().map(<[u8]>::len).sum());
                    connection.sent(count, now);
                    moved += count as u64;
                    if moved >= PROGRESS {
                        (restarted, moved) = (now, 0);
                    }
                }
            }
            if !tick(&mut connection, now, restarted + limit, job) {
                return Ok(());
            }
        }
    }

    /// Several short reads: each whole answer restarts the limit, and bytes of a header do not.
    #[test]
    fn whole_answers_are_progress(
        steps in steps(),
        limit in 1..1000_u64,
        job in prop::option::of(1..20_000_u64),
        flush in prop::option::of(1..2000_u64),
    ) {
        let start = Instant::now();
        let (limit, job) = (Duration::from_millis(limit), job.map(|job| start + Duration::from_millis(job)));
        let flush = flush.map(Duration::from_millis);
        let options = Options::new().request_timeout(limit).deadline(job).flush_timeout(flush);
        let mut connection = opened(options, start);
        let mut replies = Vec::new();
        for cookie in 1..=8 {
            connection.start(start, |session| session.start_read(&ReadRequest::new(0), vec![0; 1])).unwrap();
            replies.push(bytes::structured_chunk(DONE, 1, cookie, &[0; 9]));
        }
        let has_flush = flush.is_some();
        if has_flush {
            connection.start(start, |session| session.start_flush()).unwrap();
        }
        send(&mut connection, start);
        let length = replies[0].len();
        let stream = replies.concat();
        let (mut now, mut restarted, mut fed) = (start, start, 0);
        for step in steps {
            match step {
                Step::Wait(time) => now += Duration::from_millis(time),
                Step::Bytes(count) => {
                    let end = stream.len().min(fed + count % (2 * length) + 1);
                    feed(&mut connection, &stream[fed..end], now);
                    if end / length > fed / length {
                        restarted = now;
                    }
                    fed = end;
                }
            }
            let patience = match flush {
                _ if !has_flush => limit,
                Some(flush) if fed < stream.len() => flush.max(limit),
                flush => flush.unwrap(),
            };
            if fed == stream.len() && !has_flush {
                prop_assert_eq!(connection.poll_timeout(), job);
                return Ok(());
            }
            if !tick(&mut connection, now, restarted + patience, job) {
                return Ok(());
            }
        }
    }
}

/// What a socket holds when the limit is over is read first, and counts if it is progress: a whole
/// answer, or 64 KiB. Bytes that go on to come one by one do not.
#[test]
fn bytes_that_are_read_late() {
    let start = Instant::now();
    let late = start + LIMIT * 2;
    let ask = |length: usize, options: &Options| {
        let mut connection = opened(options.clone().request_timeout(LIMIT), start);
        let request = ReadRequest::new(0);
        connection.start(start, |session| session.start_read(&request, vec![0; length])).unwrap();
        send(&mut connection, start);
        let reply = bytes::structured_chunk(DONE, 1, 1, &vec![0; length + 8]);
        (connection, reply)
    };
    let usual = Options::new();
    let (mut whole, reply) = ask(4096, &usual);
    feed(&mut whole, &reply, late);
    assert_eq!(whole.poll_timeout(), None);
    let (mut part, reply) = ask(1 << 20, &usual);
    for piece in reply[..20 + PROGRESS as usize].chunks(4 << 10) {
        feed(&mut part, piece, late);
    }
    assert_eq!(part.poll_timeout(), Some(late + LIMIT));

    let receive = |connection: &mut Connection, byte, now| {
        connection.space()[0] = byte;
        let received = connection.received(1, now);
        received.and_then(|()| connection.poll(&mut take_all, now).map(drop))
    };
    let (mut drip, reply) = ask(4096, &usual);
    let error = reply[..1000].iter().find_map(|&byte| receive(&mut drip, byte, late).err());
    assert!(matches!(error, Some(Error::Timeout { .. })), "{error:?}");
    // neither the whole job nor the handshake gets more time
    let (mut job, reply) = ask(4096, &Options::new().deadline(Some(late)));
    assert!(matches!(receive(&mut job, reply[0], late), Err(Error::OutOfTime(_))));
    let pki = Pki::new();
    let options = Options::new().connect_timeout(LIMIT).tls(pki.client());
    let mut handshake = Connection::new("", &options, start).unwrap();
    assert!(matches!(receive(&mut handshake, b'N', late), Err(Error::Timeout { .. })));
    // the server agrees to TLS, and goes on with a record
    let mut tls = Connection::new("", &options, start).unwrap();
    feed(&mut tls, &[bytes::hello(3), bytes::option_reply(5, 1, &[])].concat(), start);
    assert!(matches!(receive(&mut tls, 0x16, late), Err(Error::Timeout { .. })));
}

// ---- once in real time

fn connect(kind: Kind, server: &ScriptedServer, options: &Options) -> AnyClient {
    kind.connect(&server.uri().parse().unwrap(), options).unwrap()
}

/// A server that takes three times the limit for FLUSH.
#[test]
fn a_flush_has_no_limit_unless_the_caller_sets_one() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().flags(WRITABLE))?;
        conn.serve(|conn, request| {
            if request.command == command::FLUSH {
                conn.pause(LIMIT * 3)?;
            }
            conn.done(request)
        })
    })
    .unwrap();
    for kind in Kind::ALL {
        let options = Options::new().request_timeout(LIMIT);
        connect(kind, &server, &options).flush().unwrap();
        let limited = options.flush_timeout(Some(LIMIT));
        let error = connect(kind, &server, &limited).flush().unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
    }
}

/// Eight requests in flight to a server that does one at a time, each of them in time.
#[test]
fn requests_that_wait_for_others_are_not_late() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(1 << 40).flags(WRITABLE))?;
        conn.serve(|conn, request| {
            conn.pause(LIMIT / 3)?;
            conn.done(request)
        })
    })
    .unwrap();
    for kind in Kind::WITH_CALLS {
        let started = Instant::now();
        connect(kind, &server, &Options::new().request_timeout(LIMIT)).zero(0, 8 * 64 * MIB).unwrap();
        assert!(started.elapsed() > LIMIT * 2, "{kind:?}");
    }
}

/// One status that takes longer than the limit, as of a fragmented image on a slow disk, is late
/// unless the caller gives it more time.
#[test]
fn a_slow_status_needs_a_longer_limit() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(3))?;
        conn.serve(|conn, request| {
            conn.pause(LIMIT * 2)?;
            conn.honest(request, 0)
        })
    })
    .unwrap();
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let uri = server.uri().parse().unwrap();
    for kind in SurveyKind::ALL {
        let survey = |limit| {
            let options = Options::new().request_timeout(limit);
            let mut surveyor = kind.connect(&uri, &options, &wanted, Order::Together).unwrap();
            let settled = surveyor.survey_options().unwrap();
            surveyor.survey(settled)
        };
        let late = survey(LIMIT).unwrap_err();
        assert!(matches!(late, SurveyorError::Client(Error::Timeout { .. })), "{kind:?}: {late}");
        assert!(!survey(LIMIT * 8).unwrap().is_empty(), "{kind:?}");
    }
}

/// A slow line is not a dead one; a byte now and then is.
#[test]
fn a_read_that_goes_on_is_not_late() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended())?;
        conn.serve(|conn, request| {
            conn.chunk_header(request, DONE, 1, request.length + 8)?;
            conn.send(&request.offset.to_be_bytes())?;
            let piece = if request.offset == 0 { 64 << 10 } else { 16 << 10 };
            for _ in 0..request.length / piece {
                conn.pause(LIMIT / 3)?;
                conn.send(&vec![7; piece as usize])?;
            }
            Ok(())
        })
    })
    .unwrap();
    for kind in Kind::ALL {
        let mut client = connect(kind, &server, &Options::new().request_timeout(LIMIT));
        assert!(client.read(0, 256 << 10).unwrap().iter().all(|&byte| byte == 7), "{kind:?}");
        // 48 KiB within the limit
        let error = client.read(MIB, 256 << 10).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
    }
}

/// What a scripted server does before it answers a read or a write.
type Deed = dyn Fn(&mut Conn, &SeenRequest) -> std::io::Result<()> + Send + Sync;

fn disk(flags: u16, before: Box<Deed>) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        // HAS_FLAGS, CAN_MULTI_CONN
        conn.handshake(&Good::extended().size(4 * MIB).flags(1 | 1 << 8 | flags))?;
        conn.serve(|conn, request| match request.command {
            command::READ => {
                before(conn, request)?;
                conn.data(request, request.offset, &vec![7; request.length as usize], DONE)
            }
            command::WRITE => before(conn, request).and_then(|()| conn.done(request)),
            command::BLOCK_STATUS => conn.honest(request, 0),
            _ => conn.done(request),
        })
    })
    .unwrap()
}

/// Copies a disk of 4 MiB, and returns how many bytes of it were data.
fn copy(
    disks: [(&ScriptedServer, &Options); 2],
    lanes: usize,
    pace: PipelineOptions,
) -> Result<u64, CopyError> {
    let [(source, from), (target, to)]: [(Uri, _); 2] =
        disks.map(|(server, options)| (server.uri().parse().unwrap(), options));
    let wanted = Contexts::new().require(Context::Allocation).unwrap();
    let surveyor = Surveyor::connect(&source, from, &wanted, Order::Together).unwrap();
    let copy = Copy::connect(surveyor, (&source, from), (&target, to), lanes).unwrap();
    assert_eq!(copy.lanes(), lanes);
    let settled = copy.surveyor().survey_options().unwrap();
    copy.run(Full::new(), settled, &CopyOptions::new().pipeline(pace)).map(|(done, _)| done.copied)
}

/// The flush of a copy comes when its last lane is ready. The first lane, which sends it, has had
/// nothing to do for twice its limit by then.
#[test]
fn a_copy_gives_its_flush_time_from_when_it_is_sent() {
    let is_shared = Arc::new(AtomicBool::new(false));
    // the second lane has one write, and the first one all others
    let write = move |conn: &mut Conn, _: &SeenRequest| {
        if conn.number() > 0 {
            is_shared.store(true, Ordering::SeqCst);
            return conn.pause(LIMIT * 2);
        }
        while !is_shared.load(Ordering::SeqCst) {
            conn.pause(Duration::from_millis(1))?;
        }
        Ok(())
    };
    let (source, target) = (disk(1 << 1, Box::new(|_, _| Ok(()))), disk(1 << 2, Box::new(write)));
    let options = Options::new().flush_timeout(Some(LIMIT));
    let one = PipelineOptions::default().requests(1);
    assert_eq!(copy([(&source, &options), (&target, &options)], 2, one).unwrap(), 4 * MIB);
}

/// A copy that has asked its source for more does not wait for its target, which answers at once. It
/// takes these answers before it says who is late.
#[test]
fn a_copy_blames_no_target_that_has_answered() {
    let source = disk(
        1 << 1,
        Box::new(|conn, request| match request.offset {
            0 => Ok(()),
            _ => conn.pause(LIMIT * 3),
        }),
    );
    let target = disk(1 << 2, Box::new(|_, _| Ok(())));
    let (patient, options) = (Options::new(), Options::new().request_timeout(LIMIT));
    let pace = PipelineOptions::default().piece(1 << 20);
    let late = copy([(&source, &options), (&target, &options)], 1, pace).unwrap_err();
    assert!(matches!(late, CopyError::Source(Error::Timeout { .. })), "{late}");
    assert_eq!(copy([(&source, &patient), (&target, &options)], 1, pace).unwrap(), 4 * MIB);
}
