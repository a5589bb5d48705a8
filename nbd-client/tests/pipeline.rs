//! Several requests in flight: answers in any order and mixed chunk by chunk, a server that does
//! not read while it has something to say, failures in the middle, and the order of what overlaps.
#![cfg(target_os = "linux")]

use std::collections::HashSet;
use std::io::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nbd_client::frame::{command, command_flag};
use nbd_client::pipeline::PipelineOptions;
use nbd_client::session::{Event, ReadRequest, StartError, WriteRequest, take_all};
use nbd_client::transport::Canceller;
use nbd_client::{Client, Error, Options};
use testkit::clients::{AnyClient, Kind};
use testkit::pools::{AnyPool, PoolKind};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// HAS_FLAGS, and everything that a server can offer for writing.
const WRITABLE: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 11;
const ENOTSUP: u32 = 95;
const ENOSPC: u32 = 28;

fn connect(kind: Kind, server: &ScriptedServer, options: &Options) -> AnyClient {
    kind.connect(&server.uri().parse().unwrap(), options).unwrap()
}

/// A pool of one connection of either kind, which pipelines run on.
fn pools(server: &ScriptedServer) -> [AnyPool; 2] {
    PoolKind::ALL.map(|kind| kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap())
}

/// The content of the disk in these tests: bytes that tell their place.
fn content(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| (at / 4096 * 31 + at % 251) as u8).collect()
}

/// A disk in memory, whose server answers everything at once and truthfully.
#[derive(Clone)]
struct Disk(Arc<Mutex<Vec<u8>>>);

impl Disk {
    fn new(size: u64) -> Self {
        Self(Arc::new(Mutex::new(content(0, size))))
    }

    fn answer(&self, conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let place = request.offset as usize..(request.offset + request.length) as usize;
        match request.command {
            command::READ => {
                let data = bytes[place].to_vec();
                drop(bytes);
                conn.data(request, request.offset, &data, DONE)
            }
            command::WRITE => {
                bytes[place].copy_from_slice(&request.data);
                drop(bytes);
                conn.done(request)
            }
            command::WRITE_ZEROES => {
                bytes[place].fill(0);
                drop(bytes);
                conn.done(request)
            }
            _ => conn.done(request),
        }
    }
}

/// Takes `count` requests before the first answer.
fn requests(conn: &mut Conn, count: usize) -> Result<Vec<SeenRequest>> {
    (0..count).map(|_| conn.request()).collect()
}

/// A read takes memory when its answer begins, out of what the blocks before it have given back.
/// Reads that wait for their answers need none.
#[test]
fn blocks_come_into_the_memory_of_those_before() {
    const BLOCKS: u64 = 100;
    let (answer, may_answer) = channel();
    let may_answer = Mutex::new(may_answer);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(BLOCKS * 64 * KIB))?;
        conn.serve(|conn, request| {
            may_answer.lock().unwrap().recv().map_err(std::io::Error::other)?;
            conn.data(request, request.offset, &content(request.offset, request.length), DONE)
        })
    })
    .unwrap();
    for mut pool in pools(&server) {
        let pace = PipelineOptions::default().requests(16).piece(64 << 10);
        let mut blocks = pool.read_ahead(Some(0..BLOCKS * 64 * KIB), pace).unwrap();
        let mut places = HashSet::new();
        for _ in 0..BLOCKS {
            answer.send(()).unwrap();
            let block = blocks.next_block().unwrap().unwrap();
            assert!(block.data == content(block.offset, 64 * KIB), "block at {}", block.offset);
            places.insert(block.data.as_ptr().addr());
        }
        // the answer may begin before the block before it was given back
        assert!(places.len() <= 2, "{} places of blocks", places.len());
    }
}

#[test]
fn blocks_come_in_order_whatever_the_order_of_the_answers() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended())?;
        let asked = requests(conn, 8)?;
        // backwards, and each in halves that are mixed with those of its neighbour
        for pair in asked.rchunks(2) {
            for half in [1, 0] {
                for request in pair.iter().rev() {
                    let length = request.length / 2;
                    let offset = request.offset + half * length;
                    let flags = if half == 0 { DONE } else { 0 };
                    conn.data(request, offset, &content(offset, length), flags)?;
                }
            }
        }
        conn.stall()
    })
    .unwrap();
    for mut pool in pools(&server) {
        let pace = PipelineOptions::default().requests(8).piece(64 << 10);
        let mut blocks = pool.read_ahead([0..256 * KIB, MIB..MIB + 256 * KIB], pace).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = blocks.next_block().unwrap() {
            assert!(
                block.data == content(block.offset, block.data.len() as u64),
                "block at {}",
                block.offset
            );
            seen.push((block.offset, block.data.len() as u64));
        }
        let expected: Vec<_> = [0, MIB]
            .iter()
            .flat_map(|start| (0..4).map(move |nth| (start + nth * 64 * KIB, 64 * KIB)))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(pool.in_flight(), 0);
    }
}

/// Holes between data, in blocks of their own and in parts of blocks, and a short block at the end.
/// All blocks that are holes are the same memory, which nothing was written to.
#[test]
fn blocks_that_are_holes_read_as_zeroes() {
    const PIECE: u64 = 64 * KIB;
    const SIZE: u64 = 64 * PIECE + 512;
    let is_hole = |at: u64| !(at / PIECE).is_multiple_of(3);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(SIZE))?;
        conn.serve(|conn, request| {
            let SeenRequest { offset, length, .. } = *request;
            if is_hole(offset) {
                return conn.hole(request, offset, length as u32, DONE);
            }
            conn.hole(request, offset, length as u32 / 2, 0)?;
            conn.data(request, offset + length / 2, &content(offset, length / 2), DONE)
        })
    })
    .unwrap();
    for mut pool in pools(&server) {
        let pace = PipelineOptions::default().piece(PIECE as u32);
        let mut blocks = pool.read_ahead(Some(0..SIZE), pace).unwrap();
        let (mut at, mut holes) = (0, HashSet::new());
        while let Some(block) = blocks.next_block().unwrap() {
            let length = PIECE.min(SIZE - at);
            let mut expected = vec![0; length as usize];
            if is_hole(at) {
                holes.insert(block.data.as_ptr().addr());
            } else {
                expected[length as usize / 2..].copy_from_slice(&content(at, length / 2));
            }
            assert!(block.offset == at && block.data == expected, "block at {at}");
            at += length;
        }
        assert_eq!((at, holes.len()), (SIZE, 1));
    }
}

#[test]
fn no_more_is_in_flight_than_the_pace_allows() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(64 << 20))?;
        // Nothing more comes before something is answered: the pace is 4 requests, or 1 MiB.
        let asked = requests(conn, 4)?;
        conn.pause(Duration::from_millis(50))?;
        assert!(!conn.has_input()?, "a fifth request");
        for request in &asked {
            conn.hole(request, request.offset, request.length as u32, DONE)?;
        }
        conn.serve(|conn, request| conn.hole(request, request.offset, request.length as u32, DONE))
    })
    .unwrap();
    for pace in [
        PipelineOptions::default().requests(4).bytes(1 << 30),
        PipelineOptions::default().requests(100).bytes(MIB),
    ] {
        for mut pool in pools(&server) {
            let mut blocks = pool.read_ahead(Some(0..8 * MIB), pace).unwrap();
            let mut total = 0;
            while let Some(block) = blocks.next_block().unwrap() {
                assert!(block.data.iter().all(|&byte| byte == 0));
                total += block.data.len() as u64;
            }
            assert_eq!(total, 8 * MIB);
            pool.disconnect().unwrap();
        }
    }
}

/// This server answers each request before it reads the next, and its answers fill the socket: it
/// reads on only when they are read.
#[test]
fn a_server_that_waits_for_us_to_read_does_not_wait_for_ever() {
    for kind in Kind::WITH_EVENTS {
        let disk = Disk::new(64 * MIB);
        let theirs = disk.clone();
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
            conn.serve(|conn, request| theirs.answer(conn, request))
        })
        .unwrap();
        let mut client = connect(kind, &server, &Options::new().request_timeout(Duration::from_secs(20)));
        // 16 MiB of answers and 24 MiB of payload, all started before the first event is asked for
        let mut reads = 0;
        for nth in 0..16 {
            let buffer = vec![0x11; MIB as usize];
            client.start(|session| session.start_read(&ReadRequest::new(nth * MIB), buffer)).unwrap();
        }
        for nth in 0..3 {
            let data = vec![nth as u8 + 1; 8 << 20];
            client
                .start(|session| session.start_write(&WriteRequest::new(32 * MIB + nth * 8 * MIB), data))
                .unwrap();
        }
        while let Some(event) = client.next_event(&mut take_all).unwrap() {
            match event {
                Event::Read { cookie, data } => {
                    assert!(data == content((cookie.get() - 1) * MIB, MIB));
                    reads += 1;
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        assert_eq!(reads, 16);
        let bytes = disk.0.lock().unwrap();
        for nth in 0..3_u8 {
            let start = (32 << 20) + usize::from(nth) * (8 << 20);
            assert!(bytes[start..start + (8 << 20)].iter().all(|&byte| byte == nth + 1));
        }
    }
}

/// One long write, whose answers come while it is still being sent.
#[test]
fn a_long_write_is_answered_piece_by_piece() {
    let disk = Disk::new(64 * MIB);
    let theirs = disk.clone();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(WRITABLE).block_sizes([1, 4096, 300 * 1024]))?;
        conn.serve(|conn, request| {
            assert!(request.length <= 300 * KIB);
            theirs.answer(conn, request)
        })
    })
    .unwrap();
    for (nth, kind) in (1..).zip(Kind::WITH_CALLS) {
        let mut client = connect(kind, &server, &Options::new());
        let data: Vec<u8> = content(0, 20 * MIB).into_iter().map(|byte| byte.wrapping_add(nth)).collect();
        client.write(5, &data).unwrap();
        assert!(client.read(5, data.len()).unwrap() == data, "{kind:?}");
        client.flush().unwrap();
    }
}

#[test]
fn a_failure_in_the_middle_ends_the_pipeline_and_not_the_connection() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.offset / (256 * KIB) {
            3 => conn.error(request, ENOSPC, "no", DONE),
            _ => conn.data(request, request.offset, &content(request.offset, request.length), DONE),
        })
    })
    .unwrap();
    for mut pool in pools(&server) {
        let mut blocks = pool.read_ahead(Some(0..4 * MIB), PipelineOptions::default()).unwrap();
        let error = loop {
            match blocks.next_block() {
                Ok(Some(block)) => assert!(block.offset < 768 * KIB),
                Ok(None) => panic!("it ended well"),
                Err(error) => break error,
            }
        };
        let request = error.request().unwrap();
        assert_eq!((request.request.offset, request.request.length), (768 * KIB, 256 * KIB), "{error}");
        assert_eq!(request.errno().unwrap().0, ENOSPC, "{error}");
        assert_eq!(blocks.next_block().unwrap(), None, "nothing more comes");
        assert_eq!(pool.in_flight(), 0);
        let mut byte = [0];
        pool.read(MIB, &mut byte).unwrap();
        assert_eq!(byte[0], content(MIB, 1)[0]);
    }
}

/// A long read whose first pieces fail: the others are waited for, none is started any more, and
/// the next call is in step.
#[test]
fn a_failed_piece_fails_the_whole_read() {
    let asked = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&asked);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(64 * MIB))?;
        conn.serve(|conn, request| {
            theirs.fetch_add(1, Ordering::SeqCst);
            match request.offset {
                0 => conn.error(request, 5, "", DONE),
                offset => conn.data(request, offset, &content(offset, request.length), DONE),
            }
        })
    })
    .unwrap();
    for kind in Kind::WITH_CALLS {
        asked.store(0, Ordering::SeqCst);
        let mut client = connect(kind, &server, &Options::new());
        let error = client.read(0, 32 << 20).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
        let asked = asked.load(Ordering::SeqCst);
        assert!(asked <= 16, "{kind:?}: {asked} requests");
        assert!(client.read(MIB, 512).unwrap() == content(MIB, 512), "{kind:?}");
    }
}

#[test]
fn writes_that_overlap_are_done_one_after_the_other() {
    let disk = Disk::new(4 * MIB);
    let theirs = disk.clone();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().flags(WRITABLE))?;
        // As a server may: whatever has come is done in the opposite order.
        loop {
            let mut batch = vec![conn.request()?];
            conn.pause(Duration::from_millis(10))?;
            while conn.has_input()? {
                batch.push(conn.request()?);
            }
            for request in batch.iter().rev() {
                if request.command == command::DISC {
                    return Ok(());
                }
                theirs.answer(conn, request)?;
            }
        }
    })
    .unwrap();
    for mut pool in pools(&server) {
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        writes.write(0, vec![1; 8192]).unwrap();
        writes.write(4096, vec![2; 8192]).unwrap();
        writes.zero(8192, 8192).unwrap();
        writes.write(12288, vec![3; 100]).unwrap();
        writes.finish().unwrap();
        let mut bytes = disk.0.lock().unwrap();
        let expected = [vec![1; 4096], vec![2; 4096], vec![0; 4096], vec![3; 100], vec![0; 3996]].concat();
        assert!(bytes[..16384] == expected);
        bytes.fill(0xee);
    }
}

/// The requests for zeroes that a server got, as (command, flags, offset, length).
type Zeroes = Vec<(u16, u16, u64, u64)>;

/// A server that refuses FAST_ZERO, and WRITE_ZEROES as well if it is told to.
fn zero_server(flags: u16, refuses_all: bool) -> (ScriptedServer, Arc<Mutex<Zeroes>>) {
    let seen = Arc::new(Mutex::new(Zeroes::new()));
    let theirs = Arc::clone(&seen);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(4 << 30).flags(flags))?;
        conn.serve(|conn, request| {
            if request.command == command::FLUSH {
                return conn.done(request);
            }
            theirs.lock().unwrap().push((request.command, request.flags, request.offset, request.length));
            assert!(request.data.iter().all(|&byte| byte == 0));
            let is_fast = request.flags & command_flag::FAST_ZERO != 0;
            if request.command == command::WRITE_ZEROES && (is_fast || refuses_all) {
                conn.error(request, ENOTSUP, "", DONE)
            } else {
                conn.done(request)
            }
        })
    })
    .unwrap();
    (server, seen)
}

/// The ranges that were done, in order and joined.
fn done(seen: &Zeroes, command: u16, flags: u16) -> Vec<(u64, u64)> {
    let mut ranges: Vec<_> = seen
        .iter()
        .filter(|request| request.0 == command && request.1 == flags)
        .map(|request| (request.2, request.2 + request.3))
        .collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        next.0 == last.1 && {
            last.1 = next.1;
            true
        }
    });
    ranges
}

#[test]
fn zeroes_take_the_next_best_way() {
    let range = (MIB, 3 << 30);
    let fast = command_flag::FAST_ZERO;
    let payload = command_flag::PAYLOAD_LEN;
    for pipelined in [None, Some(PoolKind::Blocking), Some(PoolKind::Async)] {
        let run = |server: &ScriptedServer, (start, end): (u64, u64)| {
            if let Some(kind) = pipelined {
                let mut pool = kind.connect(&server.uri().parse().unwrap(), &Options::new(), 1).unwrap();
                let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
                writes.zero(start, end - start).unwrap();
                writes.finish().unwrap();
                pool.disconnect().unwrap();
            } else {
                let mut client = connect(Kind::Blocking, server, &Options::new());
                client.zero(start, end - start).unwrap();
                client.disconnect().unwrap();
            }
        };
        let (server, seen) = zero_server(WRITABLE, false);
        run(&server, range);
        assert_eq!(done(&seen.lock().unwrap(), command::WRITE_ZEROES, 0), [range]);
        assert_eq!(done(&seen.lock().unwrap(), command::WRITE, payload), []);

        let (server, seen) = zero_server(WRITABLE, true);
        let small = (MIB, 20 * MIB);
        run(&server, small);
        assert_eq!(done(&seen.lock().unwrap(), command::WRITE, payload), [small]);

        let (server, seen) = zero_server(1, true);
        run(&server, small);
        assert!(seen.lock().unwrap().iter().all(|request| request.0 == command::WRITE));
        assert_eq!(done(&seen.lock().unwrap(), command::WRITE, payload), [small]);
    }
    assert_ne!(fast, 0);
}

#[test]
fn a_failed_write_is_reported_by_the_end_at_the_latest() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.serve(|conn, request| match request.offset {
            0 => conn.error(request, ENOSPC, "full", DONE),
            _ => conn.done(request),
        })
    })
    .unwrap();
    for mut pool in pools(&server) {
        let writes = |pool: &mut AnyPool, count: u64| {
            let mut writes = pool.write_behind(PipelineOptions::default())?;
            for nth in 0..count {
                let data = writes.buffer(256 << 10);
                writes.write(nth * 256 * KIB, data)?;
            }
            writes.finish()
        };
        for count in [1, 5, 200] {
            let error = writes(&mut pool, count).unwrap_err();
            assert_eq!(error.to_string().split(" failed").nth(1).unwrap(), " with ENOSPC: full");
            assert_eq!(pool.in_flight(), 0);
        }
        let mut again = pool.write_behind(PipelineOptions::default()).unwrap();
        again.write(0, vec![1; 512]).unwrap();
        let error = core::iter::repeat_with(|| again.zero(MIB, 512)).find_map(|result| result.err()).unwrap();
        let request = error.request().unwrap().request;
        assert_eq!((request.offset, request.length), (0, 512), "{error}");
        assert!(matches!(again.write(MIB, vec![1; 512]), Err(Error::Stopped)));
        assert!(matches!(again.finish(), Err(Error::Stopped)));
    }
}

fn blocking(server: &ScriptedServer) -> Client {
    Client::connect(&server.uri().parse().unwrap(), &Options::new()).unwrap()
}

#[test]
fn blocking_calls_want_the_connection_for_themselves() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().flags(WRITABLE))?;
        conn.serve(|conn, request| conn.hole(request, request.offset, request.length as u32, DONE))
    })
    .unwrap();
    let mut client = blocking(&server);
    client.start(|session| session.start_read(&ReadRequest::new(0), vec![1; 512])).unwrap();
    let busy = |error: Error| assert!(matches!(error, Error::Start(StartError::Busy(1))), "{error}");
    busy(client.read(0, &mut [0; 512]).unwrap_err());
    busy(client.write(0, &[0; 512]).unwrap_err());
    busy(client.flush().unwrap_err());
    while client.next_event(&mut take_all).unwrap().is_some() {}
    client.read(0, &mut [0; 512]).unwrap();
}

/// Killed while data are on their way, in each of the calls: the error says that the connection is
/// lost, and soon.
#[test]
fn a_server_that_dies_in_the_middle() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(WRITABLE))?;
        for nth in 0.. {
            let request = conn.request()?;
            if nth == 3 {
                conn.cut_after(1000);
            }
            if request.command == command::READ {
                conn.data(&request, request.offset, &content(request.offset, request.length), DONE)?;
            } else {
                conn.done(&request)?;
                if nth == 3 {
                    return conn.hang_up();
                }
            }
        }
        Ok(())
    })
    .unwrap();
    let started = Instant::now();
    let mut failures = Vec::new();
    for kind in Kind::WITH_CALLS {
        failures.push(connect(kind, &server, &Options::new()).read(0, 16 << 20).unwrap_err());
        failures.push(connect(kind, &server, &Options::new()).write(0, &vec![0; 16 << 20]).unwrap_err());
    }
    for mut pool in pools(&server) {
        failures.push(pool.read_ahead(Some(0..16 * MIB), PipelineOptions::default()).unwrap().error());
    }
    for mut pool in pools(&server) {
        let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
        let write = |nth| writes.write(nth * MIB / 2, vec![1; 512 << 10]).err();
        failures.push((0..100).find_map(write).unwrap());
    }
    for error in failures {
        assert_eq!(error.class(), nbd_client::ErrorClass::Connection, "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A byte now and then does not push a deadline away; nor does a server that takes nothing.
#[test]
fn deadlines_hold_for_reads_and_writes() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        let request = conn.request_header()?;
        if request.command == command::READ {
            conn.chunk_header(&request, DONE, 1, 8 + request.length)?;
            conn.send(&request.offset.to_be_bytes())?;
            return conn.drip(&[1; 4096], Duration::from_millis(20));
        }
        // the payload is never read
        conn.pause(Duration::from_secs(60))
    })
    .unwrap();
    let limit = Duration::from_millis(400);
    let options = Options::new().request_timeout(limit).flush_timeout(Some(limit));
    let calls = [
        |client: &mut AnyClient| client.read(0, 4096).map(drop),
        |client: &mut AnyClient| client.write(0, &vec![1; 32 << 20]),
        |client: &mut AnyClient| client.zero(0, 512),
        |client: &mut AnyClient| client.flush(),
    ];
    for (kind, call) in Kind::WITH_CALLS.iter().flat_map(|&kind| calls.map(|call| (kind, call))) {
        let mut client = connect(kind, &server, &options);
        let started = Instant::now();
        let error = call(&mut client).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{kind:?}: {error}");
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(380) && took < Duration::from_secs(4), "{kind:?}: {took:?}");
        assert!(matches!(client.read(0, 1), Err(Error::GivenUp)), "{kind:?}");
    }
}

#[test]
fn a_blocked_read_or_write_can_be_cancelled() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(64 * MIB).flags(WRITABLE))?;
        conn.request_header()?;
        conn.pause(Duration::from_secs(60))
    })
    .unwrap();
    for call in [
        |client: &mut Client| client.read(0, &mut [0; 4096]),
        |client: &mut Client| client.write(0, &vec![1; 32 << 20]),
    ] {
        let canceller = Canceller::new();
        let options = Options::new().canceller(canceller.clone());
        let mut client = Client::connect(&server.uri().parse().unwrap(), &options).unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            canceller.cancel();
        });
        let started = Instant::now();
        let error = call(&mut client).unwrap_err();
        assert!(matches!(error, Error::Cancelled(..)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(4));
        thread.join().unwrap();
    }
}
