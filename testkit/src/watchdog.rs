//! A test with real servers that hangs is to fail, not to block the whole job.

use core::time::Duration;
use std::process::{Command, abort};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

/// Far more than any server is needed for, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(300);
/// How long the tests have to fail by themselves when their servers are gone.
const GRACE: Duration = Duration::from_secs(90);

static SERVERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A server was started. When the time of the process is over, it is killed, which ends most tests
/// that hang; what hangs on ends with the process.
pub fn watch(server: u32) {
    static STARTED: Once = Once::new();
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).push(server);
    STARTED.call_once(|| {
        thread::spawn(|| {
            thread::sleep(LIMIT);
            eprintln!("the tests of this binary have not ended within {LIMIT:?}: their servers are killed");
            for server in SERVERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                Command::new("kill").arg("-9").arg(server.to_string()).status().ok();
            }
            thread::sleep(GRACE);
            eprintln!("a test does not end without its server either");
            abort();
        });
    });
}

/// The server is about to be waited for: its number may belong to another process soon.
pub fn forget(server: u32) {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|&other| other != server);
}
