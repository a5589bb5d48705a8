//! The unfinished file of a backup that is ended from outside, by a signal or by `--timeout`: it is
//! removed before the program ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(unix)]
use crate::failure::{Failure, print_soon};

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
        crate::signals::watch(|| {
            let held = remove();
            print_soon(&Failure::other("interrupted; nothing was written under the name of the backup"));
            held
        })?;
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
