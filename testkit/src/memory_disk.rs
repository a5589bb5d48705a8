//! A writable disk in memory, behind a server that behaves and takes a little time for each request.

use core::ops::Range;
use core::time::Duration;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use nbd_client::Uri;
use nbd_client::frame::command;

use crate::pki::Pki;
use crate::scripted::{Conn, DONE, Good, Reaction, ScriptedServer, SeenRequest};

/// The bitmap that calls all of the disk dirty. Its `base:allocation` calls it data.
pub const BITMAP: &str = "qemu:dirty-bitmap:b0";
/// The context of the bitmap.
const BITMAP_ID: u32 = 7;

/// A disk in memory and its server, which takes [`Self::PAUSE`] for each request.
#[derive(Debug)]
pub struct MemoryDisk {
    state: Arc<DiskState>,
    server: ScriptedServer,
    /// The folder of its certificates.
    _pki: Option<Pki>,
}

#[derive(Debug)]
struct DiskState {
    bytes: Mutex<Vec<u8>>,
    /// Connections that the client has not closed.
    open: AtomicUsize,
    flushes: AtomicUsize,
    /// The number of options and requests that it will answer.
    patience: AtomicUsize,
}

impl MemoryDisk {
    /// The server's time for each request.
    pub const PAUSE: Duration = Duration::from_micros(500);

    /// Serves these bytes, with these transmission flags.
    pub fn start(bytes: Vec<u8>, flags: u16) -> Self {
        Self::start_with(bytes, flags, None)
    }

    /// As [`Self::start`], over TLS.
    pub fn start_tls(bytes: Vec<u8>, flags: u16, pki: Pki) -> Self {
        Self::start_with(bytes, flags, Some(pki))
    }

    fn start_with(bytes: Vec<u8>, flags: u16, pki: Option<Pki>) -> Self {
        let good = Good::extended().size(bytes.len() as u64).flags(flags).context(BITMAP_ID, BITMAP);
        let (open, flushes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let patience = AtomicUsize::new(usize::MAX);
        let state = Arc::new(DiskState { bytes: Mutex::new(bytes), open, flushes, patience });
        let theirs = Arc::clone(&state);
        let serve = move |conn: &mut Conn| {
            theirs.open.fetch_add(1, Ordering::SeqCst);
            let served = conn
                .handshake_with(&good, |conn, _| theirs.lose_patience(conn).map(|()| Reaction::Honest))
                .and_then(|()| conn.serve(|conn, request| theirs.answer(conn, request)));
            theirs.open.fetch_sub(1, Ordering::SeqCst);
            served
        };
        let server = match &pki {
            Some(pki) => ScriptedServer::start_tls(pki.server.server(None), pki.client(), serve),
            None => ScriptedServer::start(serve),
        };
        Self { state, server: server.expect("a socket in a folder of its own"), _pki: pki }
    }

    /// From now on it answers this number of options and requests, and then nothing more.
    pub fn answer(&self, count: usize) {
        self.state.patience.store(count, Ordering::SeqCst);
    }

    pub fn uri(&self) -> Uri {
        self.server.uri().parse().expect("the server's own URI")
    }

    /// All bytes of the disk.
    pub fn content(&self) -> Vec<u8> {
        self.state.bytes.lock().expect("the disk").clone()
    }

    /// True if each byte of this range is `byte`.
    pub fn is_all(&self, byte: u8, range: Range<usize>) -> bool {
        self.state.bytes.lock().expect("the disk")[range].iter().all(|&other| other == byte)
    }

    /// The number of FLUSH requests that it was asked for.
    pub fn flushes(&self) -> usize {
        self.state.flushes.load(Ordering::SeqCst)
    }

    /// Waits until its clients have closed all connections.
    pub fn wait_until_closed(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.state.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "a connection was left open");
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl DiskState {
    /// Says nothing more when all has been answered that is to be.
    fn lose_patience(&self, conn: &mut Conn) -> Result<()> {
        let next = |left: usize| left.checked_sub(1);
        if self.patience.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok() {
            return Ok(());
        }
        conn.stall()?;
        Err(Error::new(ErrorKind::ConnectionAborted, "the client left a server that does not answer"))
    }

    fn answer(&self, conn: &mut Conn, request: &SeenRequest) -> Result<()> {
        self.lose_patience(conn)?;
        conn.pause(MemoryDisk::PAUSE)?;
        let start = usize::try_from(request.offset).expect("an offset in memory");
        let range = || start..start + usize::try_from(request.length).expect("a length in memory");
        let disk = || self.bytes.lock().expect("the disk");
        match request.command {
            command::READ => {
                let data = disk()[range()].to_vec();
                return conn.data(request, request.offset, &data, DONE);
            }
            command::BLOCK_STATUS => {
                let contexts = request.contexts.clone().unwrap_or_else(|| conn.contexts().to_vec());
                let last = contexts.len().saturating_sub(1);
                return contexts.iter().enumerate().try_for_each(|(nth, &context)| {
                    let status = (request.length, u64::from(context == BITMAP_ID));
                    conn.status(request, context, &[status], if nth == last { DONE } else { 0 })
                });
            }
            command::WRITE => disk()[range()].copy_from_slice(&request.data),
            command::WRITE_ZEROES => disk()[range()].fill(0),
            command::FLUSH => {
                self.flushes.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        conn.done(request)
    }
}
