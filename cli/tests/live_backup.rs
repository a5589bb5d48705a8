//! A full backup and a chain of incrementals restored onto another disk by qemu-nbd, and compared
//! by qemu-img. The bytes of these disks never touch each other otherwise.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::backup::{
    Frame, backup, frames, restore, restore_from_stdin, restore_with_python, verify, without_zeroes,
};
use tempfile::TempDir;
use testkit::image::{Image, ImageFormat, KIB, MIB, Recipe, Step};
use testkit::random::{self, Rng};
use testkit::server::{Server, folder};
use testkit::tools::{require, require_qemu};

/// The names of the bitmaps: each records what happens between two backups.
const BITMAPS: [&str; 5] = ["b1", "b2", "b3", "b4", "b5"];

/// A disk, its backups and where they are restored.
struct Chain {
    folder: TempDir,
    disk: Image,
    size: u64,
    rng: Rng,
    streams: Vec<PathBuf>,
    /// Options of each backup.
    options: Vec<&'static str>,
}

impl Chain {
    /// The first, full backup of a disk with something on it.
    fn begin(recipe: Recipe, seed: u64, options: &[&'static str]) -> Self {
        let folder = folder();
        let size = recipe.size;
        let mut chain = Self {
            disk: recipe.make(folder.path()),
            folder,
            size,
            rng: Rng::new(seed),
            streams: Vec::new(),
            options: options.to_vec(),
        };
        chain.change(20, 1);
        chain.back_up(&[]);
        chain
    }

    fn change(&mut self, count: usize, byte: u8) {
        let steps = random::changes(&mut self.rng, self.disk.format, self.size, count, byte);
        self.disk.apply(&steps);
    }

    /// A backup of the dirty ranges of any of these bitmaps, or of everything.
    fn back_up(&mut self, bitmaps: &[&str]) {
        let file = self.folder.path().join(format!("stream-{}", self.streams.len()));
        let server = Server::qemu_nbd(&self.disk, bitmaps);
        let checkpoint = format!("é{}", self.streams.len());
        let mut options: Vec<&str> = bitmaps.iter().flat_map(|bitmap| ["--bitmap", bitmap]).collect();
        options.extend(["--checkpoint", &checkpoint]);
        if let Some(previous) = self.streams.last() {
            options.extend(["--after", previous.to_str().unwrap()]);
        }
        if bitmaps.is_empty() {
            options.extend(self.options.iter().filter(|option| **option != "--bitmap-first"));
        } else {
            options.extend(&self.options);
        }
        backup(&server.uri(""), &options, &file).is_well();
        self.streams.push(file);
    }

    /// Five times: a bitmap is begun, the guest goes on, the bitmap is backed up and ended.
    fn five_incrementals(&mut self) {
        for (nth, bitmap) in (2..).zip(BITMAPS) {
            self.disk.apply(&[Step::bitmap(bitmap)]);
            self.change(12, nth);
            self.back_up(&[bitmap]);
            self.disk.apply(&[Step::Freeze { name: bitmap }]);
        }
    }

    fn stream(&self, nth: usize) -> &Path {
        &self.streams[nth]
    }

    fn all(&self) -> Vec<&Path> {
        self.streams.iter().map(PathBuf::as_path).collect()
    }

    /// The disk that these streams give, over whatever was there before.
    fn restore(&self, streams: &[&Path]) -> Image {
        let target = Recipe::qcow2(64 * KIB, self.size, vec![Step::Write { at: 0, length: self.size }]);
        let place = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let target = target.make(&place);
        let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
        restore(&server.uri(""), &[], streams).is_well();
        drop(server);
        target
    }

    #[track_caller]
    fn check(&self) {
        verify(&self.all()).is_well();
        assert!(self.disk.is_identical(&self.restore(&self.all())), "{:?}", self.folder.path());
    }
}

fn plain() -> Recipe {
    Recipe::qcow2(64 * KIB, 8 * MIB, Vec::new())
}

/// How many rounds: 2, or as many as `BACKUP_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("BACKUP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn round(recipe: Recipe, seed: u64, options: &[&'static str]) {
    let mut chain = Chain::begin(recipe, seed, options);
    chain.five_incrementals();
    chain.check();
}

#[test]
fn random_rounds_restore_the_disk() {
    if !require_qemu() {
        return;
    }
    for seed in 0..rounds() {
        let options: &[&str] = [&[][..], &["--bitmap-first"], &["--compact"], &["--detect-zeroes"]]
            [usize::try_from(seed % 4).unwrap()];
        round(plain(), 100 + seed, options);
    }
}

/// The connections that only read have no contexts, and are told other flags.
#[test]
fn several_connections_read_one_disk() {
    if !require_qemu() {
        return;
    }
    for options in [&["--connections", "4"][..], &["--connections", "3", "--bitmap-first", "--compact"]] {
        let mut chain = Chain::begin(plain(), 150, options);
        chain.disk.apply(&[Step::bitmap(BITMAPS[0])]);
        chain.change(12, 2);
        chain.back_up(&[BITMAPS[0]]);
        chain.check();
    }
}

#[test]
fn small_clusters_and_an_odd_size() {
    if !require_qemu() {
        return;
    }
    for seed in 0..rounds().div_ceil(2) {
        round(
            Recipe::qcow2(4 * KIB, 4 * MIB + 512, Vec::new()),
            200 + seed,
            &["--bitmap-first", "--compact"],
        );
    }
}

#[test]
fn disk_with_a_backing_file() {
    if !require_qemu() {
        return;
    }
    for seed in 0..rounds().div_ceil(2) {
        let base = Recipe::qcow2(64 * KIB, 6 * MIB, vec![Step::Write { at: MIB, length: 4 * MIB }]);
        round(plain().over(base), 300 + seed, &[]);
    }
}

#[test]
fn two_bitmaps_are_one_incremental() {
    if !require_qemu() {
        return;
    }
    for seed in 0..rounds().div_ceil(2) {
        for options in [&[][..], &["--bitmap-first"]] {
            let mut chain = Chain::begin(plain(), 400 + seed, options);
            for (nth, bitmap) in [(2, "b1"), (3, "b2")] {
                chain.disk.apply(&[Step::bitmap(bitmap)]);
                chain.change(8, nth);
                chain.disk.apply(&[Step::Freeze { name: bitmap }]);
            }
            chain.back_up(&["b1", "b2"]);
            chain.check();
        }
    }
}

/// A disk on which each kind of change happened to old data: written anew, zeroed, discarded.
fn changed() -> Chain {
    let mut chain = Chain::begin(plain(), 7, &[]);
    chain.disk.apply(&[
        Step::Fill { at: 0, length: 4 * MIB, byte: 9 },
        Step::bitmap("b1"),
        Step::Fill { at: MIB, length: 64 * KIB, byte: 10 },
        Step::Zero { at: 2 * MIB, length: 128 * KIB },
        Step::Discard { at: 3 * MIB, length: 64 * KIB },
    ]);
    chain.streams.clear();
    chain.back_up(&[]);
    // the full one is of the disk before the changes
    chain.disk.apply(&[Step::Fill { at: 2 * MIB, length: 128 * KIB, byte: 11 }]);
    chain.streams.clear();
    chain.back_up(&[]);
    chain.disk.apply(&[Step::Zero { at: 2 * MIB, length: 128 * KIB }]);
    chain.back_up(&["b1"]);
    chain
}

#[test]
fn client_that_drops_dirty_zeroes_is_found_out() {
    if !require_qemu() {
        return;
    }
    let chain = changed();
    chain.check();
    let dropped = without_zeroes(chain.stream(1));
    verify(&[&dropped]).is_well();
    let wrong = chain.restore(&[chain.stream(0), &dropped]);
    assert!(!chain.disk.is_identical(&wrong), "old bytes should be where the guest had zeroes");
}

#[test]
fn incremental_holds_dirty_ranges_alone_and_says_how_much() {
    if !require_qemu() {
        return;
    }
    let chain = changed();
    let frames = frames(chain.stream(1));
    let of = |kind: &str| -> Vec<(u64, u64)> {
        frames.iter().filter(|frame| frame.kind == kind).map(|frame| (frame.start, frame.length)).collect()
    };
    assert_eq!(of("data"), [(MIB, 64 * KIB)]);
    assert_eq!(of("zero"), [(2 * MIB, 128 * KIB), (3 * MIB, 64 * KIB)]);
    let meta: Value = serde_json::from_slice(&frames[0].bytes[40..]).unwrap();
    assert_eq!(meta["data-size"], 64 * KIB);
    assert_eq!(meta["incremental"], true);
}

#[test]
fn reader_of_another_language_restores_the_disk() {
    if !require_qemu() || !require(&["python3"]) {
        return;
    }
    let mut chain = Chain::begin(Recipe::qcow2(4 * KIB, 4 * MIB + 512, Vec::new()), 500, &[]);
    chain.disk.apply(&[Step::bitmap("b1")]);
    chain.change(12, 2);
    chain.back_up(&["b1"]);
    let restored = Image { path: chain.folder.path().join("raw"), format: ImageFormat::Raw };
    let metas = restore_with_python(&chain.all(), &restored.path);
    assert!(chain.disk.is_identical(&restored));
    let metas: Vec<Value> = metas.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(metas[0]["virtual-size"], 4 * MIB + 512);
    assert_eq!(
        (&metas[0]["incremental"], &metas[1]["incremental"]),
        (&Value::from(false), &Value::from(true))
    );
    assert_eq!(metas[1]["checkpoint"], "é1");
}

#[test]
fn blocks_of_zeroes_are_found_where_the_server_does_not_say_so() {
    if !require_qemu() {
        return;
    }
    let folder = folder();
    let steps = vec![
        Step::Fill { at: 0, length: MIB, byte: 1 },
        Step::Fill { at: MIB, length: 2 * MIB, byte: 0 },
        Step::Fill { at: 3 * MIB, length: 512, byte: 2 },
    ];
    let disk = Recipe::qcow2(64 * KIB, 4 * MIB, steps).make(folder.path());
    let server = Server::qemu_nbd(&disk, &[]);
    let (plain, detected) = (folder.path().join("plain"), folder.path().join("detected"));
    backup(&server.uri(""), &[], &plain).is_well();
    backup(&server.uri(""), &["--detect-zeroes"], &detected).is_well();
    let data = |file: &Path| frames(file).iter().filter(|f| f.kind == "data").map(|f| f.length).sum::<u64>();
    assert_eq!((data(&plain), data(&detected)), (3 * MIB + 64 * KIB, MIB + 4 * KIB));
    let zeroes: Vec<_> = frames(&detected).into_iter().filter(|frame| frame.kind == "zero").collect();
    assert_eq!((zeroes[0].start, zeroes[0].length, zeroes.len()), (MIB, 2 * MIB, 2), "joined over reads");
    verify(&[&detected]).is_well();
}

#[test]
fn target_of_another_size() {
    if !require_qemu() {
        return;
    }
    let chain = Chain::begin(plain(), 600, &[]);
    let place = folder();
    let small = Recipe::raw(4 * MIB, Vec::new()).make(place.path());
    let server = Server::qemu_nbd_writable(&small, &["--cache=unsafe"]);
    restore(&server.uri(""), &[], &[chain.stream(0)]).fails(3, &["4194304", "8388608", "does not fit"]);
    drop(server);
    let large = Recipe::raw(9 * MIB, vec![Step::Write { at: 0, length: 9 * MIB }]).make(place.path());
    let server = Server::qemu_nbd_writable(&large, &["--cache=unsafe"]);
    let ended = restore(&server.uri(""), &[], &[chain.stream(0)]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("1 MiB larger") && ended.stderr.contains("stays as it is"),
        "{}",
        ended.stderr
    );
    drop(server);
    let tail = fs::read(&large.path).unwrap().split_off(8 << 20);
    assert!(tail.iter().all(|&byte| byte == 0x5a), "the tail is not touched");
}

/// Whichever request finds the target's disk full: it is exit code 1, as for an output here.
#[test]
fn target_whose_disk_is_full() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let file = folder.path().join("disk.full");
    let source = Server::nbdkit(&["--filter=truncate"], &["pattern", "32M", "truncate=64M"]);
    backup(&source.uri(""), &[], &file).is_well();
    for request in ["error-pwrite", "error-zero"] {
        let full = || {
            Server::nbdkit_writable(
                &["--filter=error"],
                &["memory", "64M", &format!("{request}=ENOSPC"), &format!("{request}-rate=100%")],
            )
        };
        let words = ["ENOSPC", "restore it again"];
        restore(&full().uri(""), &["--connections", "4"], &[&file]).fails(1, &words);
        restore_from_stdin(&full().uri(""), &[], &file).fails(1, &words);
    }
}

#[test]
fn zero_target_takes_a_full_backup_and_no_incremental() {
    if !require_qemu() {
        return;
    }
    let chain = changed();
    let place = folder();
    let target = Recipe::qcow2(64 * KIB, chain.size, Vec::new()).make(place.path());
    let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
    restore(&server.uri(""), &["--target-is-zero"], &[chain.stream(1)]).fails(2, &["incremental"]);
    restore(&server.uri(""), &["--target-is-zero"], &[chain.stream(0)]).is_well();
    restore(&server.uri(""), &["--base", "é0"], &[chain.stream(1)]).is_well();
    drop(server);
    assert!(chain.disk.is_identical(&target));
}

#[test]
fn report_that_cannot_be_written_leaves_no_whole_stream() {
    if !require_qemu() {
        return;
    }
    let chain = Chain::begin(plain(), 601, &[]);
    let server = Server::qemu_nbd(&chain.disk, &[]);
    let file = chain.folder.path().join("stream");
    backup(&server.uri(""), &["--report", "/nonexistent/report"], &file).fails(1, &["/nonexistent/report"]);
    assert!(!file.exists());
}

#[test]
fn what_is_missing_and_what_has_changed_end_with_3() {
    if !require_qemu() {
        return;
    }
    let chain = changed();
    let server = Server::qemu_nbd(&chain.disk, &["b1"]);
    let file = chain.folder.path().join("none");
    let fails = |server: &Server, options: &[&str], code, words: &[&str]| {
        backup(&server.uri(""), options, &file).fails(code, words);
        assert!(!file.exists(), "{options:?}");
    };
    fails(&server, &["--bitmap", "gone"], 3, &["gone", "qemu:dirty-bitmap:b1"]);
    fails(&server, &["--bitmap", "b1", "--previous-size", "4M"], 3, &["4194304", "8388608"]);
    fails(&server, &["--bitmap-first"], 2, &["--bitmap"]);
    backup(&server.uri(""), &["--bitmap", "b1", "--previous-size", "4M", "--grown"], &file)
        .is_well_saying(&["which backup", "--after FILE", "--parent NAME"]);
    let beyond = |frame: &&Frame| frame.kind != "stop" && frame.start >= 4 * MIB;
    let beyond = frames(&file).iter().filter(beyond).map(|frame| frame.length).sum::<u64>();
    assert_eq!(beyond, 4 * MIB, "all beyond the old end is brought over");
    fs::remove_file(&file).unwrap();
    drop(server);

    let server = Server::qemu_nbd_writable(&chain.disk, &["--cache=unsafe"]);
    fails(&server, &[], 1, &["--allow-writable"]);
    backup(&server.uri(""), &["--allow-writable"], &file).is_well();
    drop(server);
    let server = Server::qemu_nbd(&chain.disk, &[]);
    restore(&server.uri(""), &[], &[chain.stream(0)]).fails(3, &["read-only"]);
}

#[test]
fn chain_out_of_order_is_found_out_without_a_server() {
    if !require_qemu() {
        return;
    }
    let chain = changed();
    let (full, incremental) = (chain.stream(0), chain.stream(1));
    verify(&[full, incremental]).is_well();
    verify(&[incremental]).is_well();
    verify(&[incremental, full]).fails(3, &["stream-1: checkpoint é1", "checkpoint é0", "right before"]);
    verify(&[full, full]).fails(3, &["stream-0: checkpoint é0", "twice"]);
}

/// qemu calls the part that a resize has added clean. An incremental that does not know the old
/// size leaves it out, and is refused; one that knows it brings it over.
#[test]
fn part_by_which_a_disk_has_grown_is_brought_over_or_refused() {
    if !require_qemu() {
        return;
    }
    let mut chain = Chain::begin(plain(), 700, &[]);
    chain.disk.apply(&[Step::bitmap("b1"), Step::Resize { size: 16 * MIB }]);
    chain.size = 16 * MIB;
    let server = Server::qemu_nbd(&chain.disk, &["b1"]);
    let file = |name: &str| chain.folder.path().join(name);
    let full = chain.stream(0);
    let after = ["--bitmap", "b1", "--after", full.to_str().unwrap()];
    let blind = file("blind");
    backup(&server.uri(""), &["--bitmap", "b1"], &blind).is_well_saying(&["--after FILE", "--parent NAME"]);
    backup(&server.uri(""), &after, &file("same")).fails(3, &["8388608", "16777216", "--grown"]);
    let grown = file("grown");
    backup(&server.uri(""), &[&after[..], &["--grown"]].concat(), &grown).is_well();
    let by_hand = file("by-hand");
    let stated = ["--bitmap", "b1", "--parent", "é0", "--previous-size", "8M", "--grown"];
    backup(&server.uri(""), &stated, &by_hand).is_well();
    drop(server);

    verify(&[full, &blind]).fails(3, &["blind", "8388608..16777216", "beyond the end"]);
    let target =
        Recipe::raw(16 * MIB, Vec::new()).make(&tempfile::tempdir_in(chain.folder.path()).unwrap().keep());
    let server = Server::qemu_nbd_writable(&target, &["--cache=unsafe"]);
    restore(&server.uri(""), &[], &[full, &blind]).fails(3, &["8388608..16777216"]);
    drop(server);
    assert!(fs::read(&target.path).unwrap().iter().all(|&byte| byte == 0), "nothing was written");

    verify(&[full, &grown]).is_well();
    assert!(chain.disk.is_identical(&chain.restore(&[full, &grown])));
    verify(&[full, &by_hand]).is_well();
}

/// Names and sizes may be the same: the identity of the disk and the parent's checksum are not.
#[test]
fn incremental_of_another_disk_is_refused() {
    if !require_qemu() {
        return;
    }
    let mut chains = [800, 801].map(|seed| Chain::begin(plain(), seed, &[]));
    for chain in &mut chains {
        chain.disk.apply(&[Step::bitmap("b1")]);
        chain.change(4, 2);
        chain.back_up(&["b1"]);
        chain.check();
    }
    let mixed = [chains[0].stream(0), chains[1].stream(1)];
    verify(&mixed).fails(3, &["checkpoint é1", "of disk"]);
    let server = Server::qemu_nbd_writable(&chains[0].disk, &["--cache=unsafe"]);
    restore(&server.uri(""), &[], &mixed).fails(3, &["of disk"]);
}

/// A server whose blocks of 512 KiB, the length of a read, say which they are. It takes long for the
/// first.
fn slow_first(then: &str) -> Server {
    Server::nbdkit_script(&format!(
        "case \"$1\" in
            get_size) echo 12582912 ;;
            can_extents) exit 3 ;;
            thread_model) echo parallel ;;
            pread) {then}; head -c \"$3\" /dev/zero | tr '\\0' $(($4 / 524288 % 10)) ;;
            *) exit 2 ;;
        esac"
    ))
}

#[test]
fn answers_out_of_order_are_put_in_order() {
    if !require(&["nbdkit"]) {
        return;
    }
    let server = slow_first("[ \"$4\" -gt 0 ] || sleep 1");
    let folder = folder();
    let file = folder.path().join("stream");
    backup(&server.uri(""), &[], &file).is_well();
    let data: Vec<_> = frames(&file).into_iter().filter(|frame| frame.kind == "data").collect();
    assert_eq!(data.len(), 24);
    for (nth, frame) in (0..).zip(&data) {
        assert_eq!((frame.start, frame.length), (nth * 512 * KIB, 512 * KIB));
        let digit = b'0' + u8::try_from(nth % 10).unwrap();
        let payload = &frame.bytes[40..frame.bytes.len() - 2];
        assert!(payload.iter().all(|&byte| byte == digit), "frame {nth}");
    }
}

#[test]
fn read_that_fails_leaves_no_whole_stream() {
    if !require(&["nbdkit"]) {
        return;
    }
    let server = slow_first("[ \"$4\" -lt 9000000 ] || { echo EIO broken >&2; exit 1; }");
    let folder = folder();
    let file = folder.path().join("stream");
    backup(&server.uri(""), &[], &file).fails(5, &["EIO"]);
    assert!(!file.exists());
}
