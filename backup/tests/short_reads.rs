//! Backups of many short ranges over one connection, whose blocks are received by the thread that
//! writes them: in order, and by another thread while the output is blocked.
#![cfg(unix)]

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::command;
use nbd_client::transport::Canceller;
use nbd_client::{Error, Options};
use nbd_extents_backup::sparse_stream::{Event, Reader};
use nbd_extents_backup::{Backup, BackupError};
use testkit::scripted::{Conn, DONE, Good, ScriptedServer, SeenRequest};

/// Every second range of this length holds data, the others are zero. All that is in flight is far
/// more than a socket holds.
const RANGE: u64 = 16 << 10;
const SIZE: u64 = 256 * RANGE;
/// HAS_FLAGS, READ_ONLY.
const FLAGS: u16 = 3;

/// Bytes of reads that a server has seen, and those whose answers could be sent.
#[derive(Debug, Default)]
struct Seen {
    asked: AtomicU64,
    answered: AtomicU64,
}

/// The bytes at an offset, which tell the range.
fn content(offset: u64, length: u64) -> Vec<u8> {
    vec![(offset / RANGE) as u8 | 1; length as usize]
}

fn server(
    answer: impl Fn(&mut Conn, &mut Vec<SeenRequest>) -> io::Result<()> + Send + Sync + 'static,
) -> (ScriptedServer, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let theirs = Arc::clone(&seen);
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(SIZE).flags(FLAGS))?;
        let mut held = Vec::new();
        conn.serve(|conn, request| match request.command {
            command::READ => {
                theirs.asked.fetch_add(request.length, Ordering::SeqCst);
                held.push(request.clone());
                answer(conn, &mut held)?;
                let bytes: u64 = held.iter().map(|request| request.length).sum();
                let asked = theirs.asked.load(Ordering::SeqCst);
                theirs.answered.store(asked - bytes, Ordering::SeqCst);
                Ok(())
            }
            command::BLOCK_STATUS => {
                let ranges = request.offset / RANGE..(request.offset + request.length) / RANGE;
                let list: Vec<_> = ranges.map(|nth| (RANGE, nth % 2 * 3)).collect();
                conn.status(request, 0, &list, DONE)
            }
            _ => conn.done(request),
        })
    });
    (server.unwrap(), seen)
}

/// Answers at once.
fn at_once(conn: &mut Conn, held: &mut Vec<SeenRequest>) -> io::Result<()> {
    held.drain(..).try_for_each(|request| data(conn, &request))
}

fn data(conn: &mut Conn, request: &SeenRequest) -> io::Result<()> {
    conn.data(request, request.offset, &content(request.offset, request.length), DONE)
}

fn back_up<W: Write>(server: &ScriptedServer, options: &Options, out: W) -> Result<W, Box<BackupError>> {
    let disk = Backup::full().survey(&server.uri().parse().unwrap(), options)?;
    Ok(disk.write(out)?.0)
}

/// Each range of the stream holds its own bytes.
#[track_caller]
fn check(stream: &[u8]) {
    let (mut reader, mut input, mut data) = (Reader::new(), stream, 0);
    while let Some(event) = reader.next(&mut input).unwrap() {
        match event {
            Event::Payload { offset, bytes } => {
                assert!(bytes == content(offset, bytes.len() as u64), "at {offset}");
                data += bytes.len() as u64;
            }
            Event::Zero { range } => assert_eq!(range.start / RANGE % 2, 1),
            Event::Stop => break,
            _ => {}
        }
    }
    assert_eq!(data, SIZE / 2);
    reader.finish().unwrap();
}

/// An output that blocks in its first write of payload until a condition holds.
struct Blocking<F> {
    stream: Vec<u8>,
    until: Option<F>,
}

impl<F: FnOnce()> Write for Blocking<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(until) = self.until.take() {
            until();
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn answers_in_any_order_make_a_stream_in_order() {
    let (backwards, _) = server(|conn, held| {
        if held.len() < 4 {
            return Ok(());
        }
        held.drain(..).rev().try_for_each(|request| data(conn, &request))
    });
    check(&back_up(&backwards, &Options::new(), Vec::new()).unwrap());
}

#[test]
fn while_the_output_is_blocked_everything_asked_for_is_received() {
    let (server, seen) = server(at_once);
    let settled = move || {
        let begun = Instant::now();
        loop {
            let [asked, answered] = [&seen.asked, &seen.answered].map(|count| count.load(Ordering::SeqCst));
            if asked >= 64 * RANGE && asked == answered {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answered} of {asked} bytes could be sent");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let out = Blocking { stream: Vec::new(), until: Some(settled) };
    check(&back_up(&server, &Options::new(), out).unwrap().stream);
}

/// A request that fails, and a connection that is lost, while the output is blocked: the error waits
/// for the thread that writes.
#[test]
fn an_error_while_the_output_is_blocked_is_told() {
    for hangs_up in [false, true] {
        let (server, _) = server(move |conn, held| {
            if held.iter().all(|request| request.offset < 60 * RANGE) {
                return at_once(conn, held);
            }
            if hangs_up { conn.hang_up() } else { conn.error(&held.remove(0), 5, "", DONE) }
        });
        let pause = || thread::sleep(Duration::from_millis(100));
        let out = Blocking { stream: Vec::new(), until: Some(pause) };
        match back_up(&server, &Options::new(), out).map(|_| ()).map_err(|error| *error) {
            Err(BackupError::Read(Error::Request(error))) if !hangs_up => {
                assert_eq!(error.request.offset, 60 * RANGE)
            }
            Err(BackupError::Read(Error::ConnectionLost(_) | Error::Io { .. })) if hangs_up => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cancelled_backup_ends_though_its_server_is_silent() {
    let (server, seen) = server(|_, _| Ok(()));
    let canceller = Canceller::new();
    let options = Options::new().canceller(canceller.clone());
    let cancels = thread::spawn(move || {
        while seen.asked.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        canceller.cancel();
    });
    let error = back_up(&server, &options, Vec::new()).unwrap_err();
    assert!(matches!(*error, BackupError::Read(Error::Cancelled(_))), "{error}");
    cancels.join().unwrap();
}
