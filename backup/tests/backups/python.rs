//! A reader in another language, written from the page of specification alone, against ours: the
//! same streams are refused, and the same disks come out.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nbd_extents_backup::sparse_stream::Meta;
use testkit::backups::{Disk, Dress, Fault, OLD, SeededNumbers, StreamSet, frames, join, seal};
use testkit::tools::require;

use super::restore;

/// A chain and our verdict: the disk, or that it was refused.
struct Case {
    about: String,
    streams: Vec<Vec<u8>>,
    disk: Option<Vec<u8>>,
}

impl Case {
    /// A chain that restores a disk of this size, if it is taken.
    fn new(about: String, streams: Vec<Vec<u8>>, size: usize, largest: usize) -> Self {
        let mut target = vec![OLD; largest];
        let taken = restore(&streams, None, &mut target).is_some();
        target.truncate(size);
        Self { about, streams, disk: taken.then_some(target) }
    }
}

#[test]
fn a_reader_written_from_the_specification_agrees() {
    if !require(&["python3"]) {
        return;
    }
    let mut cases = Vec::new();
    for seed in 0..40 {
        let mut rng = SeededNumbers::new(1_000_000 + seed);
        // Python's checksum takes long over large disks.
        let disk = Disk::of_blocks(if seed % 4 == 0 { 512 } else { 1 }, &mut rng);
        for dress in Dress::ALL {
            let set = StreamSet::of(&disk, dress, &mut rng);
            let last = disk.states.last().unwrap().len();
            cases.push(Case::new(format!("{seed} {dress:?}"), set.bytes().to_vec(), last, disk.largest()));
            for fault in Fault::all(&set, &mut rng) {
                let Some(faulty) = fault.apply(&set, &disk, &mut rng) else { continue };
                let size = faulty.source(&disk).len();
                let about = format!("{seed} {dress:?} {fault:?}");
                cases.push(Case::new(about, faulty.streams, size, disk.largest()));
            }
        }
        cases.extend(odd_metas(seed, &disk, &mut rng));
    }
    let verdicts = run_python(&cases);
    assert_eq!(verdicts.len(), cases.len());
    for (case, verdict) in cases.iter().zip(&verdicts) {
        match (&case.disk, verdict.split_once(' ')) {
            (None, Some(("refused", _))) => {}
            (Some(disk), Some(("restored", disk_of_python))) => {
                let ours: String = disk.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(ours, disk_of_python, "{}: another disk", case.about);
            }
            (ours, _) => panic!("{}: Python: {verdict}; we took it: {}", case.about, ours.is_some()),
        }
    }
}

/// Full backups whose meta frames are unusual, or wrong in one thing, with the right checksum.
fn odd_metas(seed: u64, disk: &Disk, rng: &mut SeededNumbers) -> Vec<Case> {
    let set = StreamSet::of(disk, Dress::After, rng);
    let size = disk.states[0].len();
    let json = set.metas[0].to_json();
    let key = |text: &str| json.replacen('}', &format!(",{text}}}"), 1);
    let texts = [
        json.replace("    ", ""),
        json.replace("full", "\\u0066ull"),
        key("\"unknown\": [{\"a\": [1.5e3, null]}]"),
        key("\"parent\": null"),
        key("\"parent\": \"c\""),
        key("\"parent-size\": 1"),
        key("\"incremental\": false"),
        key("\"date\": \"again\""),
        key("\"unknown\": 1, \"unknown\": 2"),
        key("\"unknown\": NaN"),
        key("\"disk\": 5"),
        json.replace("xxh3-128", "md5"),
        json.replace("\"xxh3-128\"", "true"),
        json.replace("\"incremental\": false", "\"incremental\": 0"),
        json.replace("\"virtual-size\": ", "\"virtual-size\": 1e0"),
        json.replace("\"virtual-size\"", "\"virtual_size\""),
        format!("[{json}]"),
        format!("{json} x"),
        format!(" {json}\n"),
        format!("{json}{}", " ".repeat(65536 - json.len())),
        format!("{json}{}", " ".repeat(65537 - json.len())),
    ];
    let first = frames(&set.bytes()[0]);
    let cases = texts.into_iter().map(|text| {
        let mut frames = first.clone();
        frames[0].bytes = format!("meta {:016x} {:016X}\r\n{text}\r\n", 0, text.len()).into_bytes();
        let about = format!("{seed}: {}", text.trim_end());
        Case::new(about, vec![seal(&frames)], size, size)
    });
    let mut cases: Vec<_> = cases.collect();
    // and frames that are wrong in one thing
    for (from, to) in
        [(&b"zero "[..], &b"data "[..]), (b"data ", b"zero "), (b"data ", b"Data "), (b"zero ", b"stop ")]
    {
        let mut frames = first.clone();
        for frame in &mut frames {
            if frame.bytes.starts_with(from) {
                frame.bytes[..5].copy_from_slice(to);
            }
        }
        cases.push(Case::new(format!("{seed}: {from:?} as {to:?}"), vec![seal(&frames)], size, size));
    }
    let meta = Meta::full(0, 0, "an empty disk");
    let empty = [first[0].clone(), first[first.len() - 1].clone()];
    let mut empty = empty.to_vec();
    let json = meta.to_json();
    empty[0].bytes = format!("meta {:016x} {:016x}\r\n{json}\r\n", 0, json.len()).into_bytes();
    cases.push(Case::new(format!("{seed}: unsealed"), vec![join(&empty)], 0, 0));
    cases.push(Case::new(format!("{seed}: empty"), vec![seal(&empty)], 0, 0));
    cases
}

/// One line of the reader for each case.
fn run_python(cases: &[Case]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backups/reader.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().unwrap();
    let mut input = python.stdin.take().unwrap();
    let mut lines = String::new();
    for (nth, case) in cases.iter().enumerate() {
        let names = case.streams.iter().enumerate().map(|(position, stream)| {
            let file = folder.path().join(format!("{nth}-{position}"));
            fs::write(&file, stream).unwrap();
            file.to_str().unwrap().to_owned()
        });
        let names: Vec<String> = names.collect();
        lines += &format!("{}\n", serde_json::to_string(&names).unwrap());
    }
    // the answers are short, and are read by `wait_with_output` below
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the reader has failed");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
