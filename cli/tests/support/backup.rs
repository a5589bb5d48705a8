//! Runs `backup`, `restore` and `verify`, and takes streams apart without any code of the crates
//! under test.

use core::time::Duration;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::program;
use testkit::command::{finish_between, succeed};

const LIMIT: Duration = Duration::from_secs(120);

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn is_well(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert_eq!(self.stderr, "");
    }

    /// It went well, with one remark that holds these words.
    #[track_caller]
    pub(crate) fn is_well_saying(&self, words: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
    }

    /// It failed as scripts are promised: with this status and one line that holds these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let one_line = self.stderr.starts_with("nbd-extents: ") && self.stderr.lines().count() == 1;
        let is_of_clap = code == 2 && self.stderr.starts_with("error: ");
        assert!(one_line || is_of_clap, "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
    }
}

fn run(command: &mut Command, stdin: Stdio) -> Ended {
    let done = finish_between(command, stdin, Stdio::null(), LIMIT);
    Ended { code: done.status.code(), stderr: done.stderr }
}

/// Backs an export up into a file.
pub(crate) fn backup(uri: &str, options: &[&str], file: &Path) -> Ended {
    run(program("backup").args(options).arg(uri).arg(file), Stdio::null())
}

/// Restores files onto an export.
pub(crate) fn restore(uri: &str, options: &[&str], files: &[&Path]) -> Ended {
    run(program("restore").args(options).arg(uri).args(files), Stdio::null())
}

/// Restores a file onto an export, by way of standard input.
pub(crate) fn restore_from_stdin(uri: &str, options: &[&str], file: &Path) -> Ended {
    let input = File::open(file).expect("a stream");
    run(program("restore").args(options).args([uri, "-"]), input.into())
}

pub(crate) fn verify(files: &[&Path]) -> Ended {
    run(program("verify").args(files), Stdio::null())
}

/// A frame, as the format's description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) start: u64,
    pub(crate) length: u64,
    /// All of its bytes in the stream.
    pub(crate) bytes: Vec<u8>,
}

/// Takes a whole stream apart.
pub(crate) fn frames(file: &Path) -> Vec<Frame> {
    let stream = fs::read(file).expect("read a stream");
    let mut rest = &stream[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let header = str::from_utf8(&rest[..40]).expect("a header is text");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        let (kind, start, length) = (header[..4].to_owned(), number(&header[5..21]), number(&header[22..38]));
        let has_payload = kind == "meta" || kind == "data";
        let all = 40 + if has_payload { usize::try_from(length).unwrap() + 2 } else { 0 };
        frames.push(Frame { kind, start, length, bytes: rest[..all].to_vec() });
        rest = &rest[all..];
    }
    frames
}

/// The stream of a client that drops dirty zeroes, beside the real one.
pub(crate) fn without_zeroes(file: &Path) -> PathBuf {
    let mut kept = frames(file);
    kept.retain(|frame| frame.kind != "zero");
    let other = file.with_extension("dropped");
    fs::write(&other, sealed(&kept)).expect("write a stream");
    other
}

/// The bytes of these frames, with the checksum that a writer of them would put into the stop
/// frame.
pub(crate) fn sealed(frames: &[Frame]) -> Vec<u8> {
    let (_stop, before) = frames.split_last().expect("a stop frame");
    let mut stream: Vec<u8> = before.iter().flat_map(|frame| frame.bytes.clone()).collect();
    let sum = xxhash_rust::xxh3::xxh3_128(&stream);
    stream.extend(format!("stop {:016x} {:016x}\r\n", sum >> 64, sum & u128::from(u64::MAX)).bytes());
    stream
}

/// Restores streams onto a new raw disk with a reader of another language: as imageio's reads them.
/// It prints each stream's meta frame.
pub(crate) fn restore_with_python(files: &[&Path], disk: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/restore.py");
    succeed(Command::new("python3").arg(script).arg(disk).args(files), "", LIMIT).stdout
}
