//! The export that a restore writes to.

use core::ops::Range;
use std::thread;

use nbd_client::copy::CopyMonitor;
use nbd_client::pipeline::{PipelineOptions, RateLimit};
use nbd_client::{Export, Options, Pool, Uri, WriteBehind};

use super::{Restore, RestoreError};
use crate::sparse_stream::Event;

/// The target of a restore: connected, and as it was.
#[derive(Debug)]
#[must_use]
pub struct RestoreTarget {
    pool: Pool,
    monitor: CopyMonitor,
    limit: Option<RateLimit>,
}

impl RestoreTarget {
    pub(super) fn connect(restore: &Restore, uri: &Uri, options: &Options) -> Result<Self, RestoreError> {
        let pool = Pool::connect(uri, options, restore.connections).map_err(RestoreError::Connect)?;
        if pool.export().flags.is_read_only() {
            return Err(RestoreError::ReadOnly);
        }
        let monitor = CopyMonitor::new(pool.export().size());
        Ok(Self { pool, monitor, limit: restore.rate.map(RateLimit::new) })
    }

    /// The export, as the handshake described it.
    #[must_use]
    pub const fn export(&self) -> &Export {
        self.pool.export()
    }

    /// Shows how far the restore is, from any thread.
    #[must_use]
    pub fn monitor(&self) -> CopyMonitor {
        self.monitor.clone()
    }

    /// Begins to write a stream. Bytes from `end` on are left out, and with `skips_zeroes` all zeroes.
    pub(super) fn begin(&mut self, end: u64, skips_zeroes: bool) -> Result<StreamWrites<'_>, RestoreError> {
        Ok(StreamWrites {
            writes: WriteBehind::new(&mut self.pool, PipelineOptions::default())?,
            monitor: &self.monitor,
            limit: &mut self.limit,
            end,
            skips_zeroes,
        })
    }

    /// The error of a restore that went as far as this.
    pub(super) fn failed(&self, error: RestoreError) -> RestoreError {
        if self.monitor.progress().has_written { RestoreError::Partial(Box::new(error)) } else { error }
    }

    /// Ends the restore, all of which is durable.
    pub(super) fn disconnect(self) {
        // all of it is there, so a server that closes badly harms nothing
        self.pool.disconnect().ok();
    }
}

/// A stream on its way to the target.
pub(super) struct StreamWrites<'a> {
    writes: WriteBehind<'a>,
    monitor: &'a CopyMonitor,
    limit: &'a mut Option<RateLimit>,
    end: u64,
    skips_zeroes: bool,
}

impl StreamWrites<'_> {
    /// Applies an event of the stream, if it has bytes for the disk.
    pub(super) fn apply(&mut self, event: &Event<'_>) -> Result<(), RestoreError> {
        match event {
            Event::Payload { offset, bytes } => self.data(*offset, bytes),
            Event::Zero { range } => self.zero(range.start..range.end.min(self.end)),
            _ => Ok(()),
        }
    }

    /// Waits until all of it is durable.
    pub(super) fn finish(self) -> Result<(), RestoreError> {
        Ok(self.writes.finish()?)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), RestoreError> {
        let length = bytes.len() as u64;
        if let Some(limit) = self.limit {
            thread::sleep(limit.delay(length));
        }
        self.monitor.add_copied(length);
        let room = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        self.monitor.begin_to_write();
        Ok(self.writes.write_joined(offset, bytes)?)
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), RestoreError> {
        if self.skips_zeroes || range.is_empty() {
            return Ok(());
        }
        self.monitor.begin_to_write();
        let length = range.end - range.start;
        self.monitor.add_zeroed(length);
        Ok(self.writes.zero(range.start, length)?)
    }
}
