//! The server, the client or the target is killed in the middle of a backup or a restore: a clear
//! error, the right exit code, no stream that reads as whole, and all of it can be run again. A
//! pipe that nobody reads on, or that nothing more comes through, holds each in its middle.
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use support::backup::{Ended, backup, restore, restore_from_stdin, verify};
use support::run::program;
use tempfile::TempDir;
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::server::{Server, folder};
use testkit::tools::require_qemu;

/// More than pipes, sockets and the read-ahead hold together.
const SIZE: u64 = 64 * MIB;
/// The byte at which it is held.
const MIDDLE: usize = 4 << 20;

fn disk(folder: &TempDir) -> Image {
    let steps = vec![
        Step::Fill { at: 0, length: SIZE / 2, byte: 1 },
        Step::Zero { at: 0, length: MIB },
        Step::Fill { at: SIZE / 2, length: SIZE / 2, byte: 2 },
    ];
    Recipe::qcow2(64 * KIB, SIZE, steps).make(folder.path())
}

fn target(folder: &TempDir) -> Image {
    let place = folder.path().join("target");
    fs::create_dir(&place).unwrap();
    Recipe::qcow2(64 * KIB, SIZE, vec![Step::Write { at: 0, length: SIZE }]).make(&place)
}

/// A backup whose reader has stopped reading.
struct Held {
    child: Child,
    got: Vec<u8>,
}

impl Held {
    fn backup(server: &Server) -> Self {
        let mut child = program("backup")
            .args([&server.uri(""), "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut got = vec![0; MIDDLE];
        child.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
        Self { child, got }
    }

    /// Reads the rest, to a file.
    fn finish(mut self, file: &Path) -> Ended {
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_end(&mut self.got).unwrap();
        fs::write(file, &self.got).unwrap();
        ended(self.child)
    }
}

/// Waits for the end, for a while.
fn ended(mut child: Child) -> Ended {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still running");
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    Ended { code: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}

/// A restore that has got the start of a stream, and waits for more.
fn held_restore(server: &Server, stream: &[u8]) -> Child {
    let mut child = program("restore")
        .args([&server.uri(""), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(&stream[..stream.len() / 2]).unwrap();
    child
}

fn backed_up(folder: &TempDir, disk: &Image) -> PathBuf {
    let file = folder.path().join("stream");
    let server = Server::qemu_nbd(disk, &[]);
    backup(&server.uri(""), &[], &file).is_well();
    file
}

#[test]
fn server_killed_during_a_backup() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let mut server = Server::qemu_nbd(&disk, &[]);
    let held = Held::backup(&server);
    server.kill();
    let file = folder.path().join("cut");
    held.finish(&file).fails(4, &["connection"]);
    verify(&[&file]).fails(5, &["not whole"]);
    let again = backed_up(&folder, &disk);
    verify(&[&again]).is_well();
}

#[test]
fn client_killed_during_a_backup() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let server = Server::qemu_nbd(&disk, &[]);
    let mut held = Held::backup(&server);
    held.child.kill().unwrap();
    let file = folder.path().join("cut");
    assert_eq!(held.finish(&file).code, None);
    verify(&[&file]).fails(5, &["not whole"]);
    backup(&server.uri(""), &[], &file).is_well();
    verify(&[&file]).is_well();
}

#[test]
fn reader_of_a_backup_goes_away() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&disk(&folder), &[]);
    let mut held = Held::backup(&server);
    drop(held.child.stdout.take());
    let ended = ended(held.child);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
}

#[test]
fn target_killed_during_a_restore() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let file = backed_up(&folder, &disk);
    let stream = fs::read(&file).unwrap();
    let target = target(&folder);
    let mut server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
    let mut child = held_restore(&server, &stream);
    server.kill();
    // it may have gone before it has got all of this
    let _ = child.stdin.take().unwrap().write_all(&stream[stream.len() / 2..]);
    ended(child).fails(4, &["connection"]);
    restores_again(&file, &disk, &target);
}

#[test]
fn client_killed_during_a_restore() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let file = backed_up(&folder, &disk);
    let target = target(&folder);
    let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
    let mut child = held_restore(&server, &fs::read(&file).unwrap());
    child.kill().unwrap();
    assert_eq!(ended(child).code, None);
    let child = held_restore(&server, &fs::read(&file).unwrap());
    let signal = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(signal.unwrap().success());
    let ended = ended(child);
    assert_eq!(ended.code, None, "it ends as others do");
    assert!(ended.stderr.starts_with("nbd-extents: interrupted; the target now holds neither"), "{ended:?}");
    drop(server);
    restores_again(&file, &disk, &target);
}

#[test]
fn stream_cut_short_fails_the_restore() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let file = backed_up(&folder, &disk);
    let stream = fs::read(&file).unwrap();
    let cut = folder.path().join("cut");
    let target = target(&folder);
    let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
    for length in [0, 20, 60, stream.len() / 2, stream.len() - 40, stream.len() - 1] {
        fs::write(&cut, &stream[..length]).unwrap();
        restore(&server.uri(""), &[], &[&cut]).fails(5, &["before its stop frame", "not whole"]);
        restore_from_stdin(&server.uri(""), &[], &cut).fails(5, &["before its stop frame", "not whole"]);
    }
    fs::write(&cut, [&stream[..], b"\n"].concat()).unwrap();
    restore(&server.uri(""), &[], &[&cut]).fails(5, &["after the stop frame"]);
    restore_from_stdin(&server.uri(""), &[], &cut).fails(5, &["after the stop frame"]);
    drop(server);
    restores_again(&file, &disk, &target);
}

#[track_caller]
fn restores_again(stream: &Path, disk: &Image, target: &Image) {
    let server = Server::qemu_nbd_writable(target, &["--cache=unsafe"]);
    restore(&server.uri(""), &[], &[stream]).is_well();
    drop(server);
    assert!(disk.is_identical(target));
}
