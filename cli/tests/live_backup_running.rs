//! Backups of a disk that its guest goes on writing: the restored disk is the disk as it was when
//! the backup began. In libvirt's shape (a scratch image that is backed by the disk) and as qemu's
//! snapshot-access, both in qemu-storage-daemon.
#![cfg(unix)]

extern crate alloc;

mod support;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use nbd_client::{Client, Options};
use support::backup::{backup, restore, verify};
use tempfile::TempDir;
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::random::{self, Rng};
use testkit::server::{Server, folder};
use testkit::tools;

const SIZE: u64 = 24 * MIB;

/// A guest that writes and zeroes all over its disk until it is told to stop.
struct Guest {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Guest {
    fn start(server: &Server) -> Self {
        let mut client = Client::connect(&server.uri("guest").parse().unwrap(), &Options::new()).unwrap();
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, written) = (stop.clone(), writes.clone());
        let thread = thread::spawn(move || {
            let mut rng = Rng::new(99);
            while !stopped.load(Ordering::Relaxed) {
                let at = rng.below(SIZE / (4 * KIB)) * 4 * KIB;
                let length = ((1 + rng.below(16)) * 4 * KIB).min(SIZE - at);
                match rng.below(4) {
                    0 => client.zero(at, length).unwrap(),
                    byte => {
                        let data = vec![0xf0 + u8::try_from(byte).unwrap(); usize::try_from(length).unwrap()];
                        client.write(at, &data).unwrap();
                    }
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let guest = Self { thread: Some(thread), stop, writes };
        guest.wait_for(20);
        guest
    }

    /// Waits until this number of further writes has been done.
    fn wait_for(&self, more: u64) {
        let goal = self.count() + more;
        while self.count() < goal {
            assert!(!self.thread.as_ref().unwrap().is_finished(), "the guest has failed");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn count(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("the guest");
    }
}

/// A disk with a full backup made of it, changed since, its bitmap frozen; and a copy of it as it
/// is now.
struct Disk {
    folder: TempDir,
    disk: Image,
    now: Image,
    full: PathBuf,
}

fn make(seed: u64) -> Disk {
    let folder = folder();
    let disk = Recipe::qcow2(64 * KIB, SIZE, Vec::new()).make(folder.path());
    let mut rng = Rng::new(seed);
    let mut change = |count, byte| disk.apply(&random::changes(&mut rng, disk.format, SIZE, count, byte));
    change(80, 1);
    let full = folder.path().join("full");
    let server = Server::qemu_nbd(&disk, &[]);
    backup(&server.uri(""), &[], &full).is_well();
    drop(server);
    disk.apply(&[Step::bitmap("b0")]);
    change(60, 2);
    disk.apply(&[Step::Freeze { name: "b0" }]);
    let now = disk.copy("now");
    Disk { folder, disk, now, full }
}

impl Disk {
    fn scratch(&self) -> Image {
        let place = self.folder.path().join("scratch");
        std::fs::create_dir(&place).unwrap();
        Recipe::qcow2(64 * KIB, SIZE, Vec::new()).make(&place)
    }

    /// Backs the view of the disk at the start up while the guest writes.
    fn back_up(&self, server: &Server, name: &str, options: &[&str]) -> PathBuf {
        let guest = Guest::start(server);
        let before = guest.count();
        let file = self.folder.path().join(name);
        let mut options = options.to_vec();
        if options.contains(&"--bitmap") {
            options.extend(["--after", self.full.to_str().unwrap()]);
        }
        backup(&server.uri("snap"), &options, &file).is_well();
        assert!(guest.count() > before, "the guest wrote nothing during the backup");
        guest.wait_for(20);
        guest.stop();
        file
    }

    #[track_caller]
    fn restores(&self, streams: &[&Path]) {
        verify(streams).is_well();
        let place = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let old = vec![Step::Write { at: 0, length: SIZE }];
        let target = Recipe::qcow2(64 * KIB, SIZE, old).make(&place);
        let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
        restore(&server.uri(""), &[], streams).is_well();
        drop(server);
        assert!(self.now.is_identical(&target));
        assert!(!self.now.is_identical(&self.disk), "the guest has changed the disk since");
    }
}

fn ready() -> bool {
    tools::require(&["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"])
}

#[test]
fn incremental_of_a_scratch_image_is_the_disk_at_the_start() {
    if !ready() {
        return;
    }
    for (seed, options) in [(1, &["--bitmap", "b0"][..]), (2, &["--bitmap", "b0", "--bitmap-first"])] {
        let disk = make(seed);
        let server = Server::fleecing(&disk.disk, &disk.scratch(), "b0");
        let incremental = disk.back_up(&server, "incremental", options);
        drop(server);
        disk.restores(&[&disk.full, &incremental]);
    }
}

#[test]
fn full_of_a_scratch_image_is_the_disk_at_the_start() {
    if !ready() {
        return;
    }
    let disk = make(3);
    let server = Server::fleecing(&disk.disk, &disk.scratch(), "b0");
    let full = disk.back_up(&server, "live-full", &[]);
    drop(server);
    disk.restores(&[&full]);
}

#[test]
fn incremental_of_a_snapshot_access_is_the_disk_at_the_start() {
    if !ready() {
        return;
    }
    for (seed, options) in [
        (4, &["--bitmap", "b0", "--bitmap-first"][..]),
        (5, &["--bitmap", "b0", "--bitmap-first", "--compact"]),
    ] {
        let disk = make(seed);
        let server = Server::snapshot_access(&disk.disk, &disk.scratch(), "b0");
        let incremental = disk.back_up(&server, "incremental", options);
        drop(server);
        disk.restores(&[&disk.full, &incremental]);
    }
}

#[test]
fn snapshot_access_without_bitmap_first_says_what_helps() {
    if !ready() {
        return;
    }
    let disk = make(6);
    let server = Server::snapshot_access(&disk.disk, &disk.scratch(), "b0");
    let file = disk.folder.path().join("none");
    backup(&server.uri("snap"), &["--bitmap", "b0"], &file).fails(5, &["--bitmap-first"]);
    backup(&server.uri("snap"), &[], &file).fails(5, &["--bitmap NAME --bitmap-first"]);
    assert!(!file.exists());
}
