//! The program against the view that a live backup reads: `qemu-storage-daemon` with a
//! snapshot-access node over copy-before-write with a bitmap. Asking about a clean byte fails
//! there.

mod support;

use core::time::Duration;
use std::process::Command;

use support::check::Disk;
use support::run::map;
use tempfile::TempDir;
use testkit::command::succeed;
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::model::{Model, SurveyOrder};
use testkit::naive::Client;
use testkit::server::{Server, folder};
use testkit::{random, tools};

const SIZE: u64 = 4 * MIB;
const EINVAL: u32 = 22;

/// Data, a zeroed range and a discarded one are dirty; more data, and the part never written, is
/// clean.
fn fixed() -> Recipe {
    let steps = vec![
        Step::Write { at: 0, length: MIB },
        Step::Write { at: 2 * MIB, length: 512 * KIB },
        Step::bitmap("b0"),
        Step::Write { at: MIB, length: 128 * KIB },
        Step::Zero { at: 2 * MIB, length: 128 * KIB },
        Step::Write { at: 3 * MIB, length: 64 * KIB },
        Step::Discard { at: 256 * KIB, length: 64 * KIB },
        // Writes of the guest from here on belong to the next checkpoint.
        Step::Freeze { name: "b0" },
    ];
    Recipe::qcow2(64 * KIB, SIZE, steps)
}

/// A live disk during its backup. The images' folder has to outlive the server.
struct Backup {
    server: Server,
    _folder: TempDir,
}

/// Starts it, unless a tool is missing.
fn start(recipe: &Recipe) -> Option<Backup> {
    if !tools::require(&["qemu-img", "qemu-io", "qemu-storage-daemon"]) {
        return None;
    }
    let folder = folder();
    let disk = recipe.make(folder.path());
    let scratches = folder.path().join("scratch");
    std::fs::create_dir(&scratches).expect("a folder for the scratch image");
    let scratch = Recipe::qcow2(64 * KIB, recipe.size, Vec::new()).make(&scratches);
    Some(Backup { server: Server::snapshot_access(&disk, &scratch, "b0"), _folder: folder })
}

impl Backup {
    fn disk(&self) -> Disk<'_> {
        let model = Model::ask_dirty_only(self.server.socket(), "snap", &["b0"]);
        Disk { server: &self.server, export: "snap", model }
    }

    fn ask(&self, offset: u64) -> Result<(), u32> {
        let contexts = ["base:allocation".to_owned(), "qemu:dirty-bitmap:b0".to_owned()];
        Client::connect(self.server.socket(), "snap", &contexts).ask(offset, 512).map(|_| ())
    }

    /// Runs a command of qemu-io on the disk that the guest sees.
    fn guest(&self, command: &str) {
        let mut qemu_io = Command::new("qemu-io");
        qemu_io.args(["-f", "raw", &self.server.uri("guest"), "-c", command]);
        let done = succeed(&mut qemu_io, "", Duration::from_secs(30));
        assert!(done.stderr.is_empty() && done.stdout.is_empty(), "{done:?}");
    }
}

#[test]
fn server_fails_what_touches_a_clean_byte() {
    let Some(backup) = start(&fixed()) else { return };
    assert_eq!(backup.ask(MIB), Ok(()), "a dirty byte");
    assert_eq!(backup.ask(0), Err(EINVAL), "a clean byte");
}

#[test]
fn bitmap_first_gives_the_map() {
    let Some(backup) = start(&fixed()) else { return };
    let disk = backup.disk();
    disk.check_dirty(&(0..SIZE), &[0], SurveyOrder::BitmapFirst);
    disk.check_dirty(&(MIB + 12345..3 * MIB + 1), &[0], SurveyOrder::BitmapFirst);
    let list = disk.model.dirty_list(&(0..SIZE), &[0], SurveyOrder::BitmapFirst);
    let dirty: Vec<_> = list.iter().filter(|extent| extent["dirty"] == true).collect();
    let zeroes: Vec<_> = dirty.iter().map(|extent| extent["zero"] == true).collect();
    assert_eq!(zeroes, [true, false, true, false], "a discard, data, zeroes, data: {dirty:?}");
}

#[test]
fn bitmap_first_gives_the_map_of_random_disks() {
    for seed in [21, 22, 23] {
        let Some(backup) = start(&random::qcow2(seed, 4 * KIB, SIZE + 512)) else { return };
        backup.disk().check_dirty(&(0..SIZE + 512), &[0], SurveyOrder::BitmapFirst);
        backup.disk().check_dirty(&(seed..SIZE - seed), &[0], SurveyOrder::BitmapFirst);
    }
}

#[test]
fn range_that_is_dirty_throughout_can_be_asked_together() {
    let Some(backup) = start(&fixed()) else { return };
    backup.disk().check_dirty(&(MIB + 1..MIB + 1000), &[0], SurveyOrder::Together);
}

#[test]
fn all_together_ends_in_the_servers_error_and_says_which_option_helps() {
    let Some(backup) = start(&fixed()) else { return };
    for headers in [None, Some("--compact")] {
        let uri = backup.server.uri("snap");
        let mut arguments = vec![uri.as_str(), "--json", "--bitmap", "b0"];
        arguments.extend(headers);
        map(&arguments).fails_saying(5, &["can't get block status", "--bitmap-first"]);
    }
}

#[test]
fn without_a_bitmap_ends_in_the_servers_error() {
    let Some(backup) = start(&fixed()) else { return };
    map(&[&backup.server.uri("snap"), "--json"]).fails_saying(5, &["can't get block status"]);
}

#[test]
fn what_the_guest_writes_meanwhile_changes_nothing() {
    let Some(backup) = start(&fixed()) else { return };
    let before = backup.disk();
    backup.guest("write -q -P 7 2M 64k");
    backup.guest("write -q -P 7 3584k 64k");
    backup.guest("write -q -z 1M 64k");
    before.check_dirty(&(0..SIZE), &[0], SurveyOrder::BitmapFirst);
}
