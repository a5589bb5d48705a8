//! Memory of reads and writes: it follows the pace and not the disk, the buffer of a dropped call is
//! given back, and writes that a server refuses unread do not pile up. One test in a process of its
//! own, since it looks at all of the process. Calls of the blocking client cannot be dropped: the
//! second part is of the asynchronous one.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nbd_client::frame::command;
use nbd_client::pipeline::PipelineOptions;
use nbd_client::{Error, Options, aio};
use testkit::clients::Kind;
use testkit::pools::{AnyPool, PoolKind};
use testkit::scripted::{DONE, Good, ScriptedServer};

const MIB: u64 = 1 << 20;
/// Bytes of a write that a pool sends as one request.
const PIECE: u64 = 256 << 10;
/// HAS_FLAGS, SEND_FLUSH, CAN_MULTI_CONN.
const FLAGS: u16 = 1 | 1 << 2 | 1 << 8;

/// The peak of this process's memory, in bytes.
fn peak() -> u64 {
    memory("VmHWM:")
}

/// A figure of this process's memory, in bytes.
fn memory(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn read(pool: &mut AnyPool, size: u64) {
    let mut blocks = pool.read_ahead(Some(0..size), PipelineOptions::default()).unwrap();
    let mut total = 0;
    while let Some(block) = blocks.next_block().unwrap() {
        total += block.data.len() as u64;
    }
    assert_eq!(total, size);
}

fn write(pool: &mut AnyPool, size: u64) {
    let mut writes = pool.write_behind(PipelineOptions::default()).unwrap();
    for at in (0..size).step_by(4 << 20) {
        // memory of its own each time, which the pipeline is not to collect
        writes.write(at, vec![7; 4 << 20]).unwrap();
    }
    writes.finish().unwrap();
}

#[test]
fn it_follows_the_pace_and_not_the_disk() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::extended().size(4 << 30).flags(FLAGS))?;
        conn.serve(|conn, request| match request.command {
            // a hole alone takes no memory
            command::READ => {
                conn.hole(request, request.offset, request.length as u32 - 512, 0)?;
                conn.data(request, request.offset + request.length - 512, &[7; 512], DONE)
            }
            _ => conn.done(request),
        })
    })
    .unwrap();
    let uri = server.uri().parse().unwrap();
    let sizes = PoolKind::ALL.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]);
    let mut pools: Vec<_> =
        sizes.map(|(kind, count)| kind.connect(&uri, &Options::new(), count).unwrap()).collect();
    let mut use_all = |size: u64| {
        for pool in &mut pools {
            read(pool, size);
            write(pool, size);
        }
        peak()
    };
    let (small, large) = (use_all(64 * MIB), use_all(384 * MIB));
    eprintln!("64 MiB: {} KiB, 384 MiB: {} KiB", small >> 10, large >> 10);
    assert!(large <= small + 24 * MIB, "{} KiB for 64 MiB, {} KiB for 384 MiB", small >> 10, large >> 10);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let gate = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&gate);
        let slow = ScriptedServer::start(move |conn| {
            conn.handshake(&Good::extended().size(4 << 30).flags(FLAGS))?;
            conn.serve(|conn, request| {
                while request.offset < 16 * MIB && !theirs.load(Ordering::SeqCst) {
                    conn.pause(Duration::from_millis(1))?;
                }
                match request.command {
                    command::READ => conn.hole(request, request.offset, request.length as u32, DONE),
                    _ => conn.done(request),
                }
            })
        })
        .unwrap();
        let client = aio::Client::connect(&slow.uri().parse().unwrap(), &Options::new()).await.unwrap();
        let hurry = Duration::from_millis(1);
        for round in 0..100 {
            // nothing is answered while the gate is shut
            let call = client.read(0, 16 << 20);
            assert!(tokio::time::timeout(hurry, call).await.is_err(), "it was answered");
            for _ in 0..if round % 25 == 0 { 24 } else { 0 } {
                let call = client.write(0, vec![7; 16 << 20]);
                assert!(tokio::time::timeout(hurry, call).await.is_err(), "it was answered");
            }
            gate.store(true, Ordering::SeqCst);
            assert_eq!(client.read(1 << 30, 512).await.unwrap(), [0; 512]);
            gate.store(false, Ordering::SeqCst);
        }
        // the goodbye waits for answers that are owed
        gate.store(true, Ordering::SeqCst);
        client.disconnect().await.unwrap();
    });
    // 64 MiB may be in flight, 16 MiB are of the next call, and 32 MiB are kept to be used again
    let dropped = peak();
    eprintln!("1600 MiB of dropped reads, and of dropped writes: {} KiB", dropped >> 10);
    assert!(dropped <= large + 144 * MIB, "{} KiB, before {} KiB", dropped >> 10, large >> 10);

    // what a server leaves unread of one write is all that is kept beside the writes in flight
    for kind in Kind::WITH_CALLS {
        let before = memory("VmRSS:");
        let refused = refused_unread(kind, 256);
        let after = memory("VmRSS:");
        eprintln!(
            "{kind:?}, {refused} writes refused unread: {} KiB, before {} KiB",
            after >> 10,
            before >> 10
        );
        assert!(after <= before + 8 * MIB, "{kind:?}: {} KiB, before {} KiB", after >> 10, before >> 10);
    }
}

/// Writes to a server that reads the header of the first and refuses them all, since it can guess the
/// numbers. Returns the count of those that were refused, before the error of the connection.
fn refused_unread(kind: Kind, most: u64) -> u64 {
    // a pool numbers its transfers itself
    let step = if kind.is_pool() { 1 } else { 2 };
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(4 << 30).flags(FLAGS))?;
        let mut guess = conn.request_header()?;
        loop {
            conn.error(&guess, 28, "full", DONE)?;
            // the client has asked for the next one meanwhile
            conn.pause(Duration::from_millis(20))?;
            (guess.cookie, guess.offset) = (guess.cookie + step, guess.offset + PIECE);
        }
    })
    .unwrap();
    let mut client = kind.connect(&server.uri().parse().unwrap(), &Options::new()).unwrap();
    for nth in 0..most {
        match client.write(nth * PIECE, &[7; PIECE as usize]) {
            Err(Error::Request(_)) => {}
            // mostly AnsweredEarly; a slow client has not even asked for it
            Err(Error::Protocol(_)) => return nth,
            other => panic!("{kind:?}, after {nth}: {other:?}"),
        }
    }
    panic!("{kind:?}: the server has read nothing of {most} writes");
}
