//! `copy` between real servers. An incremental onto the previous copy gives the same disk: in random
//! rounds, with any minimum block on either side, while the guest writes on, and after a copy that was
//! killed. A copy that cannot work ends with the right code and says what the target holds.
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::backup::Ended;
use support::run::program;
use tempfile::TempDir;
use testkit::command::{finish_between, succeed};
use testkit::image::{Image, KIB, MIB, Recipe, Step};
use testkit::random::{self, Rng};
use testkit::server::{Server, folder};
use testkit::tools::require;

const LIMIT: Duration = Duration::from_secs(120);
const SERVERS: [&str; 4] = ["qemu-img", "qemu-io", "qemu-nbd", "nbdkit"];
const SIZE: u64 = 24 * MIB;

fn copy(source: &str, target: &str, options: &[&str]) -> Ended {
    let mut command = program("copy");
    command.args([source, target]).args(options);
    let done = finish_between(&mut command, Stdio::null(), Stdio::null(), LIMIT);
    Ended { code: done.status.code(), stderr: done.stderr }
}

/// Compares two disks by qemu-img.
#[track_caller]
fn assert_identical(source: &Image, target: &Path, seed: u64) {
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-f", source.format.name(), "-F", "raw"]).arg(&source.path).arg(target);
    let done = succeed(&mut compare, "", LIMIT);
    assert!(done.stdout.contains("Images are identical."), "round {seed}: {}", done.stdout);
}

/// A raw file of old bytes.
fn old_disk(folder: &TempDir, size: u64) -> std::path::PathBuf {
    let file = folder.path().join("target");
    fs::write(&file, vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
    file
}

/// A file whose server takes whole blocks of `block` bytes alone.
fn serve(file: &Path, block: u64, options: &[&str]) -> Server {
    let minimum = format!("blocksize-minimum={block}");
    let preferred = format!("blocksize-preferred={}", block.max(4096));
    let file = format!("file={}", file.display());
    let plugin = ["file", &file, &minimum, &preferred, "blocksize-error-policy=error"];
    let options: Vec<_> = options.iter().copied().chain(["--filter=blocksize-policy"]).collect();
    Server::nbdkit_writable(&options, &plugin)
}

/// 20 rounds: a full copy onto old bytes, changes, and an incremental onto that copy, in both orders
/// of asking and over one connection and four.
#[test]
fn an_incremental_onto_the_previous_copy_gives_the_same_disk() {
    if !require(&SERVERS) {
        return;
    }
    for seed in 0..20 {
        let mut rng = Rng::new(700 + seed);
        let folder = folder();
        let mut source = random::qcow2(seed, 64 * KIB, SIZE);
        let recorded = Step::Bitmap { name: "b2", granularity: (4 * KIB) << (2 * rng.below(3)) };
        source.steps.push(recorded);
        let source = source.make(folder.path());
        let target = old_disk(&folder, SIZE);
        let to = serve(&target, [1, 512, 4096, 65536][(seed % 4) as usize], &[]);
        let connections = ["1", "4"][(seed / 2 % 2) as usize];
        let from = Server::qemu_nbd(&source, &[]);
        let full = ["--connections", connections, "--verify"];
        copy(&from.uri(""), &to.uri(""), &full).is_well();
        drop(from);
        assert_identical(&source, &target, seed);

        source.apply(&random::changes(&mut rng, source.format, SIZE, 12, 7));
        source.apply(&[Step::Freeze { name: "b2" }]);
        let from = Server::qemu_nbd(&source, &["b2"]);
        let mut options = vec!["--bitmap", "b2", "--connections", connections];
        options.extend(["--verify", "--bitmap-first"].into_iter().take((seed % 3) as usize));
        copy(&from.uri(""), &to.uri(""), &options).is_well();
        drop(from);
        assert_identical(&source, &target, seed);
    }
}

/// Minimum blocks of either side, and sizes that are no whole blocks of the target.
#[test]
fn any_minimum_block_on_either_side() {
    if !require(&SERVERS) {
        return;
    }
    for (nth, (from_block, to_block)) in
        [512, 4096, 65536].into_iter().flat_map(|from| [1, 512, 4096, 65536].map(|to| (from, to))).enumerate()
    {
        let seed = nth as u64;
        let size = (4 * MIB + seed * 512 * 97).next_multiple_of(from_block);
        let folder = folder();
        let source = random::raw(seed, size).make(folder.path());
        let target = old_disk(&folder, (size + 3 * to_block).next_multiple_of(to_block));
        let from = serve(&source.path, from_block, &["--readonly"]);
        let to = serve(&target, to_block, &[]);
        let ended = copy(&from.uri(""), &to.uri(""), &["--verify"]);
        assert_eq!(ended.code, Some(0), "{from_block} to {to_block}: {}", ended.stderr);
        let (expected, found) = (fs::read(&source.path).unwrap(), fs::read(&target).unwrap());
        assert!(found[..expected.len()] == expected, "{from_block} to {to_block}: a wrong disk");
        let beyond = &found[expected.len()..];
        assert!(
            beyond.iter().all(|&byte| byte == 0xa5),
            "{from_block} to {to_block}: written beyond the end"
        );
    }
}

/// A view that knows of dirty ranges alone, onto a target of larger blocks: the rest of a block is
/// the target's own.
#[test]
fn a_view_of_dirty_ranges_while_its_owner_writes_on() {
    if !require(&["qemu-img", "qemu-io", "qemu-storage-daemon", "nbdkit"]) {
        return;
    }
    for (nth, block) in [1, 4096, 65536].into_iter().enumerate() {
        let mut rng = Rng::new(900 + nth as u64);
        let folder = folder();
        let mut recipe = Recipe::qcow2(64 * KIB, SIZE, vec![Step::Write { at: 0, length: 3 * MIB }]);
        recipe.steps.push(Step::Bitmap { name: "b0", granularity: 16 * KIB });
        let source = recipe.make(folder.path());
        let target = folder.path().join("target");
        let mut convert = Command::new("qemu-img");
        succeed(convert.args(["convert", "-O", "raw"]).arg(&source.path).arg(&target), "", LIMIT);
        source.apply(&random::changes(&mut rng, source.format, SIZE, 30, 9));
        let frozen = folder.path().join("frozen");
        let mut convert = Command::new("qemu-img");
        succeed(convert.args(["convert", "-O", "raw"]).arg(&source.path).arg(&frozen), "", LIMIT);
        // the bitmap of a checkpoint does not change any more: the view knows of no other dirty ranges
        succeed(
            Command::new("qemu-img").args(["bitmap", "--disable"]).arg(&source.path).arg("b0"),
            "",
            LIMIT,
        );

        fs::create_dir(folder.path().join("scratch")).unwrap();
        let scratch = Recipe::qcow2(64 * KIB, SIZE, Vec::new()).make(&folder.path().join("scratch"));
        let from = Server::snapshot_access(&source, &scratch, "b0");
        let to = serve(&target, block, &[]);
        let guest = from.uri("guest");
        let writes = "write -q -P 0x77 0 12M\nwrite -q -z 12M 12M\nquit\n";
        std::thread::scope(|scope| {
            scope.spawn(|| {
                succeed(Command::new("qemu-io").args(["-f", "raw", &guest]), writes, LIMIT);
            });
            let options =
                ["--bitmap", "b0", "--bitmap-first", "--allow-writable", "--verify", "--connections", "2"];
            copy(&from.uri("snap"), &to.uri(""), &options).is_well();
        });
        drop((from, to));
        assert!(fs::read(&frozen).unwrap() == fs::read(&target).unwrap(), "blocks of {block}: a wrong disk");
    }
}
