//! Where a backup goes: a file beside the one that was named, which gets its name when it is whole
//! and on disk.
//!
//! Only a regular file is replaced. A pipe, a device or a descriptor of this process is written as
//! it is.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::unfinished::Unfinished;
use crate::failure::Failure;

/// Links that are followed before they are taken for a loop, as on Linux.
const MAX_LINKS: usize = 40;

/// The place of a backup. Dropped without [`commit`](Self::commit), it removes the file beside
/// FILE, and FILE is as it was.
pub(super) enum BackupTarget {
    /// A file beside `path`.
    Beside { file: NamedTempFile, path: PathBuf, unfinished: Unfinished },
    /// A pipe or device, which cannot be replaced, or standard output.
    Direct { file: File, path: PathBuf },
}

impl BackupTarget {
    /// Makes the place, before any server is asked. `after` is the previous backup, which must
    /// stay.
    pub(super) fn create(path: &Path, after: Option<&Path>) -> Result<Self, Failure> {
        let about = |error: io::Error| Failure::file(path, &error);
        if is_stdout(path) {
            return stdout();
        }
        let path = follow_links(path).map_err(about)?;
        if let Some(after) = after
            && fs::canonicalize(after).ok().is_some_and(|after| Some(after) == fs::canonicalize(&path).ok())
        {
            return Err(Failure::usage("the backup would replace the one that it stands on"));
        }
        Self::open(path).map_err(about)
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let old = match fs::metadata(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if old.as_ref().is_some_and(|old| !old.is_file()) || is_descriptor(&path) {
            let file = File::options().write(true).truncate(true).open(&path)?;
            return Ok(Self::Direct { file, path });
        }
        if old.is_some() {
            // A file that may not be written may not be replaced either, whatever its folder
            // allows.
            File::options().write(true).open(&path)?;
        }
        let file = beside(&path, old.as_ref())?;
        let unfinished = Unfinished::guard(file.path())?;
        Ok(Self::Beside { file, path, unfinished })
    }

    /// The backup is whole: puts it on disk, and gives it its name.
    pub(super) fn commit(self) -> Result<(), Failure> {
        match self {
            Self::Direct { file, path } => sync_direct(&file).map_err(|error| Failure::file(&path, &error)),
            Self::Beside { file, path, unfinished } => {
                let sync = file.as_file().sync_all();
                let named = sync.and_then(|()| {
                    unfinished.finish(|| file.persist(&path).map(drop).map_err(|error| error.error))
                });
                // The name is on disk only with its folder.
                named
                    .and_then(|()| File::open(folder(&path))?.sync_all())
                    .map_err(|error| Failure::file(&path, &error))
            }
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

/// What any new file is made with; the umask takes its part away.
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
        // What such a link shows as its target is no path.
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

/// Whether a path names an open file of a process.
fn is_descriptor(path: &Path) -> bool {
    let is_number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let is_open_file = path.file_name().is_some_and(is_number) && folder(path).ends_with("fd");
    is_open_file && (path.starts_with("/proc") || path.starts_with("/dev/fd"))
}

/// Whether a path names standard output, whichever file that is.
fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path.as_os_str() == *name)
}

/// Standard output as it is: Rust's own looks for the ends of lines. A terminal is no place for a
/// disk.
fn stdout() -> Result<BackupTarget, Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::usage("the backup goes to stdout, which is a terminal: name a file"));
    }
    #[cfg(unix)]
    let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let stdout = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(BackupTarget::Direct { file: File::from(stdout), path: PathBuf::from("standard output") })
}

/// Puts a file or a disk that was written directly on disk. Pipes and terminals have nothing to put
/// there.
fn sync_direct(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    #[cfg(unix)]
    let is_disk = std::os::unix::fs::FileTypeExt::is_block_device(&kind);
    #[cfg(not(unix))]
    let is_disk = false;
    if kind.is_file() || is_disk { file.sync_all() } else { Ok(()) }
}

impl Write for BackupTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { file, .. } => file.write(bytes),
            Self::Direct { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { file, .. } => file.flush(),
            Self::Direct { file, .. } => file.flush(),
        }
    }
}
