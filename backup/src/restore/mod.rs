//! A chain of backups onto an export.
//!
//! ```text
//! files -> read and checked -> the chain -> connect -> files again -> joined writes -> flush
//! ```

mod error;
mod target;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nbd_client::copy::CopyProgress;
use nbd_client::{Options, Uri};

pub use error::RestoreError;
pub use target::RestoreTarget;

use crate::files::{self, BackupFiles, FilesError, UncheckedFact};
use crate::sparse_stream::{self, Contents, Event, Meta, Summary, check_first};

/// A restore to be made: onto which state of the target, and how.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_extents_backup::{BackupFiles, Restore};
///
/// let files = BackupFiles::read(vec!["disk.monday".into(), "disk.tuesday".into()])?;
/// let uri = "nbd+unix:///?socket=/run/new-disk.sock".parse()?;
/// let done = Restore::new().files(&uri, &Options::new(), &files)?;
/// println!("{} bytes written", done.copied);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Restore {
    base: Option<String>,
    target_is_zero: bool,
    connections: usize,
    rate: Option<u64>,
}

impl Default for Restore {
    /// See [`Restore::new`].
    fn default() -> Self {
        Self::new()
    }
}

impl Restore {
    /// Onto a target that holds anything, over one connection.
    pub const fn new() -> Self {
        Self { base: None, target_is_zero: false, connections: 1, rate: None }
    }

    /// The name of the checkpoint that the target holds already: the first file is then an
    /// incremental that stands on it.
    pub fn base(self, checkpoint: Option<String>) -> Self {
        Self { base: checkpoint, ..self }
    }

    /// Whether the target reads as zero all over: the zeroes of a full backup are not written.
    pub const fn target_is_zero(mut self, is_zero: bool) -> Self {
        self.target_is_zero = is_zero;
        self
    }

    /// The number of connections to write over, where the server allows several: 1 unless set.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The most bytes to write in a second; `None` is no limit. Zeroes do not count.
    pub const fn rate(mut self, bytes: Option<u64>) -> Self {
        self.rate = bytes;
        self
    }

    /// Checks all that needs no server: that the files are a chain which this target can take.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Files`] for files that are no chain, [`RestoreError::NeedsPrevious`].
    pub fn check<'a>(&'a self, files: &'a BackupFiles) -> Result<CheckedRestore<'a>, RestoreError> {
        if let Some(first) = files.contents().first() {
            self.check_zero(first.meta())?;
        }
        let base = self.base.as_deref();
        let chain = files.chain(base)?;
        // A base has a name and nothing more, which the caller has vouched for.
        let below = |position| if base.is_some() && position == 0 { None } else { Some(&chain) };
        let unchecked = (0..files.files().len()).map(|position| files.unchecked(below(position), position));
        Ok(CheckedRestore { restore: self, files, unchecked: unchecked.collect() })
    }

    /// Connects to the target. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Connect`] if there is no connection; [`RestoreError::ReadOnly`] if the target
    /// takes no writes.
    pub fn connect(&self, uri: &Uri, options: &Options) -> Result<RestoreTarget, RestoreError> {
        RestoreTarget::connect(self, uri, options)
    }

    /// Restores files: [`check`](Self::check), [`connect`](Self::connect) and
    /// [`CheckedRestore::write_to`], one after the other.
    ///
    /// # Errors
    ///
    /// Any [`RestoreError`].
    pub fn files(
        &self,
        uri: &Uri,
        options: &Options,
        files: &BackupFiles,
    ) -> Result<CopyProgress, RestoreError> {
        self.check(files)?.write_to(self.connect(uri, options)?)
    }

    /// Restores one stream that can be read once only, such as a pipe. It is checked while it is
    /// written.
    ///
    /// `begun` gets the meta frame when that has been checked, before the first write.
    ///
    /// # Errors
    ///
    /// Any [`RestoreError`].
    pub fn write_stream(
        &self,
        mut target: RestoreTarget,
        input: impl Read,
        mut begun: impl FnMut(&Meta),
    ) -> Result<(CopyProgress, Summary), RestoreError> {
        let monitor = target.monitor();
        let write = || {
            let size = target.export().size();
            let mut writes = target.begin(u64::MAX, self.target_is_zero)?;
            let summary = sparse_stream::read(input, |event| {
                if let Event::Meta(meta) = &event {
                    self.check_zero(meta)?;
                    check_first(meta, self.base.as_deref())?;
                    check_fit(size, meta.virtual_size)?;
                    begun(meta);
                    monitor.plan_copy(meta.data_size);
                    monitor.plan_to(size);
                }
                writes.apply(&event)
            })?;
            writes.finish()?;
            Ok(summary)
        };
        match write() {
            Ok(summary) => {
                target.disconnect();
                Ok((monitor.progress(), summary))
            }
            Err(error) => Err(target.failed(error)),
        }
    }

    fn check_zero(&self, first: &Meta) -> Result<(), RestoreError> {
        if first.incremental && self.target_is_zero { Err(RestoreError::NeedsPrevious) } else { Ok(()) }
    }
}

/// A restore whose files have been checked.
///
/// ```
/// use nbd_extents_backup::sparse_stream::{Meta, Writer};
/// use nbd_extents_backup::{BackupFiles, Restore};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("disk.full");
/// let (mut writer, mut stream) = Writer::new(&Meta::full(8192, 0, "now").without_checksum())?;
/// stream.extend(writer.zero(0..8192)?.parts().concat());
/// stream.extend(writer.stop()?.parts().concat());
/// std::fs::write(&file, stream)?;
///
/// let (restore, files) = (Restore::new(), BackupFiles::read(vec![file])?);
/// let checked = restore.check(&files)?;
/// assert_eq!(checked.disk_size(), 8192);
/// assert_eq!(checked.unchecked()[0][0].to_string(), "its bytes (it has no checksum)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct CheckedRestore<'a> {
    restore: &'a Restore,
    files: &'a BackupFiles,
    unchecked: Vec<Vec<UncheckedFact>>,
}

impl CheckedRestore<'_> {
    /// For each file the facts that could not be checked: the user decides whether to trust it.
    #[must_use]
    pub fn unchecked(&self) -> &[Vec<UncheckedFact>] {
        &self.unchecked
    }

    /// The size in bytes of the disk that will be restored.
    #[must_use]
    pub fn disk_size(&self) -> u64 {
        self.files.contents().last().map_or(0, |last| last.meta().virtual_size)
    }

    /// Writes the files to the target, one after the other. Each is durable before the next.
    ///
    /// # Errors
    ///
    /// [`RestoreError::TooSmall`] before the first write; [`RestoreError::Partial`] after it.
    pub fn write_to(self, mut target: RestoreTarget) -> Result<CopyProgress, RestoreError> {
        check_fit(target.export().size(), self.disk_size())?;
        let monitor = target.monitor();
        monitor.plan_copy(self.files.contents().iter().map(|contents| contents.summary().data).sum());
        monitor.plan_to(target.export().size());
        for (position, (file, contents)) in self.files.files().iter().zip(self.files.contents()).enumerate() {
            // Bytes that a later stream cuts off are not written: the target need not have room for
            // them.
            let later = self.files.contents().iter().skip(position);
            let end = later.map(|contents| contents.meta().virtual_size).min().unwrap_or(0);
            let skips_zeroes = self.restore.target_is_zero && position == 0;
            if let Err(error) = write_file(&mut target, file, contents, end, skips_zeroes) {
                return Err(target.failed(error));
            }
        }
        target.disconnect();
        Ok(monitor.progress())
    }
}

fn check_fit(target: u64, disk: u64) -> Result<(), RestoreError> {
    if target < disk { Err(RestoreError::TooSmall { target, disk }) } else { Ok(()) }
}

/// Writes a file that has been checked, if it is still the same.
fn write_file(
    target: &mut RestoreTarget,
    file: &Path,
    contents: &Contents,
    end: u64,
    skips_zeroes: bool,
) -> Result<(), RestoreError> {
    let changed = || RestoreError::from(FilesError::Changed { file: file.to_owned() });
    let mut writes = target.begin(end, skips_zeroes)?;
    let input: File = files::open(file)?;
    let read = sparse_stream::read(input, |event| match &event {
        Event::Meta(meta) if meta != contents.meta() => Err(changed()),
        event => writes.apply(event),
    });
    if read.map_err(|error| error.about(file))? != contents.summary() {
        return Err(changed());
    }
    writes.finish()
}
