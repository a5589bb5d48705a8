//! What a backup holds in memory: a byte budget, and for each extent that is planned at most 16
//! bytes. Measured on the program itself, at two sizes of a disk whose every second block is a
//! hole, so that nothing can be joined.
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use support::run::program;
use testkit::command::peak_memory;
use testkit::image::{Format, Image};
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
    Image { path, format: Format::Raw }
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
