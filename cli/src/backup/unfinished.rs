//! The unfinished file of a backup that is ended from outside, by a signal or by `--timeout`: it is
//! removed before the program ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unfinished file; a run of the program writes one at most.
static FILE: Mutex<Option<PathBuf>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<PathBuf>> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the unfinished file, if there is one. The caller ends the program while it holds the
/// returned guard: a file that is being renamed is whole and keeps its name, and none is renamed
/// afterwards.
pub(crate) fn remove() -> MutexGuard<'static, Option<PathBuf>> {
    let file = lock();
    if let Some(path) = &*file {
        let _ = fs::remove_file(path);
    }
    file
}

/// A file that is removed when the program is ended from outside.
pub(super) struct Unfinished(());

impl Unfinished {
    /// Removes the file at `path` when the program is ended, until [`release`](Self::release).
    pub(super) fn guard(path: &Path) -> io::Result<Self> {
        *lock() = Some(path.to_owned());
        #[cfg(unix)]
        signals::watch()?;
        Ok(Self(()))
    }

    /// Leaves the file alone from now on. While the guard lives, nothing ends the program: the caller
    /// renames the file meanwhile.
    pub(super) fn release(self) -> MutexGuard<'static, Option<PathBuf>> {
        let mut file = lock();
        *file = None;
        file
    }
}

/// Signals remove the file as well, and end the program as they would without this.
#[cfg(unix)]
mod signals {
    use core::ffi::c_int;
    use std::fs;
    use std::io;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    pub(super) fn watch() -> io::Result<()> {
        let mut signals = Signals::new(handled())?;
        thread::spawn(move || {
            for signal in signals.forever() {
                let _held = super::remove();
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(())
    }

    /// The signals that end a program and can be handled. One that the parent lets the program
    /// ignore, as `nohup` does, stays ignored.
    fn handled() -> Vec<c_int> {
        match ignored() {
            Some(mask) => {
                [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| mask >> (signal - 1) & 1 == 0).collect()
            }
            None => vec![SIGINT, SIGTERM],
        }
    }

    /// The mask of the signals that are ignored, where the system shows it.
    fn ignored() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    }
}
