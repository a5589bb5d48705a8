//! The one line of a failure has the numbers, the names that there are, the input that is meant, and
//! the option that helps. No test here needs a real server.
#![cfg(target_os = "linux")]

mod hostile;
mod support;

use std::time::Duration;

use support::run::run;
use testkit::scripted::{DONE, Good, Reaction, ScriptedServer, bytes};
use testkit::server::folder;

const M: u64 = 1 << 20;
const LIST: u32 = 3;
const GO: u32 = 7;
const SET_META: u32 = 10;
const ACK: u32 = 1;
const SERVER: u32 = 2;
const TLS_REQUIRED: u32 = 0x8000_0005;
const UNKNOWN: u32 = 0x8000_0006;

/// A good server of 4 MiB.
fn disk(good: Good) -> ScriptedServer {
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&good)?;
        conn.serve(|conn, request| conn.honest(request, 0))
    });
    server.expect("start the server")
}

/// A server that refuses its exports for this reason, and lists three.
fn refusing(reason: u32) -> ScriptedServer {
    let server = ScriptedServer::start(move |conn| {
        conn.handshake_with(&Good::compact(), |conn, seen| {
            match seen.number {
                GO | SET_META => conn.refuse(seen.number, reason, "\x1b[31mno")?,
                LIST => {
                    for name in ["vda", "vdb", "\x1b[2J"] {
                        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
                        conn.send(&bytes::option_reply(LIST, SERVER, &[&length, name.as_bytes()].concat()))?;
                    }
                    conn.send(&bytes::option_reply(LIST, ACK, b""))?;
                }
                _ => return Ok(Reaction::Honest),
            }
            Ok(Reaction::Answered)
        })
    });
    server.expect("start the server")
}

#[test]
fn range_that_does_not_fit_is_named_with_its_numbers() {
    let server = disk(Good::compact());
    let fails = |more: &[&str], words: &[&str]| {
        run("map", &[&[server.uri().as_str(), "--json"], more].concat(), "").fails_saying(2, words);
    };
    fails(&["--offset", "5M"], &["5242880", "4194304 bytes"]);
    fails(&["--offset", "3M", "--length", "2M"], &["3145728", "2097152", "4194304 bytes"]);
}

#[test]
fn disk_that_has_grown_names_both_sizes_and_the_option_that_allows_it() {
    let server = disk(Good::compact().context(2, "qemu:dirty-bitmap:b0"));
    let uri = server.uri();
    let map = |size| run("map", &[&uri, "--bitmap", "b0", "--totals", "--previous-size", size], "");
    map("3M").fails_saying(3, &["4194304", "3145728", "--grown"]);
    map("5M").fails_saying(3, &["4194304", "5242880"]);
    assert!(!map("5M").stderr.contains("--grown"), "a disk that has shrunk cannot be taken for grown");
    let folder = folder();
    let file = folder.path().join("stream");
    let file = file.to_str().unwrap();
    let options = ["--bitmap", "b0", "--allow-writable", "--previous-size", "3M"];
    run("backup", &[&[uri.as_str(), file], &options[..]].concat(), "")
        .fails_saying(3, &["4194304", "--grown"]);
}

#[test]
fn unknown_export_lists_the_exports_that_there_are() {
    let server = refusing(UNKNOWN);
    for command in ["map", "info"] {
        let run = run(command, &[&server.uri().replace("?", "none?")], "");
        run.fails_saying(3, &["\"none\"", "\"vda\"", "\"vdb\"", "\\u{1b}[2J"]);
        assert!(!run.stderr.contains('\x1b'), "{run}");
    }
}

#[test]
fn server_that_demands_tls_is_no_fault_of_the_server() {
    let server = refusing(TLS_REQUIRED);
    let folder = folder();
    let file = folder.path().join("stream");
    let file = file.to_str().unwrap();
    for command in ["map", "info"] {
        run(command, &[&server.uri()], "")
            .fails_saying(4, &["the server demands TLS", "?tls-certificates=DIR"]);
    }
    run("backup", &[&server.uri(), file], "").fails_saying(4, &["the server demands TLS"]);
}

#[test]
fn list_of_exports_that_tls_protects_is_no_fault_of_the_server() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake_with(&Good::compact(), |conn, seen| {
            conn.refuse(seen.number, TLS_REQUIRED, "")?;
            Ok(Reaction::Answered)
        })
    });
    run("info", &["--list", &server.unwrap().uri()], "").fails_saying(4, &["the server demands TLS"]);
}

#[test]
fn bitmap_of_an_export_without_any_says_how_to_take_a_full_backup() {
    let server = disk(Good::compact());
    run("map", &[&server.uri(), "--bitmap", "b0"], "").fails_saying(
        3,
        &["\"qemu:dirty-bitmap:b0\"", "base:allocation", "no dirty bitmap", "without --bitmap"],
    );
    let server = disk(Good::compact().context(2, "qemu:dirty-bitmap:b1"));
    let run = run("map", &[&server.uri(), "--bitmap", "b0"], "");
    run.fails_saying(3, &["\"qemu:dirty-bitmap:b0\"", "qemu:dirty-bitmap:b1"]);
    assert!(!run.stderr.contains("without --bitmap"), "{run}");
}

/// The second reply fails: neither a heading nor half of the extents has been printed by then.
#[test]
fn table_that_fails_prints_nothing() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.offset {
            0 => conn.status(request, 0, &[(M, 0)], DONE),
            _ => conn.error(request, 5, "bad sector", DONE),
        })
    });
    let uri = server.as_ref().unwrap().uri();
    for more in [&[][..], &["--actions"], &["--totals"], &["--totals", "--json"]] {
        let run = run("map", &[&[uri.as_str()], more].concat(), "");
        run.fails_saying(5, &["bad sector"]);
        assert_eq!(run.stdout, "", "{run}");
    }
    for more in [&["--json"][..], &["--json", "--actions"], &["--format", "nbdinfo"]] {
        run("map", &[&[uri.as_str()], more].concat(), "").fails_saying(5, &["bad sector"]);
    }
    let totals = hostile::run::map(&[&uri, "--format", "nbdinfo", "--totals"], Duration::from_secs(30));
    totals.fails(5, "bad sector");
    assert_eq!(totals.stdout, "");
}

/// B2 of the faults found from outside: said before the server is asked about a single byte.
#[test]
fn backup_says_up_front_that_a_tail_cannot_be_read() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().size(100_001).block_sizes([512, 4096, 1 << 25]))?;
        conn.serve(|_, request| panic!("asked: {request:?}"))
    });
    let folder = folder();
    let file = folder.path().join("stream");
    let arguments = [&server.as_ref().unwrap().uri(), "--allow-writable", file.to_str().unwrap()];
    run("backup", &arguments, "").fails_saying(5, &["last 161 B", "100001 bytes", "blocks of 512"]);
    assert!(!file.exists());
}

#[test]
fn file_that_is_wrong_is_named() {
    let folder = folder();
    let (missing, broken) = (folder.path().join("missing"), folder.path().join("broken"));
    std::fs::write(&broken, "no stream").unwrap();
    let (missing, broken) = (missing.to_str().unwrap(), broken.to_str().unwrap());
    for command in ["verify", "chain"] {
        run(command, &[missing], "").fails_saying(3, &[missing, "No such file"]);
        run(command, &[broken], "").fails_saying(5, &[broken]);
    }
    let server = disk(Good::compact());
    run("restore", &[&server.uri(), missing], "").fails_saying(3, &[missing]);
    run("restore", &[&server.uri(), broken], "").fails_saying(5, &[broken]);
    let after = ["--bitmap", "b0", "--after"];
    run("backup", &[&[&server.uri(), "x"], &after[..], &[missing]].concat(), "").fails_saying(3, &[missing]);
    run("backup", &[&[&server.uri(), "x"], &after[..], &[broken]].concat(), "").fails_saying(5, &[broken]);
}

/// A person sees from the lines which file holds what, and what no file can tell.
#[test]
fn verify_names_files_checkpoints_and_bitmaps() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact().context(2, "qemu:dirty-bitmap:b0"))?;
        conn.serve(|conn, request| match request.command {
            0 => conn.data(request, request.offset, &vec![1; request.length as usize], DONE),
            _ => conn.honest(request, 1),
        })
    });
    let (server, folder) = (server.unwrap(), folder());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (full, changes, alone) = (path("full"), path("changes"), path("alone"));
    let back_up = |options: &[&str]| {
        let done = run("backup", &[&[server.uri().as_str(), "--allow-writable"], options].concat(), "");
        assert_eq!(done.code, Some(0), "{done}");
    };
    back_up(&[&full, "--checkpoint", "c0"]);
    back_up(&[&changes, "--bitmap", "b0", "--checkpoint", "c1\n", "--after", &full]);
    back_up(&[&alone, "--bitmap", "b0"]);

    let done = run("verify", &[&full, &changes], "");
    let lines: Vec<_> = done.stdout.lines().collect();
    let begins = |line: &str, words: String| assert!(line.starts_with(&words), "{done}");
    begins(lines[0], format!("{full}: full, checkpoint c0, 20"));
    begins(lines[1], format!("{changes}: incremental, checkpoint c1\\n, stands on c0, bitmap b0, 20"));
    begins(lines[2], "the chain holds: c0, c1\\n (".to_owned());
    assert!(lines[2].contains("bitmap") && lines[0].ends_with("; whole"), "{done}");

    let done = run("verify", &[&full, &alone], "");
    assert!(
        done.stdout.ends_with(&format!(
            "the chain holds: c0, {alone} (that each bitmap began at the \
        backup before it, no file can tell)\n"
        )),
        "{done}"
    );
    assert_eq!(run("verify", &[&alone], "").stdout.lines().count(), 2, "its parent is not checked");

    let wrong = run("verify", &[&changes], "");
    assert_eq!(wrong.code, Some(0), "one incremental alone is sound or not");
    run("verify", &[&changes, &full], "")
        .fails_saying(3, &[&changes, "stands on checkpoint c0, which must come right before"]);
    run("verify", &[&alone, &full], "").fails_saying(3, &[&alone, "a chain begins with a full backup"]);
    run("verify", &[&full, &full], "").fails_saying(3, &["checkpoint c0 is in the chain twice"]);
    let later = path("later");
    back_up(&[&later, "--bitmap", "b0", "--checkpoint", "c2", "--after", &changes]);
    run("verify", &[&full, &later], "").fails_saying(3, &[&later, "c2 stands on", "which is missing"]);
}

/// A plan to a script: bytes of each action, extents, bytes on both sides, and the duration.
#[test]
fn report_has_the_duration_and_the_number_of_extents() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.command {
            7 => conn.status(request, 0, &[(M, 3), (M, 0), (2 * M, 3)], DONE),
            _ => conn.data(request, request.offset, &vec![1; request.length as usize], DONE),
        })
    });
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, report) = (path("stream"), path("report"));
    let uri = server.as_ref().unwrap().uri();
    let done = run("backup", &[&uri, &file, "--allow-writable", "--report", &report], "");
    assert_eq!(done.code, Some(0), "{done}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&report["copy"], &report["zero"], &report["skip"]), (&M.into(), &(3 * M).into(), &0.into()));
    assert_eq!(report["extents"], 3);
    assert_eq!(report["stream"], std::fs::metadata(&file).unwrap().len());
    // The data that was read, and besides it no more than headers and the map.
    let received = report["received"].as_u64().unwrap();
    assert!((M..M + 4096).contains(&received), "{report}");
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{report}");
}

/// A usual mistake of newcomers is answered with the right text.
#[test]
fn text_that_is_no_uri_is_answered_with_what_may_be_meant() {
    let folder = folder();
    let (file, place) = (folder.path().join("disk.full"), folder.path().to_str().unwrap().to_owned());
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    run("backup", &["out.full", "nbd://localhost/x"], "").fails_saying(2, &["no URI", "the URI comes first"]);
    run("info", &[file], "").fails_saying(2, &["it is a file", "`verify`"]);
    run("info", &["nbd:unix:/run/x.sock"], "").fails_saying(2, &["nbd+unix:///?socket=PATH"]);
    run("map", &[&place], "").fails_saying(2, &["nbd+unix:///EXPORT?socket=PATH"]);
    run("info", &["nbd+unix:///?socket=/nowhere/x.sock"], "")
        .fails_saying(4, &["No such file", "no socket has this name", "is the server running"]);
    let server = disk(Good::compact().context(2, "qemu:dirty-bitmap:b0"));
    run("map", &[&server.uri(), "--bitmap", "qemu:dirty-bitmap:b0"], "")
        .fails_saying(3, &["the bitmap's own name", "without qemu:dirty-bitmap:"]);
    for option in ["--incremental", "--output"] {
        let done = run("backup", &[&server.uri(), "out", option], "");
        done.fails_saying(2, &["unexpected argument", option]);
        assert!(!done.stderr.contains(&format!("-- {option}")), "{done}");
    }
    let near = run("backup", &[&server.uri(), "out", "--bitmaps", "b0"], "");
    near.fails_saying(2, &["'--bitmap'"]);
}

/// TLS is found by whoever reads the help of a command that connects.
#[test]
fn help_says_how_a_server_with_tls_is_named() {
    for command in ["map", "info", "copy", "backup", "restore"] {
        let help = run(command, &["--help"], "").stdout;
        for words in ["nbds://", "tls-certificates=DIR", "ca-cert.pem", "x-tls-fingerprint=", "tls-hostname="]
        {
            assert!(help.contains(words), "{command}: {words}");
        }
    }
}
