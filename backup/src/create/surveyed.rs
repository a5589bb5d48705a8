//! A backup whose disk has been surveyed: its totals, and the way to its bytes.

use std::io::Write;
use std::time::SystemTime;

use nbd_client::Pool;
use nbd_client::copy::CopyMonitor;
use nbd_client::survey::Order;
use nbd_extents::action::Totals;
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::{Access, BlockSize, Plan, PlanError, PlanOptions};
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, MAX_END, SurveyStats};

use super::frames::FrameOutput;
use super::{Backup, BackupError, pump};
use crate::sparse_stream::Meta;

/// A backup whose disk has been surveyed. Its data have not been read.
///
/// ```no_run
/// use nbd_client::Options;
/// use nbd_extents_backup::Backup;
/// use std::io::BufWriter;
///
/// // to any writer: here a pipe
/// let disk = Backup::full().survey(&"nbd://localhost/disk".parse()?, &Options::new())?;
/// eprintln!("{} bytes to copy", disk.totals().copy);
/// let (_stdout, report) = disk.write(BufWriter::new(std::io::stdout()))?;
/// eprintln!("a stream of {} bytes", report.length);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct SurveyedBackup {
    backup: Backup,
    map: ExtentMap<Action>,
    plan: PlanOptions,
    pool: Pool,
    figures: SurveyFigures,
    totals: Totals,
    monitor: CopyMonitor,
}

/// The course of a survey.
#[derive(Clone, Copy, Debug)]
pub(super) struct SurveyFigures {
    pub(super) stats: SurveyStats,
    pub(super) assumes_data: bool,
    /// Bytes received over connections that are closed.
    pub(super) received: u64,
}

/// The figures of a finished backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Bytes copied, made zero and skipped, before zeroes were looked for in the data.
    pub totals: Totals,
    /// The number of extents of the map.
    pub extents: usize,
    /// Bytes that the server did not describe, taken for data and for dirty.
    pub assumed: u64,
    /// Bytes received from the server.
    pub received: u64,
    /// Bytes of the stream.
    pub length: u64,
}

impl SurveyedBackup {
    pub(super) fn new(
        backup: Backup,
        map: ExtentMap<Action>,
        pool: Pool,
        figures: SurveyFigures,
    ) -> Result<Self, BackupError> {
        let plan = plan_options(&backup, &pool)?;
        let totals = Plan::new(from_iter(map.extents()), plan).measure()?.bytes;
        let size = pool.export().size();
        let monitor = CopyMonitor::new(size);
        monitor.plan_copy(totals.copy);
        monitor.plan_to(size);
        Ok(Self { backup, map, plan, pool, figures, totals, monitor })
    }

    /// Bytes that it copies, makes zero and skips.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Shows how far the backup is, from any thread.
    #[must_use]
    pub fn monitor(&self) -> CopyMonitor {
        self.monitor.clone()
    }

    /// The course of the survey, for a remark on ranges that the server did not describe.
    #[must_use]
    pub const fn survey_stats(&self) -> &SurveyStats {
        &self.figures.stats
    }

    /// True where the server has no block status, and all of the export is taken for data.
    #[must_use]
    pub const fn assumes_data(&self) -> bool {
        self.figures.assumes_data
    }

    /// Reads the data, and writes the stream to `out`, in order. Gives `out` back, flushed.
    ///
    /// Each frame is two writes, one of them short: `out` should have a buffer, as an
    /// [`OutputFile`](crate::OutputFile) has.
    ///
    /// # Errors
    ///
    /// [`BackupError::Read`], [`BackupError::Write`]. The bytes written until then lack their stop
    /// frame, and no reader takes them for a whole stream.
    pub fn write<W: Write>(self, out: W) -> Result<(W, BackupReport), BackupError> {
        let Self { backup, map, plan, mut pool, figures, totals, monitor } = self;
        let meta = meta(&backup, pool.export().size(), totals.copy);
        let mut frames = FrameOutput::new(out, &meta, backup.detect_zeroes)?;
        let plan = Plan::new(from_iter(map.extents()), plan);
        pump::run(&mut pool, plan, &mut frames, &monitor, backup.rate)?;
        // Every request has been answered, so a server that closes badly harms nothing.
        let connections = pool.disconnect().unwrap_or_default();
        let received = connections.iter().map(|stats| stats.bytes_received).sum::<u64>();
        let (out, length) = frames.finish()?;
        let report = BackupReport {
            totals,
            extents: map.run_count(),
            assumed: figures.stats.assumed_bytes,
            received: figures.received + received,
            length,
        };
        Ok((out, report))
    }
}

/// Reads of whole blocks. With the bitmap first clean bytes may not even be readable, and are left
/// alone.
fn plan_options(backup: &Backup, pool: &Pool) -> Result<PlanOptions, PlanError> {
    let minimum = BlockSize::new(pool.export().minimum_block())?;
    let access = if backup.order == Order::BitmapFirst { Access::DirtyOnly } else { Access::All };
    // The reads are cut later, when they are asked for.
    Ok(PlanOptions::new(pool.export().size(), minimum)?
        .min_block(minimum)?
        .max_copy(MAX_END)?
        .max_zero(MAX_END)?
        .access(access))
}

/// `data-size` is the sum of the plan's copies. It is a limit where zeroes are looked for in them.
fn meta(backup: &Backup, size: u64, data: u64) -> Meta {
    let date = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let mut meta = Meta::full(size, data, date.trim_end_matches('Z'));
    match &backup.changes {
        Some(changes) => {
            changes.parent.describe_in(&mut meta);
            meta.bitmaps.clone_from(&changes.bitmaps);
        }
        // A full backup begins a chain: its incrementals take this identity of the disk from it.
        None => meta.disk = Some(uuid::Uuid::new_v4().to_string()),
    }
    meta.checkpoint.clone_from(&backup.checkpoint);
    meta.data_size_is_limit = backup.detect_zeroes;
    meta
}
