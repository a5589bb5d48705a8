//! `--report`: what a backup did, as one JSON object.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nbd_extents_backup::BackupReport;
use serde_json::json;

use crate::failure::Failure;

/// The hint of an error about a file that exists already.
pub(crate) const FORCE: &str = " (--force replaces it)";

/// A report to be written. Its file is created before the server is asked, so that a backup whose
/// report cannot be written fails before it begins.
pub(super) struct Report {
    file: Option<(File, PathBuf)>,
    began: Instant,
}

impl Report {
    /// Creates the file, if the user asks for a report. It replaces only a report, unless `force`
    /// allows more.
    pub(super) fn create(path: Option<&Path>, force: bool) -> Result<Self, Failure> {
        let create = |path: &Path| {
            let about = |error: io::Error| Failure::file(path, &error);
            if !force && !may_replace(path).map_err(about)? {
                let exists = "a file of this name exists and is no report: name another file";
                return Err(Failure::usage(exists).about(&path.display().to_string()).hint(FORCE));
            }
            Ok((File::create(path).map_err(about)?, path.to_owned()))
        };
        Ok(Self { file: path.map(create).transpose()?, began: Instant::now() })
    }

    /// Writes the report: bytes of each action, the extents of the map, the bytes that the server did
    /// not describe, those received and those of the stream.
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

/// True if a report may be written here without `--force`: no file is there, or one that is empty,
/// begins as JSON, or is no regular file.
fn may_replace(path: &Path) -> io::Result<bool> {
    if !path.is_file() {
        return Ok(true);
    }
    let mut first = Vec::new();
    File::open(path)?.take(1).read_to_end(&mut first)?;
    Ok(first.is_empty() || first == b"{")
}
