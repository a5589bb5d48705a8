//! Functions about the whole library: its version, and the message of a thread's last call.

use core::ffi::c_char;

use super::border;

/// The version of the library, as `MAJOR.MINOR.PATCH`.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The message of this thread's last call; empty when it succeeded.
#[unsafe(no_mangle)]
pub extern "C" fn nbdx_last_error() -> *const c_char {
    border::thread_message()
}
