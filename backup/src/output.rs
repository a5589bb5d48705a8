//! The output of a backup: a new file beside the named one. It gets that name when it is whole and on
//! disk.
//!
//! Only a regular file is replaced, and unless the caller says otherwise only one that is a backup
//! or empty: a name that is mistyped does not cost a disk image. A pipe, a device or a descriptor of
//! this process is written as it is.

mod disk;

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::sparse_stream::{HEADER_SIZE, begins_stream};
use disk::DiskWriter;

/// Links that are followed before they are taken for a loop, as on Linux.
const MAX_LINKS: usize = 40;
/// Short writes to a pipe or device go out together; one of this length goes straight out.
const BUFFER: usize = 256 << 10;

/// The place of a backup that is being written.
///
/// A regular file is written beside its name, as `.NAME.RANDOM.partial`, and gets the name in
/// [`commit`](Self::commit). Dropped before, it removes that file, and the one of this name is as it
/// was. Links are followed. A pipe, a device or an open file of this process (`/dev/fd/3`) is
/// written as it is.
///
/// ```
/// use nbd_extents_backup::{OutputFile, Replace};
/// use std::io::Write;
///
/// let folder = tempfile::tempdir()?;
/// let name = folder.path().join("disk.full");
/// let mut file = OutputFile::create(&name, None, Replace::Backup)?;
/// file.write_all(b"not yet")?;
/// assert!(!name.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&name)?, b"not yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct OutputFile(Place);

#[derive(Debug)]
enum Place {
    /// A file beside `path`.
    Beside { writer: DiskWriter, file: NamedTempFile, path: PathBuf },
    /// A pipe or device, which cannot be replaced, or standard output.
    Direct { file: BufWriter<File>, path: PathBuf },
}

/// The regular files that a backup may replace.
///
/// ```
/// use nbd_extents_backup::{OutputError, OutputFile, Replace};
///
/// let image = tempfile::NamedTempFile::new()?;
/// std::fs::write(image.path(), b"a disk image")?;
/// let error = OutputFile::create(image.path(), None, Replace::Backup).unwrap_err();
/// assert!(matches!(error, OutputError::NotABackup { .. }));
/// assert!(OutputFile::create(image.path(), None, Replace::Any).is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replace {
    /// A file that begins as a sparse stream does, or is empty.
    #[default]
    Backup,
    /// Whatever file has the name.
    Any,
}

/// Why the place of a backup cannot be made, or a whole backup cannot be put there.
///
/// ```
/// use nbd_extents_backup::{OutputError, OutputFile, Replace};
///
/// let place = "/nowhere/disk.full".as_ref();
/// let error = OutputFile::create(place, None, Replace::Backup).unwrap_err();
/// assert!(matches!(error, OutputError::File { .. }));
/// assert!(error.to_string().starts_with("/nowhere/disk.full: "));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The file cannot be made, written or renamed.
    #[error("{}: {error}", path.display())]
    File {
        /// Its name.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file of this name is not a backup, and would be lost.
    #[error("{}: a file of this name exists and is no backup: name another file", path.display())]
    NotABackup {
        /// Its name.
        path: PathBuf,
    },
    /// The file is that of the previous backup.
    #[error("the backup would replace the one that it stands on")]
    ReplacesParent,
    /// Standard output is a terminal, which is no place for a disk.
    #[error("the backup goes to stdout, which is a terminal: name a file")]
    Terminal,
}

impl OutputFile {
    /// Makes the place, with the permissions of the file that it will replace.
    ///
    /// `parent` is the file of the previous backup, which must stay. Of other files it replaces those
    /// that `replace` allows.
    ///
    /// # Errors
    ///
    /// [`OutputError`]. Nothing was written then.
    pub fn create(path: &Path, parent: Option<&Path>, replace: Replace) -> Result<Self, OutputError> {
        let about = |error: io::Error| OutputError::File { path: path.to_owned(), error };
        if is_stdout(path) {
            return Self::stdout();
        }
        let path = follow_links(path).map_err(about)?;
        if let Some(parent) = parent
            && fs::canonicalize(parent).ok().is_some_and(|file| Some(file) == fs::canonicalize(&path).ok())
        {
            return Err(OutputError::ReplacesParent);
        }
        let place = Place::open(path).map_err(about)?;
        match place {
            Place::Beside { path, .. }
                if replace == Replace::Backup && !is_backup(&path).map_err(about)? =>
            {
                Err(OutputError::NotABackup { path })
            }
            place => Ok(Self(place)),
        }
    }

    /// Standard output as it is: Rust's own looks for the ends of lines.
    ///
    /// # Errors
    ///
    /// [`OutputError::Terminal`], and [`OutputError::File`] where there is none.
    pub fn stdout() -> Result<Self, OutputError> {
        if io::stdout().is_terminal() {
            return Err(OutputError::Terminal);
        }
        let path = PathBuf::from("standard output");
        #[cfg(unix)]
        let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned();
        #[cfg(windows)]
        let stdout = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned();
        match stdout {
            Ok(stdout) => Ok(Self(Place::direct(File::from(stdout), path))),
            Err(error) => Err(OutputError::File { path, error }),
        }
    }

    /// The unfinished file, for a program that removes it when it is ended by a signal.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Path> {
        match &self.0 {
            Place::Beside { file, .. } => Some(file.path()),
            Place::Direct { .. } => None,
        }
    }

    /// Puts a whole backup on disk, and gives it its name.
    ///
    /// # Errors
    ///
    /// [`OutputError::File`]. The file of this name is as it was, unless the disk fails at the end.
    pub fn commit(self) -> Result<(), OutputError> {
        self.commit_while(|| ())
    }

    /// Commits as [`commit`](Self::commit), and holds the value of `hold` while the file is renamed.
    ///
    /// The value can be the guard of a lock, so that the thread that handles signals does not remove
    /// a file that has its name already.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_while<G>(self, hold: impl FnOnce() -> G) -> Result<(), OutputError> {
        match self.0 {
            Place::Direct { mut file, path } => file
                .flush()
                .and_then(|()| sync_direct(file.get_ref()))
                .map_err(|error| OutputError::File { path, error }),
            Place::Beside { writer, file, path } => writer
                .finish()
                .and_then(|()| file.as_file().sync_all())
                .and_then(|()| {
                    let _held = hold();
                    file.persist(&path).map(drop).map_err(|error| error.error)
                })
                // The name is on disk only with its folder.
                .and_then(|()| File::open(folder(&path))?.sync_all())
                .map_err(|error| OutputError::File { path, error }),
        }
    }
}

impl Place {
    fn direct(file: File, path: PathBuf) -> Self {
        widen_pipe(&file);
        Self::Direct { file: BufWriter::with_capacity(BUFFER, file), path }
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let old = match fs::metadata(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if old.as_ref().is_some_and(|old| !old.is_file()) || is_descriptor(&path) {
            let file = File::options().write(true).truncate(true).open(&path)?;
            return Ok(Self::direct(file, path));
        }
        if old.is_some() {
            // A file that may not be written may not be replaced either, whatever its folder
            // allows.
            File::options().write(true).open(&path)?;
        }
        let file = beside(&path, old.as_ref())?;
        Ok(Self::Beside { writer: DiskWriter::new(file.as_file().try_clone()?)?, file, path })
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Place::Beside { writer, .. } => writer.write(bytes),
            Place::Direct { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Place::Beside { writer, .. } => writer.flush(),
            Place::Direct { file, .. } => file.flush(),
        }
    }
}

/// A new file in the folder of `path`, with the permissions of the file that it will replace.
fn beside(path: &Path, old: Option<&Metadata>) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".partial");
    if let Some(permissions) = new_file() {
        builder.permissions(permissions);
    }
    // A missing folder is named as it was given, without the name of the new file.
    fs::metadata(folder(path))?;
    let file = builder.tempfile_in(folder(path))?;
    if let Some(old) = old {
        // Before the first byte is written: nobody who may not read the old file reads the new one.
        file.as_file().set_permissions(old.permissions())?;
    }
    Ok(file)
}

/// The permissions of any new file: all but those that the umask takes away.
fn new_file() -> Option<Permissions> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    #[cfg(not(unix))]
    return None;
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that a chain of symbolic links ends at, which need not exist. The links themselves
/// stay.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        // The target of such a link need not be a path: a pipe shows as `pipe:[4711]`.
        if is_descriptor(&path) {
            return Ok(path);
        }
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Whether a file begins as a sparse stream does, is empty, or does not exist.
fn is_backup(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut beginning = Vec::new();
    file.take(HEADER_SIZE as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || begins_stream(&beginning))
}

/// Whether a path names an open file of a process.
fn is_descriptor(path: &Path) -> bool {
    let is_number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let is_open_file = path.file_name().is_some_and(is_number) && folder(path).ends_with("fd");
    is_open_file && (path.starts_with("/proc") || path.starts_with("/dev/fd"))
}

/// Whether a path names standard output, whichever file that is.
fn is_stdout(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path.as_os_str() == *name)
}

/// Lets a pipe hold as much as Linux allows any user to ask for. Of 64 KiB, the usual size, either
/// side waits for the other every time that they have moved.
#[cfg(target_os = "linux")]
fn widen_pipe(file: &File) {
    // refused for files that are no pipes, and for users with many of them
    let _ = rustix::pipe::fcntl_setpipe_size(file, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
fn widen_pipe(_: &File) {}

/// Makes the content of a file or block device durable. Does nothing for pipes and terminals, which
/// cannot be synced.
fn sync_direct(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    #[cfg(unix)]
    let is_disk = std::os::unix::fs::FileTypeExt::is_block_device(&kind);
    #[cfg(not(unix))]
    let is_disk = false;
    if kind.is_file() || is_disk { file.sync_all() } else { Ok(()) }
}
