//! Runs the example `extents`, which is what these tests are about.

use core::time::Duration;
use std::env;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::command::finish;

/// Far more than any run of a test takes, so that a hang fails one test and not the whole job.
const LIMIT: Duration = Duration::from_secs(120);

/// A run of the example that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The command line, for messages.
    line: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `extents` with these arguments to its end.
pub(crate) fn extents(arguments: &[&str]) -> Run {
    let mut command = Command::new(example("extents"));
    command.args(arguments);
    let done = finish(&mut command, "", LIMIT);
    let line = format!("extents {}", arguments.join(" "));
    Run { line, code: done.status.code(), stdout: done.stdout, stderr: done.stderr }
}

/// Examples lie beside the folder of this test's binary. `cargo test` builds them, `cargo test --test` does not.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("the folder of the build profile");
    let file = profile.join("examples").join(name);
    assert!(file.exists(), "{} is not built: cargo build -p nbd-client --example {name}", file.display());
    file
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

    /// The run failed as scripts are promised: with this status, one line that says why, and no finished array.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(self.stderr.starts_with("extents: ") && self.stderr.lines().count() == 1, "{self}");
        let finished = serde_json::from_str::<Value>(&self.stdout);
        assert!(finished.is_err(), "finished output of a failed run: {self}");
    }

    /// The same, and the line on stderr holds these words.
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
