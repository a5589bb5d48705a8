//! How the program fails: the exit status that scripts branch on, one line that says why, and never
//! a finished array on stdout.

mod support;

use core::time::Duration;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use support::run::map;
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::tools;

const WRONG_USAGE: i32 = 2;
const NOT_THERE: i32 = 3;
const CONNECTION: i32 = 4;

const SIZE: u64 = 2 * MIB;

/// A disk with the bitmap b0 and some dirty data.
fn image(folder: &Path) -> Image {
    let steps = vec![Step::bitmap("b0"), Step::Write { at: 0, length: 64 * KIB }];
    Recipe::qcow2(64 * KIB, SIZE, steps).make(folder)
}

/// Runs `check` with the address of that disk.
fn with_disk(check: impl FnOnce(&str)) {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&image(folder.path()), &["b0"]);
    check(&server.uri(""));
}

#[test]
fn missing_bitmap_is_named_with_what_the_server_offers() {
    with_disk(|uri| {
        map(&[uri, "--json", "--bitmap", "nope"]).fails_saying(NOT_THERE, &["nope", "b0"]);
        map(&[uri, "--json", "--bitmap", "nope", "--bitmap-first"]).fails_saying(NOT_THERE, &["nope", "b0"]);
    });
}

#[test]
fn one_missing_bitmap_of_two_fails_the_run() {
    with_disk(|uri| {
        map(&[uri, "--json", "--bitmap", "b0", "--bitmap", "nope"]).fails_saying(NOT_THERE, &["nope"]);
    });
}

#[test]
fn unknown_export_is_not_there() {
    with_disk(|uri| {
        let unknown = uri.replace("nbd+unix:///", "nbd+unix:///unknown");
        map(&[&unknown, "--json"]).fails_saying(NOT_THERE, &["unknown"]);
        map(&[&unknown, "--json", "--compact"]).fails_saying(NOT_THERE, &["unknown"]);
    });
}

#[test]
fn range_beyond_the_end_is_wrong_usage() {
    with_disk(|uri| {
        let size = SIZE.to_string();
        let beyond = (SIZE + 1).to_string();
        map(&[uri, "--json", "--length", &beyond]).fails(WRONG_USAGE);
        map(&[uri, "--json", "--offset", &beyond]).fails(WRONG_USAGE);
        map(&[uri, "--json", "--offset", "1", "--length", &size]).fails(WRONG_USAGE);
        map(&[uri, "--json", "--offset", "18446744073709551615", "--length", "1"]).fails(WRONG_USAGE);
        map(&[uri, "--json", "--offset", "1", "--length", "18446744073709551615"]).fails(WRONG_USAGE);
    });
}

#[test]
fn range_up_to_the_end_is_no_failure() {
    with_disk(|uri| {
        let last = (SIZE - 1).to_string();
        assert_eq!(map(&[uri, "--json", "--offset", &last]).list().len(), 1);
        assert_eq!(map(&[uri, "--json", "--offset", "1M", "--length", "1M"]).list().len(), 1);
    });
}

#[test]
fn length_of_zero_is_wrong_usage() {
    with_disk(|uri| map(&[uri, "--json", "--length", "0"]).fails(WRONG_USAGE));
}

#[test]
fn bitmap_named_twice_is_wrong_usage() {
    with_disk(|uri| {
        map(&[uri, "--json", "--bitmap", "b0", "--bitmap", "b0"]).fails_saying(WRONG_USAGE, &["b0"]);
    });
}

#[test]
fn numbers_that_are_none_are_wrong_usage() {
    with_disk(|uri| {
        for number in ["", "x", "-1", "1.5", "99999999999999999999", "16777216T"] {
            map(&[uri, "--json", &format!("--offset={number}")]).fails(WRONG_USAGE);
        }
    });
}

#[test]
fn malformed_address_is_wrong_usage() {
    for uri in ["", "disk", "http://localhost/", "nbd+unix:///", "nbd+unix:///disk?socket=", "nbd://["] {
        map(&[uri, "--json"]).fails(WRONG_USAGE);
    }
}

#[test]
fn options_without_an_address_are_wrong_usage() {
    map(&["--json"]).fails(WRONG_USAGE);
    map(&["--bitmap", "b0"]).fails(WRONG_USAGE);
    map(&["--offset", "0", "--json"]).fails(WRONG_USAGE);
    map(&["--no-such-option"]).fails(WRONG_USAGE);
}

#[test]
fn socket_that_does_not_exist_is_a_lost_connection() {
    let folder = folder();
    let socket = folder.path().join("nobody");
    map(&[&address(&socket), "--json"]).fails(CONNECTION);
}

#[test]
fn socket_that_nobody_listens_on_is_a_lost_connection() {
    let folder = folder();
    let socket = folder.path().join("s");
    drop(UnixListener::bind(&socket).expect("listen"));
    map(&[&address(&socket), "--json"]).fails(CONNECTION);
}

#[test]
fn server_that_never_says_hello_runs_out_of_time() {
    let folder = folder();
    let socket = folder.path().join("s");
    let _silent = UnixListener::bind(&socket).expect("listen");
    let start = Instant::now();
    map(&[&address(&socket), "--json", "--timeout", "1"]).fails(CONNECTION);
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}

#[test]
fn server_that_hangs_up_within_its_hello_is_a_lost_connection() {
    let folder = folder();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("listen");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.write_all(b"NBDMAGIC").expect("half a hello");
    });
    map(&[&address(&socket), "--json"]).fails(CONNECTION);
    server.join().expect("the server's thread");
}

/// A real server that is killed (SIGKILL) while an answer is awaited: a lost connection at once,
/// not a timeout.
#[test]
fn server_that_is_killed_is_a_lost_connection() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let options = ["--verbose", "--filter=delay"];
    let server = Server::nbdkit(&options, &["memory", "1M", "delay-extents=600"]);
    let uri = server.uri("");
    let start = Instant::now();
    let run = thread::spawn(move || map(&[&uri, "--json"]));
    server.wait_for_log("delay: extents count=");
    drop(server);
    run.join().expect("the thread that runs the program").fails_saying(CONNECTION, &["connection"]);
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
}

fn address(socket: &Path) -> String {
    format!("nbd+unix:///?socket={}", socket.display())
}
