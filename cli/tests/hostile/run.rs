//! Runs the program against a hostile server, and watches its memory, its time and its manners.

use core::time::Duration;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;

/// The most memory that any server may make the program use.
const MOST_MEMORY: u64 = 64 << 20;
/// The most address space, in KiB, for those peaks that are over before anyone looks: beyond it the
/// program would abort.
const MOST_SPACE: &str = "131072";
/// The time that a busy machine may add to a deadline.
const PATIENCE: Duration = Duration::from_secs(15);

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) line: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The peak of its resident memory, in bytes, as last seen.
    pub(crate) peak: u64,
}

/// Runs `nbd-extents map` with these arguments and this `--timeout`.
pub(crate) fn map(arguments: &[&str], timeout: Duration) -> Run {
    run("map", arguments, timeout)
}

/// Runs a command with these arguments and this `--timeout`. Whatever becomes of it, it must be in
/// time, small and well-mannered.
pub(crate) fn run(verb: &str, arguments: &[&str], timeout: Duration) -> Run {
    let seconds = timeout.as_secs().to_string();
    let script = format!("ulimit -v {MOST_SPACE}; exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_nbd-extents"), verb]).args(arguments);
    command.args(["--timeout", &seconds]);
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let memory = watch_memory(child.id());
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let code = wait(&mut child, timeout + PATIENCE);
    let run = Run {
        line: format!("nbd-extents {verb} {} --timeout {seconds}", arguments.join(" ")),
        code,
        stdout: stdout.join().expect("the thread that reads stdout"),
        stderr: stderr.join().expect("the thread that reads stderr"),
        took: started.elapsed(),
        peak: memory.join().expect("the thread that watches the memory"),
    };
    run.assert_well_mannered();
    run
}

/// The exit code; `None` for one that had to be killed, or that a signal ended.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("wait for the program") {
            return status.code();
        }
        if Instant::now() >= deadline {
            // It may have ended just now.
            let _ = child.kill();
            child.wait().expect("wait for the killed program");
            return None;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads the peak of the process's memory as long as there is a process. The kernel keeps the peak,
/// so only what happens in the last moment can be missed.
fn watch_memory(process: u32) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut peak = 0;
        while let Some(seen) = peak_memory(process) {
            peak = peak.max(seen);
            thread::sleep(Duration::from_micros(500));
        }
        peak
    })
}

fn peak_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut bytes).expect("read what the program printed");
        String::from_utf8(bytes).expect("the program prints UTF-8")
    })
}

impl Run {
    /// Holds of every run, whatever the server did.
    #[track_caller]
    fn assert_well_mannered(&self) {
        assert!(self.code.is_some(), "killed, or out of memory, after {:?}: {self}", self.took);
        assert!(self.peak < MOST_MEMORY, "{} KiB: {self}", self.peak >> 10);
        // The forms for people have lines; whether they have too many is for their tests to say.
        let lines: &[char] = if self.line.contains("--json") { &[] } else { &['\n'] };
        let printed = self.stdout.strip_suffix('\n').unwrap_or(&self.stdout).replace(lines, "");
        let said = self.stderr.strip_suffix('\n').unwrap_or(&self.stderr);
        for c in printed.chars().chain(said.chars()) {
            let moves =
                matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!c.is_control() && !moves, "{c:?} on the terminal: {self}");
        }
    }

    /// It printed exactly this array, and nothing else.
    #[track_caller]
    pub(crate) fn prints(&self, map: &[Value]) {
        assert_eq!(self.code, Some(0), "{self}");
        assert_eq!(self.stderr, "", "{self}");
        let printed: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"));
        assert_eq!(printed, Value::from(map), "{self}");
    }

    /// It failed as scripts are promised: this code, one line that holds these words, and no
    /// finished array.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(self.stderr.starts_with("nbd-extents: ") && self.stderr.ends_with('\n'), "{self}");
        assert!(self.stderr.contains(says), "no {says:?} in it: {self}");
        assert!(serde_json::from_str::<Value>(&self.stdout).is_err(), "a finished array: {self}");
    }
}

impl core::fmt::Display for Run {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let shown: String = self.stdout.chars().take(400).collect();
        write!(f, "{} ended with {:?}\nstdout: {shown:?}\nstderr: {:?}", self.line, self.code, self.stderr)
    }
}
