//! Signals that end the program: it cleans up first, and then ends as its caller expects of such a
//! signal.

use core::ffi::c_int;
use std::fs;
use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Calls `before` when a signal is to end the program. Its result is kept to the end, such as a lock
/// that holds up others.
pub(crate) fn watch<T>(before: impl Fn() -> T + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(handled())?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _held = before();
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
