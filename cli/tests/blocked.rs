//! A run that is blocked in its own input or output: `--timeout` ends it with exit code 4, it keeps no
//! server waiting, and it ends when its reader goes away.
#![cfg(target_os = "linux")]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nbd_client::frame::command;
use testkit::scripted::{DONE, Good, ScriptedServer};

const MIB: u64 = 1 << 20;

/// A disk of data in many extents, for reading and writing.
fn server(flags: u16) -> ScriptedServer {
    ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(64 * MIB).flags(flags))?;
        conn.serve(|conn, request| match request.command {
            command::READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
            command::BLOCK_STATUS => {
                let list: Vec<_> = (0..request.length / 4096).map(|nth| (4096, nth % 2 * 3)).collect();
                conn.status(request, 0, &list, DONE)
            }
            _ => conn.done(request),
        })
    })
    .unwrap()
}

/// Runs with a pipe as its output.
fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_nbd-extents"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs with pipes that nobody fills or empties.
#[track_caller]
fn ends_blocked(arguments: &[&str]) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nbd-extents"))
        .args(arguments)
        .args(["--timeout", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pipes = (child.stdin.take(), child.stdout.take());
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if started.elapsed() > Duration::from_secs(15) {
            child.kill().unwrap();
            panic!("{arguments:?} does not end");
        }
        thread::sleep(Duration::from_millis(10));
    };
    drop(pipes);
    let message = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(code, Some(4), "{arguments:?}: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(started.elapsed() >= Duration::from_millis(900), "{message}");
}

#[test]
fn a_backup_whose_output_is_not_read() {
    ends_blocked(&["backup", &server(3).uri(), "-"]);
}

#[test]
fn a_restore_whose_input_stalls() {
    ends_blocked(&["restore", &server(1 | 1 << 2).uri(), "-"]);
}

#[test]
fn a_map_whose_output_is_not_read() {
    ends_blocked(&["map", &server(3).uri(), "--json"]);
}

/// The map is read ahead by a thread, which then waits for a server that does not answer.
#[test]
fn a_map_whose_reader_goes_away_does_not_wait_for_the_server() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(64 * MIB))?;
        conn.serve(|conn, request| match request.offset {
            0 => {
                let list: Vec<_> = (0..8192).map(|nth| (4096, nth % 2 * 3)).collect();
                conn.status(request, 0, &list, DONE)
            }
            _ => conn.stall(),
        })
    })
    .unwrap();
    let started = Instant::now();
    let mut child = start(&["map", &server.uri(), "--json"]);
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 1]).unwrap();
    drop(output);
    child.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(60), "it waited for the server");
}

/// What a server was asked for, and what of that it could answer, in units of the test's.
#[derive(Clone, Debug, Default)]
struct Counts(Arc<[AtomicU64; 2]>);

impl Counts {
    fn asked(&self, count: u64) {
        self.0[0].fetch_add(count, Ordering::SeqCst);
    }

    fn answered(&self, count: u64) {
        self.0[1].fetch_add(count, Ordering::SeqCst);
    }

    /// Waits until at least `least` were asked for, all of them are answered, and nothing has changed
    /// for half a second. Returns how many.
    #[track_caller]
    fn settled(&self, least: u64) -> u64 {
        let begun = Instant::now();
        let mut last = (0, Instant::now());
        while last.0 < least || last.1.elapsed() < Duration::from_millis(500) {
            let [asked, answered] = [&self.0[0], &self.0[1]].map(|count| count.load(Ordering::SeqCst));
            if asked != answered || asked != last.0 {
                last = (asked, Instant::now());
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{answered} of {asked} could be sent");
            thread::sleep(Duration::from_millis(5));
        }
        last.0
    }
}

/// While a server cannot send an answer, libvirt's guest stops: a backup asks for no more than it can
/// keep, and receives all of it though its own output is blocked.
#[test]
fn a_backup_whose_output_is_not_read_receives_whatever_it_asked_for() {
    let counts = Counts::default();
    let theirs = counts.clone();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::compact().size(1024 * MIB).flags(3))?;
        conn.serve(|conn, request| match request.command {
            command::READ => {
                theirs.asked(request.length);
                conn.data(request, request.offset, &vec![7; request.length as usize], DONE)?;
                theirs.answered(request.length);
                Ok(())
            }
            command::BLOCK_STATUS => conn.status(request, 0, &[(request.length, 0)], DONE),
            _ => conn.done(request),
        })
    })
    .unwrap();
    let mut child = start(&["backup", &server.uri(), "-"]);
    let held = counts.settled(2 * MIB);
    assert!(held < 64 * MIB, "{held} bytes are held");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// So does a map, whose answers are longer than a socket holds.
#[test]
fn a_map_whose_output_is_not_read_receives_whatever_it_asked_for() {
    let counts = Counts::default();
    let theirs = counts.clone();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 40))?;
        conn.serve(|conn, request| {
            theirs.asked(1);
            let each = request.length / 65536;
            let mut list: Vec<_> = (0..65536).map(|nth| (each, nth % 2 * 3)).collect();
            list[65535].0 += request.length % 65536;
            conn.status(request, 0, &list, DONE)?;
            theirs.answered(1);
            Ok(())
        })
    })
    .unwrap();
    let mut child = start(&["map", &server.uri(), "--json"]);
    counts.settled(4);
    child.kill().unwrap();
    child.wait().unwrap();
}
