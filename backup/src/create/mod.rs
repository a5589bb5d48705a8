//! A backup of an export: one map gives the copies, the zeroes, the totals and the reads.
//!
//! ```text
//! survey -> actions -> one map -> plan -> reads, several in flight -> frames -> output
//! ```

mod error;
mod frames;
mod parent;
mod pump;
mod surveyed;

use std::path::Path;

use nbd_client::pool::more_connections;
use nbd_client::survey::{Order, SurveyorError};
use nbd_client::{Options, Pool, Surveyor, Uri};
use nbd_extents::action::{Full, Policy, StatusStream, Zeroes};
use nbd_extents::map::{Cap, ExtentMap};
use nbd_extents::{Action, Context, Contexts, SurveyStats};

pub use error::BackupError;
pub use parent::Parent;
pub use surveyed::{BackupReport, SurveyedBackup};

use crate::output::{OutputError, OutputFile, Replace};

/// A backup to be made: all of an export, or the changes.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_extents_backup::{Backup, Parent};
///
/// let parent = Parent::read("disk.monday".as_ref())?;
/// let tuesday = Backup::incremental(["b0"], parent).checkpoint(Some("tuesday".into()));
/// let uri = "nbd+unix:///disk?socket=/run/vm.sock".parse()?;
/// let report = tuesday.to_file(&uri, &Options::new(), "disk.tuesday".as_ref())?;
/// println!("{} bytes copied, {} zeroed", report.totals.copy, report.totals.zero);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Backup {
    /// `None` for a full backup.
    changes: Option<Changes>,
    checkpoint: Option<String>,
    replace: Replace,
    order: Order,
    detect_zeroes: bool,
    ignore_zero_status: bool,
    allow_writable: bool,
    safe_on_failure: bool,
    assumed_block: Option<u32>,
    map_memory: usize,
    connections: usize,
    rate: Option<u64>,
}

#[derive(Clone, Debug)]
struct Changes {
    bitmaps: Vec<String>,
    parent: Parent,
}

impl Backup {
    /// All of an export, and the beginning of a chain. The disk gets a new identity.
    ///
    /// It needs no block status: without it all of the export is data.
    pub const fn full() -> Self {
        Self {
            changes: None,
            checkpoint: None,
            replace: Replace::Backup,
            order: Order::Together,
            detect_zeroes: false,
            ignore_zero_status: false,
            allow_writable: false,
            safe_on_failure: false,
            assumed_block: None,
            map_memory: 512 << 20,
            connections: 1,
            rate: None,
        }
    }

    /// The bytes that any of these bitmaps calls dirty, on top of the backup at which the bitmaps
    /// were started. Their names are without `qemu:dirty-bitmap:`.
    pub fn incremental(bitmaps: impl IntoIterator<Item = impl Into<String>>, parent: Parent) -> Self {
        let bitmaps = bitmaps.into_iter().map(Into::into).collect();
        Self { changes: Some(Changes { bitmaps, parent }), ..Self::full() }
    }

    /// The name of the checkpoint that is backed up, to which the next incremental refers.
    pub fn checkpoint(self, name: Option<String>) -> Self {
        Self { checkpoint: name, ..self }
    }

    /// The files that it may replace: backups and empty files unless set.
    pub const fn replace(mut self, replace: Replace) -> Self {
        self.replace = replace;
        self
    }

    /// Whether the bitmaps are asked first, and nothing outside of dirty ranges is read.
    ///
    /// Exports that answer for dirty ranges alone need it. It takes a second connection where the
    /// server has no extended headers.
    pub const fn bitmap_first(mut self, is_first: bool) -> Self {
        self.order = if is_first { Order::BitmapFirst } else { Order::Together };
        self
    }

    /// Whether zeroes are looked for in the data read: for servers that never report zeroes.
    pub const fn detect_zeroes(mut self, detects: bool) -> Self {
        self.detect_zeroes = detects;
        self
    }

    /// Whether bytes that the server calls zero are read, as if they held data.
    pub const fn ignore_zero_status(mut self, ignores: bool) -> Self {
        self.ignore_zero_status = ignores;
        self
    }

    /// Whether an export that is not read-only is backed up, though it may change meanwhile.
    pub const fn allow_writable(mut self, allows: bool) -> Self {
        self.allow_writable = allows;
        self
    }

    /// Whether a range is taken for data, and for dirty, when the server keeps failing to describe
    /// it: see [`SurveyOptions::safe_on_failure`](nbd_extents::SurveyOptions::safe_on_failure).
    pub const fn safe_on_failure(mut self, is_safe: bool) -> Self {
        self.safe_on_failure = is_safe;
        self
    }

    /// The block size in bytes of a server that announces none: see
    /// [`SurveyOptions::assumed_block`](nbd_extents::SurveyOptions::assumed_block).
    pub const fn assumed_block(mut self, bytes: Option<u32>) -> Self {
        self.assumed_block = bytes;
        self
    }

    /// The most bytes of memory for the map of the disk: 512 MiB unless set, some 57 million
    /// extents.
    ///
    /// Of a disk with more extents, the shortest ranges that need not be copied are copied as well.
    pub const fn map_memory(mut self, bytes: usize) -> Self {
        self.map_memory = bytes;
        self
    }

    /// The number of connections to read over, where the server allows several: 1 unless set.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The most bytes to copy in a second; `None` is no limit. Zeroes do not count.
    pub const fn rate(mut self, bytes: Option<u64>) -> Self {
        self.rate = bytes;
        self
    }

    /// Checks that an incremental can follow its parent, as far as no server is needed for it.
    ///
    /// [`survey`](Self::survey) does it as well.
    ///
    /// # Errors
    ///
    /// [`BackupError::SameCheckpoint`] if both have the same checkpoint;
    /// [`BackupError::UnknownSize`] if the disk may have grown from a size that the parent does not
    /// state.
    pub fn check(&self) -> Result<(), BackupError> {
        let Some(Changes { parent, .. }) = &self.changes else { return Ok(()) };
        if parent.hides_growth() {
            return Err(BackupError::UnknownSize);
        }
        match (parent.checkpoint(), self.checkpoint.as_deref()) {
            (Some(name), Some(own)) if name == own => {
                Err(BackupError::SameCheckpoint { name: name.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Makes the place for the backup: see [`OutputFile::create`]. The file that the parent was read
    /// from must stay.
    ///
    /// # Errors
    ///
    /// [`OutputError`] where the file cannot be written or may not be replaced, or is the parent's.
    pub fn create_output(&self, file: &Path) -> Result<OutputFile, OutputError> {
        let parent = self.changes.as_ref().and_then(|changes| changes.parent.file());
        OutputFile::create(file, parent, self.replace)
    }

    /// Backs the export up into a file, which gets its name when it is whole and on disk.
    ///
    /// It is [`create_output`](Self::create_output), [`survey`](Self::survey),
    /// [`SurveyedBackup::write`] and [`OutputFile::commit`], one after the other.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; the file is then as it was.
    pub fn to_file(&self, uri: &Uri, options: &Options, file: &Path) -> Result<BackupReport, BackupError> {
        self.check()?;
        let output = self.create_output(file)?;
        let (output, report) = self.survey(uri, options)?.write(output)?;
        output.commit()?;
        Ok(report)
    }

    /// Connects, and decides for each byte of the export what to do. No data are read.
    ///
    /// # Errors
    ///
    /// [`BackupError::Connect`] where no connection came about; any other but those of the output.
    pub fn survey(&self, uri: &Uri, options: &Options) -> Result<SurveyedBackup, BackupError> {
        self.check()?;
        let contexts = self.contexts()?;
        let options = options.clone().assume_data(self.changes.is_none());
        let mut surveyor =
            Surveyor::connect(uri, &options, &contexts, self.order).map_err(BackupError::Connect)?;
        let assumes_data = surveyor.assumes_data();
        let (map, stats) = self.decide_all(&mut surveyor, &contexts)?;
        let received: u64 = surveyor.connection_stats().map(|stats| stats.bytes_received).sum();
        let client = surveyor.into_client();
        let received = received.saturating_sub(client.stats().bytes_received);
        let others = self.connections.saturating_sub(1);
        let others = more_connections(client.export(), others, uri, &options)?;
        let pool = Pool::of(client, others)?;
        SurveyedBackup::new(
            self.clone(),
            map,
            pool,
            surveyed::SurveyFigures { stats, assumes_data, received },
        )
    }

    /// Zero status and the bitmaps named, all required: without one of them the backup would be
    /// another one.
    fn contexts(&self) -> Result<Contexts, BackupError> {
        let bitmaps = self.changes.iter().flat_map(|changes| &changes.bitmaps).map(Context::bitmap);
        Ok(Contexts::new().require_all(bitmaps.chain([Context::Allocation]))?)
    }

    fn decide_all(
        &self,
        surveyor: &mut Surveyor,
        contexts: &Contexts,
    ) -> Result<(ExtentMap<Action>, SurveyStats), BackupError> {
        if !surveyor.is_read_only() && !self.allow_writable {
            return Err(BackupError::Writable);
        }
        // Before any time is spent on the rest: no request may ask for these bytes.
        let (size, minimum) = (surveyor.export().size(), surveyor.export().minimum_block());
        if !size.is_multiple_of(minimum) {
            return Err(BackupError::Tail { size, minimum });
        }
        let zeroes = if self.ignore_zero_status { Zeroes::AsData } else { Zeroes::MayUnmap };
        match &self.changes {
            None => self.decide(surveyor, Full::new().with_zeroes(zeroes)),
            Some(Changes { parent, .. }) => {
                let policy = parent.policy(contexts.all_bitmaps(), size)?;
                self.decide(surveyor, policy.with_zeroes(zeroes))
            }
        }
    }

    /// The map of all actions. With the bitmap first clean bytes may not even be readable, and stay
    /// skipped.
    fn decide(
        &self,
        surveyor: &mut Surveyor,
        policy: impl Policy,
    ) -> Result<(ExtentMap<Action>, SurveyStats), BackupError> {
        let size = surveyor.export().size();
        let mut options = surveyor.survey_options()?.allow_writable();
        if self.safe_on_failure {
            options = options.safe_on_failure();
        }
        if let Some(bytes) = self.assumed_block {
            options = options.assumed_block(bytes).map_err(SurveyorError::from)?;
        }
        let mut extents = surveyor.survey(options)?.ask_ahead();
        let cap = Cap::bytes(self.map_memory);
        let cap = if self.order == Order::BitmapFirst { cap.keeping_skipped() } else { cap };
        let capped = ExtentMap::capped((&mut extents).decide(policy), 0..size, cap)?;
        Ok((capped.map, extents.stats()))
    }
}
