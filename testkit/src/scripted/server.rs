//! The listener, and a thread for each connection.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::Conn;
use nbd_client::TlsOptions;
use nbd_client::uri::{Address, Uri};
use rustls::ServerConfig;

/// A server on a unix socket that does what its script says. It ends when it is dropped.
///
/// The [module](super) shows one that misbehaves.
///
/// ```
/// use testkit::scripted::{Good, ScriptedServer};
/// use nbd_client::{Client, Options};
///
/// let server = ScriptedServer::start(|conn| {
///     conn.handshake(&Good::extended().size(1 << 40))?;
///     conn.stall()
/// })?;
/// let client = Client::connect(&server.uri().parse()?, &Options::new())?;
/// assert_eq!(client.export().size(), 1 << 40);
/// assert_eq!(server.connections(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    path: PathBuf,
    /// The folder to remove in the end, if it was made for this.
    folder: Option<PathBuf>,
    /// The TLS options of the URI.
    tls: Option<TlsOptions>,
    shared: Arc<ServerShared>,
    listening: Option<JoinHandle<()>>,
}

/// The state that the threads of one server share.
#[derive(Debug, Default)]
pub(super) struct ServerShared {
    state: Mutex<ServerState>,
    stopped: Condvar,
    /// Each connection starts TLS by this.
    tls: Option<Arc<ServerConfig>>,
}

#[derive(Debug, Default)]
struct ServerState {
    stopping: bool,
    accepted: usize,
    /// The connections being served.
    open: BTreeMap<usize, UnixStream>,
}

impl ScriptedServer {
    /// Serves every connection with `script`, on a socket in a new folder that only this user can
    /// enter. The folder is removed in the end.
    ///
    /// # Errors
    ///
    /// Those of making folder, socket and thread.
    pub fn start<S>(script: S) -> Result<Self>
    where
        S: Fn(&mut Conn) -> Result<()> + Send + Sync + 'static,
    {
        let folder = new_folder()?;
        let mut server = Self::start_in(&folder, script)?;
        server.folder = Some(folder);
        Ok(server)
    }

    /// As [`Self::start`], over TLS: [`Conn::hello`] starts it, and the rest of the script notices
    /// nothing. `options` are those of the server's URI.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_tls<S>(config: Arc<ServerConfig>, options: TlsOptions, script: S) -> Result<Self>
    where
        S: Fn(&mut Conn) -> Result<()> + Send + Sync + 'static,
    {
        let folder = new_folder()?;
        let mut server = Self::start_with(&folder, Some(config), script)?;
        (server.folder, server.tls) = (Some(folder), Some(options));
        Ok(server)
    }

    /// As [`Self::start`], on the socket `nbd.sock` in this folder. Its path has to be short: a
    /// socket's has room for some 100 bytes.
    ///
    /// # Errors
    ///
    /// Those of making socket and thread.
    pub fn start_in<S>(folder: &Path, script: S) -> Result<Self>
    where
        S: Fn(&mut Conn) -> Result<()> + Send + Sync + 'static,
    {
        Self::start_with(folder, None, script)
    }

    fn start_with<S>(folder: &Path, tls: Option<Arc<ServerConfig>>, script: S) -> Result<Self>
    where
        S: Fn(&mut Conn) -> Result<()> + Send + Sync + 'static,
    {
        let path = folder.join("nbd.sock");
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let shared = Arc::new(ServerShared { tls, ..ServerShared::default() });
        let (script, theirs) = (Arc::new(script), Arc::clone(&shared));
        let listening = named("nbd-script-listen", move || listen(&listener, &script, &theirs))?;
        Ok(Self { path, folder: None, tls: None, shared, listening: Some(listening) })
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of the default export, as text.
    #[must_use]
    pub fn uri(&self) -> String {
        let address = Address::Unix(self.path.as_os_str().as_bytes().into());
        Uri::new(address, "", self.tls.clone()).map_or_else(|_| String::new(), |uri| uri.to_string())
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().accepted
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.shared.stop();
        // Wakes the listener, which then sees that it is over.
        let woken = UnixStream::connect(&self.path);
        if let (Ok(_), Some(listening)) = (woken, self.listening.take()) {
            // It fails only if the thread panicked, which has been printed.
            listening.join().ok();
        }
        std::fs::remove_file(&self.path).ok();
        if let Some(folder) = &self.folder {
            std::fs::remove_dir(folder).ok();
        }
    }
}

impl ServerShared {
    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Waits, unless the server ends before.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now().checked_add(time);
        let mut state = self.lock();
        loop {
            if state.stopping {
                return Err(Error::new(ErrorKind::ConnectionAborted, "the scripted server was dropped"));
            }
            let left = end.map_or(time, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            state = self.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Enters a connection; `None` when the server is ending.
    fn enter(&self, stream: &UnixStream) -> Result<Option<usize>> {
        let twin = stream.try_clone()?;
        let mut state = self.lock();
        if state.stopping {
            return Ok(None);
        }
        let number = state.accepted;
        state.accepted += 1;
        state.open.insert(number, twin);
        Ok(Some(number))
    }

    fn leave(&self, number: usize) {
        self.lock().open.remove(&number);
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for stream in state.open.values() {
            // It fails only where the client is gone already.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.stopped.notify_all();
    }
}

fn listen<S>(listener: &UnixListener, script: &Arc<S>, shared: &Arc<ServerShared>)
where
    S: Fn(&mut Conn) -> Result<()> + Send + Sync + 'static,
{
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        let Ok(Some(number)) = shared.enter(&stream) else { break };
        let (script, theirs) = (Arc::clone(script), Arc::clone(shared));
        let thread = named("nbd-script", move || {
            let mut conn = Conn::new(stream, Arc::clone(&theirs), number);
            // However the script ended, the connection does now.
            script(&mut conn).ok();
            conn.close();
            theirs.leave(number);
        });
        threads.retain(|thread| !thread.is_finished());
        threads.extend(thread);
    }
    for thread in threads {
        thread.join().ok();
    }
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// A folder that did not exist before, for this user alone.
fn new_folder() -> Result<PathBuf> {
    static COUNT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    let usual = std::env::temp_dir();
    let place = if usual.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { usual };
    loop {
        let count = COUNT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        let folder = place.join(format!("nbd-script-{}-{count}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Whatever its scripts are doing: a test that fails must not hang in the end.
    #[test]
    fn dropping_it_ends_every_script() {
        let scripts: [fn(&mut Conn) -> Result<()>; 4] = [
            |conn| conn.pause(HOUR),
            Conn::stall,
            |conn| conn.drip(b"slowly", HOUR),
            |conn| conn.send_for_ever(&[0; 4096]),
        ];
        for script in scripts {
            let server = ScriptedServer::start(script).unwrap();
            let folder = server.path().parent().unwrap().to_owned();
            let started = Instant::now();
            let mut client = UnixStream::connect(server.path()).unwrap();
            while server.connections() == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            drop(server);
            assert!(started.elapsed() < Duration::from_secs(60) && !folder.exists());
            // Bytes sent before are still there; then it is over.
            client.read_to_end(&mut Vec::new()).ok();
        }
    }

    #[test]
    fn a_script_that_ends_ends_its_connection_and_no_other() {
        let server =
            ScriptedServer::start(|conn| conn.send(&[u8::try_from(conn.number()).unwrap(); 3])).unwrap();
        for number in 0..3 {
            let mut client = UnixStream::connect(server.path()).unwrap();
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, [number; 3]);
        }
        assert_eq!(server.connections(), 3);
    }

    #[test]
    fn cut_after_means_exactly_so_many_bytes() {
        let server = ScriptedServer::start(|conn| {
            conn.cut_after(7);
            (0..4).try_for_each(|_| conn.send(b"abc"))
        })
        .unwrap();
        let mut bytes = Vec::new();
        UnixStream::connect(server.path()).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"abcabca");
    }
}
