//! The program against `qemu-nbd`: on random images its answer is that of the slow model, extent
//! for extent, whichever way it asks and whatever range it is asked about.

mod support;

use serde_json::{Value, json};
use support::check::Disk;
use support::run::map;
use testkit::image::{KIB, MIB, Recipe, Step};
use testkit::model::{Model, ModelStatus, SurveyOrder};
use testkit::server::{Server, folder};
use testkit::{random, tools};

const BITMAPS: [&str; 2] = ["b0", "b1"];

/// Serves a random qcow2 with two bitmaps, and checks every way to ask about it.
fn check_image(seed: u64, recipe: &Recipe) {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&recipe.make(folder.path()), &BITMAPS);
    let model = Model::ask(server.socket(), "", &BITMAPS);
    assert_varied(&model);
    let disk = Disk { server: &server, export: "", model };
    disk.check_all(seed);
    disk.check_strict();
}

/// An image that lacks a kind of block would check less than the tests' names say.
fn assert_varied(model: &Model) {
    let mut kinds: Vec<_> = model.blocks.iter().map(|block| kind(&block.status)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for dirty in [[false, false], [true, false], [false, true], [true, true]] {
        for zero in [false, true] {
            let there = kinds.iter().any(|kind| kind.0 == zero && kind.2 == dirty);
            assert!(there, "no block that is zero: {zero}, dirty: {dirty:?}, among {kinds:?}");
        }
    }
    assert!(kinds.iter().any(|kind| kind.0 && !kind.1), "no zero cluster among {kinds:?}");
    assert!(kinds.iter().any(|kind| kind.0 && kind.1), "no hole among {kinds:?}");
}

/// Zero, hole, dirty.
fn kind(status: &ModelStatus) -> (bool, bool, Vec<bool>) {
    (status.zero == Some(true), status.depth == Some(0), status.dirty.clone())
}

#[test]
fn small_clusters() {
    check_image(1, &random::qcow2(1, 4 * KIB, 4 * MIB));
}

#[test]
fn small_clusters_and_an_odd_size() {
    check_image(2, &random::qcow2(2, 4 * KIB, 4 * MIB + 512));
}

#[test]
fn large_clusters() {
    check_image(3, &random::qcow2(3, 64 * KIB, 8 * MIB));
}

#[test]
fn large_clusters_and_an_odd_size() {
    check_image(4, &random::qcow2(4, 64 * KIB, 6 * MIB + 512));
}

#[test]
fn backing_file_seen_through_small_clusters() {
    check_image(5, &random::backed(5, 4 * KIB, 4 * MIB, 4 * MIB));
}

#[test]
fn backing_file_shorter_than_the_disk() {
    check_image(6, &random::backed(6, 64 * KIB, 6 * MIB + 512, 3 * MIB + 1536));
}

#[test]
fn backing_file_longer_than_the_disk() {
    check_image(7, &random::backed(7, 64 * KIB, 4 * MIB + 1024, 5 * MIB));
}

#[test]
fn raw_disk_that_ends_within_a_sector() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let image = random::raw(8, 4 * MIB + 1000).make(folder.path());
    let server = Server::qemu_nbd(&image, &[]);
    let model = Model::ask(server.socket(), "", &[]);
    Disk { server: &server, export: "", model }.check_zero_everywhere(8);
}

#[test]
fn hole_is_false_where_the_server_offers_no_depth() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let image = random::qcow2(9, 64 * KIB, 4 * MIB).make(folder.path());
    let server = Server::qemu_nbd_without_depth(&image);
    let model = Model::ask(server.socket(), "", &[]);
    assert!(model.blocks.iter().all(|block| block.status.depth.is_none()));
    Disk { server: &server, export: "", model }.check_zero_everywhere(9);
}

#[test]
fn clean_disk_and_disk_that_is_dirty_throughout() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let steps = vec![
        Step::Write { at: 0, length: 256 * KIB },
        Step::bitmap("b0"),
        Step::Zero { at: 0, length: 2 * MIB },
        Step::bitmap("b1"),
    ];
    let server = Server::qemu_nbd(&Recipe::qcow2(64 * KIB, 2 * MIB, steps).make(folder.path()), &BITMAPS);
    let model = Model::ask(server.socket(), "", &BITMAPS);
    let all =
        |dirty: bool, zero: bool| vec![json!({"start": 0, "length": 2 * MIB, "dirty": dirty, "zero": zero})];
    for order in [SurveyOrder::Together, SurveyOrder::BitmapFirst] {
        assert_eq!(model.dirty_list(&(0..2 * MIB), &[0], order), all(true, true));
        let zero = order == SurveyOrder::Together;
        assert_eq!(model.dirty_list(&(0..2 * MIB), &[1], order), all(false, zero));
    }
    Disk { server: &server, export: "", model }.check_all(10);
}

/// The disk of the golden files: two writes, a bitmap, then data and both kinds of zeroes.
fn golden() -> Recipe {
    let steps = vec![
        Step::Write { at: 0, length: MIB },
        Step::Write { at: 4 * MIB, length: MIB },
        Step::bitmap("bitmap0"),
        Step::Write { at: MIB, length: 64 * KIB },
        Step::Zero { at: 4 * MIB, length: 512 * KIB },
        Step::ZeroUnmap { at: 2 * MIB, length: MIB },
    ];
    Recipe::qcow2(64 * KIB, 6 * MIB, steps)
}

/// The output of ovirt-imageio for that disk.
fn golden_zero() -> Vec<Value> {
    list(json!([
        {"start": 0, "length": 1_114_112, "zero": false, "hole": false},
        {"start": 1_114_112, "length": 983_040, "zero": true, "hole": true},
        {"start": 2_097_152, "length": 1_048_576, "zero": true, "hole": false},
        {"start": 3_145_728, "length": 1_048_576, "zero": true, "hole": true},
        {"start": 4_194_304, "length": 524_288, "zero": true, "hole": false},
        {"start": 4_718_592, "length": 524_288, "zero": false, "hole": false},
        {"start": 5_242_880, "length": 1_048_576, "zero": true, "hole": true},
    ]))
}

/// The output of ovirt-imageio for that disk and its bitmap.
fn golden_dirty() -> Vec<Value> {
    list(json!([
        {"start": 0, "length": 1_048_576, "dirty": false, "zero": false},
        {"start": 1_048_576, "length": 65_536, "dirty": true, "zero": false},
        {"start": 1_114_112, "length": 983_040, "dirty": false, "zero": true},
        {"start": 2_097_152, "length": 1_048_576, "dirty": true, "zero": true},
        {"start": 3_145_728, "length": 1_048_576, "dirty": false, "zero": true},
        {"start": 4_194_304, "length": 524_288, "dirty": true, "zero": true},
        {"start": 4_718_592, "length": 524_288, "dirty": false, "zero": false},
        {"start": 5_242_880, "length": 1_048_576, "dirty": false, "zero": true},
    ]))
}

fn list(value: Value) -> Vec<Value> {
    serde_json::from_value(value).expect("an array")
}

#[test]
fn model_gives_the_golden_lists_of_ovirt_imageio() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&golden().make(folder.path()), &["bitmap0"]);
    let model = Model::ask(server.socket(), "", &["bitmap0"]);
    let whole = 0..6 * MIB;
    assert_eq!(model.zero_list(&whole), golden_zero());
    assert_eq!(model.dirty_list(&whole, &[0], SurveyOrder::Together), golden_dirty());
}

#[test]
fn example_gives_the_golden_lists_of_ovirt_imageio() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let server = Server::qemu_nbd(&golden().make(folder.path()), &["bitmap0"]);
    let uri = server.uri("");
    map(&[&uri, "--json"]).prints(&golden_zero());
    map(&[&uri, "--json", "--bitmap", "bitmap0"]).prints(&golden_dirty());
}

/// After a disk has grown, qemu calls the new part clean, whatever the backup before held there.
/// Who says how large the disk was is warned.
#[test]
fn incremental_of_a_disk_that_has_grown() {
    if !tools::require_qemu() {
        return;
    }
    let folder = folder();
    let steps = vec![
        Step::Write { at: 0, length: MIB },
        Step::bitmap("b0"),
        Step::Write { at: 0, length: 64 * KIB },
        Step::Resize { size: 4 * MIB },
        Step::Write { at: 3 * MIB, length: 64 * KIB },
    ];
    let server = Server::qemu_nbd(&Recipe::qcow2(64 * KIB, 2 * MIB, steps).make(folder.path()), &["b0"]);
    let uri = server.uri("");
    let run = |more: &[&str]| map(&[&[&uri, "--bitmap", "b0", "--json"], more].concat());
    let rows = |rows: &[(u64, u64, &str)]| -> Vec<Value> {
        rows.iter()
            .map(|(at, end, action)| json!({"start": at, "length": end - at, "action": action}))
            .collect()
    };
    let by_the_bitmap = rows(&[
        (0, 64 * KIB, "copy"),
        (64 * KIB, 3 * MIB, "skip"),
        (3 * MIB, 3 * MIB + 64 * KIB, "copy"),
        (3 * MIB + 64 * KIB, 4 * MIB, "skip"),
    ]);
    run(&["--actions"]).prints(&by_the_bitmap);
    run(&["--actions", "--previous-size", "4M"]).prints(&by_the_bitmap);
    run(&["--actions", "--previous-size", "2M"]).fails_saying(3, &["4194304", "2097152"]);
    run(&["--actions", "--previous-size", "5M", "--grown"]).fails_saying(3, &["shrunk"]);
    run(&["--actions", "--previous-size", "2M", "--grown"]).prints(&rows(&[
        (0, 64 * KIB, "copy"),
        (64 * KIB, 2 * MIB, "skip"),
        (2 * MIB, 3 * MIB, "zero"),
        (3 * MIB, 3 * MIB + 64 * KIB, "copy"),
        (3 * MIB + 64 * KIB, 4 * MIB, "zero"),
    ]));
    let totals = run(&["--totals", "--previous-size", "2M", "--grown", "--offset", "1M"]).json();
    assert_eq!(totals, json!({"copy": 64 * KIB, "zero": 2 * MIB - 64 * KIB, "skip": MIB, "size": 3 * MIB}));
    for usage in
        [&["--previous-size", "2M"][..], &["--grown", "--actions"], &["--actions", "--previous-size", "x"]]
    {
        run(usage).fails(2);
    }
    map(&[&uri, "--json", "--actions", "--previous-size", "2M"]).fails(2);
}
