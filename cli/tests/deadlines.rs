//! The program and servers that die, stop, or answer a byte a second: it ends in time, says what
//! happened, and what it has printed stays true.
#![cfg(target_os = "linux")]

mod hostile;

use std::time::Duration;

use hostile::M;
use hostile::run::map;
use testkit::endings::{self, Ending};
use testkit::scripted::{DONE, Good, ScriptedServer, bytes};

const TIMEOUT: Duration = Duration::from_secs(2);

#[test]
fn what_was_found_before_the_end_is_printed_and_the_list_stays_open() {
    let all: [Ending; 5] = [
        endings::dies,
        endings::dies_in_a_payload,
        endings::stops,
        endings::stops_in_a_payload,
        endings::drips,
    ];
    for ending in all {
        let run = map(&[&endings::server(ending).uri(), "--json"], TIMEOUT);
        run.fails(4, "");
        // Its output is held until the next extent is known, and so are the extents of the survey.
        let list = r#"[{"start": 0, "length": 1048576, "zero": false, "hole": false}"#;
        assert_eq!(run.stdout, list, "{run}");
    }
}

/// The deadline of the whole run holds where every single request is in time.
#[test]
fn a_server_that_is_slow_but_never_late() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(1 << 40))?;
        conn.serve(|conn, request| {
            conn.pause(Duration::from_millis(100))?;
            conn.status(request, 0, &[(M, 0)], DONE)
        })
    });
    map(&[&server.unwrap().uri(), "--json"], TIMEOUT).fails(4, " out");
}

/// A flush has no limit by itself; `--request-timeout` is the one that the user can set.
#[test]
fn a_flush_that_never_ends() {
    const FLUSH: u16 = 3;
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().flags(1 | 1 << 2 | 1 << 6))?;
        conn.serve(|conn, request| match request.command {
            FLUSH => conn.stall(),
            _ => conn.honest(request, 3),
        })
    });
    let uri = server.as_ref().unwrap().uri();
    let folder = testkit::server::folder();
    let file = folder.path().join("stream");
    let file = file.to_str().unwrap();
    let run = |verb, arguments: &[&str], timeout| hostile::run::run(verb, arguments, timeout);
    let backup = run("backup", &[&uri, file, "--allow-writable"], TIMEOUT);
    assert_eq!(backup.code, Some(0), "{backup}");
    run("restore", &[&uri, file, "--request-timeout", "0.5"], Duration::from_secs(30)).fails(4, " out");
}

#[test]
fn a_handshake_of_a_byte_a_second() {
    let server = ScriptedServer::start(|conn| {
        conn.drip(&bytes::hello(3), Duration::from_secs(1))?;
        conn.stall()
    });
    map(&[&server.unwrap().uri(), "--json"], TIMEOUT).fails(4, "during the server's hello");
    let server = ScriptedServer::start(|conn| {
        conn.hello()?;
        conn.drip(&bytes::option_reply(11, 1, b""), Duration::from_secs(1))?;
        conn.stall()
    });
    map(&[&server.unwrap().uri(), "--json"], TIMEOUT).fails(4, "during the handshake");
}

#[test]
fn a_server_that_shuts_down_says_so() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| conn.error(request, 108, "going down", DONE))
    });
    map(&[&server.unwrap().uri(), "--json"], TIMEOUT).fails(5, "ESHUTDOWN: going down");
}
