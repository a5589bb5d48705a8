//! Whole backups through the program and real servers: with one fault they are refused before the
//! first write, and without one they reach targets whose blocks are larger than the source's.
//!
//! `backup/tests/backups` has the same in process, over many more rounds.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::backup::{Ended, backup, frames, restore, restore_from_stdin, sealed, verify};
use tempfile::TempDir;
use testkit::backups::{Disk, Dress, Fault, OLD, SeededNumbers, StreamSet};
use testkit::server::{Server, folder};
use testkit::tools::require;

/// The minimum blocks of sources and targets.
const BLOCKS: [u64; 4] = [1, 512, 4096, 65536];

/// A file of `size` bytes served by a server that takes whole blocks of `block` bytes alone.
fn serve(file: &Path, block: u64, read_only: bool) -> Server {
    let minimum = format!("blocksize-minimum={block}");
    let preferred = format!("blocksize-preferred={}", block.max(4096));
    let file = format!("file={}", file.display());
    let options = ["--filter=blocksize-policy"];
    let plugin = ["file", &file, &minimum, &preferred, "blocksize-error-policy=error"];
    if read_only { Server::nbdkit(&options, &plugin) } else { Server::nbdkit_writable(&options, &plugin) }
}

/// A target full of old bytes, with room for `size` bytes in whole blocks.
fn target(folder: &TempDir, size: usize, block: u64) -> PathBuf {
    let file = folder.path().join("target");
    let size = (size as u64).next_multiple_of(block);
    fs::write(&file, vec![OLD; usize::try_from(size).unwrap()]).unwrap();
    file
}

fn write_streams(folder: &TempDir, streams: &[Vec<u8>]) -> Vec<PathBuf> {
    let files = streams.iter().enumerate().map(|(nth, stream)| {
        let file = folder.path().join(format!("stream-{nth}"));
        fs::write(&file, stream).unwrap();
        file
    });
    files.collect()
}

fn paths(files: &[PathBuf]) -> Vec<&Path> {
    files.iter().map(PathBuf::as_path).collect()
}

#[track_caller]
fn is_refused(ended: &Ended) {
    assert!(matches!(ended.code, Some(3 | 5)), "{:?}: {}", ended.code, ended.stderr);
    assert!(ended.stderr.starts_with("nbd-extents: "), "{}", ended.stderr);
}

/// The rounds: 4, or as many as `BACKUP_ROUNDS` says.
fn rounds() -> u64 {
    std::env::var("BACKUP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn backups_with_a_fault_are_refused_before_the_first_write() {
    if !require(&["nbdkit"]) {
        return;
    }
    for seed in 0..rounds() {
        let mut numbers = SeededNumbers::new(5_000 + seed);
        let disk = Disk::of_blocks(512, &mut numbers);
        let set = StreamSet::of(&disk, Dress::ALL[(seed % 4) as usize], &mut numbers);
        for fault in Fault::all(&set, &mut numbers) {
            let Some(faulty) = fault.apply(&set, &disk, &mut numbers) else { continue };
            let folder = folder();
            let files = write_streams(&folder, &faulty.streams);
            let target = target(&folder, disk.largest(), 1);
            let server = serve(&target, 1, false);
            let (verified, restored) =
                (verify(&paths(&files)), restore(&server.uri(""), &[], &paths(&files)));
            drop(server);
            let bytes = fs::read(&target).unwrap();
            let source = faulty.source(&disk);
            if restored.code == Some(0) {
                assert_eq!(verified.code, Some(0), "{seed} {fault:?}: {}", verified.stderr);
                assert!(bytes[..source.len()] == source[..], "{seed} {fault:?}: a wrong disk");
            } else {
                is_refused(&restored);
                // An incremental alone can be sound. Only a restore needs its parent.
                if faulty.streams.len() > 1 {
                    is_refused(&verified);
                }
                assert!(bytes.iter().all(|&byte| byte == OLD), "{seed} {fault:?}: written to");
            }
        }
    }
}

/// Chains reach targets that take whole blocks alone, of any size.
#[test]
fn chains_restore_onto_targets_of_any_block_size() {
    if !require(&["nbdkit"]) {
        return;
    }
    for (nth, block) in BLOCKS.into_iter().enumerate() {
        for grain in [1, 512, 4096] {
            let mut numbers = SeededNumbers::new(6_000 + 10 * nth as u64 + grain as u64);
            let disk = Disk::of_blocks(grain, &mut numbers);
            let set = StreamSet::of(&disk, Dress::After, &mut numbers);
            let folder = folder();
            let files = write_streams(&folder, set.bytes());
            let last = disk.states.last().unwrap();
            let target = target(&folder, last.len(), block);
            let server = serve(&target, block, false);
            let ended = restore(&server.uri(""), &[], &paths(&files));
            drop(server);
            assert_eq!(ended.code, Some(0), "block {block}, grain {grain}: {}", ended.stderr);
            let bytes = fs::read(&target).unwrap();
            assert!(bytes[..last.len()] == last[..], "block {block}, grain {grain}: a wrong disk");
            let beyond = bytes[last.len()..].iter().all(|&byte| byte == OLD);
            assert!(beyond, "block {block}, grain {grain}: bytes beyond the disk were written");
        }
    }
}

/// Full backups of sources with each minimum block, onto targets with each.
#[test]
fn full_backups_between_servers_of_any_block_size() {
    if !require(&["nbdkit"]) {
        return;
    }
    for source_block in BLOCKS {
        let folder = folder();
        let size = usize::try_from(source_block).unwrap() * 3 + if source_block == 1 { 65_537 } else { 0 };
        let mut bytes: Vec<u8> = (0..size).map(|at| (at / 700 % 5) as u8).collect();
        bytes[size / 2..size / 2 + size / 8].fill(0);
        let source = folder.path().join("source");
        fs::write(&source, &bytes).unwrap();
        let file = folder.path().join("full");
        let server = serve(&source, source_block, true);
        backup(&server.uri(""), &["--detect-zeroes"], &file).is_well();
        drop(server);
        verify(&[&file]).is_well();
        for target_block in BLOCKS {
            let target = target(&folder, size, target_block);
            let server = serve(&target, target_block, false);
            let ended = restore(&server.uri(""), &[], &[&file]);
            drop(server);
            assert_eq!(ended.code, Some(0), "{source_block} to {target_block}: {}", ended.stderr);
            let restored = fs::read(&target).unwrap();
            assert!(restored[..size] == bytes[..], "{source_block} to {target_block}: a wrong disk");
        }
    }
}

/// Standard input cannot be read twice: a fault is found at its place, and the message describes
/// the target.
#[test]
fn standard_input_is_checked_while_it_is_written() {
    if !require(&["nbdkit"]) {
        return;
    }
    let mut numbers = SeededNumbers::new(7_000);
    let disk = Disk::of_blocks(512, &mut numbers);
    let set = StreamSet::of(&disk, Dress::After, &mut numbers);
    let folder = folder();
    let target = target(&folder, disk.largest(), 1);
    let server = serve(&target, 1, false);
    let file = folder.path().join("stream");

    fs::write(&file, &set.bytes()[1]).unwrap();
    let from_stdin = restore_from_stdin(&server.uri(""), &[], &file);
    from_stdin.fails(3, &["checkpoint c1 stands on checkpoint c0, which is missing", "--base"]);
    let named = restore(&server.uri(""), &[], &[&file]);
    named.fails(3, &["stream: checkpoint c1 stands on checkpoint c0, which is missing", "--base"]);
    assert!(!from_stdin.stderr.contains("layer"), "the words are those of files: {from_stdin:?}");
    restore_from_stdin(&server.uri(""), &["--base", "other"], &file).fails(3, &["c1", "c0", "missing"]);
    assert!(fs::read(&target).unwrap().iter().all(|&byte| byte == OLD), "nothing was written");

    let mut changed = set.bytes()[0].clone();
    let at = changed.len() - 45;
    changed[at] ^= 1;
    fs::write(&file, &changed).unwrap();
    let ended = restore_from_stdin(&server.uri(""), &[], &file);
    is_refused(&ended);
    assert!(
        ended.stderr.contains("the target now holds neither its old state nor the backup's"),
        "{}",
        ended.stderr
    );

    fs::write(&file, &set.bytes()[0]).unwrap();
    let ended = restore_from_stdin(&server.uri(""), &[], &file);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let state = &disk.states[0];
    assert!(fs::read(&target).unwrap()[..state.len()] == state[..]);
    fs::write(&file, &set.bytes()[1]).unwrap();
    let ended = restore_from_stdin(&server.uri(""), &["--base", "c0"], &file);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let state = &disk.states[1];
    assert!(fs::read(&target).unwrap()[..state.len()] == state[..]);
}

/// A stream without checksum and names is restored, with a word about the missing checks.
#[test]
fn streams_that_state_nothing_are_restored_with_a_word() {
    if !require(&["nbdkit"]) {
        return;
    }
    let mut numbers = SeededNumbers::new(8_000);
    let disk = Disk::of_blocks(512, &mut numbers);
    let set = StreamSet::of(&disk, Dress::Plain, &mut numbers);
    let folder = folder();
    let files = write_streams(&folder, set.bytes());
    let target = target(&folder, disk.largest(), 1);
    let server = serve(&target, 1, false);
    verify(&paths(&files)).is_well();
    let ended = restore(&server.uri(""), &[], &paths(&files));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["stream-0: not checked: its bytes", "the parent's checksum", "the disk"] {
        assert!(ended.stderr.contains(word), "no {word:?} in {}", ended.stderr);
    }
    let last = disk.states.last().unwrap();
    assert!(fs::read(&target).unwrap()[..last.len()] == last[..]);
}

/// A name that no reader would take is refused before the backup begins, and leaves no file.
#[test]
fn names_that_no_reader_takes_are_refused() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let file = folder.path().join("stream");
    let server = Server::nbdkit(&["-r"], &["memory", "1M"]);
    let name = "\u{1}".repeat(11_000);
    backup(&server.uri(""), &["--checkpoint", &name], &file).fails(1, &["65536", "shorter names"]);
    assert!(!file.exists());
    backup(&server.uri(""), &["--checkpoint", &"n".repeat(60_000)], &file).is_well();
    verify(&[&file]).is_well();
}

/// The previous stream gives an incremental all that it needs; what does not fit it is refused.
#[test]
fn previous_stream_must_be_one() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let (full, file) = (folder.path().join("full"), folder.path().join("stream"));
    let server = Server::nbdkit(&["-r"], &["memory", "1M"]);
    backup(&server.uri(""), &["--checkpoint", "c0"], &full).is_well();
    let after = full.to_str().unwrap();
    let incremental = ["--bitmap", "b0", "--after", after];
    let named = [&incremental[..], &["--checkpoint", "c0"]].concat();
    backup(&server.uri(""), &named, &file).fails(2, &["c0", "another name"]);
    let stream = fs::read(&full).unwrap();
    fs::write(&full, &stream[..stream.len() - 1]).unwrap();
    let cut = format!("the stream of {} bytes ends before its stop frame", stream.len() - 1);
    backup(&server.uri(""), &incremental, &file).fails(5, &[after, &cut]);
    assert!(!backup(&server.uri(""), &incremental, &file).stderr.contains("frame 0"), "no frame was counted");
    fs::write(&full, "no stream at all, but longer than a header is").unwrap();
    backup(&server.uri(""), &incremental, &file).fails(5, &[after, "not the header of a frame"]);
    fs::remove_file(&full).unwrap();
    backup(&server.uri(""), &incremental, &file).fails(3, &[after]);
    assert!(!file.exists());
}

/// A data frame that its writer has lost shows, although the checksum is right.
#[test]
fn frame_that_was_never_written_is_missed() {
    if !require(&["nbdkit"]) {
        return;
    }
    let folder = folder();
    let file = folder.path().join("full");
    let bytes = folder.path().join("source");
    fs::write(&bytes, vec![7; 1 << 20]).unwrap();
    let server = serve(&bytes, 1, true);
    backup(&server.uri(""), &[], &file).is_well();
    let mut frames = frames(&file);
    let data = frames.iter().rposition(|frame| frame.kind == "data").unwrap();
    let lost = frames.remove(data);
    fs::write(&file, sealed(&frames)).unwrap();
    verify(&[&file]).fails(5, &["leaves out bytes", &(lost.start + lost.length).to_string()]);
}
