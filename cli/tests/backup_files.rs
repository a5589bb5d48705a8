//! The output of `backup`: a regular file is replaced once the backup is whole, everything else is
//! written as it is, and a run that fails or is ended by a signal leaves the folder as it was.
#![cfg(target_os = "linux")]

mod support;

use core::time::Duration;
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use support::backup::{backup, verify};
use support::run::program;
use testkit::scripted::{DONE, Good, ScriptedServer};
use testkit::server::folder;

const LIMIT: Duration = Duration::from_secs(60);
/// A file that begins as a backup does, so that the next one may replace it.
const BEFORE: &str = "meta 0000000000000000 0000000000000002\r\n{}\r\nthe backup before";

/// A disk of 4 MiB of data, which never changes.
fn disk() -> ScriptedServer {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.command {
            0 => conn.data(request, request.offset, &vec![7; request.length as usize], DONE),
            _ => conn.honest(request, 0),
        })
    });
    server.expect("start the server")
}

/// A disk whose reads are never answered.
fn disk_that_stops() -> ScriptedServer {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| match request.command {
            0 => conn.stall(),
            _ => conn.honest(request, 0),
        })
    });
    server.expect("start the server")
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until something holds.
#[track_caller]
fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn fifo_is_written_and_stays_a_fifo() {
    let (server, folder) = (disk(), folder());
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut bytes = Vec::new();
            File::open(fifo).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    backup(&server.uri(), &["--allow-writable"], &fifo).is_well();
    let stream = folder.path().join("stream");
    fs::write(&stream, reader.join().unwrap()).unwrap();
    verify(&[&stream]).is_well();
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(names(folder.path()), ["fifo", "stream"]);
}

/// The file that a link names is replaced, in its own folder, and the link stays: also where that
/// file does not exist yet, and over two links.
#[test]
fn link_is_kept_and_its_target_is_replaced() {
    let (server, folder) = (disk(), folder());
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    let (link, outer) = (folder.path().join("link"), folder.path().join("outer"));
    symlink("store/disk.full", &link).unwrap();
    symlink(&link, &outer).unwrap();
    for old in [None, Some(BEFORE)] {
        for path in [&link, &outer] {
            let _ = fs::remove_file(store.join("disk.full"));
            old.into_iter().for_each(|old| fs::write(store.join("disk.full"), old).unwrap());
            backup(&server.uri(), &["--allow-writable"], path).is_well();
            verify(&[&store.join("disk.full")]).is_well();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("store/disk.full"));
            assert_eq!(fs::read_link(&outer).unwrap(), link);
        }
    }
    assert_eq!(names(folder.path()), ["link", "outer", "store"]);
    assert_eq!(names(&store), ["disk.full"]);
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    symlink("other", &one).unwrap();
    symlink("one", &other).unwrap();
    backup(&server.uri(), &["--allow-writable"], &one).fails(1, &["one", "links"]);
}

/// Standard output is written as the shell has opened it, also by its other names: bytes that it
/// holds already stay.
#[test]
fn standard_output_by_any_name_is_written_where_it_stands() {
    let (server, folder) = (disk(), folder());
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let path = folder.path().join("out");
        let mut out = File::create(&path).unwrap();
        out.write_all(b"before").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let status = program("backup")
            .args([&server.uri(), "--allow-writable", name])
            .stdout(Stdio::from(out))
            .status()
            .unwrap();
        assert!(status.success(), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "{name}");
        let written = fs::read(&path).unwrap();
        let stream = folder.path().join("stream");
        fs::write(&stream, written.strip_prefix(b"before").unwrap()).unwrap();
        verify(&[&stream]).is_well();
    }
}

/// Another descriptor than standard output is opened by its name, as a shell would.
#[test]
fn descriptor_of_a_regular_file_is_written_not_replaced() {
    let (server, folder) = (disk(), folder());
    let path = folder.path().join("out");
    fs::write(&path, vec![b'x'; 8 << 20]).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let script = format!(
        "exec '{}' backup --allow-writable '{}' /dev/fd/3 3>>'{}'",
        env!("CARGO_BIN_EXE_nbd-extents"),
        server.uri(),
        path.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    verify(&[&path]).is_well();
}

#[test]
fn replaced_file_keeps_its_permissions() {
    let (server, folder) = (disk(), folder());
    let file = folder.path().join("disk.full");
    fs::write(&file, BEFORE).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    backup(&server.uri(), &["--allow-writable"], &file).is_well();
    verify(&[&file]).is_well();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
}

/// A disk image, or any other file that is no backup, is lost only to a user who says so; an empty
/// file is nothing to lose.
#[test]
fn file_that_is_no_backup_is_replaced_only_by_force() {
    let (server, folder) = (disk(), folder());
    let (file, link) = (folder.path().join("disk.qcow2"), folder.path().join("link"));
    symlink("disk.qcow2", &link).unwrap();
    let is_refused = |path: &Path, image: &[u8]| {
        fs::write(&file, image).unwrap();
        backup(&server.uri(), &["--allow-writable"], path).fails(2, &["disk.qcow2", "no backup", "--force"]);
        assert_eq!(fs::read(&file).unwrap(), image);
        assert_eq!(names(folder.path()), ["disk.qcow2", "link"]);
    };
    let stop_first = b"stop 0000000000000000 0000000000000000\r\n";
    for image in [&b"QFI\xfb"[..], b"m", b"meta", &BEFORE.as_bytes()[..39], stop_first, &[0; 1 << 20]] {
        is_refused(&file, image);
        is_refused(&link, image);
    }
    backup(&server.uri(), &["--allow-writable", "--force"], &link).is_well();
    verify(&[&file]).is_well();
    fs::write(&file, "").unwrap();
    backup(&server.uri(), &["--allow-writable"], &file).is_well();
    verify(&[&file]).is_well();
}

/// The report's file too: the second run replaces the report of the first.
#[test]
fn file_that_is_no_report_is_replaced_only_by_force() {
    let (server, folder) = (disk(), folder());
    let (file, report) = (folder.path().join("disk.full"), folder.path().join("report"));
    let options = ["--allow-writable", "--report", report.to_str().unwrap()];
    fs::write(&report, BEFORE).unwrap();
    backup(&server.uri(), &options, &file).fails(2, &["report", "--force"]);
    assert_eq!(fs::read(&report).unwrap(), BEFORE.as_bytes());
    assert_eq!(names(folder.path()), ["report"]);
    backup(&server.uri(), &[&options[..], &["--force"]].concat(), &file).is_well();
    backup(&server.uri(), &options, &file).is_well();
    assert!(fs::read_to_string(&report).unwrap().starts_with("{\"assumed\":"));
}

#[test]
fn folder_or_missing_folder_is_named() {
    let (server, folder) = (disk(), folder());
    let missing = folder.path().join("none/disk.full");
    backup(&server.uri(), &[], &missing).fails(1, &["none/disk.full: No such file or directory"]);
    backup(&server.uri(), &[], folder.path()).fails(1, &["Is a directory"]);
    assert!(names(folder.path()).is_empty());
}

/// C6 of the faults found from outside: a backup that ends early leaves nothing that looks like
/// one.
#[test]
fn failed_run_leaves_the_old_file_and_no_litter() {
    let (server, folder) = (disk_that_stops(), folder());
    let file = folder.path().join("disk.full");
    let options = ["--allow-writable", "--timeout", "0.2"];
    backup(&server.uri(), &options, &file).fails(4, &[]);
    assert!(names(folder.path()).is_empty());
    fs::write(&file, BEFORE).unwrap();
    backup(&server.uri(), &options, &file).fails(4, &[]);
    assert_eq!(names(folder.path()), ["disk.full"]);
    assert_eq!(fs::read(&file).unwrap(), BEFORE.as_bytes());
}

/// A backup that waits for an answer which never comes; its unfinished file is there.
fn waiting(server: &ScriptedServer, folder: &Path, before: &str) -> Child {
    // a test that was started with nohup ignores SIGHUP, and so would the program
    let child = Command::new("env")
        .args(["--default-signal=HUP,INT,TERM", "sh"])
        .args(["-c", &format!("{before}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_nbd-extents"), "backup"])
        .args([&server.uri(), "--allow-writable"])
        .arg(folder.join("disk.full"))
        .spawn()
        .unwrap();
    wait_until(|| names(folder).len() == 1);
    let partial = names(folder).remove(0);
    assert!(partial.starts_with(".disk.full.") && partial.ends_with(".partial"), "{partial}");
    // Its handlers are set once the mask of the signals that it catches is not empty.
    wait_until(|| caught(child.id()) >> 14 & 1 == 1);
    child
}

/// The mask of the signals that a process catches.
fn caught(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn signal_ends_a_backup_and_leaves_no_litter() {
    for (signal, number) in [("HUP", 1), ("INT", 2), ("TERM", 15)] {
        let (server, folder) = (disk_that_stops(), folder());
        let mut child = waiting(&server, folder.path(), "");
        send(signal, &child);
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(number), "{status}");
        assert!(names(folder.path()).is_empty(), "{signal}: {:?}", names(folder.path()));
    }
}

/// `--timeout` ends a run that is blocked outside of the connection: here in a remark, on a standard
/// error that is full and that nobody reads.
#[test]
fn timeout_of_a_blocked_backup_leaves_no_litter() {
    let server = ScriptedServer::start(|conn| {
        conn.handshake(&Good::compact())?;
        conn.serve(|conn, request| conn.error(request, 5, "", DONE))
    });
    let folder = folder();
    let (reader, mut full) = std::io::pipe().unwrap();
    full.write_all(&[b'x'; 1 << 16]).unwrap(); // all that a pipe holds
    let mut child = program("backup")
        .args([&server.as_ref().unwrap().uri(), "--safe-on-failure", "--timeout", "1"])
        .arg(folder.path().join("stream"))
        .stderr(full)
        .spawn()
        .unwrap();
    wait_until(|| !names(folder.path()).is_empty());
    assert!(names(folder.path())[0].ends_with(".partial"));
    let code = child.wait().unwrap().code();
    assert_eq!((code, names(folder.path())), (Some(4), vec![]));
    drop(reader);
}

#[test]
fn signal_that_the_parent_ignores_stays_ignored() {
    let (server, folder) = (disk_that_stops(), folder());
    let mut child = waiting(&server, folder.path(), "trap '' HUP INT; ");
    send("HUP", &child);
    send("INT", &child);
    thread::sleep(Duration::from_millis(50));
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(names(folder.path()).is_empty());
}
