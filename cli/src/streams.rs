//! Reading backups whose names the command line gives.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nbd_extents_backup::BackupFiles;

use crate::failure::Failure;

/// Whether this is the name of standard input or output.
pub(crate) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Reads the streams in files, or on standard input for `-`, to their ends.
pub(crate) fn read(files: &[PathBuf]) -> Result<BackupFiles, Failure> {
    Ok(BackupFiles::read_with(files.to_vec(), |file| -> io::Result<Box<dyn Read>> {
        Ok(if is_standard(file) { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) })
    })?)
}
