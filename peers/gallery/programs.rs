//! The installed programs, run as a person or a script would run them.

use core::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::disk::Treatment;
use crate::faults::{Judged, KnownFault};
use crate::verdict::{LIMIT, PeerAnswer};

/// Extents as (range, of interest): dirty ones of a bitmap, zeroes of an allocation.
type Marks = Vec<(Range<u64>, bool)>;

/// The program `nbd-extents`, which can ask the bitmap first.
pub fn nbd_extents(program: &Path, fault: &KnownFault, uri: &str) -> PeerAnswer {
    let run_limited = |arguments: &[&str]| {
        let limit = (LIMIT.as_secs() - 2).to_string();
        run(Command::new(program).args(arguments).args(["--timeout", &limit]))
    };
    if fault.subject == Judged::Copy {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("stream").display().to_string();
        return match run_limited(&["backup", uri, &file]) {
            Ok(_) => PeerAnswer::NotDone,
            Err(answer) => answer,
        };
    }
    let usual = ["map", uri, "--bitmap", "b0", "--json", "--actions"];
    // as its help advises for exports that answer for dirty ranges alone
    let first = [&usual[..], &["--bitmap-first"]].concat();
    let dirty_only = fault.behaviours.contains(&crate::faults::Behaviour::DirtyOnly);
    let output = match run_limited(if dirty_only { &first } else { &usual }) {
        Ok(output) => output,
        Err(answer) => return answer,
    };
    let actions = json(&output).into_iter().map(|extent| {
        let action = match extent["action"].as_str() {
            Some("copy") => Treatment::Copy,
            Some("zero") => Treatment::Zero,
            _ => Treatment::Skip,
        };
        (range(&extent, "start"), action)
    });
    PeerAnswer::Actions(actions.collect())
}

/// `nbdinfo --map`, once for each context, and the two maps laid over each other.
pub fn nbdinfo(fault: &KnownFault, uri: &str) -> PeerAnswer {
    if fault.subject == Judged::Copy {
        return PeerAnswer::NotDone;
    }
    let map = |context: &str, wanted: fn(u64) -> bool| {
        let output = run(Command::new("nbdinfo").args(["--json", &format!("--map={context}"), uri]))?;
        let mark = |extent: &Value| (range(extent, "offset"), wanted(extent["type"].as_u64().unwrap_or(0)));
        Ok(json(&output).iter().map(mark).collect::<Marks>())
    };
    both(map("base:allocation", |flags| flags & 2 != 0), map("qemu:dirty-bitmap:b0", |flags| flags & 1 != 0))
}

/// `qemu-img map`, once plain and once with x-dirty-bitmap, which says dirty by `data: false`.
pub fn qemu_img(fault: &KnownFault, socket: &Path) -> PeerAnswer {
    let options =
        |extra: &str| format!("driver=nbd,server.type=unix,server.path={}{extra}", socket.display());
    if fault.subject == Judged::Copy {
        return copied(|file| {
            let arguments = ["convert", "-O", "raw", "--image-opts"];
            run(Command::new("qemu-img").args(arguments).arg(options("")).arg(file))
        });
    }
    let map = |extra: &str, wanted: fn(&Value) -> bool| {
        let arguments = ["map", "--output=json", "--image-opts"];
        let output = run(Command::new("qemu-img").args(arguments).arg(options(extra)))?;
        let mark = |extent: &Value| (range(extent, "start"), wanted(extent));
        Ok(json(&output).iter().map(mark).collect::<Marks>())
    };
    let zeroes = map("", |extent| extent["zero"] == true);
    both(zeroes, map(",x-dirty-bitmap=qemu:dirty-bitmap:b0", |extent| extent["data"] == false))
}

/// `nbdcopy` to a file.
pub fn nbdcopy(fault: &KnownFault, uri: &str) -> PeerAnswer {
    if fault.subject != Judged::Copy {
        return PeerAnswer::NotDone;
    }
    copied(|file| run(Command::new("nbdcopy").arg(uri).arg(file)))
}

fn copied(copy: impl FnOnce(&Path) -> Result<String, PeerAnswer>) -> PeerAnswer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("disk");
    match copy(&file) {
        Ok(_) => PeerAnswer::Data(std::fs::read(&file).expect("the copy")),
        Err(answer) => answer,
    }
}

/// The actions that follow from a map of zeroes and one of dirty ranges.
fn both(zeroes: Result<Marks, PeerAnswer>, dirty: Result<Marks, PeerAnswer>) -> PeerAnswer {
    let (zeroes, dirty) = match (zeroes, dirty) {
        (Ok(zeroes), Ok(dirty)) => (zeroes, dirty),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let mut actions = Vec::new();
    for (range, _) in dirty.into_iter().filter(|(_, is_dirty)| *is_dirty) {
        for (part, is_zero) in &zeroes {
            let common = range.start.max(part.start)..range.end.min(part.end);
            if common.start < common.end {
                actions.push((common, if *is_zero { Treatment::Zero } else { Treatment::Copy }));
            }
        }
    }
    PeerAnswer::Actions(actions)
}

fn json(output: &str) -> Vec<Value> {
    serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

fn range(extent: &Value, start: &str) -> Range<u64> {
    let start = extent[start].as_u64().unwrap_or(0);
    start..start.saturating_add(extent["length"].as_u64().unwrap_or(0))
}

/// The standard output of a program that ends well within the limit.
fn run(command: &mut Command) -> Result<String, PeerAnswer> {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let file = output.reopen().expect("the same file");
    let spawned = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn();
    let Ok(mut child) = spawned else { return Err(PeerAnswer::NotDone) };
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("look after the program") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("kill the program");
            child.wait().expect("wait for the program");
            return Err(PeerAnswer::Hangs);
        }
        std::thread::sleep(core::time::Duration::from_millis(5));
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => Err(PeerAnswer::Crashes(format!("signal {signal}"))),
        (None, Some(0)) => Ok(std::fs::read_to_string(output.path()).expect("the output")),
        (None, code) => Err(PeerAnswer::Refuses(format!("exit {code:?}"))),
    }
}
