//! The unfinished file of a backup that a signal ends: it is removed, and the program ends by the
//! signal, as it would without this.

#[cfg(unix)]
pub(super) use self::unix::Unfinished;

#[cfg(unix)]
mod unix {
    use core::ffi::c_int;
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    /// A file that is removed when a signal ends the program.
    pub(in crate::backup) struct Unfinished(Arc<Mutex<Option<PathBuf>>>);

    impl Unfinished {
        /// Removes the file at `path` when a signal ends the program, until
        /// [`finish`](Self::finish).
        pub(in crate::backup) fn guard(path: &Path) -> io::Result<Self> {
            let file = Arc::new(Mutex::new(Some(path.to_owned())));
            let mut signals = Signals::new(handled())?;
            let guarded = Arc::clone(&file);
            thread::spawn(move || {
                for signal in signals.forever() {
                    // Held to the end: a file that is being renamed is whole, and keeps its name.
                    let file = lock(&guarded);
                    if let Some(path) = &*file {
                        let _ = fs::remove_file(path);
                    }
                    let _ = emulate_default_handler(signal);
                }
            });
            Ok(Self(file))
        }

        /// Renames the file, which no signal interrupts, and leaves it alone from then on.
        pub(in crate::backup) fn finish(self, rename: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
            let mut file = lock(&self.0);
            rename()?;
            *file = None;
            Ok(())
        }
    }

    fn lock(file: &Mutex<Option<PathBuf>>) -> MutexGuard<'_, Option<PathBuf>> {
        file.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Where there are no signals, nothing is to be done.
#[cfg(not(unix))]
pub(super) struct Unfinished;

#[cfg(not(unix))]
impl Unfinished {
    pub(super) fn guard(_: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn finish(self, rename: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
        rename()
    }
}
