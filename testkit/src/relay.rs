//! A relay between a client and a server on unix sockets that cuts, changes or slows down the
//! server's bytes: faults below TLS, which no script inside it can make.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

/// The treatment of the server's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayFault {
    /// Nothing.
    None,
    /// After this number of bytes the server seems to have hung up.
    CutAt(usize),
    /// The byte at this position is changed.
    FlipAt(usize),
    /// Each byte comes alone.
    OneByOne,
}

/// A relay for one connection after the other.
#[derive(Debug)]
pub struct Relay {
    socket: PathBuf,
    seen: Arc<Mutex<Vec<u8>>>,
    _folder: TempDir,
}

impl Relay {
    /// Listens on a socket of its own, for connections to `server`.
    pub fn start(server: &Path, fault: RelayFault) -> Self {
        let folder = super::server::folder();
        let socket = folder.path().join("relay");
        let listener = UnixListener::bind(&socket).expect("listen");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (server, record) = (server.to_owned(), Arc::clone(&seen));
        // it ends with the process: nobody joins it
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&server) else { return };
                record.lock().expect("the bytes").clear();
                let (up, down) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                thread::spawn(move || pass(up, down, RelayFault::None, &Mutex::default()));
                let record = Arc::clone(&record);
                thread::spawn(move || pass(server, client, fault, &record));
            }
        });
        Self { socket, seen, _folder: folder }
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.socket
    }

    /// The bytes of the server on the last connection, as it sent them.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().expect("the bytes").clone()
    }
}

/// Copies until one side is gone.
fn pass(mut from: UnixStream, mut to: UnixStream, fault: RelayFault, seen: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        let start = {
            let mut seen = seen.lock().expect("the bytes");
            seen.extend_from_slice(bytes);
            seen.len() - count
        };
        let passed = match fault {
            RelayFault::CutAt(at) if at < start + count => {
                to.write_all(&bytes[..at.saturating_sub(start)]).ok();
                break;
            }
            RelayFault::FlipAt(at) if (start..start + count).contains(&at) => {
                bytes[at - start] ^= 0x40;
                to.write_all(bytes)
            }
            RelayFault::OneByOne => bytes.iter().try_for_each(|&byte| to.write_all(&[byte])),
            _ => to.write_all(bytes),
        };
        if passed.is_err() {
            break;
        }
    }
    // the other direction is over as well
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
