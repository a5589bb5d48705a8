//! `--report`: what a backup did, as one JSON object.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nbd_extents_backup::BackupReport;
use serde_json::json;

use crate::failure::Failure;

/// A report to be written. Its file is made before the server is asked, so that one which cannot
/// be written fails the backup before it begins.
pub(super) struct Report {
    file: Option<(File, PathBuf)>,
    began: Instant,
}

impl Report {
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let create = |path: &Path| match File::create(path) {
            Ok(file) => Ok((file, path.to_owned())),
            Err(error) => Err(Failure::file(path, &error)),
        };
        Ok(Self { file: path.map(create).transpose()?, began: Instant::now() })
    }

    /// Writes it: bytes of each action, the extents of the map, the bytes that the server did not
    /// describe, those received and those of the stream.
    pub(super) fn write(self, done: &BackupReport) -> Result<(), Failure> {
        let Some((mut file, path)) = self.file else { return Ok(()) };
        let seconds = self.began.elapsed().as_secs_f64();
        let report = json!({
            "copy": done.totals.copy,
            "zero": done.totals.zero,
            "skip": done.totals.skip,
            "extents": done.extents,
            "assumed": done.assumed,
            "received": done.received,
            "stream": done.length,
            "seconds": seconds,
        });
        writeln!(file, "{report}").map_err(|error| Failure::file(&path, &error))
    }
}
