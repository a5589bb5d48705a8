//! Real servers on unix sockets: started, waited for, and ended by their handle.

use core::time::Duration;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::image::Image;
use super::{naive, watchdog};

/// How long a server may take until it says hello, or is asked for something.
const START: Duration = Duration::from_secs(20);

/// `sun_path` holds 108 bytes; a socket's name and the final NUL need room in it.
const LONGEST_FOLDER: usize = 80;

/// A folder for images and sockets, with a path short enough for a socket.
pub fn folder() -> TempDir {
    let usual = std::env::temp_dir();
    let place = if usual.as_os_str().len() > LONGEST_FOLDER { PathBuf::from("/tmp") } else { usual };
    tempfile::Builder::new().prefix("nx").tempdir_in(place).expect("a temporary folder")
}

/// A server that listens on a unix socket. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// `qemu-nbd`, read-only, as a backup tool starts it: with allocation depth, and the bitmaps
    /// named.
    pub fn qemu_nbd(image: &Image, bitmaps: &[&str]) -> Self {
        Self::start("qemu-nbd", |command, socket| {
            command.args(["-r", "-t", "-e", "8", "-A", "-f", image.format.name()]);
            for bitmap in bitmaps {
                command.args(["-B", bitmap]);
            }
            command.arg("-k").arg(socket).arg(&image.path);
        })
    }

    /// `qemu-nbd` without allocation depth, as a raw disk is served by default.
    pub fn qemu_nbd_without_depth(image: &Image) -> Self {
        Self::start("qemu-nbd", |command, socket| {
            command.args(["-r", "-t", "-e", "8", "-f", image.format.name(), "-k"]);
            command.arg(socket).arg(&image.path);
        })
    }

    /// `qemu-nbd` of a disk that may be written, with options of its own.
    pub fn qemu_nbd_writable(image: &Image, options: &[&str]) -> Self {
        Self::start("qemu-nbd", |command, socket| {
            command.args(["-t", "-e", "8", "-f", image.format.name()]).args(options).arg("-k");
            command.arg(socket).arg(&image.path);
        })
    }

    /// `nbdkit` of a disk that may be written.
    pub fn nbdkit_writable(options: &[&str], plugin: &[&str]) -> Self {
        Self::start("nbdkit", |command, socket| {
            command.arg("--foreground").args(options).arg("-U").arg(socket).args(plugin);
        })
    }

    /// `nbdkit` with the plugin and parameters, and options of the server itself, given.
    ///
    /// Start a new one after a client that went away while its requests were in flight: nbdkit 1.32
    /// then often aborts itself (`raw_send_socket: Assertion 'sock >= 0' failed`), since one of its
    /// threads closes the socket to which another is about to send.
    pub fn nbdkit(options: &[&str], plugin: &[&str]) -> Self {
        Self::start("nbdkit", |command, socket| {
            command.args(["--readonly", "--foreground"]).args(options).arg("-U").arg(socket).args(plugin);
        })
    }

    /// `nbdkit` with a shell script as its plugin.
    pub fn nbdkit_script(script: &str) -> Self {
        Self::start("nbdkit", |command, socket| {
            let file = socket.with_file_name("plugin.sh");
            fs::write(&file, script).expect("write the plugin");
            make_executable(&file);
            command.args(["--readonly", "--foreground", "-U"]).arg(socket).arg("sh").arg(file);
        })
    }

    /// `qemu-storage-daemon` with the point-in-time view that a live backup reads: the export
    /// `snap` is a snapshot-access node over a copy-before-write filter that knows of dirty blocks
    /// alone, so asking about a clean byte fails. The export `guest` is the disk as its owner goes
    /// on writing it.
    pub fn snapshot_access(source: &Image, scratch: &Image, bitmap: &str) -> Self {
        let file = |node: &str, image: &Image| {
            format!("driver=file,node-name={node},filename={}", image.path.display())
        };
        let filter = format!(
            "driver=copy-before-write,node-name=cbw,file=disk,target=scratch,bitmap.node=disk,bitm\
                ap.name={bitmap}"
        );
        let backup = format!(
            "type=nbd,id=backup,node-name=snapshot,name=snap,bitmaps.0.node=disk,bitmaps.0.name={bitmap}"
        );
        Self::start("qemu-storage-daemon", |command, socket| {
            for node in [
                &file("disk-file", source),
                "driver=qcow2,node-name=disk,file=disk-file,discard=unmap",
                &file("scratch-file", scratch),
                "driver=qcow2,node-name=scratch,file=scratch-file",
                &filter,
                "driver=snapshot-access,node-name=snapshot,file=cbw",
            ] {
                command.args(["--blockdev", node]);
            }
            let address = format!("addr.type=unix,addr.path={},max-connections=0", socket.display());
            command.args(["--nbd-server", &address, "--export", &backup]);
            command.args(["--export", "type=nbd,id=guest,node-name=cbw,name=guest,writable=on"]);
        })
    }

    /// `qemu-storage-daemon` as libvirt has it during a backup of a running machine: the scratch
    /// image is backed by the disk, and what the guest overwrites is copied into it first. The
    /// export `snap` is the scratch image, which reads as the disk did at the start, with the
    /// disk's bitmap; `guest` is the disk as its owner goes on writing it.
    pub fn fleecing(source: &Image, scratch: &Image, bitmap: &str) -> Self {
        let file = |node: &str, image: &Image| {
            format!("driver=file,node-name={node},filename={}", image.path.display())
        };
        let backup = format!(
            "type=nbd,id=backup,node-name=scratch,name=snap,bitmaps.0.node=disk,bitmaps.0.name={bitmap}"
        );
        Self::start("qemu-storage-daemon", |command, socket| {
            for node in [
                &file("disk-file", source),
                "driver=qcow2,node-name=disk,file=disk-file,discard=unmap",
                &file("scratch-file", scratch),
                "driver=qcow2,node-name=scratch,file=scratch-file,backing=disk",
                "driver=copy-before-write,node-name=cbw,file=disk,target=scratch",
            ] {
                command.args(["--blockdev", node]);
            }
            let address = format!("addr.type=unix,addr.path={},max-connections=0", socket.display());
            command.args(["--nbd-server", &address, "--export", &backup]);
            command.args(["--export", "type=nbd,id=guest,node-name=cbw,name=guest,writable=on"]);
        })
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        watchdog::forget(self.child.id());
        self.child.kill().expect("kill a server");
        self.child.wait().expect("wait for a killed server");
    }

    /// The address of the export called `name` (the default export's name is empty).
    pub fn uri(&self, name: &str) -> String {
        format!("nbd+unix:///{name}?socket={}", self.socket.display())
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The output of the server until now.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the server has said these words: it has got as far as that.
    pub fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + START;
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "no {words:?} in {START:?}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(program: &str, arguments: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = folder();
        let socket = folder.path().join("s");
        let log = folder.path().join("log");
        let output = File::create(&log).expect("create the server's log");
        let mut command = Command::new(program);
        arguments(&mut command, &socket);
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("clone the log's handle"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"));
        watchdog::watch(child.id());
        let mut server = Self { child, socket, log, _folder: folder };
        server.wait_until_ready(&command);
        server
    }

    /// Waits for a hello, not for the socket's file: a file can be there before anybody listens.
    fn wait_until_ready(&mut self, command: &Command) {
        let deadline = Instant::now() + START;
        while !naive::says_hello(&self.socket) {
            let ended = self.child.try_wait().expect("look after the server");
            assert!(ended.is_none(), "{command:?} ended with {ended:?}: {}", self.log());
            assert!(Instant::now() < deadline, "{command:?} said no hello in {START:?}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        watchdog::forget(self.child.id());
        // One that has ended already cannot be killed, and both calls may fail only then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("make the plugin executable");
}
