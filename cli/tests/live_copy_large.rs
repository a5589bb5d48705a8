//! A copy of a disk of 10,000,000 extents: its first byte arrives within a second of the first
//! answer, and its memory does not grow with the extents.
#![cfg(target_os = "linux")]

mod support;

use core::time::Duration;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use support::run::program;
use testkit::command::peak_memory_and_code;
use testkit::scripted::{DONE, Good, ScriptedServer};

use nbd_client::frame::command;

const EXTENTS: u64 = 10_000_000;
const BLOCK: u64 = 4096;
/// The most descriptors in an answer, as of qemu.
const REPLY: u64 = 131_072;
/// HAS_FLAGS, READ_ONLY, CAN_MULTI_CONN.
const SOURCE: u16 = 1 | 1 << 1 | 1 << 8;
/// HAS_FLAGS, FLUSH, WRITE_ZEROES.
const TARGET: u16 = 1 | 1 << 2 | 1 << 6;
const MOST: u64 = 64 << 20;

type Moment = Arc<OnceLock<Instant>>;

/// A disk whose every second block is a hole. Its bitmap, where it has one, calls one block in 65536
/// dirty.
fn source(bitmap: bool, answered: Moment) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        let good = Good::extended().size(EXTENTS * BLOCK).flags(SOURCE);
        conn.handshake(&if bitmap { good.context(1, "qemu:dirty-bitmap:b0") } else { good })?;
        conn.serve(|conn, request| {
            if request.command == command::READ {
                return conn.data(request, request.offset, &vec![7; request.length as usize], DONE);
            }
            let first = request.offset / BLOCK;
            let count = REPLY.min(request.length.div_ceil(BLOCK));
            let allocation: Vec<_> = (first..first + count).map(|nth| (BLOCK, nth % 2 * 3)).collect();
            let dirty: Vec<_> =
                (first..first + count).map(|nth| (BLOCK, u64::from(nth % 65536 == 0))).collect();
            answered.get_or_init(Instant::now);
            let only = conn.contexts().len() == 1;
            conn.status(request, 0, &allocation, if only { DONE } else { 0 })?;
            if only { Ok(()) } else { conn.status(request, 1, &dirty, DONE) }
        })
    })
    .unwrap()
}

fn target(written: Moment) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(EXTENTS * BLOCK).flags(TARGET))?;
        conn.serve(|conn, request| {
            if request.command == command::WRITE {
                written.get_or_init(Instant::now);
            }
            conn.done(request)
        })
    })
    .unwrap()
}

/// Copies, and gives the peak memory, the exit code, and the time from the first answer to the first
/// write.
fn copy(bitmap: bool, options: &[&str]) -> (u64, Option<i32>, Duration) {
    let (answered, written) = (Moment::default(), Moment::default());
    let (from, to) = (source(bitmap, Arc::clone(&answered)), target(Arc::clone(&written)));
    let mut copy = program("copy");
    copy.args([from.uri(), to.uri()]).args(options);
    let copy = copy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (peak, code) = peak_memory_and_code(copy);
    let first = written.get().expect("it wrote").duration_since(*answered.get().expect("it was answered"));
    println!("{peak} bytes, first byte after {first:?}, {code:?}");
    (peak, code, first)
}

#[test]
fn the_first_byte_comes_at_once_and_memory_is_bounded() {
    // all of it would take minutes: what matters has happened long before
    let (peak, code, first) = copy(false, &["--timeout", "8", "--connections", "4"]);
    assert_eq!(code, Some(4), "the time was up");
    assert!(first < Duration::from_secs(1), "the first byte came after {first:?}");
    assert!(peak < MOST, "{peak} bytes");
}

#[test]
fn an_incremental_walks_over_all_extents_in_the_same_memory() {
    let (peak, code, first) = copy(true, &["--bitmap", "b0"]);
    assert_eq!(code, Some(0));
    assert!(first < Duration::from_secs(1), "the first byte came after {first:?}");
    assert!(peak < MOST, "{peak} bytes");
}
