//! Commands run to their end, with a deadline and with everything they printed.

use core::time::Duration;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The status and the output of a command that has ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// The most memory that a program holds at any time until it has ended well, in bytes.
pub fn peak_memory(child: Child) -> u64 {
    let (peak, code) = peak_memory_and_code(child);
    assert_eq!(code, Some(0));
    peak
}

/// As [`peak_memory`], of a process that may fail. Returns its exit code too.
pub fn peak_memory_and_code(mut child: Child) -> (u64, Option<i32>) {
    let file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        thread::sleep(Duration::from_micros(500));
    }
    (peak, child.wait().unwrap().code())
}

/// Runs `command` to its end. One that outlives `limit` is killed, and the test fails with what it
/// had printed.
pub fn finish(command: &mut Command, input: &str, limit: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"));
    let feeder = feed(child.stdin.take(), input.to_owned());
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit);
    feeder.join().expect("thread that feeds stdin");
    let stdout = stdout.join().expect("thread that reads stdout");
    let stderr = stderr.join().expect("thread that reads stderr");
    let Some(status) = status else {
        panic!("{command:?} was killed after {limit:?}\nstdout: {stdout}\nstderr: {stderr}");
    };
    Finished { status, stdout, stderr }
}

/// As [`finish`], with stdin and stdout where the caller says, and nothing of stdout kept.
pub fn finish_between(command: &mut Command, stdin: Stdio, stdout: Stdio, limit: Duration) -> Finished {
    let mut child = command
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"));
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit);
    let stderr = stderr.join().expect("thread that reads stderr");
    let Some(status) = status else { panic!("{command:?} was killed after {limit:?}\nstderr: {stderr}") };
    Finished { status, stdout: String::new(), stderr }
}

/// Runs `command` and fails the test, showing what it printed, where it fails.
pub fn succeed(command: &mut Command, input: &str, limit: Duration) -> Finished {
    let done = finish(command, input, limit);
    assert!(
        done.status.success(),
        "{command:?}: {}\nstdout: {}\nstderr: {}",
        done.status,
        done.stdout,
        done.stderr
    );
    done
}

/// The status of a child that ended in time. One that did not is killed by its handle.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            // A child that has just ended cannot be killed: nothing is lost by not looking.
            let _ = child.kill();
            child.wait().expect("wait for a killed child");
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn feed(pipe: Option<impl Write + Send + 'static>, input: String) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = pipe.expect("a piped stdin");
        // A child that does not read its input to the end tells so by its status.
        let _ = pipe.write_all(input.as_bytes());
    })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut bytes).expect("read what a child printed");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
