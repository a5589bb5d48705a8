//! The memory of a backup: a byte budget, and for each extent that is planned at most 16
//! bytes. Measured on the program itself, at two sizes of a disk whose every second block is a
//! hole, so that nothing can be joined.
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use support::backup::{backup, frames, restore, verify};
use support::run::program;
use testkit::command::{peak_memory, peak_memory_and_code};
use testkit::image::{Image, ImageFormat, Recipe, Step};
use testkit::scripted::{DONE, Good, ScriptedServer};
use testkit::server::{Server, folder};
use testkit::tools::require_qemu;

const BLOCK: u64 = 4096;
const FEW: u64 = 16_000;
const MANY: u64 = 80_000;

/// A raw disk of this number of extents, each of one block.
fn fragmented(folder: &tempfile::TempDir, extents: u64) -> Image {
    let path = folder.path().join(extents.to_string());
    let disk = File::create(&path).unwrap();
    disk.set_len(extents * BLOCK).unwrap();
    for block in (0..extents).step_by(2) {
        disk.write_all_at(&[0x5a; 4096], block * BLOCK).unwrap();
    }
    Image { path, format: ImageFormat::Raw }
}

/// A disk without end whose server calls every second sector a hole: it cannot decide the memory of a backup.
#[test]
fn map_of_a_backup_keeps_to_its_memory() {
    const REPLY: u64 = 16_384;
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let descriptors: Vec<(u64, u64)> = (0..REPLY).map(|nth| (512, nth % 2 * 3)).collect();
    let server = ScriptedServer::start(move |conn| {
        conn.handshake(&Good::extended().size(1 << 60))?;
        conn.serve(|conn, request| {
            count.fetch_add(REPLY, Ordering::Relaxed);
            conn.status(request, 0, &descriptors, DONE)
        })
    });
    let server = server.unwrap();
    let mut backup = program("backup");
    backup.args([&server.uri(), "-", "--map-memory", "1M", "--timeout", "5"]);
    let backup = backup.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (peak, code) = peak_memory_and_code(backup);
    let told = told.load(Ordering::Relaxed);
    println!("{peak} bytes with {told} extents");
    assert_eq!(code, Some(4), "the time was up");
    assert!(told > 5 << 19, "{told} extents are too few to tell: the map of all would have 22 MiB");
    assert!(peak < 24 << 20, "{peak} bytes with {told} extents");
}

/// Where the map has no room, zeroes are copied: the stream is longer, and restores the same disk.
#[test]
fn backup_with_little_memory_restores_the_disk() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let disk = fragmented(&folder, FEW);
    let server = Server::qemu_nbd_without_depth(&disk);
    let data = |options: &[&str]| {
        let file = folder.path().join("stream");
        backup(&server.uri(""), options, &file).is_well();
        verify(&[&file]).is_well();
        let size = FEW * BLOCK;
        let target = Recipe::raw(size, vec![Step::Write { at: 0, length: size }]);
        let target = target.make(&tempfile::tempdir_in(folder.path()).unwrap().keep());
        let writable = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
        restore(&writable.uri(""), &[], &[&file]).is_well();
        drop(writable);
        assert!(disk.is_identical(&target), "{options:?}");
        frames(&file).iter().filter(|frame| frame.kind == "data").map(|frame| frame.length).sum::<u64>()
    };
    let all = data(&[]);
    assert_eq!(all, FEW / 2 * BLOCK);
    assert!(data(&["--map-memory", "64K"]) > all, "some zeroes are copied");
}

#[test]
fn a_backup_holds_at_most_16_bytes_an_extent_beside_its_budget() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let [few, many] = [FEW, MANY].map(|extents| {
        let server = Server::qemu_nbd_without_depth(&fragmented(&folder, extents));
        let uri = server.uri("");
        let backup = program("backup").args([&uri, "-"]).stdout(Stdio::null()).spawn().unwrap();
        peak_memory(backup)
    });
    println!("{few} bytes with {FEW} extents, {many} with {MANY}");
    // the budget is 32 MiB by default; the program itself takes a few
    assert!(many < (48 << 20) + 16 * MANY, "{many} bytes");
    let allowed = 16 * (MANY - FEW) + (2 << 20);
    assert!(many.saturating_sub(few) < allowed, "{few} bytes with {FEW} extents, {many} with {MANY}");
}
