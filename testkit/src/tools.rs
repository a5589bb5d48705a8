//! The programs that a test needs, and the end of the test where one is not installed.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// True if all of these programs are installed. Otherwise it says on stderr which are missing, and the
/// test must return: it is skipped.
///
/// # Panics
///
/// If a program is missing and `CI=true`, so that CI cannot pass by testing nothing.
pub fn require(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(!env::var("CI").is_ok_and(|value| value == "true"), "in CI, and not installed: {missing}");
    // past the test harness, which keeps what a passing test prints to itself
    let _ = writeln!(io::stderr(), "skipped: not installed: {missing}");
    false
}

/// The tools for qcow2 images and `qemu-nbd`.
pub fn require_qemu() -> bool {
    require(&["qemu-img", "qemu-io", "qemu-nbd"])
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
