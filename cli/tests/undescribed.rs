//! Ranges that a server does not describe: the run ends, or takes them for data and dirty and says
//! how many bytes that were.
#![cfg(target_os = "linux")]

mod support;

use core::ops::Range;
use std::fs;
use std::path::Path;

use nbd_client::frame::Headers;
use serde_json::{Value, json};
use support::backup::{backup, frames, verify};
use support::run::{map, run};
use testkit::scripted::{DONE, Good, ScriptedServer};
use testkit::server::folder;

const M: u64 = 1 << 20;
const READ: u16 = 0;
const BLOCK_STATUS: u16 = 7;
const EIO: u32 = 5;

/// A read-only disk of sevens whose block status fails for requests that touch a range.
fn failing(good: Good, range: Range<u64>) -> ScriptedServer {
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&good)?;
        conn.serve(|conn, request| {
            let asked = request.offset..request.offset + request.length;
            match request.command {
                READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
                BLOCK_STATUS if asked.start < range.end && range.start < asked.end => {
                    conn.error(request, EIO, "", DONE)
                }
                _ => conn.honest(request, 3),
            }
        })
    });
    server.expect("start the server")
}

/// A backup with a report, which is returned with the frames' ranges and stderr.
fn reported(uri: &str, options: &[&str], folder: &Path) -> (Value, Vec<(String, u64, u64)>, String) {
    let (file, report) = (folder.join("stream"), folder.join("report"));
    let options = [options, &["--report", report.to_str().unwrap()]].concat();
    let done = backup(uri, &options, &file);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    verify(&[&file]).is_well();
    let frames = frames(&file).into_iter().map(|frame| (frame.kind, frame.start, frame.length)).collect();
    (serde_json::from_slice(&fs::read(report).unwrap()).unwrap(), frames, done.stderr)
}

/// D6a of the faults found from outside.
#[test]
fn block_status_that_keeps_failing_ends_the_run_unless_the_safe_status_is_asked_for() {
    let (server, folder) = (failing(Good::compact(), 0..4 * M), folder());
    let refused = run("map", &[&server.uri(), "--json"], "");
    refused.fails_saying(5, &["BLOCK_STATUS", "EIO", "--safe-on-failure"]);
    let file = folder.path().join("stream");
    backup(&server.uri(), &[], &file).fails(5, &["EIO", "--safe-on-failure"]);
    assert!(!file.exists());

    let assumed = map(&[&server.uri(), "--json", "--safe-on-failure"]);
    assumed.prints(&[json!({"start": 0, "length": 4 * M, "zero": false, "hole": false})]);
    assert_eq!(assumed.stderr.lines().count(), 1, "{assumed}");
    assert!(assumed.stderr.contains("did not describe 4194304 bytes (4 MiB)"), "{assumed}");

    let (report, frames, stderr) = reported(&server.uri(), &["--safe-on-failure"], folder.path());
    assert_eq!((&report["assumed"], &report["copy"]), (&json!(4 * M), &json!(4 * M)));
    assert!(frames.iter().all(|(kind, ..)| kind != "zero"), "{frames:?}");
    assert!(stderr.contains("did not describe 4194304 bytes"), "{stderr}");
}

/// With `--safe-on-failure` an incremental goes on: a range in doubt is dirty, and read.
#[test]
fn range_in_doubt_is_dirty_and_data() {
    let good = Good::compact().context(1, "qemu:dirty-bitmap:b0");
    let (server, folder) = (failing(good, 0..4 * M), folder());
    let bitmap = ["--bitmap", "b0", "--previous-size", "4M", "--safe-on-failure"];
    let (report, ..) = reported(&server.uri(), &bitmap, folder.path());
    assert_eq!(
        (&report["assumed"], &report["copy"], &report["skip"]),
        (&json!(4 * M), &json!(4 * M), &json!(0))
    );
}

/// A server that describes all of its disk, whose backup says nothing and assumes nothing.
#[test]
fn nothing_is_assumed_of_a_server_that_answers() {
    let (server, folder) = (failing(Good::compact(), 0..0), folder());
    let (report, _, stderr) = reported(&server.uri(), &["--safe-on-failure"], folder.path());
    assert_eq!((&report["assumed"], &report["zero"], stderr.as_str()), (&json!(0), &json!(4 * M), ""));
}

/// D1: a full backup needs no block status, a map of it is another matter.
#[test]
fn server_without_block_status_is_backed_up_whole() {
    let mut simple = Good::compact();
    simple.headers = Headers::Simple;
    let mut without_contexts = Good::compact();
    without_contexts.contexts.clear();
    for good in [simple, without_contexts] {
        let server = ScriptedServer::start(move |conn| {
            conn.handshake(&good)?;
            conn.serve(|conn, request| match (request.command, good.headers) {
                (READ, Headers::Simple) => {
                    conn.simple(request, 0)?;
                    conn.send(&vec![0; request.length as usize])
                }
                (READ, _) => conn.data(request, request.offset, &vec![0; request.length as usize], DONE),
                _ => panic!("asked: {request:?}"),
            })
        });
        let (uri, folder) = (server.as_ref().unwrap().uri(), folder());
        let (report, frames, stderr) = reported(&uri, &[], folder.path());
        assert_eq!((&report["assumed"], &report["copy"]), (&json!(4 * M), &json!(4 * M)));
        assert!(frames.iter().all(|(kind, ..)| kind != "zero"), "{frames:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("all of the export is taken for data"), "{stderr}");
        let (_, frames, _) = reported(&uri, &["--detect-zeroes"], folder.path());
        assert!(frames.iter().all(|(kind, ..)| kind != "data"), "{frames:?}");

        map(&[&uri, "--json"]).fails_saying(3, &["base:allocation"]);
        let assumed = map(&[&uri, "--json", "--safe-on-failure"]);
        assumed.prints(&[json!({"start": 0, "length": 4 * M, "zero": false, "hole": false})]);
        assert!(assumed.stderr.contains("all of the export is taken for data"), "{assumed}");
        let bitmap = map(&[&uri, "--json", "--safe-on-failure", "--bitmap", "b0"]);
        bitmap.fails_saying(3, &["b0"]);
    }
}

/// D8: an extent a byte, of a server that announces no block size and describes one extent at a
/// time. A request within a block would be refused by most servers.
#[test]
fn blocks_of_one_byte_are_told_apart_when_said() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(32))?;
        conn.serve(|conn, request| conn.status(request, 0, &[(1, request.offset % 2 * 3)], DONE))
    });
    let uri = server.as_ref().unwrap().uri();
    let data = json!([{"start": 0, "length": 32, "zero": false, "hole": false}]);
    assert_eq!(map(&[&uri, "--json"]).json(), data);
    let told = map(&[&uri, "--json", "--assume-block-size", "1"]).list();
    assert_eq!(told.len(), 32);
    for (at, extent) in told.iter().enumerate() {
        assert_eq!(*extent, json!({"start": at, "length": 1, "zero": at % 2 == 1, "hole": false}));
    }
    for wrong in ["0", "3", "128K", "x"] {
        map(&[&uri, "--assume-block-size", wrong]).fails(2);
    }
}

/// D11: an old size within a block, on a server that takes whole blocks.
#[test]
fn old_end_within_a_block_is_read_from_the_start_of_the_block() {
    let good =
        Good::compact().size(8192).block_sizes([512, 4096, 1 << 25]).context(1, "qemu:dirty-bitmap:b0");
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&good)?;
        conn.serve(|conn, request| {
            let cuts_a_block = request.offset % 512 != 0 || request.length % 512 != 0;
            match request.command {
                _ if cuts_a_block => conn.error(request, 22, "not aligned", DONE),
                READ => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
                _ => conn.honest(request, 0),
            }
        })
    });
    let (uri, folder) = (server.as_ref().unwrap().uri(), folder());
    for order in [&[][..], &["--bitmap-first"], &["--bitmap-first", "--compact"]] {
        let grown = [&["--bitmap", "b0", "--previous-size", "707", "--grown"], order].concat();
        let (_, frames, _) = reported(&uri, &grown, folder.path());
        let data: Vec<_> = frames.into_iter().filter(|(kind, ..)| kind == "data").collect();
        assert_eq!(data, [("data".to_owned(), 512, 7680)], "{order:?}");
    }
}
