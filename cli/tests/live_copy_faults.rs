//! Copies that fail: each ends with the code that scripts are promised and one line that says what
//! the target holds, and is run again to the same result.
//!
//! Each copy that fails has servers of its own: see [`Server::nbdkit`].
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::backup::Ended;
use support::run::program;
use testkit::command::finish_between;
use testkit::image::MIB;
use testkit::server::{Server, folder};
use testkit::tools::require;

const LIMIT: Duration = Duration::from_secs(120);
const AS_IT_WAS: &str = "the target is as it was";
const IN_PART: &str = "the target now holds a part of the copy";
/// 32 MiB of data, and 32 MiB of zeroes.
const PATTERN: [&str; 2] = ["--filter=truncate", "truncate=64M"];

fn command(source: &str, target: &str, options: &[&str]) -> Command {
    let mut command = program("copy");
    command.args([source, target]).args(options);
    command
}

fn copy(source: &Server, target: &Server, options: &[&str]) -> Ended {
    let mut command = command(&source.uri(""), &target.uri(""), options);
    let done = finish_between(&mut command, Stdio::null(), Stdio::null(), LIMIT);
    Ended { code: done.status.code(), stderr: done.stderr }
}

fn source(options: &[&str]) -> Server {
    let options: Vec<_> = options.iter().copied().chain([PATTERN[0]]).collect();
    Server::nbdkit(&options, &["pattern", "32M", PATTERN[1]])
}

fn memory(size: &str, options: &[&str]) -> Server {
    Server::nbdkit_writable(options, &["memory", size])
}

#[test]
fn a_target_that_cannot_take_the_disk_is_refused_before_the_first_write() {
    if !require(&["nbdkit"]) {
        return;
    }
    let source = source(&[]);
    copy(&source, &memory("63M", &[]), &[]).fails(3, &["does not fit", AS_IT_WAS]);
    let read_only = Server::nbdkit(&[], &["memory", "64M"]);
    copy(&source, &read_only, &[]).fails(3, &["read-only", AS_IT_WAS]);
    let mut gone = memory("64M", &[]);
    gone.kill();
    copy(&source, &gone, &[]).fails(4, &["the target: ", AS_IT_WAS]);
    copy(&gone, &source, &[]).fails(4, &["the source: "]);
    copy(&source, &memory("64M", &[]), &["--bitmap", "b0"]).fails(3, &["the source: ", "b0"]);
}

#[test]
fn a_target_that_is_full_ends_the_copy_with_its_reason() {
    if !require(&["nbdkit"]) {
        return;
    }
    for connections in ["1", "4"] {
        let full = Server::nbdkit_writable(
            &["--filter=error"],
            &["memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=20%"],
        );
        let ended = copy(&source(&[]), &full, &["--connections", connections]);
        ended.fails(1, &["the target: ", "ENOSPC", IN_PART, "run the same copy again"]);
    }
}

/// Waits until a copy has written something.
fn wait_for_writes(target: &Path) {
    let end = Instant::now() + LIMIT;
    while fs::read(target).unwrap().iter().all(|&byte| byte == 0) {
        assert!(Instant::now() < end, "nothing was written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(source: &Server, target: &Server, options: &[&str]) -> Child {
    let mut command = command(&source.uri(""), &target.uri(""), options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Ended {
    let done = child.wait_with_output().unwrap();
    Ended { code: done.status.code(), stderr: String::from_utf8(done.stderr).unwrap() }
}

fn file_target(file: &Path) -> Server {
    Server::nbdkit_writable(&[], &["file", &format!("file={}", file.display())])
}

/// A copy that is slow enough to be met in its middle.
const SLOWLY: [&str; 2] = ["--limit-rate", "2M"];

#[test]
fn a_server_that_goes_away_and_a_copy_that_is_killed_are_made_good_by_the_same_copy() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let file = folder.path().join("target");
    fs::write(&file, vec![0; 64 << 20]).unwrap();

    let mut gone = file_target(&file);
    let from = source(&[]);
    let running = start(&from, &gone, &SLOWLY);
    wait_for_writes(&file);
    gone.kill();
    end(running).fails(4, &["the target: ", IN_PART]);

    fs::write(&file, vec![0; 64 << 20]).unwrap();
    let mut dying = source(&[]);
    let to = file_target(&file);
    let running = start(&dying, &to, &SLOWLY);
    wait_for_writes(&file);
    dying.kill();
    end(running).fails(4, &["the source: ", IN_PART]);
    drop(to);

    fs::write(&file, vec![0; 64 << 20]).unwrap();
    let (from, to) = (source(&[]), file_target(&file));
    let mut running = start(&from, &to, &SLOWLY);
    wait_for_writes(&file);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(
        fs::read(&file).unwrap()[31 << 20..32 << 20].iter().all(|&byte| byte == 0),
        "it was not killed early"
    );

    drop((from, to));
    copy(&source(&[]), &file_target(&file), &["--verify"]).is_well();
    let bytes = fs::read(&file).unwrap();
    for (nth, word) in bytes[..32 << 20].chunks(8).enumerate() {
        assert_eq!(word, (nth as u64 * 8).to_be_bytes());
    }
    assert!(bytes[32 << 20..].iter().all(|&byte| byte == 0));
}

/// By SIGTERM, which is handled as SIGINT is: a shell in the background has its children ignore that.
fn interrupt(child: &Child) {
    let signal = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(signal.unwrap().success());
}

/// A signal ends it as it ends any program, and `--timeout` with its code; both say it all.
#[test]
fn a_copy_that_is_interrupted_or_out_of_time_says_what_the_target_holds() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let file = folder.path().join("target");
    for connections in ["1", "4"] {
        fs::write(&file, vec![0; 64 << 20]).unwrap();
        let (from, to) = (source(&[]), file_target(&file));
        let running = start(&from, &to, &[SLOWLY[0], SLOWLY[1], "--connections", connections]);
        wait_for_writes(&file);
        interrupt(&running);
        let done = running.wait_with_output().unwrap();
        assert_eq!(done.status.signal(), Some(15), "it ends as others do");
        let line = String::from_utf8(done.stderr).unwrap();
        assert!(line.starts_with("nbd-extents: interrupted; ") && line.contains(IN_PART), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        drop((from, to));

        let options = [SLOWLY[0], SLOWLY[1], "--connections", connections, "--timeout", "3"];
        copy(&source(&[]), &file_target(&file), &options).fails(4, &["ran out", IN_PART]);
    }
    copy(&source(&[]), &file_target(&file), &["--verify"]).is_well();
}

/// The source answers no read, so that nothing is written.
#[test]
fn a_copy_that_ends_before_its_first_write_says_that_the_target_is_as_it_was() {
    if !require(&["nbdkit"]) {
        return;
    }
    let stalled = || {
        let options = ["--verbose", "--filter=delay", PATTERN[0]];
        Server::nbdkit(&options, &["pattern", "32M", PATTERN[1], "rdelay=20"])
    };
    let (from, to) = (stalled(), memory("64M", &[]));
    let running = start(&from, &to, &[]);
    from.wait_for_log("delay: pread count=");
    interrupt(&running);
    let done = running.wait_with_output().unwrap();
    assert_eq!(done.status.signal(), Some(15));
    assert!(String::from_utf8(done.stderr).unwrap().contains(AS_IT_WAS));

    copy(&stalled(), &memory("64M", &[]), &["--timeout", "1"]).fails(4, &["ran out", AS_IT_WAS]);
}

/// A server that forgets the bytes written to it.
#[test]
fn verification_finds_a_target_that_does_not_hold_what_was_written() {
    if !require(&["nbdkit"]) {
        return;
    }
    let null = Server::nbdkit_writable(&[], &["null", "64M"]);
    copy(&source(&[]), &null, &[]).is_well();
    let ended = copy(&source(&[]), &null, &["--verify"]);
    ended.fails(5, &["does not hold what was written", IN_PART, "check the target's storage"]);
    assert!(!ended.stderr.contains("run the same copy again"), "the same would be lost: {ended:?}");
}

/// Zeroes are never trimmed, and not written where they are there already.
#[test]
fn zeroes_are_written_where_the_target_does_not_read_as_zero() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let log = folder.path().join("log");
    let file = folder.path().join("target");
    fs::write(&file, vec![0xa5; 40 << 20]).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len(64 << 20).unwrap();
    let target = Server::nbdkit_writable(
        &["--filter=log"],
        &["file", &format!("file={}", file.display()), &format!("logfile={}", log.display())],
    );
    copy(&source(&[]), &target, &[]).is_well();
    let log = fs::read_to_string(&log).unwrap();
    let zeroes: Vec<_> =
        log.lines().filter(|line| line.contains(" Zero ") && line.contains("offset=")).collect();
    assert!(zeroes.len() == 1 && zeroes[0].contains("offset=0x2000000 count=0x800000 "), "{zeroes:?}");
    assert!(!log.contains(" Trim "), "a TRIM promises nothing");
    assert!(log.contains(" Flush "), "it is durable at the end");
    assert!(fs::read(&file).unwrap()[32 << 20..].iter().all(|&byte| byte == 0));
}

#[test]
fn progress_is_json_for_programs_and_the_rate_is_kept() {
    if !require(&["nbdkit"]) {
        return;
    }
    let began = Instant::now();
    let options = ["--progress", "json", "--limit-rate", "16M", "--connections", "2"];
    let ended = copy(&source(&[]), &memory("64M", &[]), &options);
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!((1.8..60.0).contains(&seconds), "32 MiB at 16 MiB/s took {seconds} s");
    let lines: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(!before.is_empty() && before.iter().all(|line| line["done"] == false));
    assert!(before.iter().all(|line| line["seconds_left"].is_number() || line["rate"] == 0.0));
    assert_eq!((last["done"].as_bool(), last["copied"].as_u64()), (Some(true), Some(32 * MIB)));
    assert_eq!(last["zeroed"].as_u64(), Some(32 * MIB));
    // the plan goes on while a piece waits for the rate: the zeroes are not taken for data
    assert!(lines.iter().all(|line| line["to_copy"].as_u64() == Some(32 * MIB)), "{}", ended.stderr);
}

/// A program that reads the objects learns of a failure from the last of them, whatever ends the run:
/// a server, the time limit, a signal. The line for people comes after it.
#[test]
fn json_progress_of_a_run_that_fails_ends_with_the_error() {
    if !require(&["nbdkit"]) {
        return;
    }
    let last = |stderr: &str, words: &str| {
        let lines: Vec<&str> = stderr.lines().collect();
        let (text, objects) = lines.split_last().expect("a line");
        assert!(text.starts_with("nbd-extents: "), "{stderr}");
        let objects: Vec<serde_json::Value> =
            objects.iter().map(|line| serde_json::from_str(line).expect(stderr)).collect();
        let (last, before) = objects.split_last().expect("an object");
        assert!(before.iter().all(|line| line["done"] == false && line["error"].is_null()), "{stderr}");
        assert_eq!(last["done"], false, "{stderr}");
        assert_eq!(format!("nbd-extents: {}", last["error"].as_str().unwrap()), *text);
        assert!(text.contains(words), "{stderr}");
    };
    let json = ["--progress", "json"];
    let full = Server::nbdkit_writable(
        &["--filter=error"],
        &["memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%"],
    );
    last(&copy(&source(&[]), &full, &json).stderr, "ENOSPC");
    let slow = [&json[..], &["--limit-rate", "1M", "--timeout", "1.5"]].concat();
    last(&copy(&source(&[]), &memory("64M", &[]), &slow).stderr, "time");

    let (from, target) = (source(&[]), memory("64M", &[]));
    let mut running = start(&from, &target, &["--progress", "json", "--limit-rate", "1M"]);
    let mut stderr = BufReader::new(running.stderr.take().unwrap());
    let mut lines = String::new();
    stderr.read_line(&mut lines).unwrap();
    interrupt(&running);
    stderr.read_to_string(&mut lines).unwrap();
    running.wait().unwrap();
    last(&lines, "interrupted");
}
