//! Where a backup goes: a file beside the one that was named, which gets its name when it is whole and on disk.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// The place of a backup. Dropped without [`commit`](Self::commit), a file beside FILE is removed again, and FILE is
/// as it was.
pub(super) enum Target {
    /// A file beside `path`.
    Beside { file: NamedTempFile, path: PathBuf },
    /// A pipe or device, which cannot be replaced, or standard output.
    Direct(File),
}

impl Target {
    /// Makes the place, before any server is asked. `after` is the previous backup, which must stay.
    pub(super) fn create(path: &Path, after: Option<&Path>) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return stdout();
        }
        // A link stays a link: the file that it names is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if after.and_then(|after| fs::canonicalize(after).ok()).as_ref() == Some(&path) {
            return Err(Failure::usage("the backup would replace the one that it stands on"));
        }
        Self::open(path.clone()).map_err(|error| Failure::file(&path, &error))
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Ok(Self::Direct(File::options().write(true).open(&path)?));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
        let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Self::Beside { file, path })
    }

    /// The backup is whole: puts it on disk, and gives it its name.
    pub(super) fn commit(self) -> Result<(), Failure> {
        let Self::Beside { file, path } = self else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_owned);
        let named = file.as_file().sync_all().and_then(|()| file.persist(&path).map_err(|error| error.error));
        named
            // The name is on disk only with its folder.
            .and_then(|_| File::open(folder.as_deref().unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| Failure::file(&path, &error))
    }
}

/// Standard output as it is: Rust's own looks for the ends of lines. A terminal is no place for a disk.
fn stdout() -> Result<Target, Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::usage("the backup goes to stdout, which is a terminal: name a file"));
    }
    #[cfg(unix)]
    let stdout = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let stdout = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    Ok(Target::Direct(File::from(stdout)))
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { file, .. } => file.write(bytes),
            Self::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { file, .. } => file.flush(),
            Self::Direct(file) => file.flush(),
        }
    }
}
