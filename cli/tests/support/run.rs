//! Runs the program to its end, and says how a run has to end.

use core::time::Duration;
use std::process::Command;

use serde_json::Value;

use testkit::command::finish;

/// Far more than any run of a test takes, so that a hang fails one test and not the whole job.
const LIMIT: Duration = Duration::from_secs(120);

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The command line, for messages.
    line: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, as cargo has built it for this test.
pub(crate) fn program(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_nbd-extents"));
    program.arg(command);
    program
}

/// Runs `nbd-extents map` with these arguments to its end.
pub(crate) fn map(arguments: &[&str]) -> Run {
    run("map", arguments, "")
}

/// Runs a command with these arguments and this standard input to its end.
pub(crate) fn run(command: &str, arguments: &[&str], input: &str) -> Run {
    let done = finish(program(command).args(arguments), input, LIMIT);
    let line = format!("nbd-extents {command} {}", arguments.join(" "));
    Run { line, code: done.status.code(), stdout: done.stdout, stderr: done.stderr }
}

impl Run {
    /// The value that a successful run printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("{err} in the stdout of {self}"))
    }

    /// The array that a successful run printed.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Value> {
        match self.json() {
            Value::Array(list) => list,
            other => panic!("{other} is no array: {self}"),
        }
    }

    /// The list is the expected one, extent for extent and key for key.
    #[track_caller]
    pub(crate) fn prints(&self, expected: &[Value]) {
        let list = self.list();
        for (index, (got, wanted)) in list.iter().zip(expected).enumerate() {
            assert_eq!(got, wanted, "extent {index} of {}", self.line);
        }
        assert_eq!(list.len(), expected.len(), "number of extents of {}", self.line);
    }

    /// The run failed as scripts are promised: with this status, one line that says why
    /// (of wrong usage, clap's message), and no finished array.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self}");
        let is_one_line = self.stderr.starts_with("nbd-extents: ") && self.stderr.lines().count() == 1;
        let is_of_clap = code == 2 && self.stderr.starts_with("error: ");
        assert!(is_one_line || is_of_clap, "{self}");
        let finished = serde_json::from_str::<Value>(&self.stdout);
        assert!(finished.is_err(), "finished output of a failed run: {self}");
    }

    /// As [`Self::fails`], and the line on stderr holds these words.
    #[track_caller]
    pub(crate) fn fails_saying(&self, code: i32, words: &[&str]) {
        self.fails(code);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in the message: {self}");
        }
    }
}

impl core::fmt::Display for Run {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let shown: String = self.stdout.chars().take(400).collect();
        write!(f, "{} ended with {:?}\nstdout: {shown}\nstderr: {}", self.line, self.code, self.stderr)
    }
}
